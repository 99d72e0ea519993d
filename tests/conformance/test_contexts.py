"""A context is a session; a detached box is one that waits.

Promised: contexts share the box's files and nothing else, and run side by side; runs within one take turns; what
happens to one is not felt in another. bash keeps what a shell keeps. A detached box is found again as it was left,
wherever its last host broke off, until its lifetime ends.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from health import assert_usable, look
from relays import relay_of
from waiting import seconds_until

from agent_executor.wire import ESCAPE, NEW_HOST
from agentbox_magic import (
    Execution,
    ExecutionError,
    ExecutionInterrupted,
    Sandbox,
    SandboxClosedError,
    SandboxError,
    link,
)
from agentbox_magic.engine import Engine
from agentbox_magic.records import Context


@pytest.fixture
def context(box: Sandbox) -> Iterator[Context]:
    """A fresh context of the shared box."""
    context = box.create_code_context()
    yield context
    if context in box.list_code_contexts():
        box.remove_code_context(context)


def in_threads(*tasks: Callable[[], Execution]) -> list[Execution]:
    """Run all at once; their outcomes in order."""
    found: dict[int, Execution] = {}
    threads = [threading.Thread(target=lambda n=n, t=task: found.update({n: t()})) for n, task in enumerate(tasks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50)
    return [found[n] for n in range(len(tasks))]


# -- contexts ---------------------------------------------------------------------------------------------------------


def test_state_is_a_contexts_own(box: Sandbox, context: Context) -> None:
    box.run_code("x = 'default'; import os; os.environ['X'] = '1'; os.chdir('/tmp')")
    run = box.run_code("import os; 'x' in globals(), os.environ.get('X'), os.getcwd()", context=context)
    assert run.text == "(False, None, '/workspace')"
    box.run_code("x = 'other'", context=context)
    assert box.run_code("x").text == "'default'"
    assert box.run_code("x", context=context).text == "'other'"
    box.run_code("os.chdir('/workspace'); del os.environ['X']")


def test_files_are_the_boxs(box: Sandbox, context: Context) -> None:
    box.run_code("open('/workspace/shared', 'w').write('s');")
    assert box.run_code("open('shared').read()", context=context).text == "'s'"


def test_cells_are_counted_in_each(box: Sandbox, context: Context) -> None:
    assert [box.run_code("1", context=context).execution_count for _ in range(3)] == [1, 2, 3]


def test_contexts_run_side_by_side(box: Sandbox, context: Context) -> None:
    """Each waits for the other."""
    code = """
import os, time
open('/tmp/{0}', 'w').close()
while not os.path.exists('/tmp/{1}'): time.sleep(0.01)
'{0}'
"""
    runs = in_threads(
        lambda: box.run_code(code.format("ping", "pong"), timeout=40),
        lambda: box.run_code(code.format("pong", "ping"), timeout=40, context=context),
    )
    assert [(run.status, run.text) for run in runs] == [("ok", "'ping'"), ("ok", "'pong'")]


def test_runs_of_one_context_take_turns(box: Sandbox, context: Context) -> None:
    box.run_code("inside = worst = 0", context=context)
    code = "inside += 1; worst = max(worst, inside)\nimport time; time.sleep(0.05)\ninside -= 1"
    runs = in_threads(*[lambda: box.run_code(code, context=context)] * 5)
    assert [run.status for run in runs] == ["ok"] * 5
    assert sorted(run.execution_count or 0 for run in runs) == [2, 3, 4, 5, 6]
    assert box.run_code("worst", context=context).text == "1"


def test_a_run_that_waits_its_turn_is_not_on_the_clock(box: Sandbox, context: Context) -> None:
    runs = in_threads(
        lambda: box.run_code("import time; time.sleep(1.5)", context=context, timeout=20),
        lambda: box.run_code("2", timeout=20),
    )
    assert [run.status for run in runs] == ["ok", "ok"]


def test_where_a_context_begins(box: Sandbox) -> None:
    box.files.make_dir("/tmp/here")
    context = box.create_code_context(cwd="/tmp/here")
    assert (context.cwd, context.language) == ("/tmp/here", "python")
    assert box.run_code("import os; os.getcwd()", context=context).text == "'/tmp/here'"
    assert context in box.list_code_contexts()
    box.remove_code_context(context)
    assert context not in box.list_code_contexts()


def test_restart(box: Sandbox, context: Context) -> None:
    box.run_code("x = 1")
    box.run_code("x = 2", context=context)
    box.restart_code_context(context)
    assert box.run_code("'x' in globals()", context=context).text == "False"
    assert box.run_code("x").text == "1"


@pytest.mark.parametrize("operation", ["restart_code_context", "remove_code_context"])
def test_the_end_of_a_context_ends_its_run(box: Sandbox, context: Context, operation: str) -> None:
    box.run_code("x = 1")
    end = getattr(box, operation)
    run = box.run_code(
        "print('on')\nwhile True: pass",
        context=context,
        timeout=30,
        on_stdout=lambda text: "\n" in text and threading.Thread(target=end, args=(context,)).start(),
    )
    assert (run.status, run.stdout) == ("killed", "on\n")
    assert box.run_code("x").text == "1"


@pytest.mark.parametrize(
    ("code", "status"),
    [
        pytest.param("import os; os._exit(1)", "error", id="exit"),
        pytest.param("import os; os.kill(os.getpid(), 9)", "killed", id="kill"),
        pytest.param("import signal\nsignal.signal(2, signal.SIG_IGN)\nwhile True: pass", "timeout", id="timeout"),
        pytest.param("x = bytearray(10**9)", "oom", id="oom"),
        pytest.param("import os; os.closerange(3, 500)", "killed", id="cut off"),
        pytest.param("import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)", "timeout", id="stopped"),
    ],
)
def test_what_ends_one_is_not_felt_in_another(box: Sandbox, context: Context, code: str, status: str) -> None:
    box.run_code("import subprocess; kept = 'kept'; child = subprocess.Popen(['sleep', '1000'])")
    assert box.run_code(code, context=context, timeout=1).status == status
    assert box.run_code("kept, child.poll()").text == "('kept', None)"
    assert box.run_code("1 + 1", context=context).text == "2"
    box.run_code("child.kill(); child.wait()")


def test_a_context_that_is_gone(box: Sandbox) -> None:
    context = box.create_code_context()
    box.remove_code_context(context)
    for operation in (box.restart_code_context, box.remove_code_context):
        with pytest.raises(FileNotFoundError, match="there is no context"):
            operation(context)


def test_a_run_in_a_context_that_is_gone(box: Sandbox) -> None:
    context = box.create_code_context()
    box.remove_code_context(context)
    with pytest.raises(FileNotFoundError, match="there is no context"):
        box.run_code("1", context=context)
    assert box.run_code("1 + 1").text == "2"


def test_a_language_that_is_missing(box: Sandbox) -> None:
    with pytest.raises(ValueError, match="no language cobol in this image; it has python, bash"):
        box.create_code_context(language="cobol")
    with pytest.raises(ValueError, match="no language cobol"):
        box.run_code("x", language="cobol")


def test_a_directory_that_is_missing(box: Sandbox) -> None:
    with pytest.raises(FileNotFoundError, match="no directory /no/such"):
        box.create_code_context(cwd="/no/such")


def test_a_language_and_a_context(box: Sandbox, context: Context) -> None:
    with pytest.raises(ValueError, match="give a language or a context, not both"):
        box.run_code("1", language="python", context=context)


# -- bash -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "stdout"),
    [
        pytest.param(["x=5", "echo $x"], "5\n", id="variables"),
        pytest.param(["f() { echo f $1; }", "f 1"], "f 1\n", id="functions"),
        pytest.param(["cd /tmp", "pwd; cd /workspace"], "/tmp\n", id="the directory"),
        pytest.param(["export Y=6", "sh -c 'echo $Y'"], "6\n", id="the environment"),
        pytest.param(["a=(1 2 3)", "echo ${a[1]}"], "2\n", id="arrays"),
        pytest.param(["sleep 1000 &", "jobs -p | wc -l; kill %1; wait"], "1\n", id="jobs"),
        pytest.param(["read x; cat; echo [$x]"], "[]\n", id="stdin is empty"),
        pytest.param(["echo 'a\nb'\necho \"'q'\""], "a\nb\n'q'\n", id="quotes"),
        pytest.param(["cat <<E\nhere\nE\necho after"], "here\nafter\n", id="a here-document"),
        pytest.param(["printf x"], "x", id="no newline at the end"),
        pytest.param(["# nothing"], "", id="a comment"),
        pytest.param([""], "", id="no code"),
        pytest.param(["echo é 😀"], "é 😀\n", id="not ASCII"),
        pytest.param(["for i in 1 2; do\n  echo $i\ndone"], "1\n2\n", id="several lines"),
    ],
)
def test_bash_keeps_what_a_shell_keeps(box: Sandbox, cells: list[str], stdout: str) -> None:
    for cell in cells[:-1]:
        box.run_code(cell, language="bash").raise_for_status()
    run = box.run_code(cells[-1], language="bash", timeout=20)
    assert (run.status, run.stdout, run.stderr) == ("ok", stdout, "")


@pytest.mark.parametrize(
    ("code", "status", "kept"),
    [
        pytest.param("false", 1, True, id="false"),
        pytest.param("(exit 7)", 7, True, id="a subshell's exit"),
        pytest.param("no_such_command", 127, True, id="not found"),
        pytest.param("if", 2, True, id="bad syntax"),
        pytest.param("echo 'open", 2, True, id="an open quote"),
        pytest.param("exit 5", 5, False, id="exit"),
        pytest.param("sleep 1000 & exit 6", 6, False, id="exit beside a job"),
        pytest.param("(trap '' HUP; sleep 1000) & exit 7", 7, False, id="exit beside a subshell"),
        pytest.param("set -e; false", 1, False, id="set -e"),
        pytest.param("kill -9 $$", 137, False, id="a signal"),
    ],
)
def test_bash_that_fails(box: Sandbox, code: str, status: int, kept: bool) -> None:
    box.run_code("k=kept", language="bash")
    run = box.run_code(f"echo out\n{code}", language="bash", timeout=20)
    assert run.status == "error"
    assert isinstance(run.error, ExecutionError)
    if code != "echo 'open":
        assert run.exit_code == status
    assert ("its state is gone" in run.error.value) == (not kept)
    assert box.run_code("echo $k", language="bash").stdout == ("kept\n" if kept else "\n")


def test_the_exit_status_of_bash_is_a_field(box: Sandbox) -> None:
    run = box.run_code("echo fine", language="bash")
    assert (run.status, run.exit_code, run.error) == ("ok", 0, None)
    run = box.run_code("exit 0", language="bash")
    assert (run.status, run.exit_code) == ("ok", 0)


def test_an_environment_of_one_run_of_bash(box: Sandbox) -> None:
    context = box.create_code_context(language="bash")

    def said(code: str, **envs: str) -> str:
        return box.run_code(code, context=context, envs=envs).raise_for_status().stdout

    show = 'echo "$A|${B-unset}|$(printenv A)|$(printenv B)"'
    said("A=own; export C=kept")
    assert said(show) == "own|unset||\n"
    assert said(show, A="it's $HOME\n`ls`", B="") == "it's $HOME\n`ls`||it's $HOME\n`ls`|\n"
    assert said(show) == "own|unset||\n"  # not exported before, and so not now
    assert said("A=changed; export B=changed; echo $C", A="1", B="2", C="3") == "3\n"
    assert said(show + "; printenv C; compgen -v | grep agentbox || true") == "own|unset||\nkept\n"
    box.run_code("exit 4", context=context, envs={"A": "1"})
    assert said(show) == "|unset||\n"
    box.remove_code_context(context)


@pytest.mark.parametrize(
    ("language", "code", "stdout"),
    [
        ("python", "\ufeffprint(1)", "1\n"),
        ("python", "\ufeff#!/usr/bin/env python3\r\n# -*- coding: utf-8 -*-\r\nif True:\r\n    print('é')\r\n", "é\n"),
        ("bash", "\ufeff#!/bin/bash\r\nif true; then\r\n  echo two\r\nfi\r\n", "two\n"),
    ],
)
def test_code_that_an_editor_of_windows_wrote(box: Sandbox, language: str, code: str, stdout: str) -> None:
    run = box.run_code(code, language=language).raise_for_status()
    assert (run.stdout, run.stderr) == (stdout, "")


def test_bash_and_python_are_apart(box: Sandbox) -> None:
    context = box.create_code_context(language="bash")
    box.run_code("x=1", language="bash")
    assert box.run_code("echo [$x]", context=context).stdout == "[]\n"
    assert box.run_code("%%bash\necho [$x]").stdout == "[]\n"
    box.remove_code_context(context)


def test_a_deadline_of_bash(box: Sandbox) -> None:
    run = box.run_code("echo before; sleep 100", language="bash", timeout=0.5)
    assert (run.status, run.stdout) == ("timeout", "before\n")
    assert box.run_code("echo after", language="bash").stdout == "after\n"


@pytest.mark.parametrize("language", ["python", "bash"])
def test_an_interrupt(box: Sandbox, language: str) -> None:
    """Pressed while the code runs; other contexts go on."""
    box.run_code("kept = 9")
    context = box.create_code_context(language=language)
    code = {"python": "print('go')\nwhile True: pass", "bash": "echo go; sleep 100"}[language]
    with pytest.raises(ExecutionInterrupted) as caught:
        box.run_code(
            code, context=context, timeout=30, on_stdout=lambda t: "go" in t and os.kill(os.getpid(), signal.SIGINT)
        )
    assert caught.value.execution.status == "interrupted"
    assert box.run_code("kept").text == "9"
    box.remove_code_context(context)


# -- a box by itself --------------------------------------------------------------------------------------------------


@pytest.fixture
def detached() -> Iterator[Sandbox]:
    """A box that outlives its host; it ends with the test all the same."""
    box = Sandbox.create(detach=True, lifetime=60, metadata={"suite": "conformance", "host": str(os.getpid())})
    yield box
    Engine.connect().remove(box.sandbox_id)


def test_a_detached_box_is_as_it_was_left(detached: Sandbox) -> None:
    started = look(detached)[0]
    detached.run_code("x = 41")
    context = detached.create_code_context()
    detached.run_code("y = 1", context=context)
    pid = detached.commands.run("read line; echo got $line", background=True, stdin=True).pid
    detached.disconnect()
    assert not detached.is_running()
    with Sandbox.connect(detached.sandbox_id) as again:
        assert again.run_code("x + 1").text == "42"
        assert again.run_code("y", context=context).text == "1"
        assert again.limits == detached.limits
        assert [one.pid for one in again.commands.list()] == [pid]
        handle = again.commands.connect(pid)
        handle.send_stdin("it\n")
        assert handle.wait(30).stdout == "got it\n"
        assert_usable(again, started)


@pytest.mark.parametrize(
    "half",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x00\x00", id="half a length"),
        pytest.param(b"\x00\x00\x00\x40\x00\x00\x10\x00", id="lengths"),
        pytest.param(b'\x00\x00\x00\x40\x00\x00\x10\x00{"type":"execute_req', id="half a header"),
        pytest.param(b'\x00\x00\x00\x10\x00\x10\x00\x00{"type":"hello"}' + b"x" * 5000, id="half a body"),
        pytest.param(b'\x00\x00\x00\x10\x00\x10\x00\x00{"type":"hello"}' + ESCAPE, id="half an escape"),
    ],
)
def test_a_host_that_dies_in_the_middle_of_a_frame(detached: Sandbox, half: bytes) -> None:
    detached.run_code("x = 5")
    detached.disconnect()
    relay = relay_of(detached)
    relay.kill()
    relay.wait(10)
    pipe = Engine.connect().attach(detached.sandbox_id)
    pipe.send(NEW_HOST + half)
    pipe.close()
    with Sandbox.connect(detached.sandbox_id) as again:
        assert again.run_code("x").text == "5"


def test_a_run_goes_on_without_its_host(detached: Sandbox) -> None:
    detached.run_code("import time\nprint('on')\nwhile True: time.sleep(0.01)", timeout=1.5,
                      on_stdout=lambda text: threading.Thread(target=detached.disconnect).start())  # fmt: skip
    with Sandbox.connect(detached.sandbox_id) as again:
        assert again.run_code("1 + 1").text == "2"


def test_finding_a_box(detached: Sandbox) -> None:
    mine = {"host": str(os.getpid())}
    (found,) = Sandbox.list(metadata=mine)
    assert (found.sandbox_id, found.detached, found.state) == (detached.sandbox_id, True, "running")
    assert found.metadata == {"suite": "conformance", **mine}
    assert found.limits == detached.limits
    assert Sandbox.list(metadata={**mine, "suite": "another"}) == []
    assert replace(detached.get_info(), walls=None) == found
    detached.kill()
    assert Sandbox.list(metadata=mine) == []
    with pytest.raises(SandboxClosedError, match="there is no sandbox"):
        Sandbox.connect(detached.sandbox_id)


@pytest.mark.parametrize("how", ["lifetime", "set_timeout", "set_timeout after connect"])
def test_a_lifetime_ends(how: str) -> None:
    box = Sandbox.create(detach=True, lifetime=1 if how == "lifetime" else 300)
    try:
        if how == "set_timeout":
            box.set_timeout(1)
        elif how != "lifetime":
            box.disconnect()
            box = Sandbox.connect(box.sandbox_id)
            box.set_timeout(1)
        seconds_until(lambda: Engine.connect().inspect(box.sandbox_id) is None, within=20)
        with pytest.raises(SandboxError):
            box.run_code("1").raise_for_status()
    finally:
        box.kill()


def test_a_run_that_waits_for_its_turn_has_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "OUTER_GRACE_SECONDS", 0.5)
    begun = threading.Event()
    with Sandbox.create() as box:
        code = "import time\nprint('begun')\ntime.sleep(2)"
        first = threading.Thread(target=box.run_code, args=[code], kwargs={"on_stdout": lambda text: begun.set()})
        first.start()
        assert begun.wait(30)
        run = box.run_code("1 + 1", timeout=0.5)
        assert (run.status, run.text) == ("ok", "2")
        first.join()


def test_a_longer_lifetime() -> None:
    with Sandbox.create(lifetime=1.5) as box:
        box.set_timeout(60)
        assert box.run_code("import time; time.sleep(2); 'lives'").text == "'lives'"


@pytest.mark.parametrize("seconds", [0, -1, 10**10, float("inf"), float("nan")])
def test_a_lifetime_that_cannot_be(box: Sandbox, seconds: float) -> None:
    with pytest.raises(ValueError, match=r"out of range|is not a number"):
        box.set_timeout(seconds)


def test_a_box_of_another_process_is_not_connected_to(box: Sandbox) -> None:
    with pytest.raises(SandboxError, match="belongs to another process; create it with detach=True"):
        Sandbox.connect(box.sandbox_id)
    assert box.run_code("1 + 1").text == "2"


def test_metrics(box: Sandbox) -> None:
    metrics = box.get_metrics()
    assert metrics.memory is not None
    assert metrics.memory_peak is not None
    assert 2**20 < metrics.memory <= metrics.memory_peak <= metrics.memory_limit == 512 * 2**20
    assert metrics.pids is not None
    assert 2 <= metrics.pids <= 50
    assert (metrics.cpu_seconds or 0) > 0


def test_pause_and_resume(box: Sandbox) -> None:
    box.run_code("x = 3")
    box.pause()
    assert box.get_info().state == "paused"
    box.resume()
    assert box.get_info().state == "running"
    assert box.run_code("x").text == "3"


def test_a_paused_box_can_be_killed() -> None:
    """It does not end by itself: it does not even see the end of its pipe."""
    box = Sandbox.create()
    box.pause()
    assert box.kill()
    assert box.sandbox_id not in [one.sandbox_id for one in Sandbox.list()]
