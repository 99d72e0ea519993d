"""A command is a shell's, with everything one needs around it.

Promised: stdout, stderr and exit status as they are; an error that holds them; stdin, environment and directory as
asked; commands side by side, in the background, found again by their pid; a deadline or a kill that takes all they
started; and a terminal where the box was made with one.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from health import assert_usable, look
from waiting import seconds_until

from agentbox_magic import MemoryLimitError, Sandbox, SandboxClosedError, TimeLimitError
from agentbox_magic.commands import CommandExitException, CommandHandle


@pytest.fixture(autouse=True, scope="module")
def nothing_is_left(box: Sandbox) -> Iterator[None]:
    """The box after all tests is the box before them."""
    started = look(box)[0]
    yield
    assert box.commands.list() == []
    assert_usable(box, started)


def fails(box: Sandbox, cmd: str, **kwargs: Any) -> CommandExitException:
    """How a command that must not end well ends."""
    with pytest.raises(CommandExitException) as caught:
        box.commands.run(cmd, **kwargs)
    return caught.value


EVERY_BYTE = bytes(range(256)) * 4096


def has_process(box: Sandbox, name: str) -> bool:
    """Whether a process of that name runs in the box."""
    return f"({name}) " in box.commands.run("cat /proc/[0-9]*/stat 2>/dev/null || true").stdout


@pytest.mark.parametrize(
    ("cmd", "stdout", "stderr"),
    [
        pytest.param("echo out", "out\n", "", id="stdout"),
        pytest.param("echo err >&2", "", "err\n", id="stderr"),
        pytest.param("echo a; echo b >&2; echo c", "a\nc\n", "b\n", id="both"),
        pytest.param("true", "", "", id="nothing"),
        pytest.param("", "", "", id="no command"),
        pytest.param("printf 'a\\nb'", "a\nb", "", id="no newline at the end"),
        pytest.param("echo 'é 😀'", "é 😀\n", "", id="not ASCII"),
        pytest.param("printf '\\377\\0x'", "\ufffd\0x", "", id="bytes"),
        pytest.param("seq 3 | tac", "3\n2\n1\n", "", id="a pipeline"),
        pytest.param("for i in 1 2; do echo $i; done\necho end", "1\n2\nend\n", "", id="several lines"),
        pytest.param("echo $BASH_VERSION | grep -c .", "1\n", "", id="the shell is bash"),
        pytest.param("cat", "", "", id="stdin is empty"),
        pytest.param("pwd", "/workspace\n", "", id="the directory"),
        pytest.param("echo $0 $#", "/usr/bin/bash 0\n", "", id="no arguments"),
        pytest.param("python -c 'print(6 * 7)'", "42\n", "", id="python"),
        pytest.param("cat <<E\nhere $((1 + 1))\nE", "here 2\n", "", id="a here-document"),
        pytest.param("test -t 0 || test -t 1 || echo none", "none\n", "", id="no terminal"),
        pytest.param("head -c 3000000 /dev/zero | tr '\\0' x", "x" * 3_000_000, "", id="megabytes"),
        pytest.param("exec 1>&2; echo moved", "", "moved\n", id="redirected"),
        pytest.param("trap 'echo bye' EXIT; exit 0", "bye\n", "", id="a trap"),
    ],
)
def test_output(box: Sandbox, cmd: str, stdout: str, stderr: str) -> None:
    result = box.commands.run(cmd)
    assert (result.stdout, result.stderr, result.exit_code, result.error) == (stdout, stderr, 0, None)


@pytest.mark.parametrize(
    ("cmd", "code", "error"),
    [
        pytest.param("exit 3", 3, None, id="exit"),
        pytest.param("false", 1, None, id="false"),
        pytest.param("exit 117", 117, None, id="exit 117"),
        pytest.param("exit 255", 255, None, id="exit 255"),
        pytest.param("no_such_command", 127, None, id="not found"),
        pytest.param("/workspace", 126, None, id="not executable"),
        pytest.param("if", 2, None, id="bad syntax"),
        pytest.param("kill -9 $$", 137, "the command was killed by SIGKILL", id="SIGKILL"),
        pytest.param("kill -SEGV $$", 139, "the command was killed by SIGSEGV", id="SIGSEGV"),
        pytest.param("kill $$; sleep 100", 143, "the command was killed by SIGTERM", id="SIGTERM"),
        pytest.param("sh -c 'kill -9 $$'; exit $?", 137, None, id="a child's SIGKILL"),
        pytest.param("exec python -c 'import os; os.abort()'", 134, "the command was killed by SIGABRT", id="abort"),
    ],
)
def test_exit_codes(box: Sandbox, cmd: str, code: int, error: str | None) -> None:
    caught = fails(box, "echo out; echo err >&2\n" + cmd)
    assert (caught.exit_code, caught.error, caught.stdout) == (code, error, "out\n")
    assert (caught.result.exit_code, caught.result.stderr) == (code, caught.stderr)
    assert str(caught).startswith(error or f"the command ended with exit status {code}: ")


@pytest.mark.parametrize(
    ("options", "cmd", "stdout"),
    [
        pytest.param({"envs": {"ONE": "a b", "TWO": "é\n$x"}}, 'echo "$ONE|$TWO"', "a b|é\n$x\n", id="envs"),
        pytest.param({"envs": {"HOME": "/other"}}, "echo ~", "/other\n", id="envs replace"),
        pytest.param({}, 'echo "[$ONE]"', "[]\n", id="envs are of one command"),
        pytest.param({"cwd": "/tmp"}, "pwd", "/tmp\n", id="cwd"),
        pytest.param({"cwd": ".."}, "pwd", "/\n", id="a relative cwd"),
        pytest.param({"max_output": 80}, "head -c 100 /dev/zero | tr '\\0' x",
                     "x" * 70 + "\n[... 20 bytes dropped ...]\n" + "x" * 10, id="a cap"),
        pytest.param({"max_output": 100}, "head -c 100 /dev/zero | tr '\\0' x", "x" * 100, id="exactly the cap"),
        pytest.param({"timeout": None}, "echo ever", "ever\n", id="no deadline"),
    ],
)  # fmt: skip
def test_options(box: Sandbox, options: dict[str, Any], cmd: str, stdout: str) -> None:
    assert box.commands.run(cmd, **options).stdout == stdout


def test_what_a_cap_drops_is_a_number_too(box: Sandbox) -> None:
    result = box.commands.run("head -c 100 /dev/zero; echo err >&2", max_output=80)
    assert (result.dropped_stdout, result.dropped_stderr) == (20, 0)
    with pytest.raises(CommandExitException) as caught:
        box.commands.run("head -c 100 /dev/zero >&2; false", max_output=80)
    assert (caught.value.dropped_stdout, caught.value.dropped_stderr) == (0, 20)


def test_a_missing_directory(box: Sandbox) -> None:
    caught = fails(box, "echo never", cwd="/no/such")
    assert (caught.exit_code, caught.stdout) == (126, "")
    assert "cannot change to /no/such: No such file or directory" in caught.stderr


def test_output_as_it_comes(box: Sandbox) -> None:
    seen: list[str] = []
    result = box.commands.run(
        "echo out; echo err >&2",
        on_stdout=lambda text: seen.append("o:" + text),
        on_stderr=lambda t: seen.append("e:" + t),
    )
    assert sorted(seen) == ["e:err\n", "o:out\n"]
    assert result.stdout == "out\n"


# -- stdin ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cmd", "pieces", "stdout"),
    [
        pytest.param("cat", ["a\n", "é"], "a\né", id="text"),
        pytest.param("od -An -tx1", [b"\x00\xff\n"], " 00 ff 0a\n", id="bytes"),
        pytest.param("wc -c", [b"x" * 5_000_000], "5000000\n", id="5 MB"),
        pytest.param("wc -c", [], "0\n", id="nothing at all"),
        pytest.param("wc -c", ["", "a", ""], "1\n", id="empty pieces"),
        pytest.param("read line; echo got $line; cat", ["one\ntwo\n"], "got one\ntwo\n", id="line by line"),
        pytest.param("python -c 'print(input() + input())'", ["1\n", "2\n"], "12\n", id="input()"),
        pytest.param("sha256sum", [EVERY_BYTE], hashlib.sha256(EVERY_BYTE).hexdigest() + "  -\n",
                     id="the bytes as they are"),
    ],
)  # fmt: skip
def test_stdin(box: Sandbox, cmd: str, pieces: list[str | bytes], stdout: str) -> None:
    handle = box.commands.run(cmd, background=True, stdin=True)
    for piece in pieces:
        handle.send_stdin(piece)
    handle.close_stdin()
    assert handle.wait(30).stdout == stdout


def test_stdin_that_is_not_there(box: Sandbox) -> None:
    handle = box.commands.run("sleep 100", background=True)
    with pytest.raises(BrokenPipeError):
        handle.send_stdin("x")
    with pytest.raises(BrokenPipeError):
        handle.close_stdin()
    assert handle.kill()


def test_stdin_that_is_closed(box: Sandbox) -> None:
    handle = box.commands.run("cat; sleep 100", background=True, stdin=True)
    handle.close_stdin()
    with pytest.raises(BrokenPipeError):
        handle.send_stdin("x")
    assert handle.kill()


def test_stdin_of_a_command_that_does_not_read_waits(box: Sandbox) -> None:
    """And ends when the command does."""
    handle = box.commands.run("sleep 100", background=True, stdin=True)
    problems: list[BaseException] = []

    def send() -> None:
        try:
            handle.send_stdin(b"x" * 3_000_000)
        except OSError as error:
            problems.append(error)

    thread = threading.Thread(target=send)
    thread.start()
    assert box.commands.run("echo meanwhile").stdout == "meanwhile\n"
    assert thread.is_alive()
    assert handle.kill()
    thread.join(30)
    assert len(problems) == 1
    assert not thread.is_alive()


# -- in the background ------------------------------------------------------------------------------------------------


def start(box: Sandbox, cmd: str = "echo on; sleep 1000", **kwargs: Any) -> CommandHandle:
    """A command in the background."""
    return box.commands.run(cmd, background=True, **kwargs)


def killed(handle: CommandHandle) -> CommandExitException:
    """Wait for the end of a command that somebody kills."""
    with pytest.raises(CommandExitException) as caught:
        handle.wait(30)
    return caught.value


def test_wait(box: Sandbox) -> None:
    handle = start(box, "read line; echo got $line; exit 4", stdin=True)
    assert handle.exit_code is None
    with pytest.raises(TimeoutError, match=r"the command still runs after 0\.1 s; wait again or kill it"):
        handle.wait(0.1)
    handle.send_stdin("it\n")
    assert killed(handle).stdout == "got it\n"
    assert (handle.exit_code, handle.stdout) == (4, "got it\n")
    assert killed(handle).exit_code == 4  # once more


def test_output_before_the_end_is_seen(box: Sandbox) -> None:
    handle = start(box)

    def has_written() -> bool:
        with pytest.raises(TimeoutError):
            handle.wait(0.05)
        return handle.stdout == "on\n"

    seconds_until(has_written, within=20)
    assert handle.kill()
    assert killed(handle).stdout == "on\n"


def test_kill(box: Sandbox) -> None:
    handle = start(box, "sleep 1001 & sleep 1002")
    seconds_until(lambda: has_process(box, "sleep"), within=10)
    assert handle.kill()
    caught = killed(handle)
    assert (caught.exit_code, caught.error) == (137, "the command was killed by SIGKILL")
    assert not handle.kill()
    assert not has_process(box, "sleep")


def test_list(box: Sandbox) -> None:
    assert box.commands.list() == []
    first, second = start(box, "sleep 1000", envs={"A": "1"}), start(box, "sleep 2000", cwd="/tmp")
    listed = {one.pid: (one.cmd, one.cwd, one.envs) for one in box.commands.list()}
    assert listed == {first.pid: ("sleep 1000", None, {"A": "1"}), second.pid: ("sleep 2000", "/tmp", {})}
    assert first.kill()
    killed(first)
    assert [one.pid for one in box.commands.list()] == [second.pid]
    assert box.commands.kill(second.pid)
    killed(second)


def test_disconnect_and_connect(box: Sandbox) -> None:
    handle = start(box, "while read line; do echo got $line; done", stdin=True)
    handle.disconnect()
    again = box.commands.connect(handle.pid)
    again.send_stdin("it\n")
    again.close_stdin()
    assert again.wait(30).stdout == "got it\n"


@pytest.mark.parametrize("operation", ["connect", "send_stdin", "close_stdin"])
@pytest.mark.parametrize("pid", [1, 999_999, -1, 0])
def test_a_pid_that_is_no_commands(box: Sandbox, operation: str, pid: int) -> None:
    arguments = [pid, "x"] if operation == "send_stdin" else [pid]
    with pytest.raises(ProcessLookupError, match=f"no command runs with pid {pid}"):
        getattr(box.commands, operation)(*arguments)
    assert not box.commands.kill(pid)


def test_side_by_side(box: Sandbox) -> None:
    """Each waits for the others."""
    handles = [
        start(
            box, f"touch /tmp/side{n}; until [ -e /tmp/side0 -a -e /tmp/side1 -a -e /tmp/side2 ]; do sleep 0.02; done"
        )
        for n in range(3)
    ]
    assert [handle.wait(30).exit_code for handle in handles] == [0, 0, 0]


def test_from_threads(box: Sandbox) -> None:
    found: dict[int, str] = {}
    threads = [
        threading.Thread(target=lambda n=n: found.update({n: box.commands.run(f"echo {n}").stdout})) for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == {n: f"{n}\n" for n in range(8)}


def test_beside_code(box: Sandbox) -> None:
    handle = start(box, "until [ -e /tmp/beside ]; do sleep 0.02; done; echo seen")
    assert box.run_code("open('/tmp/beside', 'w').close()").status == "ok"
    assert handle.wait(30).stdout == "seen\n"


def test_a_server_survives_its_shell(box: Sandbox) -> None:
    result = box.commands.run("(while :; do date > /dev/null; sleep 0.05; done) & echo $!")
    pid = int(result.stdout)
    assert box.commands.run(f"kill -0 {pid} && echo alive").stdout == "alive\n"
    assert box.commands.run(f"kill -9 {pid} && echo killed").stdout == "killed\n"


def test_a_server_may_go_on_writing(box: Sandbox) -> None:
    said = box.commands.run("(trap '' PIPE; while echo noise; do sleep 0.01; done) & echo $!").stdout.split()
    (pid,) = (word for word in said if word != "noise")  # which may come first
    for _ in range(5):
        assert box.commands.run(f"kill -0 {pid} && echo alive").stdout == "alive\n"
    assert box.commands.run(f"kill -9 {pid} && echo killed").stdout == "killed\n"


# -- limits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cmd",
    [
        pytest.param("sleep 1000", id="a sleep"),
        pytest.param("while :; do :; done", id="a loop"),
        pytest.param("trap '' INT TERM; sleep 1000 & sleep 1000 & wait", id="a family that ignores signals"),
        pytest.param("setsid --wait sleep 1000", id="another session"),
        pytest.param("kill -STOP $$", id="one that is stopped"),
        pytest.param("yes", id="one that writes for ever"),
    ],
)
def test_a_deadline_takes_the_tree(box: Sandbox, cmd: str) -> None:
    with pytest.raises(TimeLimitError, match=r"ran past its 0\.5 s"):
        box.commands.run(cmd, timeout=0.5)
    for name in ("sleep", "yes"):
        seconds_until(lambda name=name: not has_process(box, name), within=10)


def test_a_deadline_spares_the_others(box: Sandbox) -> None:
    box.run_code("kept = 5")
    other = start(box, "sleep 1000")
    with pytest.raises(TimeLimitError):
        box.commands.run("sleep 1000", timeout=0.5)
    assert [one.pid for one in box.commands.list()] == [other.pid]
    assert box.run_code("kept").text == "5"
    assert other.kill()
    killed(other)


def test_out_of_memory(box: Sandbox) -> None:
    with pytest.raises(MemoryLimitError, match="raise mem"):
        box.commands.run("exec python -c 'bytearray(10**9)'")


def test_the_end_of_the_box_ends_a_command() -> None:
    with Sandbox.create() as box:
        handle = start(box)
        threading.Thread(target=box.kill).start()
        with pytest.raises(SandboxClosedError):
            handle.wait(30)
    with pytest.raises(SandboxClosedError):
        box.commands.run("true")


# -- a terminal -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def terminal() -> Iterator[Sandbox]:
    """A box whose commands may have one."""
    with Sandbox.create(pty=True) as box:
        yield box


@pytest.mark.parametrize(
    ("cmd", "size", "stdout"),
    [
        pytest.param("test -t 0 && test -t 1 && test -t 2 && echo yes", True, "yes\r\n", id="all streams"),
        pytest.param("stty size", True, "24 80\r\n", id="24 rows of 80"),
        pytest.param("stty size", (50, 132), "50 132\r\n", id="a size of one's own"),
        pytest.param("tty", True, "/dev/pts/", id="it has a name"),
        pytest.param("echo err >&2", True, "err\r\n", id="stderr is there too"),
        pytest.param("echo $TERM", True, "xterm-256color\r\n", id="TERM"),
        pytest.param("test -t 1 || echo none", False, "none\n", id="only where asked for"),
        pytest.param("exec < /dev/tty && echo controlling", True, "controlling\r\n", id="it is the controlling one"),
    ],
)
def test_a_terminal(terminal: Sandbox, cmd: str, size: bool | tuple[int, int], stdout: str) -> None:
    assert terminal.commands.run(cmd, pty=size, timeout=20).stdout.startswith(stdout)


def test_a_terminal_echoes(terminal: Sandbox) -> None:
    handle = start(terminal, "read line; echo got $line", pty=True)
    handle.send_stdin("hello\n")
    assert handle.wait(30).stdout == "hello\r\ngot hello\r\n"


def test_a_terminals_ctrl_c(terminal: Sandbox) -> None:
    handle = start(terminal, "trap 'echo stopped; exit 9' INT; echo ready; while :; do sleep 0.05; done", pty=True)

    def is_ready() -> bool:
        with pytest.raises(TimeoutError):
            handle.wait(0.05)
        return "ready" in handle.stdout

    seconds_until(is_ready, within=20)
    handle.send_stdin(b"\x03")
    assert killed(handle).exit_code == 9


def test_a_terminals_exit_code(terminal: Sandbox) -> None:
    assert fails(terminal, "echo out; exit 3", pty=True).stdout == "out\r\n"


def test_a_box_without_terminals_says_so(box: Sandbox) -> None:
    with pytest.raises(OSError, match="this box has no terminals; create it with pty=True"):
        box.commands.run("tty", pty=True)
    assert box.commands.run("echo still here").stdout == "still here\n"
