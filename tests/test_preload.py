"""What is loaded before code runs, and IPython where it is loaded late."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from kernel import Kernel

from agentbox_magic import ExecutionError, Sandbox, SandboxError, agent, config, pool
from agentbox_magic.pool import Pool

LOADED = "import sys; 'pandas' in sys.modules, 'IPython' in sys.modules"
PRIVATE = """
import pandas, re
text = open('/proc/self/smaps_rollup').read()
sum(int(found) for found in re.findall(r'Private_[A-Za-z]+: +([0-9]+) kB', text))
"""


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pool]:
    mine = Pool()
    monkeypatch.setattr(pool, "_pool", mine)
    monkeypatch.setattr(config, "pool", 1)
    yield mine
    mine.close()


def test_modules_are_there_and_contexts_share_them() -> None:
    with Sandbox.create(preload=["pandas"]) as box:
        assert box.run_code(LOADED).text == "(True, True)"
        other = box.create_code_context()
        assert box.run_code(LOADED, context=other).text == "(True, True)"
        shared = int(str(box.run_code(PRIVATE, context=other).text))
    with Sandbox.create() as box:
        assert box.run_code(LOADED).text == "(False, True)"
        alone = int(str(box.run_code(PRIVATE).text))
    assert shared < alone / 2


def test_numeric_libraries_work_in_what_is_forked_of_them() -> None:
    code = "import numpy, os; m = numpy.ones((800, 800)); m @ m; len(os.listdir('/proc/self/task')) > 1, (m @ m)[0, 0]"
    with Sandbox.create(preload=["numpy"], cpus=2, mem="1g") as box:
        for _ in range(2):
            assert box.run_code(code).text == "(True, np.float64(800.0))"
            box.reset()
        threads = box.commands.run("grep -h Threads /proc/[0-9]*/status").stdout.split("\n")
        assert threads[:2] == ["Threads:\t1"] * 2  # of PID 1 and the zygote


@pytest.mark.parametrize(("names", "what"), [("pandas", "one string"), (["no-module"], "no name of a module")])
def test_names_that_no_module_has(names: Any, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        Sandbox.create(preload=names)


def test_a_module_that_is_not_there_is_told() -> None:
    with pytest.raises(SandboxError, match="cannot be preloaded: No module named 'nosuchmodule'; name what"):
        Sandbox.create(preload=["nosuchmodule"])


def test_a_box_that_waits_serves_who_wants_no_more_than_it_has(waiting: Pool) -> None:
    def ahead(**options: Any) -> str:
        with Sandbox.create(**options):
            pool.current().warm(waiting._wishes[-1], 1)
        return waiting.waiting()[-1][0]

    container = ahead(preload=["pandas"])
    with Sandbox.create() as box:
        assert (box.sandbox_id, box.run_code(LOADED).text) == (container, "(True, True)")
    container = ahead(preload=["pandas"])
    with Sandbox.create(preload=["numpy", "pandas"]) as box:
        assert box.sandbox_id != container
    container = ahead(preload=["pandas"])
    with Sandbox.create(preload=["pandas"], cpus=2) as box:  # a library has counted its threads already
        assert box.sandbox_id != container
    container = ahead()

    @agent
    def loaded() -> bool:
        import sys

        return "IPython" in sys.modules

    assert loaded()  # by the box that waited for a cell


def test_the_magic(kernel: Kernel) -> None:
    assert kernel.run(f"%%sandbox --preload pandas,numpy\n{LOADED}").data("text/plain")[0] == "(True, True)"
    cell = kernel.run("%%sandbox --preload no-module\n1")
    assert "%%sandbox: --preload: 'no-module' is no name of a module" in cell.text("stderr")
    assert kernel.run("%config SandboxMagics.preload = 'pandas'").status == "ok"
    assert kernel.run(f"%%sandbox\n{LOADED}").data("text/plain")[0] == "(True, True)"
    assert kernel.run("%config SandboxMagics.preload = ''").status == "ok"
    assert kernel.run(f"%%sandbox -s pre --preload pandas\n{LOADED}").data("text/plain")[0] == "(True, True)"
    assert "the session pre has --preload pandas; " in kernel.run("%%sandbox -s pre --preload numpy\n1").text("stderr")
    kernel.run("%sandbox stop pre")


# -- IPython, late -----------------------------------------------------------------------------------------------------


def test_a_call_that_wants_no_ipython_has_none() -> None:
    @agent
    def look() -> tuple[str, bool, bool]:
        main = sys.modules["__main__"]
        return main.__name__, hasattr(main, "__file__"), "IPython" in sys.modules

    assert look() == ("__main__", False, False)


def test_what_a_call_displays_comes_back() -> None:
    @agent
    def draw() -> str:
        import matplotlib.pyplot as plt

        plt.plot([1, 2])  # shown at the end, as at a cell's
        display({"a": 1})  # type: ignore[name-defined]  # noqa: F821  # among the builtins of a notebook
        return type(get_ipython()).__name__  # type: ignore[name-defined]  # noqa: F821  # likewise a builtin there

    job = draw.spawn()
    assert job.result() == "_Interactive"
    assert job.execution is not None
    shown = job.execution.results
    assert [(one.text, one.png is None) for one in shown][:1] == [("{'a': 1}", True)]
    assert [one.png is None for one in shown[1:]] == [False]


def test_output_that_is_caught_stays_caught_when_ipython_comes() -> None:
    @agent
    def catch() -> str:
        import io

        with contextlib.redirect_stdout(io.StringIO()) as caught:
            import IPython

            print("in", IPython.get_ipython() is not None)
        print("out")
        return caught.getvalue()

    job = catch.spawn()
    assert job.result() == "in True\n"
    assert job.execution is not None
    assert job.execution.stdout == "out\n"


def test_the_ends_of_a_call_are_those_of_a_cell() -> None:
    @agent(retries=0)
    def end(how: str) -> None:
        import os
        import signal

        print("before")
        if how == "raise":
            raise LookupError("nothing")
        if how == "exit":
            raise SystemExit(3)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(ExecutionError, match="LookupError: nothing") as failure:
        end("raise")
    shown = str(failure.value.traceback)
    assert 'raise LookupError("nothing")' in shown
    assert "late.py" not in shown
    assert "calls.py" not in shown
    with pytest.raises(ExecutionError, match="SystemExit: 3"):
        end("exit")
    job = end.spawn("interrupt")
    assert job.exception() is not None
    assert job.execution is not None
    assert (job.execution.status, job.execution.stdout) == ("interrupted", "before\n")
