"""A cell behaves as in a notebook.

Promised: the value of the last expression is the result; displays arrive with every MIME type they have, in order,
once; updates and ``clear_output`` have happened when the run is over; magics, shell commands and top-level await work;
an error has the name, the text and the traceback a notebook would show, and leaves what was before it as it was.
"""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import pytest
from health import look

from agentbox_magic import Execution, ExecutionError, Result, Sandbox

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
JPEG = b"\xff\xd8\xff\xe0 not much of a picture \xff\xd9"
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>'
SHOW = "from IPython.display import *\n"


def run(box: Sandbox, code: str) -> Execution:
    """Run a cell that must end well."""
    return box.run_code(code).raise_for_status()


def texts(run: Execution) -> list[str | None]:
    """The plain text of all that was displayed."""
    return [result.text for result in run.results]


@pytest.mark.parametrize(
    ("code", "text"),
    [
        pytest.param("6 * 7", "42", id="an expression"),
        pytest.param("x = 1\nx + 1", "2", id="the last of several lines"),
        pytest.param("1; 2; 3", "3", id="the last of one line"),
        pytest.param("'é\\n'", "'é\\n'", id="text is shown as its repr"),
        pytest.param("'\\ud800'", "'\\ud800'", id="a lone surrogate"),
        pytest.param("6 * 7;", None, id="a semicolon silences it"),
        pytest.param("6 * 7;  # why", None, id="also before a comment"),
        pytest.param("None", None, id="None is no result"),
        pytest.param("x = 5", None, id="an assignment has none"),
        pytest.param("", None, id="nothing at all"),
        pytest.param("# only a comment", None, id="a comment"),
        pytest.param("if True: 5", None, id="an expression in a block"),
        pytest.param("\n\n  \n3\n\n", "3", id="blank lines around"),
        pytest.param("8\n# afterwards", "8", id="a comment after it"),
        pytest.param("list(range(3))", "[0, 1, 2]", id="a list"),
        pytest.param("import asyncio\nawait asyncio.sleep(0, 'awaited')", "'awaited'", id="top-level await"),
        pytest.param("async def f(): return 4\nawait f()", "4", id="await of one's own"),

        pytest.param("def f(x: int) -> int:\n    return x\n\nf(9)", "9", id="a function and its call"),
        pytest.param("__name__", "'__main__'", id="the module is __main__"),
        pytest.param("class A:\n    pass\nimport pickle; type(pickle.loads(pickle.dumps(A()))).__name__", "'A'",
                     id="classes can be pickled"),
        pytest.param("import os; os.getcwd()", "'/workspace'", id="it begins in the workspace"),
        pytest.param("x = !echo one; echo two\nlist(x)", "['one', 'two']", id="x = !command"),
        pytest.param("word = 'up'\nx = !echo {word} $word\nx[0]", "'up up'", id="!command takes variables"),
        pytest.param("!exit 3\n_exit_code", "3", id="the exit status of !command"),
        pytest.param("%time 5", "5", id="%time gives the value"),
        pytest.param("%env HOME", "'/tmp'", id="a line magic's value"),
        pytest.param("get_ipython().complete('%bookm')[1]", "['%bookmark']", id="a completion"),
    ],
)  # fmt: skip
def test_the_value_of_the_last_expression(box: Sandbox, code: str, text: str | None) -> None:
    done = run(box, code)
    assert done.text == text
    assert [result.is_main_result for result in done.results] == ([] if text is None else [True])


@pytest.mark.parametrize(
    ("code", "stdout"),
    [
        pytest.param("print('a'); print('b')", "a\nb\n", id="print"),
        pytest.param("!echo out", "out\n", id="!command"),
        pytest.param("for n in range(2):\n    !echo $n", "0\n1\n", id="!command in a loop"),
        pytest.param("%%bash\nfor i in 1 2; do echo $i; done", "1\n2\n", id="%%bash"),
        pytest.param("%%sh\necho sh", "sh\n", id="%%sh"),
        pytest.param("%%capture got\nprint('captured')", "", id="%%capture keeps it"),
        pytest.param("%%writefile /tmp/written.py\nprint('ran')\n", "Writing /tmp/written.py\n", id="%%writefile"),
        pytest.param("%run /tmp/written.py", "ran\n", id="%run"),
        pytest.param("%pwd\nprint('after a magic')", "after a magic\n", id="a magic among code"),
        pytest.param("%bookmark here\n%bookmark -l", "Current bookmarks:\nhere -> /workspace\n", id="%bookmark"),
    ],
)
def test_magics_and_shell_commands_write(box: Sandbox, code: str, stdout: str) -> None:
    assert run(box, code).stdout == stdout


def test_time_reports_and_gives_the_value(box: Sandbox) -> None:
    done = run(box, "%%time\ntotal = sum(range(10))\ntotal")
    assert done.text == "45"
    assert "Wall time:" in done.stdout


def test_names_of_earlier_results(box: Sandbox) -> None:
    first = run(box, "'first'")
    run(box, "'second'")
    assert run(box, "_, __").text == "('second', 'first')"
    assert run(box, f"Out[{first.execution_count}], In[{first.execution_count}]").text == "('first', \"'first'\")"


def test_cells_are_counted_by_one(box: Sandbox) -> None:
    counts = [box.run_code(code).execution_count for code in ("1", "1 / 0", "x = = 1", "2")]
    assert counts[0] is not None
    assert counts == [counts[0] + n for n in range(4)]


RICH: list[Any] = [
    pytest.param("HTML('<b>x</b>')", "html", "<b>x</b>", id="html"),
    pytest.param("Markdown('*x*')", "markdown", "*x*", id="markdown"),
    pytest.param("Latex('$x$')", "latex", "$x$", id="latex"),
    pytest.param("Math('x^2')", "latex", "$\\displaystyle x^2$", id="math"),
    pytest.param(f"SVG({SVG!r})", "svg", SVG, id="svg"),
    pytest.param(f"Image(data={PNG!r})", "png", PNG, id="png"),
    pytest.param(f"Image(data={JPEG!r}, format='jpeg')", "jpeg", JPEG, id="jpeg"),
    pytest.param("JSON({'a': [1, None, 'é']})", "json", {"a": [1, None, "é"]}, id="json"),
    pytest.param("Javascript('1')", "javascript", "1", id="javascript"),
    pytest.param("Pretty('as it is')", "text", "as it is", id="pretty"),
]


@pytest.mark.parametrize(("expression", "name", "value"), RICH)
def test_a_rich_result_and_display(box: Sandbox, expression: str, name: str, value: object) -> None:
    main = run(box, SHOW + expression).results
    shown = run(box, f"{SHOW}display({expression})").results
    assert [getattr(result, name) for result in main + shown] == [value, value]
    assert [result.is_main_result for result in main + shown] == [True, False]


@pytest.mark.parametrize(
    ("bundle", "name", "value"),
    [
        pytest.param({"application/pdf": "JVBERg=="}, "pdf", b"%PDF", id="pdf, from base64"),
        pytest.param({"application/vnd.x+json": {"k": 1}}, "extra", {"application/vnd.x+json": {"k": 1}}, id="a type "
                     "of one's own"),
        pytest.param({"text/plain": "a", "text/html": "b"}, "html", "b", id="several types"),
        pytest.param({}, "text", None, id="no type at all"),
    ],
)  # fmt: skip
def test_a_raw_bundle(box: Sandbox, bundle: dict[str, Any], name: str, value: object) -> None:
    (result,) = run(box, f"{SHOW}display({bundle!r}, raw=True)").results
    assert getattr(result, name) == value
    assert set(result.formats()) == set(bundle)


def test_an_object_with_its_own_bundle(box: Sandbox) -> None:
    (result,) = run(
        box,
        "class Both:\n    def _repr_html_(self): return '<i>html</i>'\n    def _repr_latex_(self): return '$l$'\n"
        "    def __repr__(self): return 'plain'\nBoth()",
    ).results
    assert (result.text, result.html, result.latex, result.png) == ("plain", "<i>html</i>", "$l$", None)


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        pytest.param("display(1); display(2); 3", ["1", "2", "3"], id="in order, the value last"),
        pytest.param("display(1, 2)", ["1", "2"], id="several at once"),
        pytest.param("h = display(1, display_id='d'); display(2); h.update(3)", ["3", "2"], id="an update is in place"),
        pytest.param("h = display(1, display_id='d')\nfor n in range(2500): h.update(n)", ["2499"],
                     id="the last of many updates is seen"),
        pytest.param("h = display(1, display_id=True); h.update(4); h.update(5)", ["5"], id="an id that is made up"),
        pytest.param("display(1, display_id='a'); display(2, display_id='b'); update_display(9, display_id='a')",
                     ["9", "2"], id="the right one of two"),
        pytest.param("display(1); update_display(2, display_id='never shown')", ["1"], id="an update of nothing"),
        pytest.param("display(1); clear_output(); display(2)", ["2"], id="clear_output"),
        pytest.param("display(1); clear_output(); 5", ["5"], id="clear_output before the value"),
        pytest.param("display(1); clear_output(wait=True)", ["1"], id="clear_output that waits, and nothing comes"),
        pytest.param("display(1); clear_output(wait=True); display(2)", ["2"], id="clear_output that waits"),
        pytest.param("for n in range(1500):\n    clear_output(wait=True); display(n)", ["1499"],
                     id="the last frame of a long animation"),
        pytest.param("display(1, display_id='e'); clear_output(); update_display(2, display_id='e')", [],
                     id="an update of what was cleared"),
    ],
)  # fmt: skip
def test_what_is_shown_in_the_end(box: Sandbox, code: str, shown: list[str]) -> None:
    done = run(box, SHOW + code)
    assert texts(done) == shown
    assert done.dropped_results == 0


def test_on_result_sees_every_state(box: Sandbox) -> None:
    seen: list[str | None] = []
    code = SHOW + "h = display(1, display_id='d'); h.update(2); 3"
    box.run_code(code, on_result=lambda result: seen.append(result.text)).raise_for_status()
    assert seen == ["1", "2", "3"]


PLOT = "import matplotlib.pyplot as plt\n"


@pytest.mark.parametrize(
    ("code", "figures"),
    [
        pytest.param("plt.plot([1, 2]); plt.show()", 1, id="one that is shown"),
        pytest.param("plt.plot([1, 2]);", 1, id="one that is not is shown at the end"),
        pytest.param("plt.plot([1]); plt.show(); plt.plot([2]); plt.show()", 2, id="two, shown one by one"),
        pytest.param(
            "plt.figure(); plt.plot([1]); plt.figure(); plt.plot([2]); plt.show()", 2, id="two, shown at once"
        ),
        pytest.param("plt.plot([1]); plt.show(); plt.plot([2]);", 2, id="one shown, one not"),
        pytest.param("plt.plot([1]); plt.close()", 0, id="one that was closed"),
        pytest.param("plt.show()", 0, id="none is left from the cell before"),
        pytest.param("f, ax = plt.subplots()\nplt.close(f)\nf", 1, id="a figure as the value"),
    ],
)
def test_figures_are_shown_once(box: Sandbox, code: str, figures: int) -> None:
    pictures = [result.png for result in run(box, PLOT + code).results if result.png is not None]
    assert len(pictures) == figures
    assert all(picture.startswith(PNG[:8]) for picture in pictures)


def test_pandas_tables(box: Sandbox) -> None:
    done = run(box, "import pandas as pd\ndf = pd.DataFrame({'a': [1, 2], 'b': ['x', '<y>']})\ndisplay(df)\ndf.a.sum()")
    assert texts(done) == ["   a    b\n0  1    x\n1  2  <y>", "np.int64(3)"]
    html = done.results[0].html
    assert html is not None
    assert "<table" in html
    assert "&lt;y&gt;" in html


def test_a_result_says_what_it_is() -> None:
    result = Result({"text/plain": "t", "image/png": PNG, "x/y": 1}, is_main_result=True)
    assert repr(result) == "Result(image/png, text/plain, x/y)"
    assert result.to_dict() == {
        "data": {"text/plain": "t", "image/png": base64.b64encode(PNG).decode(), "x/y": 1}, "is_main_result": True,
    }  # fmt: skip
    assert result.extra == {"x/y": 1}


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("print('out'); 1", id="ok"),
        pytest.param("1 / 0", id="an error"),
        pytest.param("import os; os._exit(4)", id="the process ended"),
        pytest.param(f"{SHOW}display(Image(data={PNG!r})); display(JSON([1]))", id="pictures"),
        pytest.param("import os; os.write(1, bytes(range(256)))\n'\\ud800\\x00'", id="odd bytes"),
    ],
)
def test_the_record_as_json(box: Sandbox, code: str) -> None:
    done = box.run_code(code)
    record = json.loads(done.to_json())
    assert record["status"] == done.status
    assert record["text"] == done.text
    assert "".join(record["logs"]["stdout"]) == done.stdout
    assert [set(result["data"]) for result in record["results"]] == [set(result.data) for result in done.results]
    assert record["usage"]["memory_limit"] == 512 * 2**20
    assert record["exit_code"] == done.exit_code
    assert (record["error"] is None) == (done.status == "ok")
    if isinstance(done.error, ExecutionError):
        assert (record["error"]["name"], record["error"]["value"]) == (done.error.name, done.error.value)


def test_envs_are_of_one_run(box: Sandbox) -> None:
    look_up = "import os; os.environ.get('ONE'), os.environ['HOME']"
    assert box.run_code(look_up, envs={"ONE": "é 1", "HOME": "/other"}).text == "('é 1', '/other')"
    assert box.run_code(look_up).text == "(None, '/tmp')"
    assert box.run_code("1 / 0", envs={"ONE": "1"}).status == "error"
    assert box.run_code(look_up).text == "(None, '/tmp')"
    assert box.run_code("!echo $ONE", envs={"ONE": "child"}).stdout == "child\n"
    assert box.run_code("%%bash\necho [$ONE]").stdout == "[]\n"


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "name", "value"),
    [
        pytest.param("1 / 0", "ZeroDivisionError", "division by zero", id="an exception"),
        pytest.param("raise ValueError", "ValueError", "", id="without a text"),
        pytest.param("raise ValueError('é\\nnext')", "ValueError", "é\nnext", id="of two lines"),
        pytest.param("raise KeyError('k')", "KeyError", "'k'", id="KeyError"),
        pytest.param("unknown_name", "NameError", "name 'unknown_name' is not defined", id="NameError"),
        pytest.param("import no_such_module", "ModuleNotFoundError", "No module named 'no_such_module'", id="import"),
        pytest.param("class Mine(Exception): pass\nraise Mine('m')", "Mine", "m", id="a class of one's own"),
        pytest.param("class E(Exception):\n    def __str__(self): 1 / 0\nraise E", "E", None, id="__str__ fails"),
        pytest.param("class E(Exception):\n    def __repr__(self): 1 / 0\nraise E('e')", "E", "e", id="__repr__ fails"),
        pytest.param("class E(Exception):\n    def __str__(self): return 5\nraise E", "E", None, id="__str__ is none"),
        pytest.param("raise RuntimeError('x' * 10**6)", "RuntimeError", "x" * 65536, id="a text that is cut"),
        pytest.param("raise ValueError('\\x1b]0;title\\x07red')", "ValueError", None, id="a text with controls"),
        pytest.param("raise ValueError('\\ud800')", "ValueError", None, id="a text with a lone surrogate"),
        pytest.param("import sys; sys.exit()", "SystemExit", "", id="sys.exit()"),
        pytest.param("import sys; sys.exit(0)", "SystemExit", "0", id="sys.exit(0)"),
        pytest.param("import sys; sys.exit(3)", "SystemExit", "3", id="sys.exit(3)"),
        pytest.param("import sys; sys.exit('why')", "SystemExit", "why", id="sys.exit with a text"),
        pytest.param("raise MemoryError('of my own')", "MemoryError", "of my own", id="MemoryError of the program"),
        pytest.param("bytearray(2**62)", "MemoryError", "", id="MemoryError of Python"),
        pytest.param("def f(): f()\nf()", "RecursionError", "maximum recursion depth exceeded", id="recursion"),
        pytest.param("raise GeneratorExit", "GeneratorExit", "", id="GeneratorExit"),
        pytest.param("raise BaseException('b')", "BaseException", "b", id="BaseException"),
        pytest.param("raise 5", "TypeError", "exceptions must derive from BaseException", id="what cannot be raised"),
        pytest.param("%nonsense", "UsageError", None, id="an unknown line magic"),
        pytest.param("%%nonsense\n1", "UsageError", None, id="an unknown cell magic"),
        pytest.param("%%bash\nexit 3", "CalledProcessError", None, id="%%bash that fails"),
        pytest.param("%%time\n1 / 0", "ZeroDivisionError", "division by zero", id="under %%time"),
        pytest.param("import asyncio\nasync def f(): 1 / 0\nawait f()", "ZeroDivisionError", "division by zero",
                     id="in a coroutine"),
        pytest.param("class R:\n    def __repr__(self): 1 / 0\nR()", "ZeroDivisionError", "division by zero",
                     id="in the repr of the value"),
        pytest.param("class H:\n    def _repr_html_(self): raise ValueError('html')\nH()", "ValueError", "html",
                     id="in the value's HTML"),
        pytest.param("x = = 1", "SyntaxError", None, id="SyntaxError"),
        pytest.param("if True:\nx", "IndentationError", None, id="IndentationError"),
        pytest.param("'never closed", "SyntaxError", None, id="an open string"),
        pytest.param("print('a'\n", "SyntaxError", None, id="an open bracket"),
        pytest.param("x = '\x00'", None, None, id="a NUL in the code"),
        pytest.param("return 5", "SyntaxError", None, id="return outside a function"),
    ],
)  # fmt: skip
def test_an_error_is_told(box: Sandbox, code: str, name: str | None, value: str | None) -> None:
    box.run_code("before = 'kept'")
    done = box.run_code(code)
    assert done.status == "error"
    assert isinstance(done.error, ExecutionError)
    if name is not None:
        assert done.error.name == name
    if value is not None:
        assert done.error.value[: max(len(value), 1)] == value
    assert not any(ord(character) < 32 and character != "\n" for character in done.error.value)
    assert "agent_executor" not in done.error.traceback
    assert run(box, "before").text == "'kept'"


def test_a_keyboard_interrupt_of_the_program(box: Sandbox) -> None:
    done = box.run_code("print('before')\nraise KeyboardInterrupt")
    assert (done.status, done.stdout) == ("interrupted", "before\n")
    assert isinstance(done.error, ExecutionError)
    assert done.error.name == "KeyboardInterrupt"
    assert run(box, "1 + 1").text == "2"


@pytest.mark.parametrize(
    ("code", "has"),
    [
        pytest.param("try:\n    1 / 0\nexcept Exception as e:\n    raise ValueError('v') from e",
                     ["ZeroDivisionError", "direct cause", "ValueError"], id="raise from"),
        pytest.param("try:\n    1 / 0\nexcept Exception:\n    raise ValueError('v')",
                     ["ZeroDivisionError", "During handling", "ValueError"], id="raise while handling"),
        pytest.param("def f():\n    deep = 1\n    raise ValueError('v')\n\nf()", ["line 3", "line 5"], id="lines"),
        pytest.param("x = = 1", ["x = = 1", "^"], id="where the syntax is wrong"),
        pytest.param("def cell_function():\n    1 / 0", [], id="not raised yet"),
        pytest.param("cell_function()", ["cell_function", "1 / 0"], id="source of an earlier cell"),
    ],
)  # fmt: skip
def test_the_traceback_is_a_notebooks(box: Sandbox, code: str, has: list[str]) -> None:
    done = box.run_code(code)
    assert (done.status == "error") == bool(has)
    trace = done.error.traceback if isinstance(done.error, ExecutionError) else ""
    trace = re.sub(r"\x1b\[[0-9;]*m", "", trace)
    assert [word for word in has if word not in trace] == []


def test_an_exception_group(box: Sandbox) -> None:
    if tuple(int(part) for part in box.python_version.split(".")[:2]) < (3, 11):
        pytest.skip("the box's Python has no exception groups")
    done = box.run_code("raise ExceptionGroup('both', [ValueError('one'), TypeError('two')])")
    assert isinstance(done.error, ExecutionError)
    assert (done.error.name, done.error.value) == ("ExceptionGroup", "both (2 sub-exceptions)")
    assert "ValueError: one" in done.stderr  # where IPython shows it
    assert "TypeError: two" in done.stderr


@pytest.mark.parametrize("name", ["input", "getpass"])
def test_input_says_that_nobody_is_there(box: Sandbox, name: str) -> None:
    done = box.run_code(f"from getpass import getpass\n{name}('?')")
    assert isinstance(done.error, ExecutionError)
    assert str(done.error) == f"EOFError: {name}() has nobody to ask in a sandbox; pass the value in instead"
    assert "agent_executor" not in done.error.traceback
    assert (done.stdout, done.stderr) == ("", "")
    assert run(box, "import sys\nsys.stdin.readline()").text == "''"


@pytest.mark.parametrize("code", ["exit", "exit()", "quit()", "import sys; sys.exit(1)"])
def test_leaving_is_no_way_out(box: Sandbox, code: str) -> None:
    """There is nothing to leave: the cell ends, the session goes on."""
    run(box, "stays = 'here'")
    box.run_code(code)
    assert run(box, "stays").text == "'here'"


def test_output_and_displays_before_an_error_are_kept(box: Sandbox) -> None:
    done = box.run_code(f"{SHOW}print('before'); display(1)\n1 / 0\nprint('never')")
    assert (done.status, done.stdout, texts(done)) == ("error", "before\n", ["1"])


@pytest.mark.parametrize(
    ("told", "value"),
    [
        ("for_type(int, str)", "1"),
        ("for_type(int, str)", "True"),
        ("for_type(object, str)", "[1]"),
        ("for_type_by_name('builtins', 'float', str)", "1.5"),
    ],
)
def test_a_built_in_value_has_the_forms_that_the_code_gives_it(box: Sandbox, told: str, value: str) -> None:
    context = box.create_code_context()
    try:
        formatter = "get_ipython().display_formatter.formatters['text/html']"
        before = box.run_code(value, context=context).results[0]
        box.run_code(f"{formatter}.{told}", context=context)
        after = box.run_code(value, context=context).results[0]
    finally:
        box.remove_code_context(context)
    assert (before.text, before.html, after.text, after.html) == (value, None, value, value)


def test_the_box_is_whole_after_all_that(box: Sandbox) -> None:
    assert look(box)[1] == []


def test_code_longer_than_a_frame(box: Sandbox) -> None:
    run = box.run_code(f"text = {'x' * 2**21!r}\nlen(text)")
    assert (run.status, run.text) == ("ok", str(2**21))
