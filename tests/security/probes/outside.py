"""What is outside: the host's disk, the network, the host's own processes, sockets and names."""

from __future__ import annotations

from typing import Any

from security.probes.probe import Probe


def log_grew(container: dict[str, Any]) -> bool:
    """What PID 1 wrote is on the host's disk."""
    return bool(container["LogPath"])


PROBES = [
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
        "holds([line.split(':')[0].strip() for line in open('/proc/net/dev') if ':' in line] == ['lo'])",
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
