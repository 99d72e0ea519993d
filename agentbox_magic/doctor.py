"""Which walls hold on this engine: a box is started and attacked, from inside and from outside.

::

    from agentbox_magic import doctor
    from agentbox_magic.engine import Engine

    report = doctor.run(Engine.connect())
    print(report)           # a table
    assert report.ok        # every wall that this package promises holds

What an engine may lack, such as AppArmor, is told as absent, with what to do, and is no failure.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from agent_executor.wire import NEW_HOST, encode
from agentbox_magic import badge, derived, hardening, readback
from agentbox_magic.engine import Engine
from agentbox_magic.errors import PolicyError, SandboxError
from agentbox_magic.images import Progress
from agentbox_magic.launch import launch
from agentbox_magic.limits import Limits, format_size
from agentbox_magic.sandbox import Sandbox
from agentbox_magic.text import clean
from agentbox_magic.traits import Traits

LIMITS = Limits(mem=128 * 2**20, cpus=0.3, pids=32, timeout=30.0)
"""Of the box that is attacked: small, so that running into them is quick."""

DETACHED_SECONDS = 60.0
"""The lifetime of the box whose pipe is attacked."""

GONE_SECONDS = 20.0
"""How long a busy engine may take to remove a container."""

_ADDS = {
    "runc": "the host's kernel, behind the walls above",
    "gvisor": "a kernel of its own in user space; few calls reach the host's",
    "vm": "a virtual machine with a kernel of its own",
}
_REPORT = "this is a flaw or a broken engine; see SECURITY.md on how to report it"
_RUNTIME = "the runtime or the kernel does not do it; `docker info` may say why"


@dataclass(frozen=True)
class Check:
    """One wall.

    Attributes:
        name: what it is.
        holds: whether it does; None where it cannot be told here.
        how: how that was found.
        advice: what to do where it does not hold.
        required: it is promised; others are told as absent.
        short: its name in the badge; empty if it is not there.
    """

    name: str
    holds: bool | None
    how: str
    advice: str
    required: bool = True
    short: str = ""

    @property
    def word(self) -> str:
        """``"holds"``, ``"FAILS"``, ``"absent"`` or ``"unknown"``."""
        if self.holds is None:
            return "unknown"
        if self.holds:
            return "holds"
        return "FAILS" if self.required else "absent"


@dataclass(frozen=True)
class Report:
    """What :func:`run` found.

    Attributes:
        engine: which engine, in a few words.
        runtime: the runtime of the box that was attacked.
        checks: one for each wall.
        runtimes: the runtimes the engine offers, and what each is.
    """

    engine: str
    runtime: str
    checks: tuple[Check, ...]
    runtimes: dict[str, str]

    @property
    def ok(self) -> bool:
        """No promised wall fails. Those of which nothing can be told here do not count."""
        return not any(check.required and check.holds is False for check in self.checks)

    def badge(self) -> str:
        """One line.

        >>> Report("an engine", "runc", (Check("AppArmor", False, "", "", False, "AppArmor"),), {}).badge()
        'walls: none · absent: AppArmor'
        """
        shown = [check for check in self.checks if check.short]
        return badge.line(
            [check.short for check in shown if check.holds], [check.short for check in shown if check.holds is False]
        )

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {"ok": self.ok, "badge": self.badge(), **asdict(self)}

    def __str__(self) -> str:
        width = max((len(check.name) for check in self.checks), default=0)
        lines = [f"{self.engine}; box started by {self.runtime}", ""]
        for check in self.checks:
            lines.append(f"{check.name:{width}}  {check.word:7}  {check.how}")
            if not check.holds and check.advice:
                lines += textwrap.wrap(check.advice, 100, initial_indent="    -> ", subsequent_indent="       ")
        lines += ["", "runtimes of the engine (--runtime NAME):"]
        lines += [f"  {name}: {adds}" for name, adds in self.runtimes.items()]
        return "\n".join([*lines, "", self.badge()])


class _Patient:
    """A box, and the next one where an attack has ended it."""

    def __init__(self, engine: Engine, runtime: str, progress: Progress | None) -> None:
        image, start = derived.prepare(engine, None, (), progress)
        self._engine = engine
        self._what = hardening.Box(image=image, runtime=runtime, start=start)
        self._box = self._start()
        self.containers = [self._box.sandbox_id]

    def _start(self) -> Sandbox:
        return Sandbox(launch(self._engine, LIMITS, self._what), LIMITS, False)

    def box(self) -> Sandbox:
        """One that lives."""
        if not self._box.is_running():
            self._box = self._start()
            self.containers.append(self._box.sandbox_id)
        return self._box

    def detached(self) -> Sandbox:
        """Another one, which outlives its host for a minute."""
        what = replace(self._what, detached=True, lifetime=DETACHED_SECONDS)
        box = Sandbox(launch(self._engine, LIMITS, what), LIMITS, True)
        self.containers.append(box.sandbox_id)
        return box

    def suffer(self, code: str) -> str:
        """Run an attack; what it said, or how it ended."""
        run = self.box().run_code(code)
        return clean(run.stdout.strip()[:80], colour=False) or run.status

    def __enter__(self) -> _Patient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._box.close()


def run(engine: Engine, runtime: str = "", progress: Progress | None = None) -> Report:
    """Start a box, attack it, and tell.

    Args:
        engine: from :meth:`Engine.connect`.
        runtime: the engine's runtime to try; its default if empty.
        progress: told how the image's build goes, if it must be built.

    Raises:
        SandboxError: no box starts, for another reason than a missing wall.
    """
    traits = engine.traits
    try:
        with _Patient(engine, runtime, progress) as patient:
            kind = traits.kind(runtime)
            checks = [*_inside(patient, kind), *_outside(engine, patient.box(), kind)]
            checks += [_reset(patient.box()), _other_host(patient.detached())]
        gone = _within(GONE_SECONDS, lambda: all(engine.inspect(container) is None for container in patient.containers))
        checks.append(Check("nothing is left of a box", gone, "ended it and asked the engine", _REPORT))
    except PolicyError as error:
        checks = [Check("a box starts with its walls", False, clean(str(error), colour=False), _RUNTIME)]
    checks.append(no_box_is_stuck(engine))
    checks += _of_the_engine(traits, runtime)
    name = "Podman" if traits.podman else "Docker Engine"
    where = "on this machine" if traits.local else "elsewhere, so only seen from inside"
    rootless = ", rootless" if traits.rootless else ""
    return Report(
        f"{name} {traits.version} ({traits.architecture}, cgroup version {traits.cgroup}{rootless}), {where}",
        runtime or traits.runtime,
        tuple(checks),
        {name: _ADDS[kind] for name, kind in sorted(traits.runtimes.items())},
    )


def no_box_is_stuck(engine: Engine) -> Check:
    """Whether the engine comes to an end with what it removes."""

    def ending() -> set[str]:
        return {one["Id"] for one in engine.ending(f"{hardening.LABEL}=sandbox")}

    stuck = ending()

    def all_are_gone() -> bool:
        stuck.intersection_update(ending())  # others may end meanwhile
        return not stuck

    gone = _within(GONE_SECONDS, all_are_gone)
    names = ", ".join(sorted(container[:12] for container in stuck))
    how = "asked the engine" if gone else f"the engine does not come to an end with {len(stuck)}: {names}"
    advice = (
        "nothing runs in them, but the engine keeps their files; restart it when nothing else runs there (sudo "
        "systemctl restart docker), then `docker rm -f` them; the engine's log names what is in its way"
    )
    return Check("no box is stuck in its end", gone, how, advice, False)


def _within(seconds: float, condition: Callable[[], bool]) -> bool:
    """Whether something becomes true in time."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


# -- from inside ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Attack:
    """Code that must end in one of the words ``denied``: the name of an error; or ``Holds`` where the code looks at
    what the kernel says, or ``Slow`` where that cannot tell. ``own_kernel``: a box with a kernel of its own answers by
    itself, and it proves nothing."""

    name: str
    how: str
    code: str
    denied: str
    advice: str = _REPORT
    short: str = ""
    own_kernel: bool = False


_PRELUDE = """
import ctypes, errno, os, resource, signal, socket, time
class Holds(Exception): pass
class Open(Exception): pass
class Slow(Exception): pass
def holds(wall):
    if wall: raise Holds
def read(*paths):
    for path in paths:
        try:
            with open(path) as file: return file.read()
        except OSError: pass
    return ''
status = dict(line.split(':\\t', 1) for line in read('/proc/self/status').splitlines() if ':\\t' in line)
def end(code):
    try: exec(code, dict(globals()))
    except OSError as error: return errno.errorcode.get(error.errno, 'OSError')
    except Open as error: return 'open: ' + str(error)[:60]
    except Exception as error: return type(error).__name__
    return 'done'
"""

_SAID = {
    "Holds": "as promised",
    "done": "it worked",
    "lost": "the box ended",
    "Slow": "this machine is too busy to tell",
}

_FILL = """
try:
    with open('{0}/full', 'wb', buffering=0) as file:
        for _ in range(128):
            if file.write(bytes(2**20)) < 2**20: raise OSError(errno.ENOSPC, '')
finally: os.unlink('{0}/full')
"""

_ATTACKS = (
    _Attack("seccomp filter", "read /proc/self/status", "holds(status['Seccomp'] == '2')", "Holds", _RUNTIME,
            "seccomp", own_kernel=True),
    _Attack("no new privileges", "read /proc/self/status", "holds(status['NoNewPrivs'] == '1')", "Holds", _RUNTIME,
            "no-new-privs", own_kernel=True),
    _Attack("no capabilities", "read /proc/self/status",
            "holds(not any(int(value, 16) for name, value in status.items() if name in "
            "('CapPrm', 'CapEff', 'CapBnd')))", "Holds", _RUNTIME, "caps 0"),
    _Attack("not root", "asked for its users", "holds(set(os.getresuid() + os.getresgid()).isdisjoint({0}))", "Holds",
            _RUNTIME),
    _Attack("the root is read-only", "wrote to /var/tmp", "open('/var/tmp/agentbox', 'w')", "EROFS", _RUNTIME,
            "read-only"),
    _Attack("no network", "looked for a route to 1.1.1.1",
            "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('1.1.1.1', 53))", "ENETUNREACH EHOSTUNREACH",
            _RUNTIME, "no network"),
    _Attack("loopback only", "listed its interfaces",
            "names = {line.split(':')[0].strip() for line in read('/proc/net/dev').splitlines() if ':' in line}\n"
            "names -= {'lo'}\nif names: raise Open(' '.join(names))\nraise Holds", "Holds", _RUNTIME),
    _Attack("no system call that none needs", "tried 20", """
numbers = {  # of x86-64, and of the rest
    'unshare': (272, 97), 'setns': (308, 268), 'mount': (165, 40), 'bpf': (321, 280), 'keyctl': (250, 219),
    'add_key': (248, 217), 'request_key': (249, 218), 'perf_event_open': (298, 241), 'userfaultfd': (323, 282),
    'io_uring_setup': (425, 425), 'inotify_init1': (294, 26), 'name_to_handle_at': (303, 264), 'syslog': (103, 116),
    'personality': (135, 92), 'process_vm_readv': (310, 270), 'msgget': (68, 186), 'shmget': (29, 194),
    'fsopen': (430, 430), 'memfd_create': (319, 279), 'init_module': (175, 105),
}
libc = ctypes.CDLL(None, use_errno=True)
names = [name for name, pair in numbers.items()
         if libc.syscall(pair[os.uname().machine != 'x86_64'], 0, 0, 0, 0, 0, 0) != -1
         or ctypes.get_errno() not in (errno.EPERM, errno.ENOSYS)]
if names: raise Open(' '.join(names))
raise Holds
""", "Holds", own_kernel=True),
    _Attack("no sockets to the hypervisor", "made an AF_VSOCK socket", "socket.socket(40)", "EPERM EAFNOSUPPORT"),
    _Attack("no memory by netlink", "made an AF_NETLINK socket", "socket.socket(16, socket.SOCK_RAW)",
            "ENOSYS EPERM EAFNOSUPPORT", own_kernel=True),
    _Attack("no protocols but TCP and UDP", "made a socket of MPTCP",
            "socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)", "EPERM", own_kernel=True),
    _Attack("no huge pages of the host", "mapped some, of a size that none has", """
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_ssize_t
if libc.mmap(None, ctypes.c_size_t(2**21), 3, 0x40022 | 1 << 26, -1, ctypes.c_long(0)) == -1:
    raise OSError(ctypes.get_errno(), '')
""", "ENOMEM", own_kernel=True),
    _Attack("socket buffers stay small", "asked for larger ones", """
one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
before = one.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2 * before)
sizes = [int(read('/proc/sys/net/ipv4/tcp_%smem' % way).split()[2]) for way in 'rw']
holds(one.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == before and max(sizes) <= 65536)
""", "Holds", _RUNTIME, own_kernel=True),
    _Attack("what sockets hold is bounded", f"left {format_size(LIMITS.mem // 2)} unread", f"""
sockets, held = [], 0
while held < {LIMITS.mem // 2}:
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.bind(('127.0.0.1', 0))
    for _ in range(4): one.sendto(bytes(40000), one.getsockname())
    sockets.append(one)
    held += 160000
time.sleep(5)
""", "oom", _REPORT, own_kernel=True),
    _Attack("no terminals of the host", "opened one", "os.openpty()", "ENOENT EROFS"),
    _Attack("PID 1 is closed", "opened its memory", "open('/proc/1/mem', 'r+b')", "EACCES"),
    _Attack("what tells of the host is masked", f"read {len(hardening.MASKED_PATHS)} paths", f"""
def seen(path):
    try: return os.listdir(path) if os.path.isdir(path) else open(path, 'rb').read(1)
    except OSError: return None
names = [path for path in {hardening.MASKED_PATHS} if seen(path)]
if names: raise Open(' '.join(names))
raise Holds
""", "Holds", _RUNTIME, own_kernel=True),
    _Attack("no file system of the host", "read /proc/self/mountinfo", """
kinds = 'proc sysfs tmpfs cgroup cgroup2 mqueue devpts overlay devtmpfs 9p rootfs fuse.fuse-overlayfs'.split()
lines = [line.split() for line in read('/proc/self/mountinfo').splitlines()]
made = '/userdata/'  # Podman's directory for what it writes for one container
names = {line[4] for line in lines if line[line.index('-') + 1] not in kinds and made not in line[3]}
names -= {'/etc/hosts', '/etc/hostname', '/etc/resolv.conf', '/run/.containerenv', '/dev/init'}
if names or 'docker.sock' in read('/proc/self/mountinfo'): raise Open(' '.join(names) or 'docker.sock')
raise Holds
""", "Holds", _RUNTIME),
    _Attack("open files are bounded", "opened 2000", """
files = []
try:
    for _ in range(2000): files.append(os.dup(0))
finally:
    for file in files: os.close(file)
""", "EMFILE", _RUNTIME),
    _Attack("processes are bounded", f"forked beyond {LIMITS.pids}", f"""
children = []
try:
    for _ in range({LIMITS.pids} * 2):
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        children.append(child)
finally:
    for child in children:
        os.kill(child, 9)
        os.waitpid(child, 0)
""", "EAGAIN", "the engine's kernel has no pids controller, or a rootless engine was not given it"),
    *(_Attack(f"{folder} is bounded", "filled it", _FILL.format(folder), "ENOSPC", _RUNTIME)
      for folder in ("/workspace", "/tmp", "/dev/shm")),
    _Attack("CPU time is bounded", "was busy until the kernel held it back", f"""
def held():
    text = read('/sys/fs/cgroup/cpu/cpu.stat', '/sys/fs/cgroup/cpu,cpuacct/cpu.stat', '/sys/fs/cgroup/cpu.stat')
    return int(dict(line.split() for line in text.splitlines())['nr_throttled'])
before, began, had = held(), time.monotonic(), time.process_time()
while held() == before and time.process_time() - had < 0.5: pass
holds(held() > before)
if time.process_time() - had < {LIMITS.cpus * 1.2} * (time.monotonic() - began): raise Slow
""", "Holds", "the engine's kernel has no CPU quota, or a rootless engine was not given it", own_kernel=True),
)  # fmt: skip


def _inside(patient: _Patient, kind: str) -> Iterator[Check]:
    for attack in _ATTACKS:
        word = patient.suffer(f"{_PRELUDE}print(end({attack.code!r}))")
        how, advice = f"{attack.how}: {_SAID.get(word, word)}", attack.advice
        holds: bool | None = word in attack.denied.split()
        if kind != "runc" and word == "lost":
            holds = True  # the limits are those of all of such a box, its kernel included
        elif kind != "runc" and attack.own_kernel:
            holds, how, advice = None, f"{attack.how}: its own kernel answers", ""
        elif word == "Slow":
            holds = None
        yield Check(attack.name, holds, how, advice, True, attack.short)
    box = patient.box()
    hungry = patient.suffer(f"x = bytearray({LIMITS.mem * 2}); x[::4096] = x[1::4096]; print('done')")
    how = f"took {format_size(LIMITS.mem * 2)} of {format_size(LIMITS.mem)}: {_SAID.get(hungry, hungry)}"
    advice = "the engine's kernel has no memory controller, or the runtime ignores it"
    yield Check("memory is bounded", hungry in ("oom", "lost"), how, advice)
    if kind == "runc":  # a kernel of its own ends with its memory
        yield Check("a box outlives its code", box.is_running(), "looked after that", _REPORT)


_SEARCH = """
import hashlib, os
def search(data):
    at, words = data.find(head), 0
    while at >= 0:
        words += hashlib.sha256(data[at + len(head):at + 2 * len(head)]).hexdigest() == digest
        at = data.find(head, at + 1)
    return words
count = 0
with open('/proc/self/maps') as maps: lines = maps.read().splitlines()
with open('/proc/self/mem', 'rb', buffering=0) as memory:
    for line in lines:
        start, end = (int(number, 16) for number in line.split()[0].split('-'))
        for at in range(start, end, 2**20):
            try:
                memory.seek(at)
                count += search(memory.read(min(end - at, 2**20 + 200)))
            except (OSError, OverflowError, ValueError): pass  # not readable, or the kernel's own
for name in ('environ', 'cmdline'):
    with open(f'/proc/self/{name}', 'rb') as file: count += search(file.read())
for at, _, names in (entry for root in ('/workspace', '/tmp', '/dev/shm') for entry in os.walk(root)):
    for name in names:
        try:
            with open(os.path.join(at, name), 'rb') as file: count += search(file.read())
        except OSError: pass
print(count)
"""
"""Counts a secret in all that code can read; of the secret it knows the first half, and a digest of the second."""


def _reset(box: Sandbox) -> Check:
    """Whether code after a reset finds what code before it was given."""
    head, tail = secrets.token_hex(16), secrets.token_hex(16)
    digest = hashlib.sha256(tail.encode()).hexdigest()
    search = f"head, digest = {head!r}.encode(), {digest!r}\n{_SEARCH}"
    box.push({"secret": head + tail})
    box.files.write("/workspace/secret", head + tail)
    box.run_code("import os; held = os.environ['SECRET']; print(held)", envs={"SECRET": head + tail})
    before = box.run_code(search).stdout.strip()
    name, how = "a reset leaves nothing", "gave it a secret, reset it and searched memory and files"
    try:
        box.reset()
    except SandboxError as error:  # it has been killed, as a box is that cannot be reset
        return Check(name, None, f"{how}: it cannot be reset here ({clean(str(error), colour=False)[:80]})", "")
    after = box.run_code(search).stdout.strip()
    if not before.isdigit() or before == "0":  # then to find nothing proves nothing
        return Check(name, None, f"{how}: the search did not find it before, either", "")
    return Check(name, after == "0", f"{how}: found {before} times before, {after or 'no answer'} after", _REPORT)


def _other_host(box: Sandbox) -> Check:
    """Whether what is carried for code into a detached box is taken for a new host of it."""
    request = encode({"type": "lifetime_request", "id": 1, "seconds": 100 * DETACHED_SECONDS})
    try:
        box.files.write("/workspace/file", bytes(2**20) + NEW_HOST + request)
        box.push({"pushed": NEW_HOST + request})
        left = box._link.info()["lifetime"]
    finally:
        box.kill()
    holds = isinstance(left, (int, float)) and left <= DETACHED_SECONDS
    how = "carried the words of a new host, who asks for more time, as a file and as a value"
    return Check("code cannot speak as the host", holds, f"{how}: {_SAID['Holds'] if holds else 'it worked'}", _REPORT)


# -- from outside -----------------------------------------------------------------------------------------------------


def _outside(engine: Engine, box: Sandbox, kind: str) -> Iterator[Check]:
    traits = engine.traits
    found = engine.inspect(box.sandbox_id)
    if found is None:
        yield Check("the engine knows the box", False, "asked the engine", _REPORT)
        return
    log = found.get("LogPath") or ""
    yield Check("no log on the host's disk", not log, f"asked the engine: {log or 'none'}", _REPORT)
    process = Path("/proc", str(found["State"]["Pid"]))
    seen = readback.status(process) if traits.local and kind == "runc" else {}
    if seen:
        wanted = {"CapEff": 0, "CapPrm": 0, "CapBnd": 0, "NoNewPrivs": 1, "Seccomp": 2}
        differ = [
            f"{name} {seen.get(name)}" for name, value in wanted.items() if int(seen.get(name, "99"), 16) != value
        ]
        how = f"read /proc/PID/status of its PID 1: {', '.join(differ) or 'as inside'}"
        yield Check("the host's kernel agrees", not differ, how, _RUNTIME)
        limit = readback.memory_limit(process, traits.cgroup)
        if limit is not None:
            how = f"read its cgroup: {format_size(limit)}"
            yield Check("the host's kernel agrees on memory", limit <= LIMITS.mem, how, _RUNTIME)
    else:
        yield Check("the host's kernel agrees", None, "its process is not one of this machine's kernel", "")
    yield _apparmor(process, traits, bool(seen))


def _apparmor(process: Path, traits: Traits, readable: bool) -> Check:
    how = f"asked the engine: {traits.apparmor or 'it has none'}"
    if traits.apparmor and readable:
        with contextlib.suppress(OSError):
            how = f"read /proc/PID/attr/current of its PID 1: {(process / 'attr' / 'current').read_text()[:60].strip()}"
    advice = "a second lock behind the filter; a kernel that has it (Debian, Ubuntu, SUSE) loads apparmor/agentbox"
    return Check("AppArmor", bool(traits.apparmor) and "unconfined" not in how, how, advice, False, "AppArmor")


def _of_the_engine(traits: Traits, runtime: str) -> list[Check]:
    mapped = traits.userns or traits.rootless
    mapping = (
        'set "userns-remap": "default" in /etc/docker/daemon.json, or use rootless Docker or Podman: then not even '
        "root in a box would be a user of the host"
    )
    kind = traits.kind(runtime)
    tenants = "for hostile code of many tenants install gVisor or Kata Containers, and use --runtime"
    return [
        Check("users are mapped", mapped, f"asked the engine: {'yes' if mapped else 'no'}", mapping, False, "userns"),
        Check("a kernel of its own", kind != "runc", f"{runtime or traits.runtime} is {_ADDS[kind]}", tenants, False),
    ]
