"""Running code in an image without IPython: the same answers as with it, apart from magics."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from agentbox_magic import ExecutionError, ExecutionInterrupted, Sandbox

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def plain(base: str) -> Iterator[Sandbox]:
    """A box of an image that has a Python and nothing else."""
    with Sandbox.create(image=base, timeout=60) as box:
        yield box


def test_there_is_no_ipython(plain: Sandbox) -> None:
    run = plain.run_code("import IPython")
    assert isinstance(run.error, ExecutionError)
    assert run.error.name == "ModuleNotFoundError"


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("6 * 7", "42"),
        ("6 * 7;", None),
        ("6 * 7; # no", None),
        ("6 * 7  # shown; really", "42"),
        ("'é;'  # é", "'é;'"),
        ("(\n  6 * 7\n)\n", "42"),
        ("x = 1", None),
        ("None", None),
        ("", None),
        ("# nothing", None),
        ("for n in range(3): n", None),
        ("import asyncio\nawait asyncio.sleep(0.01)\n'awaited'", "'awaited'"),
        ("async def f(): return 5\nawait f()", "5"),
        ("await asyncio.sleep(0)", None),
        ("async with asyncio.Lock() as x: y = 5\ny", "5"),
        ("5\n_", None),
        ("__name__", "'__main__'"),
        ("import pickle\nclass C: pass\ntype(pickle.loads(pickle.dumps(C()))) is C", "True"),
        ("import inspect\ndef g(): return 1\ninspect.getsource(g)", "'def g(): return 1\\n'"),
    ],
)
def test_the_last_expression_is_the_result(plain: Sandbox, code: str, text: str | None) -> None:
    if code == "5\n_":
        plain.run_code("41 + 1")
        code, text = "_", "42"
    run = plain.run_code(code).raise_for_status()
    assert run.text == text
    assert [result.is_main_result for result in run.results] == [True] * (text is not None)


def test_state_is_kept_and_cells_are_counted(plain: Sandbox) -> None:
    first = plain.run_code("from __future__ import annotations\nkept = 5")
    second = plain.run_code("def f(x: nowhere): pass\nkept + 1")
    assert second.text == "6"
    assert first.execution_count is not None
    assert second.execution_count == first.execution_count + 1


def test_streams_and_displays_have_the_programs_order(plain: Sandbox) -> None:
    pieces: list[tuple[str, str]] = []

    def add(kind: str, text: str) -> None:
        if pieces and pieces[-1][0] == kind != "display":
            text = pieces.pop()[1] + text
        pieces.append((kind, text))

    plain.run_code(
        "import os, sys\nfor n in range(20):\n"
        "    print('out', n)\n    os.write(1, b'raw\\n')\n    display(n)\n    print('err', n, file=sys.stderr)\n'last'",
        on_stdout=lambda text: add("out", text),
        on_stderr=lambda text: add("err", text),
        on_result=lambda result: add("display", str(result.text)),
    ).raise_for_status()
    expected = []
    for n in range(20):
        expected += [("out", f"out {n}\nraw\n"), ("display", str(n)), ("err", f"err {n}\n")]
    assert pieces == [*expected, ("display", "'last'")]


def test_how_a_value_shows_itself(plain: Sandbox) -> None:
    run = plain.run_code("""
class Value:
    def __repr__(self): return "text"
    def _repr_html_(self): return "<b>html</b>"
    def _repr_png_(self): return b"\\x89PNG\\r\\n\\x1a\\n", {"width": 1}
    def _repr_svg_(self): return None
    def _repr_latex_(self): raise ValueError("no latex")
    def _repr_mimebundle_(self, include=None, exclude=None): return {"application/x": {"a": 1}}, {}
class Answers:
    def __getattr__(self, name): return lambda *a, **k: name
    def __repr__(self): return "answers"
display(Value)
display(Answers(), Answers())
display({"text/plain": "raw"}, raw=True)
Value()
""").raise_for_status()
    kind, *answers, raw, value = run.results
    assert kind.html is None
    assert [(answer.text, answer.html) for answer in answers] == [("answers", None)] * 2
    assert raw.text == "raw"
    assert (value.text, value.html, value.png) == ("text", "<b>html</b>", PNG)
    assert value.data["application/x"] == {"a": 1}
    assert run.stderr.endswith("ValueError: no latex\n")
    assert "agent_executor" not in run.stderr


def test_an_exception(plain: Sandbox) -> None:
    run = plain.run_code(
        "print('before')\n\ndef f():\n    return 1 / 0\n\ntry:\n    f()\nexcept Exception as e:\n    {}[1]"
    )
    assert (run.status, run.stdout) == ("error", "before\n")
    assert isinstance(run.error, ExecutionError)
    assert (run.error.name, run.error.value) == ("KeyError", "1")
    lines = run.error.traceback.splitlines()
    assert [line.split(", line ")[1] for line in lines if ", line " in line] == [
        "7, in <module>",
        "4, in f",
        "9, in <module>",
    ]
    assert "    return 1 / 0" in lines
    assert lines[0] == "Traceback (most recent call last):"
    assert "agent_executor" not in run.error.traceback


@pytest.mark.parametrize(
    ("code", "name", "said"),
    [
        ("x = = 1", "SyntaxError", "x = = 1"),
        ("x = 1\n  y = 2", "IndentationError", "line 2"),
        ("!ls", "SyntaxError", "!ls"),
        ("'\\x00'".replace("\\x00", "\x00"), "", "null byte"),
        ("input('?')", "EOFError", "input() has nobody to ask in a sandbox"),
        ("import getpass; getpass.getpass()", "EOFError", "getpass() has nobody to ask in a sandbox"),
        ("import sys; sys.exit(2)", "SystemExit", "SystemExit: 2"),
        ("exit()", "SystemExit", "SystemExit"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt", "line 1"),
        ("class E(Exception):\n    def __str__(self): 1 / 0\nraise E", "E", "line 3"),
        ("class R:\n    def __repr__(self): 1 / 0\nR()", "ZeroDivisionError", "line 2"),
        ("import asyncio\nasync def f():\n    raise OSError('x')\nawait f()", "OSError", "line 3"),
        ("import json\njson.loads('{')", "JSONDecodeError", "json/decoder.py"),
    ],
)
def test_other_errors(plain: Sandbox, code: str, name: str, said: str) -> None:
    run = plain.run_code(code)
    assert isinstance(run.error, ExecutionError)
    assert run.error.name == name or not name
    assert said in run.error.traceback
    assert "agent_executor" not in run.error.traceback
    assert "asyncio/" not in run.error.traceback
    assert run.status == ("interrupted" if name == "KeyboardInterrupt" else "error")
    assert plain.run_code("1 + 1").text == "2"


@pytest.mark.parametrize("code", ["import time\ntime.sleep(100)", "import asyncio\nawait asyncio.sleep(100)"])
def test_interrupt(plain: Sandbox, code: str) -> None:
    plain.run_code("kept = 'kept'")

    def stop(text: str) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(ExecutionInterrupted) as caught:
        plain.run_code(f"import sys\nsys.stdout.write('before')\n{code}", on_stdout=stop)
    assert (caught.value.execution.status, caught.value.execution.stdout) == ("interrupted", "before")
    assert plain.run_code("kept").text == "'kept'"
    assert plain.run_code("import asyncio\nawait asyncio.sleep(0, 7)").text == "7"


@pytest.mark.parametrize("code", ["while True: pass", "import asyncio\nawait asyncio.sleep(100)"])
def test_a_deadline(plain: Sandbox, code: str) -> None:
    run = plain.run_code(f"print('before')\n{code}", timeout=0.5)
    assert (run.status, run.stdout) == ("timeout", "before\n")
    assert plain.run_code("1 + 1").text == "2"


def test_a_fork_that_falls_through_is_silent(plain: Sandbox) -> None:
    run = plain.run_code("import os\nchild = os.fork()\nif child: os.waitpid(child, 0)\n'here'")
    assert [result.text for result in run.results] == ["'here'"]
    assert plain.run_code("1 + 1").text == "2"


def test_a_figure_shows_itself_where_the_image_has_matplotlib(base: str) -> None:
    with Sandbox.create(image=base, packages=["matplotlib"]) as box:
        run = box.run_code(
            "import matplotlib.pyplot as plt\nfig = plt.figure()\nplt.plot([1, 2])\nfig"
        ).raise_for_status()
    assert run.results[0].png is not None
    assert run.results[0].png.startswith(PNG)
