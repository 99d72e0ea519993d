"""What two boxes may not do to each other, as a table. The code is as in probes/."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Pair:
    """What one box does, and what the other then wants.

    Attributes:
        name: what is promised.
        first: code of one box; it may fail.
        second: code of the other, which can use what the first one said as ``SAID``.
        apart: how that ends, as probes/ has it, when the two are apart.
        without: the walls whose absence, in both, makes it end otherwise.
        joined: how it ends then.
    """

    name: str
    first: str
    second: str
    apart: str
    without: tuple[str, ...]
    joined: str

    def __str__(self) -> str:
        return self.name.replace(" ", "_")


SERVER = """
server = socket.create_server(('0.0.0.0', 0))
print(server.getsockname()[1], end='')
"""

PAIRS = [
    Pair("processes are not seen", "print(os.getpid(), end='')\nopen('/proc/self/comm', 'w').write('neighbour')", """
def name(path):
    try:
        return open(f'{path}/comm').read().strip()
    except OSError:
        return ''
holds('neighbour' not in map(name, nodes('/proc')))
""", "holds", ("pid namespace",), "done"),
    Pair("signals do not arrive", """
signal.signal(signal.SIGUSR1, lambda *args: open('hit', 'w').close())
open('/proc/self/comm', 'w').write('neighbour')
""", """
def name(path):
    try:
        return open(f'{path}/comm').read().strip()
    except OSError:
        return ''
for path in nodes('/proc'):
    if name(path) == 'neighbour':
        try:
            os.kill(int(os.path.basename(path)), signal.SIGUSR1)
        except PermissionError:
            continue  # that of another test
        break
else:
    raise ProcessLookupError(errno.ESRCH, 'nobody')
""", "ESRCH", ("pid namespace", "user of its own"), "done"),
    Pair("ports are not reached", SERVER, "socket.create_connection(('127.0.0.1', int(SAID)), 5)", "ECONNREFUSED",
         ("network namespace",), "done"),
    Pair("abstract sockets are not reached", """
server = socket.socket(socket.AF_UNIX)
server.bind(f'\\0neighbour-{os.urandom(8).hex()}')
server.listen()
print(server.getsockname()[1:].decode(), end='')
""", "socket.socket(socket.AF_UNIX).connect('\\0' + SAID)", "ECONNREFUSED", ("network namespace",), "done"),
    Pair("shared memory is not shared", """
name = f'/dev/shm/neighbour-{os.urandom(8).hex()}'
open(name, 'w').close()
print(name, end='')
""", "os.unlink(SAID)", "ENOENT", ("ipc namespace", "user of its own"), "done"),
    Pair("pipes are not starved", """
import fcntl
pipes = []
for _ in range(400):
    pipes.append(os.pipe())
    try:
        fcntl.fcntl(pipes[-1][0], fcntl.F_SETPIPE_SZ, 2**20)
    except PermissionError:
        pass  # the user has no more; the rest goes in small pieces
""", "import fcntl; holds(fcntl.fcntl(os.pipe()[0], fcntl.F_GETPIPE_SZ) == 65536)", "holds", ("user of its own",),
         "done"),
    Pair("inotify is not starved", "while True: call('inotify_init1', 0)", "call('inotify_init1', 0)", "EPERM ENOSYS",
         ("seccomp", "user of its own"), "EMFILE"),
    Pair("keys are not starved", "for number in range(1000): call('add_key', b'user', b'%d' % number, b'x', 1, -2)",
         "call('add_key', b'user', b'x', b'y', 1, -2)", "EPERM ENOSYS", ("seccomp", "user of its own"), "EDQUOT"),
]  # fmt: skip
