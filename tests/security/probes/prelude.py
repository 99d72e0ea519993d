"""What the code of each attack begins with. It is text: it runs in a box."""

from __future__ import annotations

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
    'process_madvise': 440, 'landlock_create_ruleset': 444, 'mlock': 149, 'mlockall': 151, 'socket': 41, 'mmap': 9,
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
