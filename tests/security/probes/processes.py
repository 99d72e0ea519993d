"""Other processes: none is read, traced or robbed, PID 1 least of all."""

from __future__ import annotations

from security.probes.probe import Probe

PROBES = [
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
]
