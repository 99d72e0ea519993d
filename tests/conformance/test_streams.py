"""What code writes is what the caller reads.

Promised: every byte of stdout and stderr, from Python, from C, from children, comes once and in the program's order;
what is not UTF-8 becomes U+FFFD; beyond the cap the head and the tail are kept and the bytes between are counted;
displays beyond theirs are counted too. What a process writes after its cell is over hangs nothing.
"""

from __future__ import annotations

import json

import pytest
from waiting import seconds_until

from agentbox_magic import Execution, Sandbox

SYS = "import os, subprocess, sys, threading\n"


def run(box: Sandbox, code: str) -> Execution:
    """Run a cell that must end well."""
    return box.run_code(SYS + code).raise_for_status()


@pytest.mark.parametrize(
    ("code", "stdout", "stderr"),
    [
        pytest.param("print('a', 'b', sep='-', end='!')", "a-b!", "", id="print without a newline"),
        pytest.param("print('é', file=sys.stderr)", "", "é\n", id="stderr"),
        pytest.param("sys.stdout.write('w'); sys.stdout.writelines(['x', 'y']);", "wxy", "", id="write and writelines"),
        pytest.param("sys.stdout.buffer.write(b'raw\\n'); sys.stdout.flush()", "raw\n", "", id="the buffer below"),
        pytest.param("sys.__stdout__.write('dunder'); sys.__stdout__.flush()", "dunder", "", id="sys.__stdout__"),
        pytest.param("os.write(1, b'one'); os.write(2, b'two');", "one", "two", id="os.write"),
        pytest.param("os.writev(1, [b'a', b'b']);", "ab", "", id="os.writev"),
        pytest.param("open('/dev/fd/1', 'w').write('dev');", "dev", "", id="/dev/fd/1"),
        pytest.param("open('/dev/stderr', 'w').write('dev');", "", "dev", id="/dev/stderr"),
        pytest.param("open(os.dup(1), 'w').write('dup');", "dup", "", id="a copy of the descriptor"),
        pytest.param("import ctypes; c = ctypes.CDLL(None); c.printf(b'%d\\n', 7); c.fflush(None);", "7\n", "",
                     id="printf of C"),
        pytest.param("import ctypes; ctypes.CDLL(None).dprintf(2, b'c\\n');", "", "c\n", id="dprintf of C"),
        pytest.param("import faulthandler; faulthandler.dump_traceback(all_threads=False)", "", None,
                     id="faulthandler"),
        pytest.param("import warnings; warnings.warn('careful')", "", None, id="a warning"),
        pytest.param("import logging; logging.warning('log')", "", "WARNING:root:log\n", id="logging"),
        pytest.param("subprocess.run(['echo', 'child']);", "child\n", "", id="a child"),
        pytest.param("subprocess.run('echo err >&2', shell=True);", "", "err\n", id="a child's stderr"),
        pytest.param("subprocess.run('sh -c \"sh -c \\'echo deep\\'\"', shell=True);", "deep\n", "", id="a grandchild"),
        pytest.param("subprocess.run('cat', shell=True);", "", "", id="a child that reads finds nothing"),
        pytest.param("print(sys.stdin.read())", "\n", "", id="stdin is empty"),
        pytest.param("subprocess.run('seq 3 | sort -r', shell=True);", "3\n2\n1\n", "", id="a pipeline"),
        pytest.param("for n in range(3): print(f'{n}%', end='\\r')", "0%\r1%\r2%\r", "", id="progress with \\r"),
        pytest.param("for b in 'é€😀'.encode(): os.write(1, bytes([b]))", "é€😀", "", id="UTF-8 byte by byte"),
        pytest.param("os.write(1, b'\\xe2\\x82'); os.write(2, b'!'); os.write(1, b'\\xac');", "€", "!",
                     id="a character split around the other stream"),
        pytest.param("os.write(1, b'\\xff\\xfe ok');", "\ufffd\ufffd ok", "", id="invalid bytes"),
        pytest.param("os.write(1, b'cut \\xe2\\x82');", "cut \ufffd", "", id="a character that never ends"),
        pytest.param("print('next')", "next\n", "", id="and the next cell has none of it"),
        pytest.param("print('a\\x00b')", "a\x00b\n", "", id="NUL"),
        pytest.param("print('\\ud800')", "\\ud800\n", "", id="a lone surrogate"),
        pytest.param("print('\\x1b[31mred\\x1b[0m')", "\x1b[31mred\x1b[0m\n", "", id="colours are as written"),
        pytest.param("print(*range(100_000), sep='\\n')", "".join(f"{n}\n" for n in range(100_000)), "",
                     id="many lines at once"),
        pytest.param("for n in range(50_000): print(n)", "".join(f"{n}\n" for n in range(50_000)), "",
                     id="10^5 small writes"),
        pytest.param("print('x' * 1_000_000)", "x" * 1_000_000 + "\n", "", id="a very long line"),
        pytest.param("sys.stdout = sys.stderr; print('moved'); sys.stdout = sys.__stdout__", "", "moved\n",
                     id="stdout replaced"),
        pytest.param("import contextlib, io\nwith contextlib.redirect_stdout(io.StringIO()) as f: print('kept')\n"
                     "print(f.getvalue() == 'kept\\n')", "True\n", "", id="stdout redirected"),
        pytest.param("sys.stdout.isatty(), os.isatty(0), os.isatty(1), os.isatty(2); print(os.isatty(1))", "False\n",
                     "", id="no terminal"),
    ],
)  # fmt: skip
def test_what_is_written_is_read(box: Sandbox, code: str, stdout: str, stderr: str | None) -> None:
    done = run(box, code)
    assert done.stdout == stdout
    assert done.stderr == stderr if stderr is not None else done.stderr


# -- order ------------------------------------------------------------------------------------------------------------


def events(box: Sandbox, code: str) -> list[tuple[str, str]]:
    """All that a cell wrote and showed, in the order of arrival; pieces of one stream joined."""
    seen: list[tuple[str, str]] = []

    def add(kind: str, text: str) -> None:
        if seen and seen[-1][0] == kind != "shown":
            text = seen.pop()[1] + text
        seen.append((kind, text))

    box.run_code(
        SYS + "from IPython.display import display\n" + code,
        on_stdout=lambda text: add("out", text),
        on_stderr=lambda text: add("err", text),
        on_result=lambda result: add("shown", str(result.text)),
    ).raise_for_status()
    return seen


@pytest.mark.parametrize(
    ("step", "order"),
    [
        pytest.param("print('o', n); print('e', n, file=sys.stderr)", [("out", "o {}\n"), ("err", "e {}\n")],
                     id="the two streams of Python"),
        pytest.param("print(n); display(n)", [("out", "{}\n"), ("shown", "{}")], id="prints and displays"),
        pytest.param("print(n, file=sys.stderr); display(n)", [("err", "{}\n"), ("shown", "{}")],
                     id="stderr and displays"),
        pytest.param("os.write(1, b'%d' % n); display(n)", [("out", "{}"), ("shown", "{}")], id="raw and displays"),
        pytest.param("subprocess.run(['echo', str(n)]); display(n)", [("out", "{}\n"), ("shown", "{}")],
                     id="children and displays"),
        pytest.param("print(n); os.write(1, b'raw\\n'); print(n, file=sys.stderr); os.write(2, b'raw\\n'); display(n)",
                     [("out", "{}\nraw\n"), ("err", "{}\nraw\n"), ("shown", "{}")], id="everything"),
        pytest.param("print('x' * 100_000); display(n)", [("out", "x" * 100_000 + "\n"), ("shown", "{}")],
                     id="more than a pipe holds"),
    ],
)  # fmt: skip
def test_the_order_is_the_programs(box: Sandbox, step: str, order: list[tuple[str, str]]) -> None:
    times = 8
    expected = [(kind, text.format(n)) for n in range(times) for kind, text in order]
    assert events(box, f"for n in range({times}):\n    {step}") == expected


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(
            "def show():\n    sys.displayhook(7)\n    os.write(1, b'after')\nshow()", id="shown by a function"
        ),
        pytest.param("ip.ast_node_interactivity = 'all'\n7\n_ = os.write(1, b'after')", id="every expression is shown"),
        pytest.param("ip.events.register('post_execute', hook)\n7", id="a hook prints after the value"),
    ],
)
def test_what_comes_after_a_value_comes_after_it(box: Sandbox, code: str) -> None:
    run(box, "ip = get_ipython()\ndef hook(): print('after', end='')")
    try:
        if "'all'" in code:
            run(box, code.splitlines()[0])
            code = code.partition("\n")[2]
        assert events(box, code) == [("shown", "7"), ("out", "after")]
    finally:
        run(box, "ip.ast_node_interactivity = 'last_expr'")
        run(box, "try: ip.events.unregister('post_execute', hook)\nexcept ValueError: pass")


def test_hundreds_of_displays_between_prints(box: Sandbox) -> None:
    expected = [(kind, text) for n in range(400) for kind, text in (("out", f"{n}\n"), ("shown", str(n)))]
    assert events(box, "for n in range(400):\n    print(n)\n    display(n)") == expected


def test_a_print_is_one_piece(box: Sandbox) -> None:
    pieces: list[str] = []
    box.run_code("print('first')")  # what runs for the first time may wait for its memory in the middle of a print
    run = box.run_code("for n in range(200): print('a', n, 'b\\nc', sep='-')", on_stdout=pieces.append)
    assert run.stdout == "".join(f"a-{n}-b\nc\n" for n in range(200))
    assert run.logs.stdout == pieces
    assert [piece for piece in pieces if not piece.endswith("c\n")] == []


@pytest.mark.parametrize(
    "write",
    [
        pytest.param("print('ready', end='')", id="a moment"),
        pytest.param("print('ready', end='', flush=True)", id="a flush"),
        pytest.param("print('ready', end=''); print('', end='', file=sys.stderr)", id="the other stream"),
        pytest.param("os.write(1, b'ready')", id="a raw write"),
    ],
)
def test_text_without_a_newline_comes_while_the_code_goes_on(box: Sandbox, write: str) -> None:
    """The code ends only when the caller has seen what it wrote."""
    box.files.remove("/tmp/seen") if box.files.exists("/tmp/seen") else None
    code = f"{SYS}import time\n{write}\nwhile not os.path.exists('/tmp/seen'): time.sleep(0.01)\nprint('!')"
    run = box.run_code(code, timeout=60, on_stdout=lambda text: box.files.write("/tmp/seen", "")).raise_for_status()
    assert run.logs.stdout == ["ready", "!\n"]


def test_a_flush_ends_a_piece(box: Sandbox) -> None:
    pieces = run(box, "for word in 'one', 'two', 'three': print(word, end='', flush=True)").logs.stdout
    assert pieces == ["one", "two", "three"]


@pytest.mark.parametrize(
    ("end", "status"),
    [
        ("os._exit(3)", "error"),
        ("os.kill(os.getpid(), 9)", "killed"),
        ("import ctypes; ctypes.string_at(0)", "killed"),
        ("while True: pass", "timeout"),
        ("if os.fork() == 0: os._exit(0)\nos.wait()", "ok"),
        ("1 / 0", "error"),
    ],
)
def test_no_end_of_the_code_loses_what_is_held(box: Sandbox, end: str, status: str) -> None:
    run = box.run_code(f"{SYS}print('held', end='')\n{end}", timeout=2 if status == "timeout" else 60)
    assert (run.status, run.stdout) == (status, "held")


@pytest.mark.parametrize(
    ("name", "stubborn"),
    [("on_stdout", False), ("on_result", False), ("on_start", False), ("on_slow", False), ("on_stdout", True)],
)
def test_what_a_callback_raises_ends_its_run(box: Sandbox, name: str, stubborn: bool) -> None:
    class OwnError(Exception):
        pass

    def fail(*_: object) -> None:
        raise OwnError

    box.run_code("kept = 'kept'")
    pid = int(box.run_code("import os; print(os.getpid())").stdout)
    code = f"{SYS}import signal\n" + "signal.signal(signal.SIGINT, signal.SIG_IGN)\n" * stubborn
    code += "from IPython.display import display\nprint('out'); display(1)\nimport time\nwhile True: time.sleep(0.01)"
    with pytest.raises(OwnError):
        box.run_code(code, timeout=100, **{name: fail})  # type: ignore[arg-type]
    kept = box.run_code("kept")
    assert kept.text == "'kept'" or stubborn
    alive = box.commands.run(f"test -d /proc/{pid} && echo alive || echo dead").stdout
    assert alive == "alive\n" or stubborn


def test_what_a_callback_raises_ends_its_command(box: Sandbox) -> None:
    def fail(text: str) -> None:
        raise KeyError(text)

    handle = box.commands.run("echo out; sleep 1000", background=True, timeout=100, on_stdout=fail)
    with pytest.raises(KeyError):
        handle.wait()
    assert handle.exit_code == 130
    assert box.commands.list() == []


def test_threads_lose_nothing(box: Sandbox) -> None:
    code = """
def work(name):
    for n in range(500):
        sys.stdout.write(f"<{name}{n}>")
        sys.stderr.write(f"<{name}{n}>")
threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
    done = run(box, code)
    words = sorted(f"{name}{n}" for name in "abcd" for n in range(500))
    assert sorted(done.stdout.strip("<>").split("><")) == words
    assert sorted(done.stderr.strip("<>").split("><")) == words


def test_displays_of_threads_arrive(box: Sandbox) -> None:
    done = run(
        box,
        "from IPython.display import display\n"
        "threads = [threading.Thread(target=display, args=(n,)) for n in range(20)]\n"
        "for thread in threads: thread.start()\nfor thread in threads: thread.join()",
    )
    assert sorted(int(result.text or -1) for result in done.results) == list(range(20))


# -- after the end of a cell ------------------------------------------------------------------------------------------


LATER = "subprocess.Popen('while [ ! -e {0}.go ]; do sleep 0.02; done; echo late; touch {0}.done', shell=True);"


def test_a_child_may_outlive_its_cell(box: Sandbox) -> None:
    assert run(box, LATER.format("/tmp/one") + "print('over')").stdout == "over\n"
    box.files.write("/tmp/one.go", "")
    seconds_until(lambda: box.files.exists("/tmp/one.done"), within=20)
    done = run(box, "print('next')")
    assert done.stdout in ("next\n", "late\nnext\n")


def test_what_it_writes_in_the_next_cell_is_the_next_cells(box: Sandbox) -> None:
    run(box, "child = " + LATER.format("/tmp/two"))
    done = run(box, "open('/tmp/two.go', 'w').close(); child.wait(); print('next')")
    assert done.stdout == "late\nnext\n"


def test_a_thread_may_outlive_its_cell(box: Sandbox) -> None:
    code = """
go, done = threading.Event(), threading.Event()
def work():
    from IPython.display import display
    go.wait()
    print("late")
    display("late")
    done.set()
threading.Thread(target=work).start()
"""
    assert run(box, code).stdout == ""
    later = run(box, "go.set(); done.wait(20)")
    assert (later.stdout, [result.text for result in later.results]) == ("late\n", ["'late'", "True"])


def test_a_child_that_writes_for_ever_hangs_nothing(box: Sandbox) -> None:
    run(box, "noisy = subprocess.Popen('yes'); ")
    for _ in range(3):
        assert run(box, "1 + 1").text == "2"
    run(box, "noisy.kill(); noisy.wait();")
    seconds_until(lambda: run(box, "print('quiet')").stdout == "quiet\n", within=10)


def test_a_child_that_keeps_the_streams_open_does_not_hold_its_cell(box: Sandbox) -> None:
    run(box, "sleeper = subprocess.Popen(['sleep', '1000'])")
    assert run(box, "sleeper.poll() is None").text == "True"
    run(box, "sleeper.kill(); sleeper.wait();")


# -- caps -------------------------------------------------------------------------------------------------------------


def capped(text: str, cap: int) -> str:
    """What is kept of a stream: its head, how much is missing, and its tail of an eighth."""
    tail = cap // 8
    if len(text) <= cap:
        return text
    return f"{text[: cap - tail]}\n[... {len(text) - cap:,} bytes dropped ...]\n{text[len(text) - tail :]}"


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize(
    ("cap", "size"),
    [
        pytest.param(1000, 999, id="one below the cap"),
        pytest.param(1000, 1000, id="exactly the cap"),
        pytest.param(1000, 1001, id="one beyond"),
        pytest.param(1000, 876, id="one into the tail"),
        pytest.param(1000, 250_000, id="far beyond"),
        pytest.param(7, 20, id="a cap too small for a tail"),
        pytest.param(0, 20, id="a cap of nothing"),
        pytest.param(2**20, 3 * 2**20 + 5, id="megabytes"),
    ],
)
def test_output_beyond_its_cap_is_counted(box: Sandbox, stream: str, cap: int, size: int) -> None:
    number = 1 if stream == "stdout" else 2
    code = f"text = bytes(97 + n % 26 for n in range({size}))\nwhile text: text = text[os.write({number}, text) :]"
    done = box.run_code(SYS + code, max_output=cap).raise_for_status()
    text = "".join(chr(97 + n % 26) for n in range(size))
    assert getattr(done, stream) == capped(text, cap)
    other = "stderr" if number == 1 else "stdout"
    assert getattr(done, other) == ""
    dropped = {f"dropped_{stream}": max(0, size - cap), f"dropped_{other}": 0}
    assert {name: getattr(done, name) for name in dropped} == dropped
    assert dropped.items() <= json.loads(done.to_json()).items()


def test_each_stream_has_its_own_cap(box: Sandbox) -> None:
    done = box.run_code(SYS + "print('o' * 999); print('e' * 999, file=sys.stderr)", max_output=1000)
    assert (done.stdout, done.stderr) == ("o" * 999 + "\n", "e" * 999 + "\n")


def test_a_character_that_the_cap_cuts_hurts_no_other(box: Sandbox) -> None:
    done = box.run_code("print('é' * 1000)", max_output=801).raise_for_status()
    assert done.stdout.startswith("é" * 350)
    assert done.stdout.endswith("é" * 49 + "\n")
    assert "bytes dropped" in done.stdout


@pytest.mark.parametrize(
    ("code", "kept", "dropped"),
    [
        pytest.param("for n in range(1000): display(n)", 1000, 0, id="as many as may be"),
        pytest.param("for n in range(1005): display(n)", 1000, 5, id="five more"),
        pytest.param("for n in range(1000): display(n)\n5", 1000, 1, id="the value is one of them"),
        pytest.param(
            "for n in range(9): display({'text/plain': 'x' * 10_000_000}, raw=True)", 6, 3, id="64 MiB in all"
        ),
        pytest.param(
            "display({'text/plain': 'x' * 40_000_000}, raw=True); display(1)", 2, 0, id="one too large, which is cut"
        ),
        pytest.param("display(1)", 1, 0, id="the next cell begins anew"),
    ],
)
def test_displays_beyond_their_caps_are_counted(box: Sandbox, code: str, kept: int, dropped: int) -> None:
    done = run(box, "from IPython.display import display\n" + code)
    assert (len(done.results), done.dropped_results) == (kept, dropped)
    assert box.run_code("1 + 1").text == "2"


@pytest.mark.parametrize(
    ("code", "cells", "status"),
    [
        pytest.param("for _ in range(60): print('x' * 2**20)", 3, "ok", id="prints"),
        pytest.param("raise ValueError('x' * 2**22)", 40, "error", id="errors"),
        pytest.param("for _ in range(15): display('x' * 2**22)", 3, "ok", id="displays"),
    ],
)
def test_what_a_session_has_shown_takes_no_memory(code: str, cells: int, status: str) -> None:
    with Sandbox.create(mem="160m") as box:
        assert [box.run_code(code).status for _ in range(cells)] == [status] * cells
