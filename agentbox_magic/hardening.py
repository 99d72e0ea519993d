"""From limits to the one complete container configuration: the walls of a box, each with its reason.

Field names are those of the engine's API (https://docs.docker.com/reference/api/engine/#tag/Container/operation/ContainerCreate).
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from agentbox_magic import owner, resources
from agentbox_magic.limits import Limits

LABEL = "agentbox"
"""On everything of ours on an engine; nothing without it is ever touched."""
OWNER = "agentbox.owner"
"""The process a box belongs to, as :mod:`agentbox_magic.owner` names it; empty for a detached box."""
MAKER = "agentbox.maker"
"""The process that makes a detached box, and only on such a box: it belongs to that process until it is started."""
LIMITS = "agentbox.limits"
METADATA = "agentbox.metadata"
UID = "agentbox.uid"
"""The user of a box, for others to take another."""
WAITS = "agentbox.waits"
"""On a detached box that was started for whoever asks first: who may, and of what kind it is."""
NAME = "name"
"""The metadata that a person calls a box by."""

WARM = "agentbox_warm_"
"""How the name of a container begins that waits for somebody to want it. Then it is renamed: labels cannot change."""

PRELOAD = ("IPython",)
"""What a box that will run cells has loaded, unless more is asked for."""

MASKED_PATHS = [
    # The engine's own defaults: naming any path replaces them.
    "/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
    "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
    # What else tells about the host, or about other boxes on it (/sys/block and its like are links into /sys/devices).
    # What programs size themselves by stays: cpuinfo, meminfo, stat, loadavg; and /sys/fs/cgroup, where PID 1 reads
    # what its box uses.
    "/proc/buddyinfo", "/proc/bus", "/proc/cgroups", "/proc/cmdline", "/proc/config.gz", "/proc/consoles",
    "/proc/crypto", "/proc/devices", "/proc/diskstats", "/proc/dma", "/proc/driver", "/proc/execdomains",
    "/proc/fs", "/proc/interrupts", "/proc/iomem", "/proc/ioports", "/proc/irq", "/proc/kallsyms",
    "/proc/key-users", "/proc/kmsg", "/proc/kpagecgroup", "/proc/kpagecount", "/proc/kpageflags", "/proc/locks",
    "/proc/misc", "/proc/modules", "/proc/mtrr", "/proc/pagetypeinfo", "/proc/partitions", "/proc/pressure",
    "/proc/schedstat", "/proc/slabinfo", "/proc/softirqs", "/proc/swaps", "/proc/tty", "/proc/vmallocinfo",
    "/proc/vmstat", "/proc/zoneinfo", "/sys/block", "/sys/bus", "/sys/class", "/sys/dev", "/sys/devices",
    "/sys/fs/bpf", "/sys/fs/btrfs", "/sys/fs/ext4", "/sys/fs/f2fs", "/sys/fs/fuse", "/sys/fs/pstore",
    "/sys/fs/resctrl", "/sys/fs/xfs", "/sys/hypervisor", "/sys/kernel", "/sys/module", "/sys/power",
]  # fmt: skip

READONLY_PATHS = ["/proc/sys", "/proc/sysrq-trigger"]
"""Those of the engine's own defaults that are not masked; naming them keeps them where an engine has others."""


SYSCTLS = {"net.ipv4.tcp_rmem": "4096 65536 65536", "net.ipv4.tcp_wmem": "4096 16384 65536"}
"""The least, first and largest buffer of a TCP connection in bytes, in the box's own network. What it holds is charged
to nobody on cgroup v1; PID 1 looks how many there are (``agent_executor/sockets.py``). On loopback larger ones, which
outgrow the processor's caches, are no faster. UDP has no such setting: its buffers are the machine's default, because
the filter lets nobody raise them."""


@dataclass(frozen=True)
class Start:
    """How an image is started; as it stands, ours.

    Attributes:
        command: the program and its arguments.
        path: the directories of the image's own PATH that code may count on.
        unset: the image's environment variables, which the box has not.
    """

    command: tuple[str, ...] = ("python", "-m", "agent_executor")
    path: tuple[str, ...] = ("/usr/local/bin", "/usr/bin", "/bin")
    unset: tuple[str, ...] = ()


OURS = Start()


@dataclass(frozen=True, kw_only=True)
class Box:
    """What a box is, beside its limits.

    Attributes:
        image: what it is made of; empty for our own.
        runtime: the engine's runtime that starts it, such as ``"runsc"``; empty for the engine's default.
        start: how that is started.
        env: environment variables of the code in it.
        cwd: where the code starts.
        pty: terminals can be had in it.
        lifetime: seconds after which it ends by itself; None for as long as its owner.
        detached: it outlives its owner.
        metadata: the caller's own labels.
        preload: modules that are loaded before anybody asks for anything.
        waits: see :data:`WAITS`; empty for a box that somebody has asked for.
    """

    image: str = ""
    runtime: str = ""
    start: Start = OURS
    env: dict[str, str] = field(default_factory=dict)
    cwd: str | None = None
    pty: bool = False
    lifetime: float | None = None
    detached: bool = False
    metadata: dict[str, str] = field(default_factory=dict)
    preload: tuple[str, ...] = PRELOAD
    waits: str = ""


def files_size(limits: Limits) -> int:
    """What the writable directories may hold together: at most half of the memory, because files that fill the whole of
    it would leave no room for a process.

    A power of two, so that boxes of somewhat different memory have the same directories, whose sizes cannot be changed
    once the box runs.

    >>> files_size(Limits(mem=600 * 2**20)) // 2**20
    256
    """
    return 1 << (limits.mem.bit_length() - 2)


def tmpfs(limits: Limits, uid: int, pty: bool) -> dict[str, str]:
    """The writable directories, in memory and counted against it; with /dev/shm they hold :func:`files_size`.

    /workspace is not ``noexec``, because extension modules of packages are loaded from there.
    """

    def options(size: int, *more: str) -> str:
        inodes = max(1024, size // 4096)
        return ",".join(["rw", "nosuid", "nodev", *more, f"size={size}", f"nr_inodes={inodes}", f"uid={uid}",
                         f"gid={uid}", "mode=0700"])  # fmt: skip

    mounts = {
        "/workspace": options(files_size(limits) // 2, "exec"),  # said, because the engine's own default is noexec
        "/tmp": options(files_size(limits) // 4, "noexec"),
    }
    if not pty:  # empty and read-only: pseudo-terminals are few and shared by the whole host
        mounts["/dev/pts"] = "ro,nosuid,noexec,size=4096,mode=0555"
    return mounts


def environment(limits: Limits, box: Box) -> list[str]:
    """Everything the box's environment holds; nothing of the host's is inherited, nor of the image's but its PATH.

    A name without ``=`` takes the image's variable away.
    """
    values = {
        "PATH": ":".join(["/opt/agentbox/venv/bin", "/opt/agentbox/packages/bin", *box.start.path]),
        "HOME": "/tmp",
        "USER": "sandbox",  # as in /etc/passwd of our image; others have no line for a box's user
        "LOGNAME": "sandbox",
        "LANG": "C.UTF-8",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "MPLCONFIGDIR": "/tmp/.matplotlib",
        "IPYTHONDIR": "/tmp/.ipython",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        **thread_counts(limits),
        **box.env,
    }
    return [f"{name}={value}" for name, value in values.items()] + sorted(set(box.start.unset) - set(values))


def options(box: Box) -> list[str]:
    """What PID 1 is told before it hears its host: the arguments of its program. Code can read them, and nothing of it
    is a secret; there is none."""
    values = {
        "preload": ",".join(box.preload),
        "cwd": box.cwd or "",
        "lifetime": "" if box.lifetime is None else str(box.lifetime),
        "hosts": "many" if box.detached else "one",
    }
    return [f"{name}={value}" for name, value in values.items()]


def name_of(container: str, limits: Limits, called: str | None = None) -> str:
    """The name of a container that was started for nobody in particular and has been handed out with these limits.

    >>> name_of("0123456789abcdef", Limits(), "fox")
    'agentbox_0123456789ab_536870912_1.0_50_300.0_fox'
    """
    values = (limits.mem, float(limits.cpus), limits.pids, limits.timeout)
    return "_".join([LABEL, container[:12], *map(str, values), *([called] if called else [])])


def limits_of(name: str, labels: dict[str, str]) -> Limits:
    """What a container was handed out with, as its name or else its label says.

    >>> limits_of("agentbox_0123456789ab_536870912_1.0_50_None", {}) == Limits(timeout=None)
    True
    """
    first = Limits(**json.loads(labels.get(LIMITS, "{}")))
    parts = name.split("_", 6)
    if len(parts) < 6 or parts[0] != LABEL:
        return first
    mem, cpus, pids, timeout = parts[2:6]
    seconds = None if timeout == "None" else float(timeout)
    return replace(first, mem=int(mem), cpus=float(cpus), pids=int(pids), timeout=seconds)


def metadata_of(name: str, labels: dict[str, str]) -> dict[str, str]:
    """The caller's own labels, and what :func:`name_of` was told.

    >>> metadata_of("agentbox_0123456789ab_536870912_1.0_50_300.0_red_fox", {METADATA: '{"a": "b"}'})
    {'a': 'b', 'name': 'red_fox'}
    """
    called = name.split("_", 6)[6:] if name.startswith(f"{LABEL}_") else []
    return {**json.loads(labels.get(METADATA, "{}")), **({NAME: called[0]} if called else {})}


def resources_of(limits: Limits) -> dict[str, int]:
    """The part of the HostConfig that can be changed while a box runs."""
    return {
        "Memory": limits.mem,
        "MemorySwap": limits.mem,  # memory and swap together: no swap
        "PidsLimit": limits.pids,
        "NanoCpus": int(limits.cpus * 1e9),
        "CpuShares": max(2, int(limits.cpus * 1024)),  # its part when the host is busy
    }


def thread_counts(limits: Limits) -> dict[str, str]:
    """Numeric libraries start a thread per core of the host, which neither fits the pids limit nor helps."""
    threads = str(max(1, math.ceil(limits.cpus)))
    return {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}


def container_config(limits: Limits, box: Box, uid: int) -> dict[str, Any]:
    """What to create: the engine's JSON, complete, so that no default of an image or an engine weakens it.

    ``uid`` is one of its own (:mod:`agentbox_magic.uids`): quotas of one user are shared by all its processes.
    """
    return {
        "Image": box.image,
        # The image's own are overridden: they are whoever built it.
        "Entrypoint": list(box.start.command),
        "Cmd": options(box),
        "Env": environment(limits, box),
        "User": f"{uid}:{uid}",
        "WorkingDir": "/workspace",
        "Hostname": "sandbox",  # the default is the container's id
        "Healthcheck": {"Test": ["NONE"]},
        "Labels": {
            LABEL: "sandbox",
            UID: str(uid),
            OWNER: "" if box.detached else owner.current(),
            LIMITS: json.dumps(asdict(limits)),
            METADATA: json.dumps(box.metadata),
            **({MAKER: owner.current()} if box.detached else {}),
            **({WAITS: box.waits} if box.waits else {}),
        },
        "StopSignal": "SIGKILL",  # PID 1 has nothing to save and takes no signals
        # The pipe. With StdinOnce its end is the end of the box.
        "OpenStdin": True,
        "StdinOnce": not box.detached,
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "Tty": False,
        "NetworkDisabled": True,
        "HostConfig": {
            "AutoRemove": True,  # nothing is left of a box that ends
            "Runtime": box.runtime,
            # -- what it may do
            "CapDrop": ["ALL"],
            "CapAdd": [],
            "Privileged": False,
            "SecurityOpt": ["no-new-privileges:true", f"seccomp={resources.seccomp_profile()}"],
            "UsernsMode": "",  # the engine's; "host" would undo a remapping of users
            "GroupAdd": [],
            "Devices": [],
            "DeviceRequests": [],
            "DeviceCgroupRules": [],
            # -- what it sees of others
            "IpcMode": "private",  # "none" would leave multiprocessing without /dev/shm
            "CgroupnsMode": "private",  # the default on cgroup v1 shows the host's paths
            "PidMode": "",  # its own; likewise UTSMode
            "UTSMode": "",
            "MaskedPaths": MASKED_PATHS,
            "ReadonlyPaths": READONLY_PATHS,
            # -- what it reaches
            "NetworkMode": "none",
            "PublishAllPorts": False,
            "PortBindings": {},
            "Dns": [],
            "DnsOptions": [],
            "DnsSearch": [],
            "ExtraHosts": [],
            "Links": [],
            "Sysctls": SYSCTLS,
            # -- what it can write
            "ReadonlyRootfs": True,
            "Binds": [],
            "Mounts": [],
            "VolumesFrom": [],
            "Tmpfs": tmpfs(limits, uid, box.pty),
            "ShmSize": files_size(limits) // 4,
            "LogConfig": {"Type": "none", "Config": {}},  # a flood of output would fill the host's disk
            # No StorageOpt: a size for the root file system takes xfs with quotas, and nothing can be written there.
            # -- what it can use
            **resources_of(limits),
            "MemorySwappiness": 0,
            "OomKillDisable": False,  # or a box that is out of memory would hang
            "OomScoreAdj": 500,  # before anything of the host
            "Ulimits": [
                {"Name": name, "Soft": value, "Hard": value}
                for name, value in {
                    "nofile": 1024,
                    "core": 0,  # a core file would be the host's
                    "fsize": 2 * files_size(limits),  # a sparse file looks larger than all that a box can hold
                    "memlock": 65536,
                    "msgqueue": 0,
                    "sigpending": 1024,  # queued signals and timers are the kernel's memory
                    "rtprio": 0,
                    "nice": 0,
                }.items()
            ],  # not nproc: it counts a uid's processes across containers, and PidsLimit counts this box's
            # -- how it ends
            "Init": False,  # our PID 1 reaps
            "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
        },
    }
