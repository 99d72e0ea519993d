"""The walls of a box by name, each with a way to take it alone out of what `hardening.container_config` gives.

A probe (probes/) names the walls that stop it; its control runs in a box without them. So a wall that no probe names
alone would be one that nobody would miss, and test_probes.py fails.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from agentbox_magic import resources

Config = dict[str, Any]

CAPABILITIES = [
    "AUDIT_CONTROL", "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "IPC_LOCK",
    "IPC_OWNER", "KILL", "LEASE", "LINUX_IMMUTABLE", "MAC_ADMIN", "MAC_OVERRIDE", "MKNOD", "NET_ADMIN",
    "NET_BIND_SERVICE", "NET_BROADCAST", "NET_RAW", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYSLOG", "SYS_ADMIN",
    "SYS_BOOT", "SYS_CHROOT", "SYS_MODULE", "SYS_NICE", "SYS_PACCT", "SYS_PTRACE", "SYS_RAWIO", "SYS_TIME",
    "SYS_TTY_CONFIG", "WAKE_ALARM",
]  # fmt: skip
"""All that matter but SYS_RESOURCE, which an engine that runs in a virtual machine may lack itself."""

CANARY = "AGENTBOX_CANARY_SECRET"
"""A variable of the test's own process; no box may see it."""


def _host(**values: Any) -> Callable[[Config], None]:
    return lambda config: config["HostConfig"].update(values)


def _device(path: str) -> dict[str, str]:
    return {"PathOnHost": path, "PathInContainer": path, "CgroupPermissions": "rwm"}


def _ulimit(name: str) -> Callable[[Config], None]:
    """The daemon's own limit instead."""

    def remove(config: Config) -> None:
        host = config["HostConfig"]
        host["Ulimits"] = [limit for limit in host["Ulimits"] if limit["Name"] != name]

    return remove


def _mount_option(folder: str, option: str, instead: str) -> Callable[[Config], None]:
    """Replace an option of a tmpfs: ``noexec`` by ``exec``, or ``size=...`` by a size that is none."""

    def remove(config: Config) -> None:
        mounts = config["HostConfig"]["Tmpfs"]
        options = mounts[folder].split(",")
        assert any(one.partition("=")[0] == option for one in options), f"{folder} has no {option}"
        mounts[folder] = ",".join(instead if one.partition("=")[0] == option else one for one in options)

    return remove


def _no_pts(config: Config) -> None:
    del config["HostConfig"]["Tmpfs"]["/dev/pts"]


def _security(option: str, *instead: str) -> Callable[[Config], None]:
    def remove(config: Config) -> None:
        host = config["HostConfig"]
        kept = [one for one in host["SecurityOpt"] if one.replace(":", "=").partition("=")[0] != option]
        host["SecurityOpt"] = [*kept, *instead]

    return remove


def _profile(change: Callable[[dict[str, Any]], None]) -> Callable[[Config], None]:
    def remove(config: Config) -> None:
        profile = json.loads(resources.seccomp_profile())
        change(profile)
        _security("seccomp", f"seccomp={json.dumps(profile)}")(config)

    return remove


def _allow(*names: str) -> Callable[[dict[str, Any]], None]:
    """Let system calls through, whatever their arguments."""

    def change(profile: dict[str, Any]) -> None:
        for rule in profile["syscalls"]:
            rule["names"] = [name for name in rule["names"] if name not in names]
        profile["syscalls"] = [rule for rule in profile["syscalls"] if rule["names"]]
        profile["syscalls"].append({"names": list(names), "action": "SCMP_ACT_ALLOW"})

    return change


def _no_new_privileges(config: Config) -> None:
    # Without it the filter is loaded before the runtime gives up its own rights, which takes calls that no box has:
    # such a box would not start, and prove nothing.
    _profile(_allow("setgroups", "setuid", "setgid", "setresuid", "setresgid", "capset", "capget"))(config)
    _security("no-new-privileges")(config)


def _second_architecture(profile: dict[str, Any]) -> None:
    # On these, calls of sockets are arguments of another call, and nothing can be said of theirs.
    _allow(*{name for rule in profile["syscalls"] if "args" in rule for name in rule["names"]} - {"clone", "ioctl"})(
        profile
    )
    profile.pop("archMap", None)
    profile["architectures"] = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]


def _root(config: Config) -> None:
    config["User"] = "0:0"
    tmpfs = config["HostConfig"]["Tmpfs"]
    for folder in ("/workspace", "/tmp"):
        tmpfs[folder] = ",".join(
            f"{one.partition('=')[0]}=0" if one.startswith(("uid=", "gid=")) else one
            for one in tmpfs[folder].split(",")
        )


def _same_user(config: Config) -> None:
    _root(config)  # which makes the tmpfs of every box root's
    config["User"] = "10000:10000"
    tmpfs = config["HostConfig"]["Tmpfs"]
    for folder in ("/workspace", "/tmp"):
        tmpfs[folder] = tmpfs[folder].replace("uid=0", "uid=10000").replace("gid=0", "gid=10000")


def _host_name(config: Config) -> None:
    config.pop("Hostname", None)
    config["HostConfig"]["UTSMode"] = "host"


def _network(name: str) -> Callable[[Config], None]:
    def remove(config: Config) -> None:
        config["NetworkDisabled"] = False
        config["HostConfig"]["NetworkMode"] = name
        if name == "host":
            config["HostConfig"]["Sysctls"] = {}  # they would be the host's

    return remove


def _host_environment(config: Config) -> None:
    config["Env"].append(f"{CANARY}={os.environ.get(CANARY)}")


WALLS: dict[str, Callable[[Config], None]] = {
    "user": _root,
    "user of its own": _same_user,
    "capabilities": _host(CapDrop=[], CapAdd=CAPABILITIES),
    "privileged": _host(Privileged=True),
    "no-new-privileges": _no_new_privileges,
    "seccomp": _security("seccomp", "seccomp=unconfined"),
    "seccomp: a profile of our own": _security("seccomp"),
    "seccomp: clone's flags": _profile(_allow("clone")),
    "seccomp: clone3": _profile(_allow("clone3")),
    "seccomp: kinds of sockets": _profile(_allow("socket", "socketpair")),
    "seccomp: socket options": _profile(_allow("setsockopt")),
    "seccomp: flags of messages": _profile(_allow("sendto", "sendmsg", "sendmmsg", "recvfrom", "recvmsg", "recvmmsg")),
    "seccomp: huge pages": _profile(_allow("mmap")),
    "seccomp: ioctl requests": _profile(_allow("ioctl")),
    "seccomp: one architecture": _profile(_second_architecture),
    "read-only root": _host(ReadonlyRootfs=False),
    "read-only paths": _host(ReadonlyPaths=[]),
    "masked paths": _host(MaskedPaths=[]),
    "no devices": _host(Devices=[_device("/dev/kmsg"), _device("/dev/loop0")], DeviceCgroupRules=["a *:* rwm"]),
    "no more groups": _host(GroupAdd=["42"]),
    "no host directories": _host(
        Binds=["/etc:/mnt:ro"], Mounts=[{"Type": "bind", "Source": "/etc", "Target": "/media", "ReadOnly": True}]
    ),
    "no host environment": _host_environment,
    "/workspace size": _mount_option("/workspace", "size", "size=100g"),
    "/workspace inodes": _mount_option("/workspace", "nr_inodes", "nr_inodes=0"),
    "/workspace nosuid": _mount_option("/workspace", "nosuid", "suid"),
    "/workspace nodev": _mount_option("/workspace", "nodev", "dev"),
    "/tmp size": _mount_option("/tmp", "size", "size=100g"),
    "/tmp inodes": _mount_option("/tmp", "nr_inodes", "nr_inodes=0"),
    "/tmp nosuid": _mount_option("/tmp", "nosuid", "suid"),
    "/tmp nodev": _mount_option("/tmp", "nodev", "dev"),
    "/tmp noexec": _mount_option("/tmp", "noexec", "exec"),
    "no terminals": _no_pts,
    "TCP buffers": _host(Sysctls={}),
    "shared memory": _host(ShmSize=100 * 2**30),
    "memory": _host(Memory=0, MemorySwap=0),
    "swap": _host(MemorySwap=-1, MemorySwappiness=60),
    "the kernel kills": _host(OomKillDisable=True),
    "first to be killed": _host(OomScoreAdj=0),
    "pids": _host(PidsLimit=0),
    "cpus": _host(NanoCpus=0),
    "cpu shares": _host(CpuShares=0),
    "open files": _ulimit("nofile"),
    "core files": _ulimit("core"),
    "locked memory": _ulimit("memlock"),
    "message queues": _ulimit("msgqueue"),
    "file sizes": _ulimit("fsize"),
    "queued signals": _ulimit("sigpending"),
    "ipc namespace": _host(IpcMode="host"),
    "cgroup namespace": _host(CgroupnsMode="host"),
    "pid namespace": _host(PidMode="host"),
    "uts namespace": _host_name,
    "no network": _network("bridge"),
    "network namespace": _network("host"),
    "no log": _host(LogConfig={"Type": "json-file", "Config": {}}),
}
"""Name of a wall, and how to take it away."""

NOT_WALLS = {
    "Image": "what it is made of",
    "Entrypoint": "whose program is PID 1: test_images.py",
    "Cmd": "likewise",
    "WorkingDir": "where code starts: test_images.py",
    "Healthcheck": "the image's is not run: test_images.py",
    "Labels": "for finding it again: test_reaper.py",
    "StopSignal": "how it ends: test_images.py",
    "OpenStdin": "the pipe",
    "StdinOnce": "it ends with its pipe: test_sandbox.py",
    "AttachStdin": "the pipe",
    "AttachStdout": "the pipe",
    "AttachStderr": "the pipe",
    "Tty": "the pipe",
    "HostConfig.AutoRemove": "nothing is left of it: test_sandbox.py",
    "HostConfig.Runtime": "whose kernel it runs on",
    "HostConfig.UsernsMode": "there is nothing to undo where the engine maps no users",
    "HostConfig.DeviceRequests": "they take a driver of the engine's, such as nvidia's",
    "HostConfig.VolumesFrom": "it takes another container that has volumes",
    **dict.fromkeys(
        (
            "HostConfig.PublishAllPorts",
            "HostConfig.PortBindings",
            "HostConfig.Dns",
            "HostConfig.DnsOptions",
            "HostConfig.DnsSearch",
            "HostConfig.ExtraHosts",
            "HostConfig.Links",
        ),
        "nothing without a network",
    ),
    "HostConfig.Init": "PID 1 reaps: test_stress.py",
    "HostConfig.Ulimits.rtprio": "engines give none by themselves, and the filter has no sched_setscheduler",
    "HostConfig.Ulimits.nice": "engines give none by themselves",
    "HostConfig.RestartPolicy": "the engine refuses AutoRemove with any other",
    "HostConfig.Tmpfs./workspace.rw": "what it is for",
    "HostConfig.Tmpfs./workspace.exec": "what it is for",
    "HostConfig.Tmpfs./workspace.mode": "all processes of a box have one uid",
    "HostConfig.Tmpfs./tmp.rw": "what it is for",
    "HostConfig.Tmpfs./tmp.mode": "all processes of a box have one uid",
}
"""The rest of the configuration, and why taking it away opens nothing or where it is tested."""


def without(config: Config, walls: Iterable[str]) -> Config:
    """The configuration of a box that lacks these walls."""
    config = copy.deepcopy(config)
    for wall in walls:
        WALLS[wall](config)
    return config


def fields(config: Config) -> Iterator[tuple[str, str]]:
    """Every setting of a configuration with its value; options of a mount and limits each for itself."""
    host = config["HostConfig"]
    for name, value in config.items():
        if name != "HostConfig":
            yield name, json.dumps(value)
    for name, value in host.items():
        if name == "Tmpfs":
            for folder, options in value.items():
                for option in options.split(","):
                    yield f"HostConfig.Tmpfs.{folder}.{option.partition('=')[0]}", option
        elif name == "Ulimits":
            for limit in value:
                yield f"HostConfig.Ulimits.{limit['Name']}", json.dumps(limit)
        elif name == "SecurityOpt":
            for option in value:
                yield f"HostConfig.SecurityOpt.{option.replace(':', '=').partition('=')[0]}", option
        else:
            yield f"HostConfig.{name}", json.dumps(value)
