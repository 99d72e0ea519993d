"""A fork of the process whose box it is: whatever it does with the box is an error there, and nothing here."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import seconds_until

from agentbox_magic import Sandbox

START = """
import multiprocessing, os, subprocess, sys, threading
from agentbox_magic import Sandbox, SandboxError, agent

def told(use):
    try:
        return repr(use())
    except BaseException as error:
        return f"{type(error).__name__}: {error}"

def child(use):
    "What a fork makes of it, and how it ended."
    hear, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(tell, told(use).encode())
        os._exit(0)
    os.close(tell)
    with os.fdopen(hear) as file:
        said = file.read()
    assert os.waitpid(pid, 0)[1] == 0
    return said.replace(str(os.getpid()), "PARENT")

def own():
    with Sandbox.create(timeout=60) as mine:
        return mine.run_code("6 * 7").text
"""

OURS = "SandboxError: this sandbox belongs to process PARENT, and this is a fork of it; create one here"

USES = (
    START
    + """
def in_callback(box):
    said = []
    def on_stdout(text):
        if not said:
            said.append(child(lambda: box.run_code("1")))
    box.run_code("print(1)", on_stdout=on_stdout)
    return said[0]

with Sandbox.create(timeout=60) as box:
    box.run_code("x = 6")
    command = box.commands.run("sleep 100", background=True)
    uses = [
        lambda: box.run_code("x"), lambda: box.is_running(), box.kill, box.disconnect, box.get_info, box.get_metrics,
        box.pause, box.reset, command.wait, command.kill, lambda: box.get_host(8000), lambda: box.files.read("x"),
        lambda: box.push({"x": 1}), lambda: box.set_timeout(1), box.list_code_contexts,
    ]
    print({child(use) for use in uses})
    print(in_callback(box))
    print(child(own))
    print(box.run_code("x * 7").text)
"""
)

UNWINDS = {
    "sys.exit in a with block": """
with Sandbox.create(timeout=60) as box:
    box.run_code("x = 6")
    if os.fork() == 0:
        sys.exit(3)
    print(os.waitstatus_to_exitcode(os.wait()[1]), box.run_code("x * 7").text)
""",
    "the end of the program": """
box = Sandbox.create(timeout=60)
box.run_code("x = 6")
pid = os.fork()
if pid:
    print(os.waitstatus_to_exitcode(os.wait()[1]) + 3, box.run_code("x * 7").text)
""",
    "the end of the name": """
box = Sandbox.create(timeout=60)
box.run_code("x = 6")
pid = os.fork()
if pid == 0:
    del box
    sys.exit(3)
print(os.waitstatus_to_exitcode(os.wait()[1]), box.run_code("x * 7").text)
""",
    "a detached box": """
with Sandbox.create(timeout=60, detach=True, lifetime=120) as box:
    box.run_code("x = 6")
    if os.fork() == 0:
        sys.exit(3)
    print(os.waitstatus_to_exitcode(os.wait()[1]), box.run_code("x * 7").text)
""",
    "a pool of multiprocessing": """
with Sandbox.create(timeout=60) as box:
    box.run_code("x = 6")
    def use(n):
        return told(lambda: box.run_code(str(n))).replace(str(os.getppid()), "PARENT")
    with multiprocessing.get_context("fork").Pool(2) as pool:
        said = set(pool.map(use, range(4)))
    assert said == {OURS}, said
    print(3, box.run_code("x * 7").text)
""",
    "a function before a program": """
with Sandbox.create(timeout=60) as box:
    box.run_code("x = 6")
    try:
        subprocess.run(["true"], preexec_fn=lambda: box.run_code("1"))
    except subprocess.SubprocessError:
        pass
    print(subprocess.run(["sh", "-c", "exit 3"], preexec_fn=lambda: None).returncode, box.run_code("x * 7").text)
""",
    "a job that runs": """
@agent(timeout=60)
def slow(n):
    import time
    time.sleep(1)
    return n
job = slow.spawn(42)
said = child(lambda: job.result(30))
assert said.startswith("SandboxError: this job belongs to process PARENT, and this is a fork of it"), said
print(3, job.result())
""",
}


def said(code: str, **environment: str) -> str:
    """What a program prints; forks of this process are not what is tested here."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=170,
        env={**os.environ, **environment},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def test_every_use_in_a_fork_is_an_error_there_and_the_box_goes_on() -> None:
    assert said(USES).splitlines() == [repr({OURS}), OURS, "'42'", "42"]


@pytest.mark.parametrize("how", UNWINDS)
def test_a_fork_that_unwinds_its_parent_leaves_its_box_alone(how: str) -> None:
    # With boxes that wait: a fork lets go of those too.
    assert said(f"{START}\nOURS = {OURS!r}\n{UNWINDS[how]}", AGENTBOX_POOL="1") == "3 42\n"


def sockets(pid: int) -> set[str]:
    """What a process has open of them."""
    found = set()
    for one in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed since
            found.add(os.readlink(one))
    return {link for link in found if link.startswith("socket:")}


def test_a_fork_closes_its_copy_of_the_pipe() -> None:
    """Or a box would outlive its process for as long as a fork of that lives."""
    before = sockets(os.getpid())
    with Sandbox.create(timeout=60) as box:
        pipes = sockets(os.getpid()) - before  # and the connections to the engine
        hear, tell = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(tell)
            os.read(hear, 1)
            os._exit(0)
        os.close(hear)
        try:
            seconds_until(lambda: len(pipes & sockets(pid)) < len(pipes), within=30)
        finally:
            os.close(tell)
            os.waitpid(pid, 0)
        assert box.run_code("6 * 7").text == "42"
