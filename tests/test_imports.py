"""What importing costs: nothing that a notebook without a sandbox would pay for."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import agentbox_magic

HEAVY = ["docker", "requests", "ipywidgets", "PIL", "nh3", "numpy", "pandas", "cloudpickle", "jsonschema"]


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_importing_loads_nothing_heavy() -> None:
    loaded = python(f"import agentbox_magic, sys; print(sorted(set({HEAVY}) & set(sys.modules)))")
    assert loaded == "[]"
    assert (
        python("import agentbox_magic.sandbox, sys; print('docker' in sys.modules)") == "True"
    )  # so the check can fail


def test_importing_needs_no_ipython() -> None:
    assert python("import agentbox_magic, agentbox_magic.sandbox, sys; print('IPython' in sys.modules)") == "False"


def test_loading_the_extension_does_no_io() -> None:
    """Only Python's own reading of modules, and not docker's."""
    seen = python(f"""
import sys
from IPython.testing.globalipapp import start_ipython
shell = start_ipython()
seen = []
def hook(event, args):
    module = event == "open" and str(args[0]).endswith((".py", ".pyc"))
    if event.startswith(("open", "socket.", "subprocess.", "os.system", "os.exec", "os.fork")) and not module:
        seen.append((event, str(args)[:80]))
before = set(sys.modules)  # IPython's testing module looks for numpy
sys.addaudithook(hook)
shell.run_line_magic("load_ext", "agentbox_magic")
print(seen, sorted(set({HEAVY}) & (set(sys.modules) - before)))
""")
    assert seen == "[] []"


def test_every_exported_name_exists() -> None:
    for name in agentbox_magic.__all__:
        assert getattr(agentbox_magic, name) is not None
    assert set(agentbox_magic.__all__) <= set(dir(agentbox_magic))


ROWS = [
    {"limits", "config", "packages", "errors", "text", "resources", "owner", "forks", "disk", "scratch",
     "cost", "arguments", "deadline"},
    {"endpoint", "engine", "hardening", "images", "wheels", "derived", "traits", "readback", "badge", "ssh",
     "uids", "will"},
    {"channel", "outbox", "collector", "execution", "records", "values"},
    {"link", "calls", "exchange", "receiver", "commands", "files", "forward", "reaper", "relay", "launch",
     "pool", "shared_pool", "sandbox", "async_sandbox", "doctor"},
    {"display"},
    {"agents", "batch", "jobs", "tools", "schema", "pickling"},
    {"magics", "cli", "cli_verbs", "integrations"},
    {"__init__"},
]  # fmt: skip
"""The rooms of ARCHITECTURE.md, lowest row first."""


def imports(tree: ast.AST) -> Iterator[str]:
    """The modules a file imports when it runs: not those under ``if TYPE_CHECKING``."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "agentbox_magic":
            yield from (f"agentbox_magic.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module)
        yield from imports(node)


def test_rooms_import_only_from_the_rows_below_or_their_own() -> None:
    """And only engine.py imports docker, only magics and display import IPython."""
    rank = {room: number for number, row in enumerate(ROWS) for room in row}
    package = Path(agentbox_magic.__file__).parent
    for path in package.rglob("*.py"):
        name = path.relative_to(package).as_posix()
        room = path.relative_to(package).parts[0].removesuffix(".py")
        for module in imports(ast.parse(path.read_text("utf-8"))):
            top, _, rest = module.partition(".")
            other = rest.split(".")[0]
            assert top != "docker" or name == "engine.py", name
            assert top != "IPython" or room in ("magics", "display"), name
            assert top != "agentbox_magic" or rank.get(other, 0) <= rank[room], f"{name} imports {module}"
