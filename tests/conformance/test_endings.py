"""Every run ends in one word, whatever the code does, and the box lives on.

Promised: ``ok``, ``error``, ``timeout``, ``oom``, ``interrupted`` or ``killed``, what was printed before, and then the
same box, with the same PID 1 and no dead processes left lying about. State is kept wherever the process that held it
could be kept.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from health import assert_usable, look
from waiting import seconds_until

from agentbox_magic import (
    Execution,
    ExecutionError,
    ExecutionInterrupted,
    MemoryLimitError,
    Sandbox,
    SandboxClosedError,
    TimeLimitError,
    pickling,
)
from agentbox_magic.values import decode

HEAD = "import ctypes, os, signal, subprocess, sys, threading, time\nprint('before')\n"
TIMEOUT = 0.5


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    """A box of few processes, so that whatever piles up is noticed."""
    with Sandbox.create(timeout=30, pids=30, mem="256m") as box:
        yield box


@pytest.fixture(scope="module")
def started(box: Sandbox) -> int:
    """When the box's PID 1 began."""
    return look(box)[0]


def ends(
    box: Sandbox,
    started: int,
    code: str,
    status: str,
    message: str | None = None,
    stdout: str = "before\n",
    **kwargs: Any,
) -> Execution:
    """Run code that ends in a given way, and look at the box afterwards."""
    run = box.run_code(HEAD + code, **kwargs)
    assert (run.status, run.stdout) == (status, stdout)
    if message is not None:
        assert str(run.error or "") == message
    assert (run.error is None) == (status == "ok")
    assert_usable(box, started)
    return run


# -- the process ends -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0, 1, 3, 255])
def test_exit_codes(box: Sandbox, started: int, code: int) -> None:
    run = ends(box, started, f"os._exit({code})", "error")
    assert run.exit_code == code
    assert str(run.error) == f"SystemExit: the code ended its own process with exit code {code}"


KILL_WORKER = "subprocess.run(['sh', '-c', 'kill -{} $PPID'])\ntime.sleep(100)"


@pytest.mark.parametrize(
    ("code", "name"),
    [
        pytest.param("ctypes.string_at(0)", "SIGSEGV", id="segmentation fault"),
        pytest.param("os.abort()", "SIGABRT", id="abort"),
        pytest.param("os.kill(os.getpid(), 9)", "SIGKILL", id="kill -9 itself"),
        pytest.param("os.kill(os.getpid(), 15)", "SIGTERM", id="SIGTERM to itself"),
        pytest.param("os.killpg(0, 9)", "SIGKILL", id="kill -9 its group"),
        pytest.param("signal.alarm(1); time.sleep(100)", "SIGALRM", id="an alarm"),
        pytest.param("import resource; resource.setrlimit(resource.RLIMIT_CPU, (1, 2))\nwhile True: pass", "SIGXCPU",
                     id="a CPU limit of its own"),
        pytest.param(KILL_WORKER.format(9), "SIGKILL", id="killed by its child"),
        pytest.param(KILL_WORKER.format("SEGV"), "SIGSEGV", id="a signal of its child"),
    ],
)  # fmt: skip
def test_signals(box: Sandbox, started: int, code: str, name: str) -> None:
    run = ends(box, started, code, "killed", f"{name}: the code's process was killed by {name}")
    assert run.signal == signal.Signals[name]
    assert isinstance(run.error, ExecutionError)


def test_killing_everybody_else_reaches_nobody(box: Sandbox, started: int) -> None:
    code = "child = subprocess.Popen(['sleep', '1000'])\nos.kill(-1, 9)\nprint(child.wait())\n"
    ends(box, started, code + "for n in range(1, 65):\n    os.kill(1, n)", "ok", stdout="before\n-9\n")


def test_state_is_lost_with_the_process_only(box: Sandbox, started: int) -> None:
    box.run_code("kept = 1")
    ends(box, started, "1 / 0", "error")
    assert box.run_code("kept").text == "1"
    ends(box, started, "os._exit(1)", "error")
    assert box.run_code("kept").status == "error"


CUT_OFF = "OSError: the code broke the process that runs it, which was ended"


@pytest.mark.parametrize(
    ("code", "status", "message", "stdout"),
    [
        pytest.param("os.closerange(0, 1024)", "killed", CUT_OFF, "before\n", id="closes all it has"),
        pytest.param("os.closerange(3, 1024)", "killed", CUT_OFF, "before\n", id="closes all but the streams"),
        pytest.param("import socket\nfor fd in range(3, 200):\n    try: socket.socket(fileno=os.dup(fd)).shutdown(2)\n"
                     "    except OSError: pass", "killed", CUT_OFF, "before\n", id="shuts its connection down"),
        pytest.param("fd = os.dup(1)\nos.dup2(os.open('/dev/null', 1), 1)\nprint('lost')\n"
                     "os.dup2(fd, 1)\nprint('back')",
                     "ok", "", "before\nback\n", id="moves fd 1 away and back"),
        pytest.param("os.dup2(2, 1); print('goes to stderr')", "ok", "", "before\n", id="fd 1 becomes fd 2"),
        pytest.param("r, w = os.pipe(); os.dup2(w, 1); print('into a pipe')", "ok", "", "before\n",
                     id="fd 1 becomes a pipe of its own"),
    ],
)  # fmt: skip
def test_descriptors(code: str, status: str, message: str, stdout: str) -> None:
    with Sandbox.create() as box:
        started = look(box)[0]
        run = box.run_code(HEAD + code, timeout=20)
        assert (run.status, str(run.error or ""), run.stdout) == (status, message, stdout)
        assert_usable(box, started)


def test_closed_streams_break_only_what_prints() -> None:
    with Sandbox.create() as box:
        started = look(box)[0]
        box.run_code("import os; kept = 3; os.closerange(0, 3)")
        run = box.run_code("print('to nowhere')", timeout=20)
        assert run.status == "error"
        assert isinstance(run.error, ExecutionError)
        assert run.error.name == "OSError"
        assert_usable(box, started)
        assert box.run_code("kept").text == "3"


@pytest.mark.parametrize(
    ("code", "stdout"),
    [
        pytest.param("child = os.fork()\nos.write(1, b'parent\\n' if child else b'child\\n')\n"
                     "if child: os.waitpid(child, 0)",
                     ["before", "child", "parent"], id="one that goes on to the end of the cell"),
        pytest.param("if os.fork() == 0: raise ValueError\nos.wait();", ["before"], id="one that raises"),
        pytest.param("if os.fork() == 0: sys.exit(3)\nos.wait();", ["before"], id="one that exits"),
        pytest.param("if os.fork() == 0:\n    from IPython.display import display\n    display('never seen')\n"
                     "    os._exit(0)\nos.wait();", ["before"], id="one that displays"),
        pytest.param("import multiprocessing as m\n"
                     "with m.get_context('fork').Pool(2) as p: print(p.map(abs, [-1, -2]))",
                     ["2]", "[1,", "before"], id="a pool"),
    ],
)  # fmt: skip
def test_a_fork_is_not_the_worker(box: Sandbox, started: int, code: str, stdout: list[str]) -> None:
    run = box.run_code(HEAD + code)
    assert (run.status, sorted(run.stdout.split()), run.results) == ("ok", stdout, [])
    assert_usable(box, started)


@pytest.mark.parametrize(
    ("code", "status", "stderr"),
    [
        pytest.param("sys.exit(42)", 42, "", id="exit"),
        pytest.param("sys.exit()", 0, "", id="exit without a number"),
        pytest.param("sys.exit('why')", 1, "why\n", id="exit with words"),
        pytest.param("raise ValueError('it')", 1, "ValueError: it\n", id="an exception"),
        pytest.param("pass", 0, "", id="the end of the code"),
        pytest.param("os._exit(7)", 7, "", id="_exit"),
        pytest.param("os.kill(os.getpid(), 15)", -15, "", id="a signal"),
    ],
)
@pytest.mark.parametrize("kind", ["cell", "agent"])
def test_a_fork_ends_as_pythons_does(box: Sandbox, kind: str, code: str, status: int, stderr: str) -> None:
    if kind == "cell":
        run = box.run_code(f"""
import os, sys
pid = os.fork()
if pid == 0: {code}
else: print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
""").raise_for_status()
        ended = int(run.stdout)
    else:

        def parent(code: str) -> int | None:
            import os

            pid = os.fork()
            if pid == 0:
                exec("import os, sys\n" + code)  # noqa: S102  # one of those above
                return None
            return os.waitpid(pid, 0)[1]

        run, raw = box.call_pickled(pickling.dumps(parent, (code,), {}), envs={})
        ended = os.waitstatus_to_exitcode(decode(bytes(raw)))
    assert ended == status
    assert run.stderr.endswith(stderr)
    assert bool(run.stderr) == bool(stderr)
    assert "agent_executor" not in run.stderr


def test_executors_of_processes_tell_what_their_children_raise(box: Sandbox) -> None:
    run = box.run_code(
        "from concurrent.futures import ProcessPoolExecutor\n"
        "with ProcessPoolExecutor(1) as pool:\n"
        "    print(pool.submit(int, '42').result(), repr(pool.submit(int, 'x').exception())[:10])"
    ).raise_for_status()
    assert run.stdout == "42 ValueError\n"


def live(box: Sandbox) -> int:
    """How many processes are alive."""
    states = box.commands.run("cat /proc/[0-9]*/stat 2>/dev/null || true").stdout.splitlines()
    return sum(") Z " not in state for state in states) - 1  # without this shell; its cat is younger than the list


DAEMON = """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.closerange(0, 3)
        time.sleep(1000)
    os._exit(0)
os.wait()
"""


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("if os.fork() == 0:\n    time.sleep(1000)", id="a fork"),
        pytest.param(DAEMON, id="a daemon"),
        pytest.param("subprocess.Popen(['setsid', 'sleep', '1000'])", id="a session of its own"),
        pytest.param("subprocess.run('(sleep 1000 &) ; true', shell=True)", id="an orphan"),
        pytest.param(
            "subprocess.run(\"trap '' INT TERM HUP; (sleep 1000 &)\", shell=True)", id="one that ignores signals"
        ),
        pytest.param("subprocess.Popen(['sh', '-c', 'kill -STOP $$'])", id="one that is stopped"),
    ],
)
def test_what_a_cell_leaves_behind(code: str) -> None:
    """It goes on while the session does, and ends with the first run that passes its deadline."""
    with Sandbox.create() as box:
        started = look(box)[0]
        seconds_until(lambda: live(box) == 3, within=10)  # PID 1, the zygote and the worker
        assert box.run_code(HEAD + code, timeout=20).status == "ok"
        assert live(box) == 4
        assert box.run_code("while True: pass", timeout=TIMEOUT).status == "timeout"
        assert_usable(box, started)
        seconds_until(lambda: live(box) == 3, within=10)


# -- the deadline -----------------------------------------------------------------------------------------------------

UNWINDS = [
    pytest.param("while True: pass", id="a loop"),
    pytest.param("time.sleep(100)", id="a sleep"),
    pytest.param("!sleep 100", id="a child"),
    pytest.param("subprocess.run(['sleep', '100'])", id="a child that is waited for"),
    pytest.param("threading.Event().wait()", id="an event that never comes"),
    pytest.param("import asyncio; await asyncio.sleep(100)", id="an await"),
    pytest.param("os.read(os.pipe()[0], 1)", id="a read"),
    pytest.param("try:\n    time.sleep(100)\nfinally:\n    tidy = True", id="a finally"),
    pytest.param(
        "try:\n    time.sleep(100)\nexcept KeyboardInterrupt:\n    pass", id="it takes the interrupt for an end"
    ),
    pytest.param("import queue; queue.Queue().get()", id="an empty queue"),
    pytest.param("import re; re.match('(a+)+$', 'a' * 40 + 'b')", id="a regular expression"),
]

IGNORES = [
    pytest.param("sum(range(10**12))", id="a loop in C"),
    pytest.param("while True:\n    try: time.sleep(100)\n    except BaseException: pass", id="catches everything"),
    pytest.param("signal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass", id="ignores SIGINT"),
    pytest.param("signal.signal(signal.SIGINT, lambda *_: None)\nwhile True: time.sleep(1)", id="replaces the handler"),
    pytest.param("signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\nwhile True: pass", id="blocks all signals"),
    pytest.param("os.kill(os.getpid(), signal.SIGSTOP)", id="stops itself"),
    pytest.param("try:\n    time.sleep(100)\nfinally:\n    while True: pass", id="loops while it unwinds"),
    pytest.param("os.setpgid(0, 0) if os.getpgid(0) != os.getpid() else None\nsubprocess.Popen(['sleep', '1000'])\n"
                 "threading.Thread(target=time.sleep, args=(1000,)).start()\ntime.sleep(1000)", id="leaves a thread"),
    pytest.param("def f():\n    while True:\n        try: f()\n        except BaseException: pass\nf()",
                 id="recursion that catches itself"),
]  # fmt: skip


def assert_timed_out(run: Execution) -> None:
    assert isinstance(run.error, TimeLimitError)
    assert isinstance(run.error, TimeoutError)
    assert str(run.error) == "killed: ran past its 0.5 s; raise timeout, such as --timeout 1"
    assert run.duration >= TIMEOUT


@pytest.mark.parametrize("code", UNWINDS)
def test_a_deadline_that_code_unwinds_from_keeps_the_state(box: Sandbox, started: int, code: str) -> None:
    box.run_code("kept = 'kept'")
    assert_timed_out(ends(box, started, code, "timeout", timeout=TIMEOUT))
    assert box.run_code("kept").text == "'kept'"


@pytest.mark.parametrize("code", IGNORES)
def test_a_deadline_that_code_ignores_costs_the_state(box: Sandbox, started: int, code: str) -> None:
    box.run_code("kept = 'kept'")
    assert_timed_out(ends(box, started, code, "timeout", timeout=TIMEOUT))
    assert box.run_code("'kept' in globals()").text == "False"


def test_a_deadline_of_the_code_within_the_runs(box: Sandbox, started: int) -> None:
    code = "try:\n    subprocess.run(['sleep', '100'], timeout=0.2)\nexcept subprocess.TimeoutExpired: print('inner')"
    ends(box, started, code, "ok", stdout="before\ninner\n", timeout=20)
    code = "try:\n    subprocess.run(['sleep', '100'], timeout=50)\nexcept subprocess.TimeoutExpired: print('inner')"
    assert_timed_out(ends(box, started, code, "timeout", timeout=TIMEOUT))


def test_a_fork_bomb() -> None:
    with Sandbox.create(pids=20) as box:
        began = look(box)[0]
        assert box.run_code(HEAD + "while True: os.fork()", timeout=1).status in ("error", "timeout")
        # One that goes on where there is no room is there when PID 1 counts.
        stays = "while True:\n    try: os.fork()\n    except OSError: time.sleep(0.1)"
        run = box.run_code(HEAD + stays, timeout=1)
        assert run.status == "timeout"
        assert run.usage.pids_peak == 20
        assert_usable(box, began)


def test_a_fork_bomb_of_the_shell() -> None:
    with Sandbox.create(pids=20) as box:
        began = look(box)[0]
        assert box.run_code("%%bash\nbomb() { bomb | bomb & }; bomb; sleep 100", timeout=1).status in (
            "error",
            "timeout",
        )
        seconds_until(lambda: box.run_code("while True: pass", timeout=TIMEOUT).status == "timeout", within=30)
        assert_usable(box, began)


@pytest.mark.parametrize(
    ("code", "name"),
    [
        pytest.param("[threading.Thread(target=time.sleep, args=(1000,), daemon=True).start() for _ in range(100)]",
                     "RuntimeError", id="threads"),
        pytest.param("left = [subprocess.Popen(['sleep', '1000']) for _ in range(100)]", "BlockingIOError",
                     id="processes"),
        pytest.param("left = [open('/dev/null') for _ in range(5000)]", "OSError", id="files"),
    ],
)  # fmt: skip
def test_too_many(code: str, name: str) -> None:
    with Sandbox.create(pids=20) as box:
        began = look(box)[0]
        run = box.run_code(HEAD + code, timeout=20)
        assert (run.status, run.stdout) == ("error", "before\n")
        assert isinstance(run.error, ExecutionError)
        assert run.error.name == name
        assert box.run_code("1 + 1").text == "2"
        box.restart_code_context(box.list_code_contexts()[0])
        box.run_code("while True: pass", timeout=TIMEOUT)  # which takes all that nobody owns
        assert_usable(box, began)


# -- memory -----------------------------------------------------------------------------------------------------------


def test_out_of_memory(box: Sandbox, started: int) -> None:
    run = ends(box, started, "x = bytearray(10**9)", "oom")
    assert isinstance(run.error, MemoryLimitError)
    assert str(run.error) == "killed: used 256 MiB of 256 MiB; raise mem, such as --mem 512m"
    assert run.usage.oom_kills == 1


def test_out_of_memory_bit_by_bit(box: Sandbox, started: int) -> None:
    ends(box, started, "x = []\nwhile True: x.append(b'x' * 100_000 + os.urandom(8))", "oom")


def test_a_child_out_of_memory_is_not_the_cells_end(box: Sandbox, started: int) -> None:
    code = "done = subprocess.run([sys.executable, '-c', 'x = bytearray(10**9)'])\nprint(done.returncode)"
    run = ends(box, started, "kept = 4\n" + code, "ok", stdout="before\n-9\n")
    assert run.usage.oom_kills == 1
    assert box.run_code("kept").text == "4"


def test_the_next_run_is_not_blamed(box: Sandbox, started: int) -> None:
    ends(box, started, "x = bytearray(10**9)", "oom")
    run = ends(box, started, "os.kill(os.getpid(), 9)", "killed")
    assert run.usage.oom_kills == 0


@pytest.mark.parametrize("path", ["/workspace", "/tmp", "/dev/shm"])
def test_a_full_disk(path: str) -> None:
    with Sandbox.create(mem="256m") as box:
        began = look(box)[0]
        run = box.run_code(HEAD + f"with open('{path}/full', 'wb') as f:\n    while True: f.write(bytes(2**20))")
        assert (run.status, run.stdout) == ("error", "before\n")
        assert isinstance(run.error, ExecutionError)
        assert (run.error.name, "No space left" in run.error.value) == ("OSError", True)
        assert_usable(box, began)
        box.files.remove(f"{path}/full")
        assert box.run_code(f"open('{path}/again', 'wb').write(bytes(2**20))").text == str(2**20)


# -- the user ---------------------------------------------------------------------------------------------------------


def interrupt(box: Sandbox, code: str) -> Execution:
    """Run code and press Ctrl-C when it has printed a line that says go."""

    def press(text: str) -> None:
        if "go" in text:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(ExecutionInterrupted) as caught:
        box.run_code(HEAD + code, on_stdout=press, timeout=30)
    return caught.value.execution


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("print('go'); time.sleep(100)", id="a sleep"),
        pytest.param("print('go')\nwhile True: pass", id="a loop"),
        pytest.param("!echo go; sleep 100", id="a child"),
        pytest.param("import asyncio; print('go'); await asyncio.sleep(100)", id="an await"),
        pytest.param("from IPython.display import display\nprint('go')\nwhile True: display(1)", id="displays"),
        pytest.param("print('go')\nwhile True: print('x')", id="prints"),
    ],
)
def test_an_interrupt_keeps_the_state(box: Sandbox, started: int, code: str) -> None:
    box.run_code("kept = 'kept'")
    run = interrupt(box, code)
    assert run.status == "interrupted"
    assert run.stdout.startswith("before\n")
    assert_usable(box, started)
    assert box.run_code("kept").text == "'kept'"


def test_an_interrupt_that_comes_before_the_code_is_not_lost(box: Sandbox, started: int) -> None:
    box.run_code("kept = 7; import time")
    for _ in range(20):
        run = box.run_code("time.sleep(20)", on_start=lambda interrupt: interrupt())
        assert run.status == "interrupted", run.error
    assert box.run_code("kept").text == "7"
    assert_usable(box, started)


def test_code_may_catch_its_interrupt(box: Sandbox, started: int) -> None:
    run = interrupt(
        box, "try:\n    os.write(1, b'go\\n'); time.sleep(100)\nexcept KeyboardInterrupt:\n    print('caught')"
    )
    assert run.stdout == "before\ngo\ncaught\n"
    assert_usable(box, started)


@pytest.mark.parametrize("end", ["kill", "disconnect"])
def test_an_end_from_another_thread(end: str) -> None:
    box = Sandbox.create()
    stop: Callable[[], object] = getattr(box, end)
    run = box.run_code(HEAD + "while True: pass", on_stdout=lambda text: threading.Thread(target=stop).start())
    assert (run.status, run.stdout.split()) == ("killed", ["before"])
    assert isinstance(run.error, SandboxClosedError)
    assert not box.is_running()


def test_a_lifetime_ends_a_run() -> None:
    with Sandbox.create(lifetime=1) as box:
        run = box.run_code(HEAD + "while True: pass", timeout=30)
    assert (run.status, run.stdout) == ("killed", "before\n")
    assert isinstance(run.error, SandboxClosedError)
    assert str(run.error) == "the sandbox's lifetime ended in mid-run; set_timeout gives it a longer one"
