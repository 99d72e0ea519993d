"""What one user of a box was given, the next one cannot find: not after a reset, not in another context.

Markers go through a box by every way in and out. Then a cell looks for them in all that it can read: the memory of
every process, environments, command lines, files. The look-out knows the first half of a marker and a digest of the
second, so it does not find itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from waiting import seconds_until

from agentbox_magic import ExecutionError, Sandbox, agent
from agentbox_magic.engine import Engine
from agentbox_magic.launch import configure

HEAD = secrets.token_hex(8)


class Markers:
    """Names, each with a text of its own."""

    def __init__(self) -> None:
        self._tails: dict[str, str] = {}

    def __call__(self, name: str) -> str:
        """The marker of a name."""
        return HEAD + self._tails.setdefault(name, secrets.token_hex(16))

    @property
    def digests(self) -> dict[str, str]:
        return {hashlib.sha256(tail.encode()).hexdigest(): name for name, tail in self._tails.items()}


SCAN = """
def scan(head, digests, own, pids):
    import hashlib, os, re
    found, head = set(), head.encode()
    def search(data):
        at = data.find(head)
        while at >= 0:
            name = digests.get(hashlib.sha256(data[at + len(head):at + len(head) + 32]).hexdigest())
            if name: found.add(name)
            at = data.find(head, at + 1)
    def memory(pid):
        with open(f"/proc/{pid}/maps") as maps: lines = maps.read().splitlines()
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as mem:
            for line in lines:
                start, end = (int(number, 16) for number in line.split()[0].split("-"))
                if line.split()[1][0] != "r" or line.endswith(("[vvar]", "[vsyscall]", "[vvar_vclock]")): continue
                for at in range(start, end, 2**22):
                    mem.seek(at)
                    # A marker may lie across the edge of two pieces.
                    try: search(mem.read(min(end, at + 2**22 + 100) - at))
                    except OSError: pass
    read = []
    for pid in pids or [name for name in os.listdir("/proc") if name.isdigit()]:
        if own and int(pid) != os.getpid(): continue
        try: memory(pid)
        except OSError: pass
        else: read.append(int(pid))
        for name in ("environ", "cmdline", "comm"):
            try:
                with open(f"/proc/{pid}/{name}", "rb") as file: search(file.read())
            except OSError: pass
    for root in () if own or pids else ("/workspace", "/tmp", "/dev/shm", "/dev/mqueue"):
        for at, folders, files in os.walk(root):
            for name in folders + files:
                search(os.fsencode(name))
                try:
                    with open(os.path.join(at, name), "rb") as file: search(file.read())
                except OSError: pass
    return sorted(found), read
"""


def look(box: Sandbox, markers: Markers, *, own: bool = False, context: Any = None) -> tuple[set[str], list[int]]:
    """What code finds in all that it can read, or in its own process only; and whose memory it could read."""
    code = f"{SCAN}\nimport json\nprint(json.dumps(scan({HEAD!r}, {markers.digests!r}, {own}, [])))"
    found, read = json.loads(box.run_code(code, timeout=60, context=context).raise_for_status().stdout)
    return set(found), read


def look_from_outside(pid: int, markers: Markers) -> set[str]:
    """What is in the memory of a process of a box, as root on the host sees it."""
    code = f"{SCAN}\nimport json\nprint(json.dumps(scan({HEAD!r}, {markers.digests!r}, False, [{pid}])))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found, read = json.loads(done.stdout)
    assert read == [pid]
    return set(found)


def processes(box: Sandbox) -> tuple[int, int]:
    """PID 1 and the zygote of a box, as the host numbers them."""
    state = Engine.connect().inspect(box.sandbox_id)
    assert state is not None
    first = int(state["State"]["Pid"])
    children = [
        int(path.name)
        for path in Path("/proc").iterdir()
        if path.name.isdigit() and _parent(path) == first and (path / "oom_score_adj").read_text().strip() == "600"
    ]
    assert len(children) == 1
    return first, children[0]


def _parent(process: Path) -> int:
    with contextlib.suppress(OSError):
        return int((process / "stat").read_text("ascii", "replace").rpartition(")")[2].split()[1])
    return 0


def local() -> bool:
    """Whether the host's root can look into boxes from here."""
    return Engine.connect().traits.local and os.getuid() == 0


def use(box: Sandbox, marker: Markers, folder: Path, context: Any = None) -> None:
    """Pass a marker through a box by every way that there is."""
    box.files.write("/workspace/written", marker("a file's content"))
    box.files.write(f"/workspace/{marker('a path')}", "x")
    assert box.files.read("/workspace/written")
    (folder / "up").write_text(marker("an upload"))
    box.files.upload(folder / "up", "/workspace/up")
    box.files.download("/workspace/up", folder / "down")
    box.push({"pushed": marker("a pushed value")}, context=context)
    box.run_code(f"mine = {marker('source')!r}", context=context)
    box.run_code("import os; held = os.environ['M']", envs={"M": marker("a run's variable")}, context=context)
    box.run_code(
        f"print({marker('stdout')!r}); import sys; print({marker('stderr')!r}, file=sys.stderr)", context=context
    )
    box.run_code(f"display({marker('a display')!r})", context=context)
    box.run_code(f"{marker('a result')!r}", context=context)
    with pytest.raises(ExecutionError):
        box.run_code(f"raise LookupError({marker('an error')!r})", context=context).raise_for_status()
    assert box.pull("mine", context=context)
    halves = marker("a command's output")
    box.commands.run(f"printf %s%s {halves[:20]} {halves[20:]} >&2; printf %s%s {halves[:20]} {halves[20:]}")
    box.commands.run(f"true {marker('a command')}", envs={"M": marker("a command's variable")})
    reader = box.commands.run("cat >/workspace/read", stdin=True, background=True)
    reader.send_stdin(marker("a command's input"))
    reader.close_stdin()
    reader.wait()
    with pytest.raises(FileNotFoundError):
        box.files.read(f"/workspace/missing/{marker('the text of a refusal')}")


@pytest.fixture
def box() -> Iterator[Sandbox]:
    with Sandbox.create(timeout=60) as box:
        yield box


def test_after_a_reset_nothing_is_found(box: Sandbox, tmp_path: Path) -> None:
    markers = Markers()
    box.reset(env={"M": markers("a reset's variable")})
    configure(box._channel, env={"N": markers("a configured variable")})
    use(box, markers, tmp_path)
    before, _ = look(box, markers)  # the control: what is there is found
    only_passing_through = {"a command", "a command's variable", "the text of a refusal", "a command's output"}
    assert before >= set(markers.digests.values()) - only_passing_through
    if local():
        supervisor, zygote = processes(box)
        assert look_from_outside(supervisor, markers)  # so a fork of it would know them
        assert look_from_outside(zygote, markers) == set()

    box.reset()

    after, read = look(box, markers)
    assert after == set()
    assert len(read) == 1  # its own: all others are closed
    if local():
        assert processes(box)[1] == zygote  # it was spared, which is what makes a reset fast
        assert look_from_outside(zygote, markers) == set()


def test_one_context_does_not_hold_what_another_was_given(box: Sandbox, tmp_path: Path) -> None:
    markers = Markers()
    use(box, markers, tmp_path)
    assert look(box, markers, own=True)[0]  # the control
    box.commands.run("rm -r /workspace/*")  # files are the box's, and an interpreter reads their names
    other = box.create_code_context()
    assert look(box, markers, own=True, context=other) == (set(), [_pid(box, other)])
    box.restart_code_context(other)
    assert look(box, markers, own=True, context=other)[0] == set()


def _pid(box: Sandbox, context: Any = None) -> int:
    return int(str(box.run_code("import os; os.getpid()", context=context).text))


def test_what_the_supervisor_forks_itself_is_closed(box: Sandbox) -> None:
    """File operations and ports, for as long as they last; a command, until it has become its program."""
    with box.files.watch_dir("/workspace"):
        box.get_host(8002)
        box.commands.run("sleep 100", background=True)
        look_around = (
            "import os\nopen_ones, closed = [], 0\nfor pid in filter(str.isdigit, os.listdir('/proc')):\n"
            "    try:\n        open(f'/proc/{pid}/mem', 'rb').close()\n"
            "        open_ones.append(open(f'/proc/{pid}/cmdline').read().split(chr(0))[0])\n"
            "    except PermissionError: closed += 1\n    except FileNotFoundError: pass\n"
            "len(open_ones), open_ones.count('python'), closed"
        )
        # Open are the command, once it is its program, and the cell's own process; closed PID 1, the zygote, the watch
        # and the port.
        seconds_until(lambda: box.run_code(look_around).text == "(2, 1, 4)", within=20)


RACE = """
import os, time
def contents(found):
    until = time.monotonic() + {seconds}
    known = set(os.listdir('/proc'))
    while time.monotonic() < until:
        for pid in set(os.listdir('/proc')) - known:
            if not pid.isdigit(): continue
            try:
                with open(f'/proc/{{pid}}/maps') as maps, open(f'/proc/{{pid}}/mem', 'rb', buffering=0) as mem:
                    lines = maps.read()
                    found.append('agent_executor' in open(f'/proc/{{pid}}/cmdline').read())
            except OSError: pass
found = []
contents(found)
print(len(found), sum(found))
"""


def test_a_command_is_never_open_while_it_is_still_the_supervisor() -> None:
    """Code that waits for new processes gets at their memory only when they are programs."""
    slow = ":".join(["/x"] * 1500 + ["/opt/agentbox/venv/bin", "/usr/local/bin", "/usr/bin", "/bin"])
    with Sandbox.create(env={"PATH": slow}, timeout=60) as box:  # where the shell is looked for, before it is executed
        box.files.write("/workspace/race.py", RACE.format(seconds=2))
        race = box.commands.run("/opt/agentbox/venv/bin/python race.py", background=True)
        for _ in range(12):
            box.commands.run("/bin/sleep 0.05")
        opened, copies = map(int, race.wait().stdout.split())
    assert opened > 0  # the control: it does see them
    assert copies == 0


def test_a_batch_that_reuses_its_boxes() -> None:
    markers = Markers()
    reply = markers("a tool's reply")

    def tell() -> str:
        return reply

    @agent(mem="256m", tools=[tell])
    def give_and_look(task: tuple[str, dict[str, str]]) -> Any:
        text, digests = task
        if not digests:
            return text, tell()
        names: dict[str, Any] = {}
        exec(SCAN, names)  # noqa: S102  # it is the agent's own code
        return names["scan"](HEAD, digests, False, [])

    given = markers("an argument")
    batch = give_and_look.map([(given, {}), ("", markers.digests)] * 2, concurrency=1, reuse=True)
    assert list(batch.values[0]) == [given, reply]
    for found, read in (batch.values[1], batch.values[3]):
        assert found == []
        assert len(read) == 1


# -- the zygote under attack ------------------------------------------------------------------------------------------

ZYGOTE = """
import os, resource, signal
def zygote():
    for name in os.listdir('/proc'):
        try:
            if name.isdigit() and open(f'/proc/{name}/oom_score_adj').read().strip() == '600': return int(name)
        except OSError: pass
"""


@pytest.mark.parametrize("how", ["SIGKILL", "SIGSTOP", "SIGSEGV"])
def test_a_zygote_that_code_kills_or_stops_is_replaced(box: Sandbox, how: str) -> None:
    box.run_code(ZYGOTE)
    other = box.create_code_context()
    box.run_code("x = 1", context=other)
    assert box.run_code(f"os.kill(zygote(), signal.{how}); 'on'").text == "'on'"
    third = box.create_code_context()
    assert box.run_code("1 + 1", context=third, timeout=30).text == "2"
    assert box.run_code("x", context=other).text == "1"
    assert box.run_code("os._exit(3)").status == "error"
    assert box.run_code("1 + 1", timeout=30).text == "2"
    box.reset()
    assert box.run_code("1 + 1").text == "2"


KILLER = """
import time
until = time.monotonic() + 4
while time.monotonic() < until:
    pid = zygote()
    if pid: os.kill(pid, 9)
"""


def test_a_zygote_that_is_killed_again_and_again(box: Sandbox) -> None:
    """What waits for a worker is told in the end, and the box lives on."""
    killer, victim = box.create_code_context(), box.create_code_context()
    box.run_code(ZYGOTE, context=killer)
    thread = threading.Thread(target=lambda: box.run_code(KILLER, context=killer, timeout=50))
    thread.start()
    with contextlib.suppress(OSError):
        assert box.run_code("1 + 1", context=victim, timeout=50).text == "2"
    thread.join()
    assert box.run_code("1 + 1", context=victim, timeout=50).text == "2"
    assert box.run_code("1 + 1").text == "2"
    box.reset()
    assert box.run_code("1 + 1").text == "2"


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("resource.prlimit(zygote(), resource.RLIMIT_NOFILE, (500, 500))", id="limits"),
        pytest.param("os.setpriority(os.PRIO_PROCESS, zygote(), 5)", id="priority"),
        pytest.param("os.sched_setaffinity(zygote(), {min(os.sched_getaffinity(0))})", id="cores"),
    ],
)
def test_a_zygote_that_code_has_changed_does_not_outlive_a_reset(box: Sandbox, code: str) -> None:
    now = "import os, resource; resource.getrlimit(resource.RLIMIT_NOFILE), os.nice(0), len(os.sched_getaffinity(0))"
    as_new = box.run_code(now).text
    box.run_code(ZYGOTE + code).raise_for_status()
    box.reset()
    assert box.run_code(now).text == as_new


def test_what_code_left_is_not_imported_by_the_next_zygote(box: Sandbox) -> None:
    """Nor by PID 1's own children: modules are looked for where code cannot write."""
    evil = "open('/workspace/evil', 'a').write(__name__ + chr(10))\nraise ImportError"
    names = ["json", "shutil", "socket", "selectors", "usercustomize", "sitecustomize", "agent_executor/__init__"]
    for folder in ("/workspace", "/tmp"):
        for name in names:
            box.files.write(f"{folder}/{name}.py", evil)
    box.run_code(ZYGOTE + "os.kill(zygote(), 9)")
    assert box.run_code("1 + 1", context=box.create_code_context(), timeout=30).text == "2"
    box.files.list("/workspace")
    box.get_host(8002)
    assert not box.files.exists("/workspace/evil")
    # The control: a worker finds modules there, as a notebook's kernel does.
    box.run_code("import sys\nfor name in ('shutil', 'json'): sys.modules.pop(name, None)\nimport shutil")
    assert box.files.exists("/workspace/evil")
