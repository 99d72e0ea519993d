"""A box that is reset has nothing of what was there before: the same probes find it in a box that was not reset."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agentbox_magic import ExecutionError, Sandbox, SandboxError, agent

LEAVE = """
import ctypes, mmap, os, signal, socket, subprocess, sys, threading, time
secret = "s3cret"
def write(path, text="s3cret"):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file: file.write(text)
write("/workspace/plain"); write("/tmp/.hidden"); write("/dev/shm/shared")
write("/workspace/new\\nline/\\udcff/ -rf *"); write("/workspace/deep/" + "d/" * 500 + "end")
write("/tmp/locked/inner"); os.chmod("/tmp/locked/inner", 0); os.chmod("/tmp/locked", 0)
os.symlink("/etc", "/workspace/link"); os.mkfifo("/workspace/fifo"); os.link("/workspace/plain", "/workspace/second")
write("/workspace/sparse"); os.truncate("/workspace/sparse", 2**28)
for number in range(2000): write(f"/workspace/many/{number}")
held = open("/workspace/unlinked", "w+"); held.write("s3cret" * 10000); held.flush(); os.unlink("/workspace/unlinked")
os.environ["LEFT"] = secret; os.umask(0o077); os.chdir("/tmp"); sys.path.append("/left")
os.nice(5); sys.modules["left"] = sys
listener = socket.socket(); listener.bind(("127.0.0.1", 4711)); listener.listen()
abstract = socket.socket(socket.AF_UNIX); abstract.bind("\\0s3cret"); abstract.listen()
named = socket.socket(socket.AF_UNIX); named.bind("/workspace/socket")
client = socket.create_connection(("127.0.0.1", 4711))
threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
subprocess.Popen(["sleep", "1000"])
subprocess.Popen("trap '' TERM INT HUP; (setsid sleep 1000 &) ; setsid --fork sleep 1000; kill -STOP $$", shell=True)
if not os.fork():
    os.setsid()
    if not os.fork():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True: time.sleep(1000)
    os._exit(0)
from multiprocessing import shared_memory
block = shared_memory.SharedMemory("s3cret-block", create=True, size=4096)
os.chmod("/workspace", 0o711); os.utime("/workspace", (12345, 12345))
"""

LOOK = """
import json, os, socket, sys, threading
def read(path):
    try:
        with open(path) as file: return file.read()
    except OSError as error: return type(error).__name__
def connects(family, address):
    with socket.socket(family) as probe: return probe.connect_ex(address) == 0
def all_of(*roots):
    return sorted(os.path.join(at, name) for root in roots for at, folders, files in os.walk(root)
                  for name in folders + files)
def processes():
    return [read(f"/proc/{n}/cmdline") for n in os.listdir("/proc") if n.isdigit() and int(n) not in (1, os.getpid())]
facts = {
    "files": [os.fsencode(path).hex() for path in all_of("/workspace", "/dev/shm", "/dev/mqueue", "/tmp")],
    "used": [[s.f_blocks - s.f_bfree, s.f_files - s.f_ffree] for s in map(os.statvfs, ("/workspace", "/dev/shm"))],
    "modes": [oct(os.stat(path).st_mode) for path in ("/workspace", "/tmp", "/dev/shm")],
    "old times": os.stat("/workspace").st_mtime == 12345,
    "processes": processes(), "threads": threading.active_count(),
    "memory segments": [len(read(f"/proc/sysvipc/{kind}").splitlines()) for kind in ("shm", "sem", "msg")],
    "environment": {**os.environ}, "directory": os.getcwd(), "path": sys.path, "modules": sorted(sys.modules),
    "names": sorted(name for name in globals() if not name.startswith("_")),
    "mask": [line for line in read("/proc/self/status").splitlines() if line.startswith("Umask")],
    "priority": os.nice(0), "port": connects(socket.AF_INET, ("127.0.0.1", 4711)),
    "abstract": connects(socket.AF_UNIX, "\\0s3cret"), "listening": len(read("/proc/net/tcp").splitlines()),
    "sockets": [line for line in read("/proc/net/unix").splitlines()[1:] if len(line.split()) > 7],
    "adjustment": read("/proc/self/oom_score_adj"), "keys": read("/proc/keys"),
    "descriptors": sorted(os.listdir("/proc/self/fd")),
}
print(json.dumps(facts))
"""


def look(box: Sandbox) -> dict[str, object]:
    facts: dict[str, object] = json.loads(box.run_code(LOOK, timeout=60).raise_for_status().stdout)
    return facts


@pytest.fixture
def box() -> Iterator[Sandbox]:
    with Sandbox.create(timeout=60, pids=40) as box:
        yield box


def test_nothing_is_left(box: Sandbox) -> None:
    new = look(box)
    box.reset()
    box.run_code(LEAVE).raise_for_status()
    box.commands.run("sleep 1000; echo left", background=True)
    other = box.create_code_context()
    box.run_code("left = 1", context=other)
    # The probes do find what they look for.
    found = look(box)
    same = {name for name, value in found.items() if value == new[name]}
    assert same <= {"memory segments", "adjustment", "keys"}, same  # the walls alone keep these from changing

    box.reset()

    after = look(box)
    assert {name: value for name, value in after.items() if value != new[name]} == {}
    assert "s3cret" not in json.dumps(after)
    assert len(box.list_code_contexts()) == 1
    assert box.commands.list() == []
    assert box.run_code("1 + 1").execution_count == 2


def test_a_run_in_progress_ends_as_killed(box: Sandbox) -> None:
    command = box.commands.run("sleep 1000", background=True)
    box.reset()
    with pytest.raises(Exception, match="SIGKILL"):
        command.wait()


def test_the_environment_is_the_one_asked_for(box: Sandbox) -> None:
    box.reset(env={"TASK": "one"})
    assert box.run_code("import os\nos.environ['TASK']").text == "'one'"
    assert box.commands.run("echo $TASK").stdout == "one\n"
    box.reset(env={"OTHER": "two"})
    assert box.run_code("import os\nos.environ.get('TASK'), os.environ['OTHER']").text == "(None, 'two')"
    assert box.commands.run("echo $TASK$OTHER").stdout == "two\n"


def test_the_peak_is_the_runs_own(box: Sandbox) -> None:
    peak = box.run_code("x = b'1' * (200 * 2**20)").usage.memory_peak
    assert peak is not None
    assert peak > 200 * 2**20
    box.reset()
    peak = box.run_code("1").usage.memory_peak
    assert peak is not None
    assert peak < 150 * 2**20


def test_a_fork_bomb_and_a_full_disk(box: Sandbox) -> None:
    box.run_code("import os\ntry:\n  while True: os.fork()\nexcept OSError: pass", timeout=2)
    box.run_code("f = open('/workspace/full', 'wb')\nwhile True: f.write(b'x' * 2**20)")
    box.reset()
    assert (
        box.run_code("import os\nos.listdir('.'), len([n for n in os.listdir('/proc') if n.isdigit()])").text
        == "([], 3)"  # PID 1, the zygote, the worker
    )


@pytest.mark.parametrize(
    ("code", "why"),
    [
        pytest.param("import resource\nresource.prlimit(1, resource.RLIMIT_NOFILE, (500, 500))", "limits", id="limits"),
        pytest.param("import os\nos.setpriority(os.PRIO_PROCESS, 1, 5)", "priority", id="priority"),
        pytest.param(
            "import socket\nwith socket.create_server(('127.0.0.1', 0)) as s:\n"
            "    c = socket.create_connection(s.getsockname()); a = s.accept()[0]; c.close(); a.close()",
            "sockets", id="a connection that the kernel still remembers",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_undone_ends_the_box(box: Sandbox, code: str, why: str) -> None:
    box.run_code(code).raise_for_status()
    with pytest.raises(SandboxError, match=f"cannot be made new: .*{why}"):
        box.reset()
    assert not box.is_running()


def test_a_hundred_times(box: Sandbox) -> None:
    for number in range(100):
        assert box.run_code(f"open('x', 'x').write('x'); x = {number}\nx").text == str(number)
        box.reset()
    assert (box.get_metrics().pids or 0) <= 3


@agent(mem="256m")
def leave_and_look(number: int) -> dict[str, Any]:
    import os

    seen = {"files": os.listdir("."), "left": os.environ.get("LEFT"), "name": "left" in globals()}
    globals()["left"] = os.environ["LEFT"] = "x"
    with open(f"left{number}", "w") as file:
        file.write("x")
    if number == 5:
        os._exit(3)
    return {**seen, "number": number}


def test_a_batch_that_reuses_its_boxes(boxes: Callable[[], set[str]]) -> None:
    before = Sandbox.start
    starts = []

    def counted(*args: Any, **kwargs: Any) -> Sandbox:
        starts.append(1)
        return before(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Sandbox, "start", counted)
        batch = leave_and_look.map(range(12), concurrency=2, reuse=True, return_exceptions=True)
    assert len(starts) == 2
    assert isinstance(batch.values[5], ExecutionError)
    rest = [value for number, value in enumerate(batch.values) if number != 5]
    assert rest == [{"files": [], "left": None, "name": False, "number": n} for n in range(12) if n != 5]
    assert boxes() == set()
