"""Namespaces and mounts: no new ones, none of others'."""

from __future__ import annotations

from security.probes.probe import ALL_RIGHTS, Probe

PROBES = [
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
]
