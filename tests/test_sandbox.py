"""Running code in a box: what comes back, and in what order, and how every run ends."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import docker
import pytest
from waiting import seconds_until

from agentbox_magic import (
    ExecutionError,
    ExecutionInterrupted,
    MemoryLimitError,
    OutcomeUnknownError,
    Sandbox,
    SandboxClosedError,
    TimeLimitError,
)

PNG = b"\x89PNG\r\n\x1a\n"


def test_the_last_expression_is_the_result(box: Sandbox) -> None:
    run = box.run_code("6 * 7").raise_for_status()
    assert (run.status, run.text, run.error) == ("ok", "42", None)
    assert [result.is_main_result for result in run.results] == [True]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="IPython 8 loads them in any case")
def test_a_box_has_loaded_no_more_than_a_cell_needs() -> None:
    unneeded = {"hashlib", "shutil", "tempfile", "IPython.core.completer"}
    with Sandbox.create() as box:
        run = box.run_code(f"import sys; sorted({unneeded} & set(sys.modules)), 'IPython' in sys.modules")
        assert run.text == "([], True)"
        assert [entry.name for entry in box.files.list("/tmp")] == [".etc", ".matplotlib"]


def test_a_semicolon_silences_it(box: Sandbox) -> None:
    assert box.run_code("6 * 7;").results == []


def test_state_is_kept(box: Sandbox) -> None:
    first = box.run_code("kept = 5")
    second = box.run_code("kept + 1")
    assert second.text == "6"
    assert first.execution_count is not None
    assert second.execution_count == first.execution_count + 1


@pytest.mark.parametrize(
    ("code", "stdout", "stderr"),
    [
        pytest.param("print('a'); print('b')", "a\nb\n", "", id="print"),
        pytest.param("import sys; print('é', file=sys.stderr)", "", "é\n", id="stderr"),
        pytest.param("import os; os.write(1, b'raw\\n'); None", "raw\n", "", id="file descriptor 1"),
        pytest.param("!echo out; echo err >&2", "out\n", "err\n", id="a shell command"),
        pytest.param("import subprocess; subprocess.run(['echo', 'child']); None", "child\n", "", id="a child"),
        pytest.param("x = !echo captured\nx[0]", "", "", id="a captured command"),
        pytest.param("import os; os.write(1, b'\\xff\\xc3\\xa9'); None", "\ufffdé", "", id="bytes that are not UTF-8"),
        pytest.param("%%bash\necho from bash", "from bash\n", "", id="a cell magic"),
    ],
)
def test_what_the_code_writes(box: Sandbox, code: str, stdout: str, stderr: str) -> None:
    run = box.run_code(code).raise_for_status()
    assert (run.stdout, run.stderr) == (stdout, stderr)


def test_text_arrives_while_the_code_runs(box: Sandbox) -> None:
    """The code waits for a file that only appears when its output has been seen."""
    pieces: list[str] = []
    seen = threading.Event()

    def on_stdout(text: str) -> None:
        pieces.append(text)
        seen.set()

    runs: list[str] = []
    thread = threading.Thread(
        target=lambda: runs.append(
            box.run_code(
                "import os, time; os.write(1, b'first\\n')\nwhile True: time.sleep(0.01)",
                timeout=1,
                on_stdout=on_stdout,
            ).status
        )
    )
    thread.start()
    assert seen.wait(30)
    assert runs == []
    assert pieces == ["first\n"]
    thread.join()
    assert runs == ["timeout"]


def test_order_is_the_programs(box: Sandbox) -> None:
    pieces: list[tuple[str, str]] = []
    code = """
import os, sys
from IPython.display import display
for n in range(50):
    print("out", n)
    os.write(1, b"raw %d\\n" % n)
    display(n)
    print("err", n, file=sys.stderr)
"last"
"""

    def add(kind: str, text: str) -> None:
        if pieces and pieces[-1][0] == kind != "display":
            text = pieces.pop()[1] + text
        pieces.append((kind, text))

    box.run_code(
        code,
        on_stdout=lambda text: add("out", text),
        on_stderr=lambda text: add("err", text),
        on_result=lambda result: add("display", str(result.text)),
    ).raise_for_status()
    expected = []
    for n in range(50):
        expected += [("out", f"out {n}\nraw {n}\n"), ("display", str(n)), ("err", f"err {n}\n")]
    assert pieces == [*expected, ("display", "'last'")]


def test_a_table_and_a_figure(box: Sandbox) -> None:
    run = box.run_code(
        "import pandas as pd, matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()\npd.DataFrame({'a': [1]})"
    ).raise_for_status()
    figure, table = run.results
    assert figure.png is not None
    assert figure.png.startswith(PNG)
    assert table.is_main_result
    assert table.html is not None
    assert "<table" in table.html


def test_a_figure_that_was_not_shown_is_shown_once_at_the_end(box: Sandbox) -> None:
    run = box.run_code("import matplotlib.pyplot as plt; plt.plot([3, 1]); plt.title('t');").raise_for_status()
    assert [result.png is not None for result in run.results] == [True]


def test_top_level_await(box: Sandbox) -> None:
    assert box.run_code("import asyncio\nawait asyncio.sleep(0.01)\n'awaited'").text == "'awaited'"


def test_a_large_result_arrives_whole(box: Sandbox) -> None:
    run = box.run_code("from IPython.display import display\ndisplay({'text/plain': 'x' * 3_000_000}, raw=True)")
    assert run.results[0].text == "x" * 3_000_000


def test_an_exception(box: Sandbox) -> None:
    run = box.run_code("print('before')\n\ndef f():\n    return 1 / 0\n\nf()")
    assert (run.status, run.stdout) == ("error", "before\n")
    assert isinstance(run.error, ExecutionError)
    assert (run.error.name, run.error.value) == ("ZeroDivisionError", "division by zero")
    assert run.error.traceback.count("line 4") == 1
    assert "agent_executor" not in run.error.traceback
    with pytest.raises(ExecutionError, match="ZeroDivisionError: division by zero"):
        run.raise_for_status()


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("x = = 1", "SyntaxError"),
        ("%nonsense", "UsageError"),
        ("input('?')", "EOFError"),
        ("import sys; sys.exit(2)", "SystemExit"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("class E(Exception):\n    def __str__(self): 1 / 0\nraise E", "E"),
    ],
)
def test_other_errors(box: Sandbox, code: str, name: str) -> None:
    run = box.run_code(code)
    assert isinstance(run.error, ExecutionError)
    assert run.error.name == name
    assert box.run_code("1 + 1").text == "2"


@pytest.mark.parametrize(
    ("code", "status", "message"),
    [
        ("import os; os._exit(3)", "error", "SystemExit: the code ended its own process with exit code 3"),
        ("import os; os.kill(os.getpid(), 9)", "killed", "SIGKILL: the code's process was killed by SIGKILL"),
        ("import ctypes; ctypes.string_at(0)", "killed", "SIGSEGV: the code's process was killed by SIGSEGV"),
        (
            "import os; os.closerange(0, 200)",
            "killed",
            "OSError: the code broke the process that runs it, which was ended",
        ),
    ],
)
def test_a_process_that_ends_leaves_the_box_usable(box: Sandbox, code: str, status: str, message: str) -> None:
    run = box.run_code(code)
    assert (run.status, str(run.error)) == (status, message)
    assert box.run_code("1 + 1").text == "2"


def test_a_fork_that_falls_through_is_silent(box: Sandbox) -> None:
    run = box.run_code(
        "import os\nchild = os.fork()\nos.write(1, b'parent\\n' if child else b'child\\n')\n"
        "if child: os.waitpid(child, 0)"
    )
    assert run.status == "ok"
    assert sorted(run.stdout.split()) == ["child", "parent"]
    assert box.run_code("1 + 1").text == "2"


def test_out_of_memory() -> None:
    with Sandbox.create(mem="128m") as box:
        run = box.run_code("print('before')\nx = bytearray(10**9)")
        assert (run.status, run.stdout) == ("oom", "before\n")
        assert isinstance(run.error, MemoryLimitError)
        assert str(run.error) == "killed: used 128 MiB of 128 MiB; raise mem, such as --mem 256m"
        assert run.usage.oom_kills == 1
        assert box.run_code("1 + 1").text == "2"


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("while True: pass", id="a loop"),
        pytest.param("import time; time.sleep(100)", id="a sleep"),
        pytest.param("!sleep 100", id="a child"),
        pytest.param("sum(range(10**12))", id="a loop in C"),
        pytest.param(
            "import time\nwhile True:\n    try: time.sleep(100)\n    except BaseException: pass",
            id="ignores the interrupt",
        ),
        pytest.param(
            "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\nwhile True: pass",
            id="blocks signals",
        ),
    ],
)
def test_a_deadline(box: Sandbox, code: str) -> None:
    start = time.monotonic()
    run = box.run_code(f"print('before')\n{code}", timeout=0.5)
    assert time.monotonic() - start < 4.5  # the deadline, the grace of 2 s, and a slow machine
    assert (run.status, run.stdout) == ("timeout", "before\n")
    assert isinstance(run.error, TimeLimitError)
    assert isinstance(run.error, TimeoutError)
    assert str(run.error) == "killed: ran past its 0.5 s; raise timeout, such as --timeout 1"
    assert box.run_code("1 + 1").text == "2"


def test_nothing_of_a_timed_out_run_goes_on(box: Sandbox) -> None:
    run = box.run_code(
        "import subprocess, time\nsubprocess.Popen(['setsid', 'sleep', '1000'])\ntime.sleep(100)", timeout=0.5
    )
    assert run.status == "timeout"
    states = box.run_code("import glob\nfor f in glob.glob('/proc/[0-9]*/stat'): print(open(f).read())").stdout
    assert "(sleep) S" not in states
    assert "python" in states  # so it would have been seen


def test_a_fork_bomb_meets_its_limit() -> None:
    with Sandbox.create(pids=20) as box:
        run = box.run_code("import os\nwhile True: os.fork()", timeout=1)
        assert run.status in ("error", "timeout")
        assert run.usage.pids_peak is not None
        assert run.usage.pids_peak <= 20
        assert box.run_code("1 + 1").text == "2"


def test_output_beyond_the_cap_is_counted_and_its_ends_are_kept(box: Sandbox) -> None:
    run = box.run_code("print('head')\nfor n in range(20_000): print('x' * 99)\nprint('tail')", max_output=100_000)
    assert run.status == "ok"
    assert run.stdout.startswith("head\n")
    assert run.stdout.endswith("tail\n")
    assert f"[... {2_000_000 + 10 - 100_000:,} bytes dropped ...]" in run.stdout


def test_usage(box: Sandbox) -> None:
    run = box.run_code(
        "import time\nx = bytearray(100_000_000)\n"
        "end = time.process_time() + 0.3\nwhile time.process_time() < end: pass"
    )
    usage = run.usage
    assert usage.memory_limit == 512 * 2**20
    assert usage.memory_peak is not None
    assert 100_000_000 < usage.memory_peak < usage.memory_limit
    assert usage.cpu_seconds is not None
    assert 0.25 < usage.cpu_seconds < 3
    assert run.duration >= 0.3
    box.run_code("del x")


def test_interrupt(box: Sandbox) -> None:
    """What a kernel does on Stop: SIGINT, in the main thread."""
    box.run_code("kept = 'kept'")

    def stop(text: str) -> None:
        if text.endswith("\n"):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(ExecutionInterrupted) as caught:
        box.run_code("print('before')\nimport time\ntime.sleep(100)", on_stdout=stop)
    assert caught.value.execution.status == "interrupted"
    assert caught.value.execution.stdout == "before\n"
    assert box.run_code("kept").text == "'kept'"


def test_a_second_interrupt_kills(boxes: Callable[[], set[str]]) -> None:
    def stop(text: str) -> None:
        if text.endswith("\n"):
            os.kill(os.getpid(), signal.SIGINT)

    code = """
import time
while True:
    try:
        print('go on')
        time.sleep(100)
    except KeyboardInterrupt: pass
"""
    with Sandbox.create() as box:
        with pytest.raises(ExecutionInterrupted) as caught:
            box.run_code(code, on_stdout=stop)
        assert caught.value.execution.status == "interrupted"
        assert not box.is_running()
    assert boxes() == set()


def test_kill(boxes: Callable[[], set[str]]) -> None:
    box = Sandbox.create()
    assert box.is_running()
    assert boxes() == {box.sandbox_id}
    assert box.kill()
    assert not box.kill()
    assert not box.is_running()
    assert boxes() == set()
    with pytest.raises(SandboxClosedError, match="this sandbox has ended; create another"):
        box.run_code("1")


def test_kill_from_another_thread_ends_a_run() -> None:
    box = Sandbox.create()
    run = box.run_code(
        "import os; os.write(1, b'running\\n')\nwhile True: pass",
        on_stdout=lambda text: threading.Thread(target=box.kill).start(),
    )
    assert run.status == "killed"
    assert isinstance(run.error, SandboxClosedError)
    assert run.stdout == "running\n"


def test_a_container_removed_from_outside(client: docker.DockerClient) -> None:
    with Sandbox.create() as box:
        run = box.run_code(
            "import os; os.write(1, b'running\\n')\nwhile True: pass",
            on_stdout=lambda text: client.containers.get(box.sandbox_id).remove(force=True),
        )
    assert (run.status, run.stdout) == ("lost", "running\n")
    assert isinstance(run.error, OutcomeUnknownError)


def test_a_box_nobody_holds_ends(boxes: Callable[[], set[str]]) -> None:
    box = Sandbox.create()
    assert boxes() == {box.sandbox_id}
    threads = threading.active_count()
    del box
    gc.collect()
    seconds_until(lambda: not boxes(), within=5)
    seconds_until(lambda: threading.active_count() < threads, within=5)


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY_SECRET", "swordfish")
    with Sandbox.create(env={"GREETING": "hello"}) as box:
        names = box.run_code("import os; print(os.environ['GREETING']); print(dict(os.environ))").stdout
    assert names.startswith("hello\n")
    assert "swordfish" not in names


def test_a_bad_limit_starts_nothing(boxes: Callable[[], set[str]]) -> None:
    with pytest.raises(ValueError, match="cpus 0 is out of range"):
        Sandbox.create(cpus=0)
    assert boxes() == set()


def test_much_output_in_tiny_pieces_is_honest(box: Sandbox) -> None:
    run = box.run_code("import os\nfor n in range(100_000): os.write(1, b'x'); os.write(2, b'y')", timeout=60)
    assert (run.status, run.stdout, run.stderr) == ("ok", "x" * 100_000, "y" * 100_000)


@pytest.mark.parametrize("cap", [-1, 2**40])
def test_a_cap_out_of_range(box: Sandbox, cap: int) -> None:
    with pytest.raises(ValueError, match=r"max_output .* is out of range"):
        box.run_code("1", max_output=cap)


ENDS = """
import gc, os
from agentbox_magic import Sandbox
with Sandbox.create() as box:
    box.run_code("1")
Sandbox.create().kill()
forgotten = Sandbox.create()
del forgotten
gc.collect()
box = Sandbox.create()
if not (child := os.fork()):
    del box
    gc.collect()
    raise SystemExit
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_the_end_of_a_box_says_nothing_on_stderr() -> None:
    """However it ends. Python tells of what goes wrong in a finaliser from 3.13 on, and before that with -X dev."""
    command = [sys.executable, "-X", "dev", "-W", "ignore:This process", "-c", ENDS]  # which forks with threads
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("0\n", "")
