"""The walls of a box, seen from the engine and from inside."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docker
import docker.errors
import pytest
from kernel import Kernel

from agentbox_magic import Sandbox, images, resources, uids
from agentbox_magic.engine import Engine

SIX = ["read", "write", "open", "close", "execve", "fork"]


def test_a_running_cell_has_exactly_the_limits_it_asked_for(
    kernel: Kernel, client: docker.DockerClient, boxes: Callable[[], set[str]]
) -> None:
    code = "print(open('/proc/self/status').read())\nprint('ready')\nwhile True: pass"
    message = kernel.start(f"%%sandbox --mem 300m --cpus 0.5 --pids 40 --timeout 3 --no-raise-error\n{code}")
    kernel.wait_for_stream(message, "ready")
    (container,) = boxes()
    seen: dict[str, Any] = client.api.inspect_container(container)
    cell = kernel.finish(message)

    host = seen["HostConfig"]
    assert host["Memory"] == host["MemorySwap"] == 300 * 2**20
    assert host["NanoCpus"] == 500_000_000
    assert host["PidsLimit"] == 40
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert not host["Privileged"]
    assert host["ReadonlyRootfs"]
    assert host["NetworkMode"] == "none"
    assert host["LogConfig"]["Type"] == "none"
    assert host["AutoRemove"]
    assert host["IpcMode"] == "private"
    assert "no-new-privileges:true" in host["SecurityOpt"]
    (profile,) = (option for option in host["SecurityOpt"] if option.startswith("seccomp="))
    assert json.loads(profile.removeprefix("seccomp=")) == json.loads(resources.seccomp_profile())
    assert not host["Binds"]
    assert not seen["Mounts"]
    uid, gid = seen["Config"]["User"].split(":")
    assert uid == gid
    assert int(uid) in uids.of(Engine.connect().traits)
    assert seen["Config"]["StdinOnce"]

    status = dict(line.split(":\t", 1) for line in cell.text("stdout").splitlines() if ":\t" in line)
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[name], 16) == 0, name
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    assert status["Uid"].split() == [uid] * 4
    assert boxes() == set()


def test_files_of_a_box_may_hold_at_most_half_of_its_memory() -> None:
    mem = 512 * 2**20
    with Sandbox.create(mem=mem) as box:
        run = box.run_code(
            "import os\n[os.statvfs(d).f_blocks * os.statvfs(d).f_frsize for d in ('/workspace', '/tmp', '/dev/shm')]"
        )
    assert run.text is not None
    sizes = json.loads(run.text)
    assert sizes == [mem // 4, mem // 8, mem // 8]
    assert sum(sizes) <= mem // 2


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("open('/usr/x', 'w')", "Read-only file system"),
        ("open('/proc/1/mem', 'r+b')", "Permission denied"),
        ("open('/proc/1/environ').read()", "Permission denied"),
        ("__import__('os').listdir('/proc/1/fd')", "Permission denied"),
        ("__import__('pty').openpty()", "out of pty devices"),
        ("__import__('socket').create_connection(('1.1.1.1', 53), 2)", "Network is unreachable"),
        ("__import__('socket').socket(40)", "Operation not permitted"),
        ("open('/workspace/giant', 'wb').truncate(2**40)", "File too large"),
    ],
)
def test_what_a_box_may_not_do(box: Sandbox, code: str, error: str) -> None:
    run = box.run_code(code)
    assert run.error is not None
    assert error in str(run.error)


def test_signals_from_inside_do_not_reach_pid_1(box: Sandbox) -> None:
    box.run_code("import os, signal\nfor n in range(1, 65):\n    try: os.kill(1, n)\n    except OSError: pass")
    assert box.run_code("1 + 1").text == "2"


@pytest.fixture
def start(client: docker.DockerClient) -> Callable[[str], int]:
    """Run Python in our image under a seccomp profile; its exit status."""

    def run(profile: str) -> int:
        container = client.containers.create(
            images.default_image(),
            ["python", "-c", "print(1)"],
            security_opt=["no-new-privileges:true", f"seccomp={profile}"],
            cap_drop=["ALL"],
            network_mode="none",
        )
        try:
            container.start()
            status: int = container.wait()["StatusCode"]
            return status
        finally:
            container.remove(force=True)

    return run


def test_six_syscalls_cannot_start_a_process(start: Callable[[str], int]) -> None:
    """seccomp/README.md says so; this is the proof, and that our profile can is its control."""
    six = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": SIX, "action": "SCMP_ACT_ALLOW"}]}
    with pytest.raises(docker.errors.APIError):
        start(json.dumps(six))
    assert start(resources.seccomp_profile()) == 0


def test_the_profile_names_no_syscall_twice_as_allowed_and_denied() -> None:
    """But by its arguments, which are other ones then."""
    profile = json.loads((Path(resources.IMAGE).parent / "seccomp" / "agentbox.json").read_text("utf-8"))
    allowed, denied = list[tuple[str, str]](), list[tuple[str, str]]()
    for rule in profile["syscalls"]:
        told = allowed if rule["action"] == "SCMP_ACT_ALLOW" else denied
        told += [(name, json.dumps(rule.get("args", []))) for name in rule["names"]]
    assert not set(allowed) & set(denied)
    whole = {name for name, arguments in [*allowed, *denied] if arguments == "[]"}
    names = [name for name, _ in [*allowed, *denied]]
    assert [name for name in sorted(whole) if names.count(name) > 1] == []
    assert {("clone3", "[]"), ("io_uring_setup", "[]")} <= set(denied)
    assert not {"ptrace", "unshare", "setns", "mount", "bpf", "keyctl", "userfaultfd"} & {name for name, _ in allowed}


@pytest.mark.parametrize(("folder", "runs"), [("/workspace", True), ("/tmp", False), ("/dev/shm", False)])
def test_where_programs_may_lie(box: Sandbox, folder: str, runs: bool) -> None:
    """Extension modules of packages are loaded from /workspace; the other writable places hold no programs."""
    program = f"{folder}/program"
    code = f"import shutil, subprocess\nshutil.copy('/bin/true', '{program}')\nsubprocess.run(['{program}'])"
    run = box.run_code(code)
    assert (run.status == "ok") == runs
    assert runs or "PermissionError" in str(run.error)
