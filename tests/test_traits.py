"""What an engine says of itself, and what follows from it for a box."""

from __future__ import annotations

import shutil
import socket
import subprocess
from typing import Any

import pytest

from agentbox_magic import SandboxError, hardening, resources, traits
from agentbox_magic.limits import Limits
from agentbox_magic.traits import Traits

VERSION = {"Version": "27.0.1", "Arch": "arm64", "Components": [{"Name": "Engine"}]}
HERE = "unix:///var/run/docker.sock"


def engine(url: str = HERE, **info: Any) -> Traits:
    """An engine of the documented kind: https://docs.docker.com/reference/api/engine/#tag/System/operation/SystemInfo."""
    usual = {
        "CgroupVersion": "2",
        "Runtimes": {"runc": {"path": "runc"}},
        "DefaultRuntime": "runc",
        "SecurityOptions": [],
    }
    return Traits.of(url, VERSION, {**usual, "Name": socket.gethostname(), **info})


def translated(which: Traits, **box: Any) -> dict[str, Any]:
    config = hardening.container_config(Limits(), hardening.Box(image="image", **box), 70_000)
    host: dict[str, Any] = which.translate(config)["HostConfig"]
    return host


def test_a_rootless_engine_with_its_options() -> None:
    options = ["name=seccomp,profile=builtin", "name=rootless", "name=cgroupns"]
    which = engine(SecurityOptions=options)
    assert (which.rootless, which.userns, which.apparmor, which.cgroup) == (True, False, "", 2)
    assert engine(SecurityOptions=["name=userns"]).userns


@pytest.mark.parametrize(
    ("url", "name", "local"),
    [(HERE, None, True), (HERE, "docker-desktop", False), ("ssh://there", None, False), ("tcp://there:1", None, False)],
)
def test_an_engine_is_local_if_its_processes_are_here(url: str, name: str | None, local: bool) -> None:
    assert engine(url, **({"Name": name} if name else {})).local == local


def test_swappiness_is_for_the_first_version_of_cgroups() -> None:
    assert "MemorySwappiness" not in translated(engine())
    assert translated(engine(CgroupVersion="1"))["MemorySwappiness"] == 0


def test_buffer_sizes_are_for_kernels_whose_networks_have_their_own() -> None:
    wanted = hardening.SYSCTLS
    assert translated(engine())["Sysctls"] == translated(engine(KernelVersion="5.10.0-9-amd64"))["Sysctls"] == wanted
    assert "Sysctls" not in translated(engine(KernelVersion="3.10.0-1160.el7.x86_64"))
    assert "Sysctls" not in translated(engine(Runtimes={"g": {"path": "runsc"}}), runtime="g")


def test_the_apparmor_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours where it is loaded, the engine's own where it is not, and none without AppArmor."""
    options = ["name=apparmor", "name=seccomp,profile=builtin"]
    assert not [one for one in translated(engine())["SecurityOpt"] if "apparmor" in one]
    monkeypatch.setattr(traits, "_profile_is_loaded", lambda: False)
    assert "apparmor=docker-default" in translated(engine(SecurityOptions=options))["SecurityOpt"]
    monkeypatch.setattr(traits, "_profile_is_loaded", lambda: True)
    assert "apparmor=agentbox" in translated(engine(SecurityOptions=options))["SecurityOpt"]
    assert "apparmor=docker-default" in translated(engine("ssh://there", SecurityOptions=options))["SecurityOpt"]
    # Rootless engines tell of the kernel's, and refuse a container with a profile; Podman has a default of its own.
    assert engine(SecurityOptions=[*options, "name=rootless"]).apparmor == ""
    podman = {**VERSION, "Components": [{"Name": "Podman Engine"}]}
    info = {"CgroupVersion": "2", "SecurityOptions": options, "Name": "there"}
    assert Traits.of(HERE, podman, info).apparmor == ""
    assert Traits.of(HERE, podman, {**info, "Name": socket.gethostname()}).apparmor == "agentbox"


@pytest.mark.skipif(shutil.which("apparmor_parser") is None, reason="there is no apparmor_parser")
def test_the_apparmor_profile_compiles() -> None:
    subprocess.run(["apparmor_parser", "--skip-kernel-load", "--skip-cache", resources.APPARMOR], check=True)


def test_runtimes() -> None:
    known = {
        "runc": {"path": "runc"},
        "g": {"path": "/usr/local/bin/runsc"},
        "kata": {"runtimeType": "io.containerd.kata.v2"},
    }
    which = engine(Runtimes=known)
    assert [which.kind(name) for name in ("", "runc", "g", "kata")] == ["runc", "runc", "gvisor", "vm"]
    assert which.kind("io.containerd.kata.v2") == "vm"
    assert translated(which, runtime="kata")["Runtime"] == "kata"
    with pytest.raises(SandboxError, match=r"^the engine has no runtime krun; it has g, kata, runc"):
        translated(which, runtime="krun")


def test_a_default_that_is_not_listed() -> None:
    assert engine(DefaultRuntime="/usr/sbin/runc").kind("") == "runc"
