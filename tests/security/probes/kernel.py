"""The kernel's larger doors: calls, families of sockets, requests and entries that no box needs."""

from __future__ import annotations

from security.probes.probe import ALL_RIGHTS, Probe

PROBES = [
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
        Probe(
            16,
            f"no socket of {name}",
            f"socket.socket({family}, {kind}, {protocol})",
            "EPERM ENOSYS",
            walls,
            reached="EACCES" if "ICMP" in name else "",  # whose group may is a setting of the kernel's
        )
        for name, family, kind, protocol, walls in (
            ("AF_VSOCK", 40, "socket.SOCK_STREAM", 0, "seccomp: kinds of sockets"),
            ("AF_NETLINK, for routes", 16, "socket.SOCK_RAW", 0, "seccomp: kinds of sockets"),
            ("AF_NETLINK, for devices", 16, "socket.SOCK_RAW", 15, "seccomp: kinds of sockets"),
            ("MPTCP", 2, "socket.SOCK_STREAM", 262, "seccomp: kinds of sockets"),
            ("MPTCP over IPv6", 10, "socket.SOCK_STREAM", 262, "seccomp: kinds of sockets"),
            ("UDP-Lite", 2, "socket.SOCK_DGRAM", 136, "seccomp: kinds of sockets"),
            ("ICMP", 2, "socket.SOCK_DGRAM", 1, "seccomp: kinds of sockets"),
            ("ICMP over IPv6", 10, "socket.SOCK_DGRAM", 58, "seccomp: kinds of sockets"),
            ("SCTP", 2, "socket.SOCK_STREAM", 132, "seccomp: kinds of sockets"),
            ("AF_SMC", 43, "socket.SOCK_STREAM", 0, "seccomp: kinds of sockets"),
            ("AF_PACKET", 17, "socket.SOCK_RAW", 0, "user + capabilities + seccomp: kinds of sockets"),
            ("AF_XDP", 44, "socket.SOCK_RAW", 0, "user + capabilities + seccomp: kinds of sockets"),
            ("AF_ALG", 38, "socket.SOCK_SEQPACKET", 0, "seccomp: kinds of sockets"),
            ("AF_CAN", 29, "socket.SOCK_RAW", 1, "user + capabilities + seccomp: kinds of sockets"),
            ("AF_BLUETOOTH", 31, "socket.SOCK_RAW", 0, "user + capabilities + seccomp: kinds of sockets"),
            ("AF_KEY", 15, "socket.SOCK_RAW", 2, "user + capabilities + seccomp: kinds of sockets"),
            ("raw IP", 2, "socket.SOCK_RAW", 1, "user + capabilities + seccomp: kinds of sockets"),
        )
    ),
    Probe(
        16,
        "no option of TCP and UDP that is another protocol",
        "socket.socket(2, socket.SOCK_DGRAM).setsockopt(17, 100, 2)  # UDP_ENCAP",
        "EPERM",
        "seccomp: socket options",
    ),
    Probe(
        16,
        "no filter for a socket",
        """
one = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
one.setsockopt(socket.SOL_SOCKET, 26, bytes(16))  # SO_ATTACH_FILTER
""",
        "EPERM",
        "seccomp: socket options",
        reached="EINVAL",
    ),
    Probe(
        16,
        "no urgent data",
        "one, other = socket.socketpair(); one.send(b'x', socket.MSG_OOB)",
        "EPERM",
        "seccomp: flags of messages",
    ),
    Probe(
        16,
        "nor to take some",
        """
one, other = socket.socketpair()
one.send(b'x')
other.recv(1, socket.MSG_OOB)
""",
        "EPERM",
        "seccomp: flags of messages",
        reached="EINVAL",
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
]
