"""Amounts: processes, memory, files, queues, programs, CPU time."""

from __future__ import annotations

from security.probes.probe import Probe

PROBES = [
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
    Probe(
        26,
        "no huge pages of the host's",
        # Anonymous, private, huge, of a size that no machine has: the kernel would say so.
        "call('mmap', 0, 2**21, 3, 0x40022 | 1 << 26, -1, 0)",
        "ENOMEM",
        "seccomp: huge pages",
        reached="EINVAL",
    ),
    Probe(
        26,
        "what TCP holds is bounded for each connection",
        "holds(all(int(open(f'/proc/sys/net/ipv4/tcp_{way}mem').read().split()[2]) <= 65536 for way in 'rw'))",
        "holds",
        "TCP buffers",
    ),
    *(
        Probe(
            26,
            f"no larger buffer for a socket to {name}",
            f"""
with socket.socket({family}, socket.SOCK_DGRAM) as one:
    before = one.getsockopt(socket.SOL_SOCKET, socket.{option})
    one.setsockopt(socket.SOL_SOCKET, socket.{option}, 2 * before)
    holds(one.getsockopt(socket.SOL_SOCKET, socket.{option}) == before)
""",
            "holds",
            "seccomp: socket options",
        )
        for name, family, option in (("receive", 2, "SO_RCVBUF"), ("send", 2, "SO_SNDBUF"))
    ),
    Probe(
        26,
        "no data that waits for more",
        "socket.socket(2, socket.SOCK_DGRAM).sendto(b'x', socket.MSG_MORE, ('127.0.0.1', 9))",
        "EPERM",
        "seccomp: flags of messages",
    ),
    Probe(
        26,
        "no data that stays the sender's",
        """
one, other = socket.socketpair()
one.send(b'x', 0x4000000)  # MSG_ZEROCOPY
""",
        "EPERM",
        "seccomp: flags of messages",
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
]
