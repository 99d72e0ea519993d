"""What others find at a box: ``make bench-security``.

- How many system calls are blocked: every number is tried, in a box, under the engine's own profile, and without any.
- stress-ng's stressors of the kernel's interfaces, in a box and without a filter.
- The part of docker-bench-security that looks at containers.

The last two are programs of others: where they are missing, a line says how to get them.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

from security.harness import start

from agentbox_magic import Sandbox

NUMBERS = range(512)

TRY = f"""
import ctypes, errno, os, signal, sys
libc = ctypes.CDLL(None, use_errno=True)
ends = []
for number in {NUMBERS}:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        signal.alarm(1)  # some calls wait
        os.dup2(writer, 1)
        result = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(-1)] * 6)
        code = ctypes.get_errno() if result == -1 else 0
        os.write(1, errno.errorcode.get(code, 'passed').encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    os.set_blocking(reader, False)  # children of a call that made some may hold the other end
    try:
        ends.append(os.read(reader, 20).decode() or 'passed')  # it ended the process, or waits
    except BlockingIOError:
        ends.append('passed')
    os.close(reader)
    try:
        os.killpg(child, 9)
    except OSError:
        pass
print(' '.join(ends))
"""
"""Each call with arguments that mean nothing, so that one which is let through does no harm."""


def ends(*missing: str) -> list[str]:
    """How each number ends in a box without these walls."""
    with start(missing) as box:
        return box.run_code(TRY, timeout=600).raise_for_status().stdout.split()


def system_calls() -> None:
    """Print how many answer EPERM or ENOSYS that the kernel has."""
    free = ends("seccomp")
    known = [number for number in NUMBERS if free[number] != "ENOSYS"]
    print(f"system calls that this kernel answers, of {len(NUMBERS)} numbers: {len(known)}")
    for name, found in (
        ("no filter", free),
        ("the engine's own profile", ends("seccomp: a profile of our own")),
        ("a box", ends()),
    ):
        blocked = [number for number in known if found[number] in ("EPERM", "ENOSYS")]
        print(f"  {name:26} blocks {len(blocked):3}")


STRESSORS = [
    "aio", "bad-altstack", "clone", "dccp", "fanotify", "inotify", "io-uring", "key", "landlock", "memfd", "mq", "msg",
    "netlink-proc", "pidfd", "procfs", "ptrace", "pty", "rawsock", "seccomp", "sem-sysv", "shm-sysv", "sysfs",
    "userfaultfd", "vm-splice",
]  # fmt: skip


def stress() -> None:
    """Run each stressor for a second, in a box and in one without a filter, which both live on."""
    program = shutil.which("stress-ng")
    if program is None:
        print("stress-ng is not on PATH: apt-get install stress-ng")
        return
    linked = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
    files = [program, *re.findall(r"=> (/\S+)", linked)]
    with start(mem="512m", pids=200) as box, start(("seccomp",), mem="512m", pids=200) as free:
        for one in (box, free):
            for path in files:
                one.files.write(f"lib/{Path(path).name}", Path(path).read_bytes())
            one.commands.run("chmod +x lib/*")
        print(f"{'stress-ng':16} {'a box':10} no filter")
        for stressor in STRESSORS:
            print(f"  {stressor:14} {_stressor(box, stressor):10} {_stressor(free, stressor)}")
        assert box.run_code("1 + 1").text == "2"


def _stressor(box: Sandbox, stressor: str) -> str:
    """How it went, in a word or two."""
    command = (
        f"TMPDIR=/workspace LD_LIBRARY_PATH=lib timeout 30 lib/stress-ng --{stressor} 1 -t 1 --metrics 2>&1 || true"
    )
    said = box.commands.run(command).stdout
    done = re.search(rf" {stressor} +(\d+) ", said)
    if "unsuccessful" in said or done is None or done[1] == "0":
        return "refused"
    return "in part" if "fail:" in said else "ran"


def docker_bench() -> None:
    """Run its checks of containers on a box."""
    folder = os.environ.get("DOCKER_BENCH_SECURITY")
    program = str(Path(folder, "docker-bench-security.sh")) if folder else shutil.which("docker-bench-security.sh")
    if program is None or not Path(program).exists():
        print("docker-bench-security is not there: git clone https://github.com/docker/docker-bench-security and set "
              "DOCKER_BENCH_SECURITY to its directory")  # fmt: skip
        return
    with Sandbox.create() as box:
        name = subprocess.run(
            ["docker", "inspect", "-f", "{{.Name}}", box.sandbox_id], check=True, capture_output=True, text=True
        ).stdout.strip("/\n")
        done = subprocess.run(
            ["bash", program, "-b", "-c", "container_runtime", "-i", name],
            cwd=Path(program).parent, capture_output=True, text=True, check=False,
        )  # fmt: skip
    counts = Counter(re.findall(r"^\[(\w+)\] +5\.", done.stdout, re.MULTILINE))
    print("docker-bench-security:", ", ".join(f"{word} {count}" for word, count in sorted(counts.items())))
    for line in done.stdout.splitlines():
        if line.startswith("[WARN]"):
            print("   ", line.replace(name, "a box"))


if __name__ == "__main__":
    system_calls()
    stress()
    docker_bench()
