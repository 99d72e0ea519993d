"""What a box promises, as a table of attacks.

Each is Python that runs in a box as any user's code does, and ends in one word: ``done`` if the attack works, the name
of the error that stopped it (``EPERM``), of the signal that killed it (``SIGSYS``), the status of its run (``oom``), or
``holds`` where the code looked at what the kernel says of the wall and found it standing. ``denied`` are the words
promised; ``without`` are the walls (walls.py) that must be gone for it to work, which is its control.

The numbers are those of the list this suite was written from; some attacks of that list are tested elsewhere
(:data:`ELSEWHERE`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agentbox_magic import hardening
from agentbox_magic.limits import Limits

PRELUDE = """
import ctypes, errno, json, os, resource, signal, socket, stat, struct, subprocess, sys, time

class Holds(Exception):
    'What the kernel says is as promised.'

class Killed(Exception):
    'A child process was ended by this signal.'

NUMBERS = {
    'shmget': 29, 'getpid': 39, 'msgget': 68, 'semget': 64, 'ptrace': 101, 'syslog': 103, 'setuid': 105,
    'personality': 135, 'pivot_root': 155, 'adjtimex': 159, 'chroot': 161, 'acct': 163, 'mount': 165, 'swapon': 167,
    'reboot': 169, 'sethostname': 170, 'iopl': 172, 'init_module': 175, 'modify_ldt': 154, 'io_setup': 206,
    'mq_open': 240, 'kexec_load': 246, 'add_key': 248, 'request_key': 249, 'keyctl': 250, 'inotify_init1': 294,
    'unshare': 272, 'perf_event_open': 298, 'fanotify_init': 300, 'name_to_handle_at': 303, 'open_by_handle_at': 304,
    'setns': 308, 'process_vm_readv': 310, 'process_vm_writev': 311, 'kcmp': 312, 'memfd_create': 319, 'bpf': 321,
    'userfaultfd': 323, 'io_uring_setup': 425, 'open_tree': 428, 'move_mount': 429, 'fsopen': 430, 'clone': 56,
    'clone3': 435, 'pidfd_open': 434, 'pidfd_getfd': 438, 'memfd_secret': 447, 'ioctl': 16, 'vmsplice': 278,
    'process_madvise': 440, 'landlock_create_ruleset': 444, 'mlock': 149, 'mlockall': 151, 'socket': 41,
}  # of x86-64
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long

def call(name, *args):
    'A system call, bare. Integers go as 64 bits.'
    number = NUMBERS[name] if isinstance(name, str) else name
    ctypes.set_errno(0)
    args = [ctypes.c_long(one) if isinstance(one, int) else one for one in args]
    result = libc.syscall(ctypes.c_long(number), *args)
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result

def in_child(attack):
    'In a process of its own: what it does to itself, or dies of, is not the worker\\'s.'
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 0
        try:
            attack()
        except OSError as error:
            code = error.errno or errno.EIO
        except Holds:
            code = 255
        except BaseException:
            code = 254
        os.write(writer, bytes([code]))
        os._exit(0)
    os.close(writer)
    code = os.read(reader, 1)
    os.close(reader)
    ended = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(ended):
        raise Killed(signal.Signals(os.WTERMSIG(ended)).name)
    if code[0] == 255:
        raise Holds
    if code[0] == 254:
        raise RuntimeError('the attack has a flaw')
    if code[0]:
        raise OSError(code[0], os.strerror(code[0]))

def status(name, pid='self'):
    'A line of /proc/PID/status.'
    with open(f'/proc/{pid}/status') as file:
        return dict(line.rstrip().split(':\\t', 1) for line in file if ':\\t' in line)[name]

def holds(wall):
    if wall:
        raise Holds

def cgroup(*names):
    'A counter of our own cgroup, version 1 or 2.'
    for name in names:
        try:
            with open(f'/sys/fs/cgroup/{name}') as file:
                return file.read()
        except FileNotFoundError:
            pass
    raise LookupError(names)

def nodes(folder):
    'What lies in a directory and may be read.'
    try:
        return [entry.path for entry in os.scandir(folder)]
    except OSError:
        return []
"""


@dataclass(frozen=True)
class Probe:
    """One attack.

    Attributes:
        number: of SECURITY.md's list.
        name: what is promised.
        code: the attack.
        denied: the words, one of which must be its end.
        without: the walls whose absence lets it through.
        reached: errors that show, in the control, that no wall stopped the call: it came as far as the kernel's own
            check of its arguments. ``done`` always does.
        cpus: of the box it runs in.
        needs: what a host must have for the control to be possible, such as version 1 of cgroups.
        outside: looks from the host at the box's container (as inspected) for damage; the attack has worked if it
            finds some.
    """

    number: int
    name: str
    code: str
    denied: str
    without: str
    reached: str = ""
    cpus: float = 1.0
    needs: str = "/"
    outside: Callable[[dict[str, Any]], bool] | None = None

    def __str__(self) -> str:
        return f"{self.number}-{self.name.replace(' ', '_')}"

    @property
    def walls(self) -> tuple[str, ...]:
        """The names in :attr:`without`."""
        return tuple(name.strip() for name in self.without.split("+"))


ALL_RIGHTS = "user + capabilities + seccomp"
"""As root with every capability and every system call: what `docker run --privileged` has, but for devices."""


def log_grew(container: dict[str, Any]) -> bool:
    """What PID 1 wrote is on the host's disk."""
    return bool(container["LogPath"])


NAMES = {item.partition("=")[0] for item in hardening.environment(Limits(), hardening.Box(), "")} | {"HOSTNAME"}
"""The variables of a box; the last one is the engine's."""

PROBES = [
    # -- files --------------------------------------------------------------------------------------------------------
    Probe(1, "the root is read-only", "open('/var/tmp/x', 'w')", "EROFS", "read-only root"),
    Probe(1, "so it is for root", "open('/etc/x', 'w')", "EROFS EACCES", "read-only root + user"),
    # -- who the code is ----------------------------------------------------------------------------------------------
    Probe(2, "no capability is in reach", "holds(int(status('CapBnd'), 16) == 0)", "holds", "capabilities"),
    Probe(
        2,
        "no capability is had",
        "holds(all(int(status(f'Cap{kind}'), 16) == 0 for kind in ('Inh', 'Prm', 'Eff', 'Bnd', 'Amb')))",
        "holds",
        "user + capabilities",
    ),
    Probe(2, "a file is nobody else's", "open('x', 'w').close(); os.chown('x', 1, 1)", "EPERM", "user + capabilities"),
    Probe(2, "no program gives new rights", "holds(status('NoNewPrivs') == '1')", "holds", "no-new-privileges"),
    Probe(2, "system calls are filtered", "holds(status('Seccomp') == '2')", "holds", "seccomp"),
    Probe(3, "nobody is root", "holds(os.getuid() != 0 != os.geteuid())", "holds", "user"),
    Probe(3, "nobody becomes root", "call('setuid', 0)", "EPERM", "user + seccomp"),
    Probe(3, "files of root are closed", "open('/etc/shadow').read()", "EACCES", "user"),
    Probe(3, "nor open to a group of its own", "open('/etc/shadow').read()", "EACCES", "no more groups"),
    Probe(
        3,
        "a setuid program gains nothing",
        """
program = subprocess.Popen(['/usr/bin/mount'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
os.waitid(os.P_PID, program.pid, os.WEXITED | os.WNOWAIT)
holds(status('Uid', program.pid).split()[1] != '0')
""",
        "holds",
        "no-new-privileges",
    ),
    # -- namespaces and mounts ----------------------------------------------------------------------------------------
    Probe(4, "no user namespace", "in_child(lambda: call('unshare', 0x10000000))", "EPERM", "seccomp"),
    Probe(
        4,
        "no mount as root of one's own namespace",
        """
def attack():
    call('unshare', 0x10020000)
    call('mount', b'none', b'/workspace', b'tmpfs', 0, None)
in_child(attack)
""",
        "EPERM",
        "seccomp",
    ),
    Probe(
        5,
        "no namespace by clone",
        """
def attack():
    if call('clone', 0x10000000 | 17, 0, 0, 0, 0) == 0:
        os._exit(0)
    os.wait()
in_child(attack)
""",
        "EPERM",
        "seccomp: clone's flags",
    ),
    Probe(
        5,
        "no namespace by clone3",
        """
def attack():
    arguments = ctypes.create_string_buffer(struct.pack('=11Q', 0x10000000, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0))
    if call('clone3', arguments, 88) == 0:
        os._exit(0)
    os.wait()
in_child(attack)
""",
        "ENOSYS",
        "seccomp: clone3",
    ),
    Probe(6, "no mount", "call('mount', b'x', b'/workspace', b'tmpfs', 0, None)", "EPERM", ALL_RIGHTS),
    Probe(6, "no fsopen", "call('fsopen', b'tmpfs', 0)", "EPERM ENOSYS", ALL_RIGHTS),
    Probe(6, "no open_tree", "call('open_tree', -100, b'/workspace', 1)", "EPERM ENOSYS", ALL_RIGHTS),
    Probe(
        6,
        "no move_mount",
        "call('move_mount', -100, b'/tmp', -100, b'/workspace', 0)",
        "EPERM ENOSYS",
        ALL_RIGHTS,
        reached="EINVAL",
    ),
    Probe(7, "no setns", "call('setns', os.open('/proc/self/ns/net', os.O_RDONLY), 0)", "EPERM", ALL_RIGHTS),
    Probe(7, "no pivot_root", "call('pivot_root', b'/', b'/')", "EPERM", ALL_RIGHTS, reached="EBUSY EINVAL"),
    Probe(7, "no chroot", "in_child(lambda: call('chroot', b'/workspace'))", "EPERM", ALL_RIGHTS),
    # -- other processes ----------------------------------------------------------------------------------------------
    Probe(8, "no ptrace", "in_child(lambda: call('ptrace', 0, 0, 0, 0))", "EPERM ENOSYS", "seccomp"),
    Probe(
        8,
        "no ptrace under the engine's own profile either",
        "in_child(lambda: call('ptrace', 0, 0, 0, 0))",
        "EPERM ENOSYS",
        "seccomp: a profile of our own",
    ),
    Probe(
        8,
        "no process_vm_readv",
        """
there, here = ctypes.create_string_buffer(8), ctypes.create_string_buffer(8)
one, other = ((ctypes.c_void_p * 2)(ctypes.addressof(buffer), 8) for buffer in (here, there))
call('process_vm_readv', os.getpid(), one, 1, other, 1, 0)
""",
        "EPERM ENOSYS",
        "seccomp",
    ),
    Probe(8, "no kcmp", "call('kcmp', os.getpid(), os.getpid(), 0, 1, 1)", "EPERM ENOSYS", "seccomp"),
    Probe(
        8, "no pidfd_getfd", "call('pidfd_getfd', call('pidfd_open', os.getpid(), 0), 1, 0)", "EPERM ENOSYS", "seccomp"
    ),
    Probe(9, "PID 1's memory is closed", "open('/proc/1/mem', 'r+b')", "EACCES", "user + capabilities"),
    Probe(9, "PID 1's descriptors are closed", "os.listdir('/proc/1/fd')", "EACCES", "user + capabilities"),
    Probe(9, "PID 1's environment is closed", "open('/proc/1/environ').read()", "EACCES", "user + capabilities"),
    # -- the kernel's larger doors ------------------------------------------------------------------------------------
    Probe(10, "no bpf", "call('bpf', 0, struct.pack('=IIIIII', 2, 4, 8, 1, 0, 0), 24)", "EPERM ENOSYS", ALL_RIGHTS),
    Probe(
        10,
        "no perf_event_open",
        """
event = ctypes.create_string_buffer(struct.pack('=IIQQQQQ', 1, 112, 0, 0, 0, 0, 1 << 5 | 1 << 6) + bytes(64), 112)
call('perf_event_open', event, 0, -1, -1, 0)
""",
        "EPERM ENOSYS",
        "seccomp",
    ),
    Probe(10, "no userfaultfd", "call('userfaultfd', 1)", "EPERM ENOSYS", "seccomp"),
    Probe(11, "no io_uring", "call('io_uring_setup', 4, ctypes.create_string_buffer(120))", "EPERM ENOSYS", "seccomp"),
    Probe(12, "no add_key", "call('add_key', b'user', b'x', b'y', 1, -2)", "EPERM ENOSYS", "seccomp"),
    Probe(12, "no keyctl", "call('keyctl', 0, -2, 1)", "EPERM ENOSYS", "seccomp"),
    Probe(
        12, "no request_key", "call('request_key', b'user', b'x', None, 0)", "EPERM ENOSYS", "seccomp", reached="ENOKEY"
    ),
    Probe(
        13,
        "no name_to_handle_at",
        """
handle, mount = ctypes.create_string_buffer(struct.pack('=Ii', 128, 0), 136), ctypes.c_int()
call('name_to_handle_at', -100, b'/workspace', handle, ctypes.byref(mount), 0)
""",
        "EPERM ENOSYS",
        "seccomp",
    ),
    Probe(
        13,
        "no open_by_handle_at",
        "call('open_by_handle_at', -100, struct.pack('=Ii', 0, 0), 0)",
        "EPERM ENOSYS",
        ALL_RIGHTS,
        reached="EINVAL ESTALE",
    ),
    Probe(
        14, "no reboot", "call('reboot', 0xfee1dead, 672274793, 0x89abcdef, 0)", "EPERM", ALL_RIGHTS, reached="EINVAL"
    ),
    Probe(
        14,
        "no swapon",
        "open('swap', 'wb').write(bytes(8192)); call('swapon', b'swap', 0)",
        "EPERM ENOSYS",
        ALL_RIGHTS,
        reached="EINVAL",
    ),
    Probe(14, "no acct", "call('acct', b'/workspace/nothing')", "EPERM ENOSYS", ALL_RIGHTS, reached="ENOENT"),
    Probe(14, "no sethostname", "call('sethostname', b'x', 1)", "EPERM ENOSYS", ALL_RIGHTS),
    Probe(14, "no modules", "call('init_module', b'', 0, b'')", "EPERM ENOSYS", ALL_RIGHTS),
    Probe(14, "no kexec", "call('kexec_load', 0, 0, None, 0)", "EPERM ENOSYS", ALL_RIGHTS),
    Probe(14, "no iopl", "call('iopl', 3)", "EPERM ENOSYS", ALL_RIGHTS),
    Probe(
        15,
        "no log of the kernel",
        "call('syslog', 3, ctypes.create_string_buffer(4096), 4096)",
        "EPERM ENOSYS",
        ALL_RIGHTS,
    ),
    Probe(15, "no /dev/kmsg", "os.open('/dev/kmsg', os.O_RDONLY)", "ENOENT EPERM", "no devices + user + capabilities"),
    *(
        Probe(16, f"no socket of {name}", f"socket.socket({family}, {kind}, {protocol})", "EPERM", walls)
        for name, family, kind, protocol, walls in (
            ("AF_VSOCK", 40, "socket.SOCK_STREAM", 0, "seccomp: socket families"),
            ("AF_NETLINK but for routes", 16, "socket.SOCK_RAW", 15, "seccomp: socket families"),
            ("AF_PACKET", 17, "socket.SOCK_RAW", 0, "user + capabilities + seccomp: socket families"),
            ("AF_XDP", 44, "socket.SOCK_RAW", 0, "user + capabilities + seccomp: socket families"),
            ("AF_ALG", 38, "socket.SOCK_SEQPACKET", 0, "seccomp: socket families"),
            ("AF_CAN", 29, "socket.SOCK_RAW", 1, "user + capabilities + seccomp: socket families"),
            ("AF_BLUETOOTH", 31, "socket.SOCK_RAW", 0, "user + capabilities + seccomp: socket families"),
            ("AF_KEY", 15, "socket.SOCK_RAW", 2, "user + capabilities + seccomp: socket families"),
            ("raw IP", 2, "socket.SOCK_RAW", 1, "user + capabilities"),
        )
    ),
    *(
        Probe(
            17,
            f"no typing into a terminal{bits}",
            f"""
def attack():
    try:
        terminal = os.openpty()[1]
    except OSError:
        terminal = os.pipe()[0]  # a box has no terminal; the filter must not look that far
    else:
        os.setsid()
        call('ioctl', terminal, 0x540e, 0)
    call('ioctl', terminal, {request}, b'x')
in_child(attack)
""",
            "EPERM",
            "seccomp: ioctl requests + no terminals",
        )
        for bits, request in (("", 0x5412), (" with bit 32 set", 0x1_0000_5412))
    ),
    Probe(
        17,
        "no request of a device's own",
        "call('ioctl', os.pipe()[0], 0x5412, b'x')",
        "EPERM",
        "seccomp: ioctl requests",
        reached="ENOTTY",
    ),
    Probe(
        18,
        "no 32-bit entry",
        """
import mmap
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(bytes.fromhex('53 b8 14 00 00 00 cd 80 5b c3'))  # push rbx; mov eax, getpid; int 0x80; pop rbx; ret
code = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
def attack():
    if code() != os.getpid():
        raise OSError(errno.ENOSYS, 'not the pid')
in_child(attack)
""",
        "SIGSYS",
        "seccomp: one architecture",
    ),
    Probe(
        18,
        "no x32 entry",
        "in_child(lambda: call(0x40000000 | 39))",
        "SIGSYS EPERM ENOSYS",
        "seccomp: one architecture",
    ),
    Probe(19, "no personality", "in_child(lambda: call('personality', 0x0040000))", "EPERM ENOSYS", "seccomp"),
    Probe(19, "no modify_ldt", "call('modify_ldt', 0, ctypes.create_string_buffer(64), 64)", "EPERM ENOSYS", "seccomp"),
    # -- devices, /proc, /sys -----------------------------------------------------------------------------------------
    Probe(
        20,
        "no device is made",
        "os.mknod('disk', 0o600 | stat.S_IFBLK, os.makedev(254, 0))",
        "EPERM",
        "user + capabilities",
    ),
    Probe(
        20,
        "no disk is there",
        """
for path in nodes('/dev'):
    if stat.S_ISBLK(os.lstat(path).st_mode):
        os.open(path, os.O_RDONLY)
        break
else:
    raise Holds
""",
        "holds",
        "no devices + user",
        reached="ENXIO",
    ),
    Probe(
        20,
        "only harmless devices are there",
        """
harmless = 'null zero full random urandom tty ptmx pts shm mqueue fd stdin stdout stderr core console'
holds({os.path.basename(path) for path in nodes('/dev')} <= set(harmless.split()))
""",
        "holds",
        "no devices",
    ),
    *(
        Probe(
            20,
            f"{folder} has no {what} files",
            f"holds(os.statvfs('{folder}').f_flag & os.ST_NO{what.upper()})",
            "holds",
            f"{folder} no{what}",
        )
        for folder in ("/workspace", "/tmp")
        for what in ("suid", "dev")
    ),
    Probe(
        21,
        "switches of the kernel are read-only",
        f"""
holds(all(os.statvfs(path).f_flag & os.ST_RDONLY for path in {hardening.READONLY_PATHS} if os.path.exists(path)))
""",
        "holds",
        "read-only paths",
    ),
    Probe(
        21,
        "no sysctl is set",
        "os.open('/proc/sys/vm/overcommit_memory', os.O_WRONLY)",
        "EACCES EROFS",
        "read-only paths + user",
    ),
    Probe(
        21,
        "its cgroup is read-only",
        """
folder = '/sys/fs/cgroup/memory' if os.path.exists('/sys/fs/cgroup/memory') else '/sys/fs/cgroup'
holds(os.statvfs(folder).f_flag & os.ST_RDONLY)
""",
        "holds",
        "privileged",
    ),
    Probe(
        22,
        "what tells of the host is masked",
        f"""
seen = []
for path in {hardening.MASKED_PATHS}:
    try:
        seen += os.listdir(path) if os.path.isdir(path) else [open(path, 'rb').read(1)]
    except OSError:
        pass  # this kernel has no such file, or it is root's alone
holds(not any(seen))
""",
        "holds",
        "masked paths",
    ),
    Probe(
        23,
        "nothing of the host is mounted",
        """
kinds = 'proc sysfs tmpfs cgroup cgroup2 mqueue devpts overlay devtmpfs fuse.fuse-overlayfs'.split()
lines = [line.split() for line in open('/proc/self/mountinfo')]
found = {line[4]: line for line in lines if line[line.index('-') + 1] not in kinds}
ours = {'/etc/hosts', '/etc/hostname', '/etc/resolv.conf', '/sbin/docker-init', '/dev/init'}
holds(found.keys() <= ours and all('ro' in line[5].split(',') for line in found.values())
      and not any('docker.sock' in ' '.join(line) for line in lines))
""",
        "holds",
        "no host directories",
    ),
    Probe(
        23,
        "nor its names' files writable",
        "holds(os.statvfs('/etc/hosts').f_flag & os.ST_RDONLY)",
        "holds",
        "read-only root",
    ),
    Probe(
        24,
        "its environment is what is said and no more",
        f"holds(set(os.environ) <= {NAMES})",
        "holds",
        "no host environment",
    ),
    Probe(
        24,
        "the environment has nothing of the host's",
        "holds('AGENTBOX_CANARY_SECRET' not in os.environ)",
        "holds",
        "no host environment",
    ),
    # -- amounts ------------------------------------------------------------------------------------------------------
    Probe(
        25,
        "processes are bounded",
        """
import threading
done = threading.Event()
def attack():
    children = []
    try:
        for _ in range(60):
            child = os.fork()
            if child == 0:
                time.sleep(60)
                os._exit(0)
            children.append(child)
    finally:
        for child in children:
            os.kill(child, 9)
            os.waitpid(child, 0)
attack()
""",
        "EAGAIN",
        "pids",
    ),
    Probe(26, "memory is bounded", "x = bytearray(200 * 2**20); x[::4096] = x[1::4096]", "oom", "memory"),
    Probe(
        26,
        "there is no swap",
        "holds(int(cgroup('memory/memory.memsw.limit_in_bytes')) == int(cgroup('memory/memory.limit_in_bytes')))",
        "holds",
        "swap",
    ),
    Probe(
        26,
        "a box out of memory does not hang",
        "holds('oom_kill_disable 1' not in cgroup('memory/memory.oom_control', 'memory.events'))",
        "holds",
        "the kernel kills",
        needs="/sys/fs/cgroup/memory",
    ),
    Probe(
        26,
        "the box goes before the host",
        "holds(int(open('/proc/1/oom_score_adj').read()) >= 500)",
        "holds",
        "first to be killed",
    ),
    *(
        probe
        for folder, wall in (("/workspace", "/workspace"), ("/tmp", "/tmp"))
        for probe in (
            Probe(
                27,
                f"files in {folder} are bounded",
                f"""
try:
    with open('{folder}/full', 'wb', buffering=0) as file:
        for _ in range(40):
            if file.write(bytes(2**20)) < 2**20:
                raise OSError(errno.ENOSPC, 'full')
finally:
    os.unlink('{folder}/full')
""",
                "ENOSPC",
                f"{wall} size",
            ),
            Probe(
                28,
                f"their number in {folder} is bounded",
                f"""
try:
    for number in range(9000):
        os.mknod(f'{folder}/many{{number}}', 0o600)
finally:
    for path in nodes('{folder}'):
        if 'many' in path:
            os.unlink(path)
""",
                "ENOSPC",
                f"{wall} inodes",
            ),
        )
    ),
    Probe(
        29,
        "shared memory is bounded",
        """
try:
    with open('/dev/shm/full', 'wb', buffering=0) as file:
        for _ in range(40):
            if file.write(bytes(2**20)) < 2**20:
                raise OSError(errno.ENOSPC, 'full')
finally:
    os.unlink('/dev/shm/full')
""",
        "ENOSPC",
        "shared memory",
    ),
    Probe(
        30,
        "open files are bounded",
        """
files, hard = [], resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
try:
    for _ in range(4096):
        files.append(os.dup(0))
finally:
    for file in files:
        os.close(file)
""",
        "EMFILE",
        "open files",
    ),
    Probe(30, "there are no terminals", "os.openpty()", "ENOENT", "no terminals"),
    Probe(31, "no inotify", "call('inotify_init1', 0)", "EPERM ENOSYS", "seccomp"),
    Probe(31, "no fanotify", "call('fanotify_init', 0x200, 0)", "EPERM ENOSYS", "seccomp"),
    Probe(
        31,
        "no message queue of POSIX",
        "call('mq_open', b'x', 0o102, 0o600, None)",
        "EPERM ENOSYS",
        "seccomp + message queues",
    ),
    Probe(
        31,
        "no room for one",
        "holds(resource.getrlimit(resource.RLIMIT_MSGQUEUE) == (0, 0))",
        "holds",
        "message queues",
    ),
    Probe(31, "nor one by its file system", "open('/dev/mqueue/x', 'w')", "EMFILE ENOENT EACCES", "message queues"),
    Probe(31, "no message queue of System V", "call('msgget', 0, 0o1600)", "EPERM ENOSYS", "seccomp"),
    Probe(31, "no shared memory of System V", "call('shmget', 0, 4096, 0o1600)", "EPERM ENOSYS", "seccomp"),
    Probe(31, "no semaphores of System V", "call('semget', 0, 1, 0o1600)", "EPERM ENOSYS", "seccomp"),
    Probe(31, "no asynchronous I/O", "call('io_setup', 1, ctypes.byref(ctypes.c_long()))", "EPERM ENOSYS", "seccomp"),
    Probe(31, "no hidden memory", "call('memfd_secret', 0)", "EPERM ENOSYS", "seccomp"),
    Probe(
        31,
        "locked memory is bounded",
        """
import mmap
page = mmap.mmap(-1, 2**20)
call('mlock', ctypes.byref(ctypes.c_char.from_buffer(page)), 2**20)
""",
        "ENOMEM EPERM",
        "locked memory",
    ),
    Probe(30, "no file claims more than a box holds", "open('sparse', 'wb').truncate(2**40)", "EFBIG", "file sizes"),
    Probe(
        31,
        "queued signals are bounded",
        """
def attack():
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGRTMIN])
    for _ in range(5000):
        if libc.sigqueue(os.getpid(), signal.SIGRTMIN, None):
            raise OSError(ctypes.get_errno(), 'no more')
in_child(attack)
""",
        "EAGAIN",
        "queued signals",
    ),
    Probe(
        31,
        "no core file",
        """
child = os.fork()
if child == 0:
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (2**24, 2**24))
    except (OSError, ValueError):
        pass
    os.abort()
holds(not os.WCOREDUMP(os.waitpid(child, 0)[1]))
""",
        "holds",
        "core files",
    ),
    Probe(
        32,
        "no program runs from /tmp",
        "import shutil; subprocess.run([shutil.copy('/bin/true', '/tmp/program')], check=True)",
        "EACCES",
        "/tmp noexec",
    ),
    Probe(
        32,
        "nor by the loader",
        """
import shutil
program = shutil.copy('/bin/true', '/tmp/program')
loader = os.path.realpath('/lib64/ld-linux-x86-64.so.2')
holds(subprocess.run([loader, program], stderr=subprocess.DEVNULL).returncode)
""",
        "holds",
        "/tmp noexec",
    ),
    Probe(
        32,
        "nor from memory",
        """
memory = call('memfd_create', b'x', 0)
os.write(memory, open('/bin/true', 'rb').read())
subprocess.run([f'/proc/self/fd/{memory}'], check=True, pass_fds=[memory])
""",
        "EPERM ENOSYS",
        "seccomp",
    ),
    Probe(
        33,
        "CPU time is bounded",
        """
def throttled():
    lines = cgroup('cpu/cpu.stat', 'cpu,cpuacct/cpu.stat', 'cpu.stat').splitlines()
    return int(dict(line.split() for line in lines)['nr_throttled'])
before, enough = throttled(), time.process_time() + 0.4
while throttled() == before and time.process_time() < enough:
    pass
holds(throttled() > before)
""",
        "holds",
        "cpus",
        cpus=0.2,
    ),
    Probe(
        33,
        "and its share",
        "holds(cgroup('cpu/cpu.shares', 'cpu,cpuacct/cpu.shares').strip() == '204')",
        "holds",
        "cpu shares",
        cpus=0.2,
    ),
    # -- what is outside ----------------------------------------------------------------------------------------------
    Probe(34, "no log fills the host's disk", "print('x' * 2**16)", "done", "no log", outside=log_grew),
    Probe(
        38,
        "no address is in reach",
        """
for family, address in (
    (socket.AF_INET, '169.254.169.254'), (socket.AF_INET, '1.1.1.1'), (socket.AF_INET, '172.17.0.1'),
    (socket.AF_INET6, '2606:4700:4700::1111'),
):
    with socket.socket(family, socket.SOCK_DGRAM) as udp:
        try:
            udp.connect((address, 53))  # asks for a route; nothing is sent
        except OSError as error:
            last = error
        else:
            break
else:
    raise last
""",
        "ENETUNREACH EADDRNOTAVAIL",
        "no network",
    ),
    Probe(
        38,
        "only loopback is there",
        "holds([name for _, name in socket.if_nameindex()] == ['lo'])",
        "holds",
        "no network",
    ),
    Probe(40, "no process of the host is seen", "os.stat('/proc/HOST_PID')", "ENOENT", "pid namespace"),
    Probe(
        40,
        "no shared memory of the host",
        "open('/dev/shm/HOST_SHM').read()",
        "ENOENT",
        "ipc namespace",
        reached="EACCES",
    ),
    Probe(
        40,
        "no socket of the host",
        "socket.socket(socket.AF_UNIX).connect('\\0HOST_SOCKET')",
        "ECONNREFUSED",
        "network namespace",
    ),
    Probe(
        40,
        "no port of the host",
        "socket.create_connection(('127.0.0.1', HOST_PORT), 5)",
        "ECONNREFUSED",
        "network namespace",
    ),
    Probe(
        40,
        "no port of the host by its bridge",
        "socket.create_connection(('HOST_BRIDGE', HOST_PORT), 5)",
        "ENETUNREACH",
        "no network",
    ),
    Probe(40, "not the host's name", "holds(os.uname().nodename != 'HOST_NAME')", "holds", "uts namespace"),
    Probe(
        40,
        "no path of the host's cgroups",
        "holds(all(line.rstrip().endswith(':/') for line in open('/proc/self/cgroup')))",
        "holds",
        "cgroup namespace",
    ),
]

ELSEWHERE = {
    34: "test_stress.py: a gigabyte of output",
    35: "test_text.py, test_stress.py, conformance/test_streams.py: hostile text",
    36: "fuzz/test_wire.py, fuzz/test_reader.py: forged frames",
    37: "test_values_hostile.py, conformance/test_exchange.py: pickles",
    41: "test_receiver.py: forged downloads",
    42: "test_magic.py, test_reaper.py: killed kernels and what is not ours",
    43: "conformance/test_endings.py: what a cell leaves behind",
    44: "test_display.py: what a page shows",
    45: "test_images.py: what an image brings along",
}
"""Numbers whose attacks are tested by these."""

NOT_YET = {
    39: "there is no network to filter: `none` is the only one",
}
"""Numbers for which this version has no door."""
