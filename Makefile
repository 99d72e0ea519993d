# Every target does its own set-up (.ci/setup): .venv, a Docker engine that answers, the image. What else is made is in build/.
.PHONY: demo test test-python vm-test check fuzz faults soak lab notebooks screenshots bench bench-peers bench-security lock setup clean
python = .venv/bin/python
debian = build/debian13
# The tests that need no engine, so that they can be run under another Python wherever its packages can be had.
units = tests/fuzz $(patsubst %,tests/test_%.py,imports limits receiver text traits values values_hostile wheel wire) \
  image/agent_executor agentbox_magic/display agentbox_magic/images.py agentbox_magic/packages.py

demo: setup ## run the quickstart notebook and print its outputs
	@$(python) .ci/demo.py

test: setup ## the whole test suite, and what needs no engine under Python 3.13 too
	@.ci/test-tools
	@.ci/debian make $(debian) & $(MAKE) --no-print-directory check; status=$$?; wait; exit $$status
	@if [ -e $(debian)/opt/.installed ]; then .ci/debian run $(debian) python -m pytest --units $(units); \
	else echo "nothing is run under Python 3.13, for the reason above"; fi
	$(python) -m pytest
	AGENTBOX_LIVE=0 $(python) -m pytest -n 2 --dist loadfile --nbval --nbval-current-env --nbval-cell-timeout 120 \
	  --nbval-sanitize-with tests/nbval-sanitize.cfg notebooks

test-python: setup ## the whole test suite, or TESTS, under Debian 13's Python 3.13, on the same engine
	@.ci/debian make $(debian)
	.ci/debian run $(debian) python -m pytest $(TESTS)

vm-test: setup ## the whole test suite, or TESTS, in a Debian 13 machine in QEMU: cgroup v2, AppArmor, newer engines; slow
	.ci/vm test $(TESTS)

check: setup ## formatting, lint, types
	$(python) -m ruff format --check .
	$(python) -m ruff check .
	$(python) -m mypy

fuzz: setup ## feed the host's reader hostile streams for SECONDS (600); what it learns stays in build/fuzz
	@mkdir -p build/fuzz/corpus
	$(python) tests/fuzz/fuzz_reader.py -max_total_time=$(or $(SECONDS),600) -max_len=4096 -timeout=10 \
	  -artifact_prefix=build/fuzz/ build/fuzz/corpus

faults: setup ## kill, freeze, interrupt and fill, on an engine of its own (half an hour, as root); writes docs/faults.md
	@.ci/test-tools
	cd tests && ../$(python) -m faults

soak: setup ## use boxes for SECONDS (1800) in one process, with what it holds sampled; a picture of it in build/soak
	cd tests && ../$(python) -m soak $(or $(SECONDS),1800) ../build/soak

lab: setup ## JupyterLab on the notebooks
	$(python) -m jupyterlab notebooks

notebooks: setup ## execute the notebooks anew, where a change changes what they show
	AGENTBOX_LIVE=0 $(python) -m nbconvert --to notebook --execute --inplace \
	  --ExecutePreprocessor.record_timing=False $(or $(NOTEBOOKS),notebooks/*.ipynb)

screenshots: setup ## take the pictures in notebooks/images anew; SCENES="cell oom" for some of them
	@.ci/test-tools
	PYTHONPATH=tests $(python) tests/browser/screenshots.py $(SCENES)

bench: setup ## time what matters, beside the raw engine in the same run
	PYTHONPATH=tests $(python) -m benchmarks

bench-security: setup ## what independent checkers find at a box; those that are missing say how to get them
	PYTHONPATH=tests $(python) tests/benchmarks/checkers.py

bench-peers: setup ## install others into .venv-peers, and make bench, which times those that are there in the same rounds
	@[ -d .venv-peers ] || $(python) -m venv .venv-peers
	@.venv-peers/bin/python -m pip install -q \
	  'llm-sandbox[docker]==0.3.46' 'autogen-ext[docker]==0.7.5' 'smolagents[docker]==1.26.0'
	@$(MAKE) bench

lock: setup ## renew the locks: the development environment's and the image's
	$(python) -m uv pip compile -q --upgrade --universal --python-version 3.10 --generate-hashes --no-header \
	  --no-annotate --extra dev pyproject.toml -o requirements-dev.txt
	$(python) -m uv pip compile -q --upgrade --universal --python-version 3.10 --generate-hashes --no-header \
	  --no-annotate image/requirements.in -o image/requirements.txt

setup:
	@.ci/setup

clean: ## what the targets made here; the engine and its images stay
	rm -rf .venv .venv-peers build dist .mypy_cache .ruff_cache .pytest_cache
