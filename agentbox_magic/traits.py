"""What an engine is, and all the differences between engines and runtimes: the one place for them.

A container is described in Docker's own terms (:mod:`agentbox_magic.hardening`); :meth:`Traits.translate` says the same
to this engine, and :meth:`Traits.host_kernel` tells what can be looked up about it on the host.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from agentbox_magic import resources
from agentbox_magic.errors import SandboxError

APPARMOR = "agentbox"
"""The profile in ``apparmor/``, once an administrator has loaded it."""

TCP_BUFFERS = (4, 15)
"""The first Linux where each network has buffer sizes of its own."""
_GVISOR_PIDS = 256
"""gVisor's own threads, and a process of the host's for each address space: its pids limit is about these."""


@dataclass(frozen=True, kw_only=True)
class Traits:
    """One engine, as ``/version`` and ``/info`` tell.

    Attributes:
        podman: it is Podman, behind its Docker-compatible socket.
        version: its own.
        architecture: in Go's words: ``"amd64"``, ``"arm64"``.
        local: its containers' processes are in our ``/proc``.
        cgroup: 1 or 2.
        kernel: the version of its kernel.
        rootless: it runs without root, in a user namespace.
        userns: users in a container are others on the host.
        apparmor: the AppArmor profile to ask for: ours, ``"docker-default"``, or empty where the engine can set none
            or has one of its own.
        runtimes: name and kind: ``"runc"`` for what starts a process of the host's kernel, ``"gvisor"``, ``"vm"``.
        runtime: the name of the default.
    """

    podman: bool
    version: str
    architecture: str
    local: bool
    cgroup: int
    kernel: tuple[int, ...]
    rootless: bool
    userns: bool
    apparmor: str
    runtimes: Mapping[str, str]
    runtime: str

    @classmethod
    def of(cls, url: str, version: Mapping[str, Any], info: Mapping[str, Any]) -> Traits:
        """Read them from the engine's answers."""
        words = ",".join(map(str, info.get("SecurityOptions") or [])).split(",")
        options = {word.removeprefix("name=") for word in words if word.startswith("name=")}
        local = url.startswith("unix://") and info.get("Name") == socket.gethostname()
        podman = "Podman Engine" in {component.get("Name") for component in version.get("Components") or []}
        rootless = "rootless" in options or bool(info.get("Rootless"))
        apparmor = ""
        if "apparmor" in options and not rootless:  # only root may set a profile, whatever the kernel has
            apparmor = (
                "" if podman else "docker-default"
            )  # Podman's own has its version in its name, and is its default
            if local and _profile_is_loaded():
                apparmor = APPARMOR
        return cls(
            podman=podman,
            version=version["Version"],
            architecture=version["Arch"],
            local=local,
            cgroup=int(info.get("CgroupVersion") or 1),
            kernel=tuple(map(int, re.findall(r"\d+", info.get("KernelVersion") or "")[:2])) or TCP_BUFFERS,
            rootless=rootless,
            userns="userns" in options,
            apparmor=apparmor,
            runtimes={name: _kind(name, known) for name, known in (info.get("Runtimes") or {}).items()},
            runtime=info.get("DefaultRuntime") or "",
        )

    def kind(self, runtime: str) -> str:
        """What a runtime is: ``"runc"``, ``"gvisor"`` or ``"vm"``; empty stands for the default.

        Raises:
            SandboxError: the engine does not have it.
        """
        name = runtime or self.runtime
        if name in self.runtimes:
            return self.runtimes[name]
        # The default may be a path, and a shim on the engine's PATH needs no registration.
        if not runtime or name.startswith("io.containerd."):
            return _kind(name, {})
        known = ", ".join(sorted(self.runtimes))
        raise SandboxError(
            f"the engine has no runtime {name}; it has {known}. Register it with the engine, or leave the option out"
        )

    def translate(self, config: dict[str, Any]) -> dict[str, Any]:
        """The same container, in the words of this engine and of the runtime it names.

        Raises:
            SandboxError: the engine does not have that runtime.
        """
        host = dict(config["HostConfig"])
        kind = self.kind(host["Runtime"])
        if self.cgroup != 1:
            host.pop("MemorySwappiness", None)  # version 2 has no such thing; MemorySwap does it
        if self.kernel < TCP_BUFFERS or kind == "gvisor":  # whose network is its own, in memory that is counted
            host.pop("Sysctls", None)
        if self.apparmor:
            host["SecurityOpt"] = [*host["SecurityOpt"], f"apparmor={self.apparmor}"]
        if kind == "gvisor":
            host["PidsLimit"] += _GVISOR_PIDS
        if self.podman:
            host.update(_for_podman(host))
        return {**config, "HostConfig": host}

    def described(self, found: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
        """The HostConfig in the engine's description of a container, in the words in which it was asked for.

        What Podman does not tell is taken as it was asked: the kernel has to be the witness.
        """
        told = dict(found["HostConfig"])
        if self.podman:
            told.update(_from_podman(told, asked))
        if self.podman and asked["Runtime"] in (self.runtime, PurePosixPath(self.runtime).name):
            told["Runtime"] = asked["Runtime"]  # one for all its containers
        if not asked["Runtime"]:
            told["Runtime"] = ""
        return told


def _for_podman(host: dict[str, Any]) -> dict[str, Any]:
    # A profile is a file that Podman reads, and masked paths are an option.
    security = [option for option in host["SecurityOpt"] if not option.startswith("seccomp=")]
    security += [f"seccomp={resources.SECCOMP}", f"mask={':'.join(host['MaskedPaths'])}"]
    mounts = {}
    for path, options in host["Tmpfs"].items():
        words = [word for word in options.split(",") if word.split("=")[0] not in ("nr_inodes", "uid", "gid")]
        mounts[path] = ",".join([*words, "notmpcopyup", "U"])  # U: owned by the box's user
    for path in ("/run", "/var/tmp"):  # Podman's own, writable and without a size
        mounts[path] = "ro,nosuid,nodev,noexec,size=4096,mode=0555"
    # Podman's default for nproc may be more than it may set itself.
    nproc = {"Name": "nproc", "Soft": host["PidsLimit"], "Hard": host["PidsLimit"]}
    return {"SecurityOpt": security, "Tmpfs": mounts, "Ulimits": [*host["Ulimits"], nproc]}


def _from_podman(told: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    names = ("CapDrop", "CgroupnsMode", "MaskedPaths", "ReadonlyPaths", "Sysctls")
    silent = {name: asked[name] for name in names if name in asked}
    masks = [option for option in asked["SecurityOpt"] if option.startswith("mask=")]
    security = [
        "no-new-privileges:true" if option == "no-new-privileges" else option
        for option in told.get("SecurityOpt") or []
    ]
    mounts = dict(told.get("Tmpfs") or {})
    for path, options in asked["Tmpfs"].items():
        if {*options.split(",")} - {"U", "notmpcopyup"} <= {*mounts.get(path, "").split(",")}:  # it adds words
            mounts[path] = options
    return {
        **silent,
        "IpcMode": "private" if told.get("IpcMode") == "shareable" else told.get("IpcMode"),
        "LogConfig": {"Type": (told.get("LogConfig") or {}).get("Type"), "Config": {}},
        "SecurityOpt": [*security, *masks],
        "Tmpfs": mounts,
        "Ulimits": [{**one, "Name": one["Name"].removeprefix("RLIMIT_").lower()} for one in told.get("Ulimits") or []],
    }


def _kind(name: str, known: Mapping[str, Any]) -> str:
    """
    >>> _kind("runc", {"path": "runc"}), _kind("mine", {"path": "/opt/runsc"}), _kind("io.containerd.kata.v2", {})
    ('runc', 'gvisor', 'vm')
    """
    words = f"{name} {PurePosixPath(known.get('path') or '').name} {known.get('runtimeType') or ''}"
    if "runsc" in words or "gvisor" in words:
        return "gvisor"
    return "vm" if any(word in words for word in ("kata", "krun", "firecracker", "urunc")) else "runc"


def _profile_is_loaded() -> bool:
    """Whether our AppArmor profile is there. Only root may read the kernel's list; others see that it is installed."""
    try:
        loaded = Path("/sys/kernel/security/apparmor/profiles").read_text("utf-8", "replace")
    except OSError:
        return Path("/etc/apparmor.d", APPARMOR).is_file()
    return any(line.split(" ")[0] == APPARMOR for line in loaded.splitlines())
