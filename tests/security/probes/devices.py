"""Devices, /proc and /sys; and what of the host's files and variables is in a box."""

from __future__ import annotations

from security.probes.probe import Probe

from agentbox_magic import hardening
from agentbox_magic.limits import Limits

NAMES = {item.partition("=")[0] for item in hardening.environment(Limits(), hardening.Box())} | {"HOSTNAME"}
"""The variables of a box; the last one is the engine's."""

PROBES = [
    Probe(
        20,
        "no device is made",
        "os.mknod('disk', 0o600 | stat.S_IFBLK, os.makedev(254, 0))",
        "EPERM",
        "user + capabilities",
    ),
    Probe(
        20,
        "no disk is there",
        """
for path in nodes('/dev'):
    if stat.S_ISBLK(os.lstat(path).st_mode):
        os.open(path, os.O_RDONLY)
        break
else:
    raise Holds
""",
        "holds",
        "no devices + user",
        reached="ENXIO",
    ),
    Probe(
        20,
        "only harmless devices are there",
        """
harmless = 'null zero full random urandom tty ptmx pts shm mqueue fd stdin stdout stderr core console'
holds({os.path.basename(path) for path in nodes('/dev')} <= set(harmless.split()))
""",
        "holds",
        "no devices",
    ),
    *(
        Probe(
            20,
            f"{folder} has no {what} files",
            f"holds(os.statvfs('{folder}').f_flag & os.ST_NO{what.upper()})",
            "holds",
            f"{folder} no{what}",
        )
        for folder in ("/workspace", "/tmp")
        for what in ("suid", "dev")
    ),
    Probe(
        21,
        "switches of the kernel are read-only",
        f"""
holds(all(os.statvfs(path).f_flag & os.ST_RDONLY for path in {hardening.READONLY_PATHS} if os.path.exists(path)))
""",
        "holds",
        "read-only paths",
    ),
    Probe(
        21,
        "no sysctl is set",
        "os.open('/proc/sys/vm/overcommit_memory', os.O_WRONLY)",
        "EACCES EROFS",
        "read-only paths + user",
    ),
    Probe(
        21,
        "its cgroup is read-only",
        """
folder = '/sys/fs/cgroup/memory' if os.path.exists('/sys/fs/cgroup/memory') else '/sys/fs/cgroup'
holds(os.statvfs(folder).f_flag & os.ST_RDONLY)
""",
        "holds",
        "privileged",
    ),
    Probe(
        22,
        "what tells of the host is masked",
        f"""
seen = []
for path in {hardening.MASKED_PATHS}:
    try:
        seen += os.listdir(path) if os.path.isdir(path) else [open(path, 'rb').read(1)]
    except OSError:
        pass  # this kernel has no such file, or it is root's alone
holds(not any(seen))
""",
        "holds",
        "masked paths",
    ),
    Probe(
        23,
        "nothing of the host is mounted",
        """
kinds = 'proc sysfs tmpfs cgroup cgroup2 mqueue devpts overlay devtmpfs fuse.fuse-overlayfs'.split()
lines = [line.split() for line in open('/proc/self/mountinfo')]
found = {line[4]: line for line in lines if line[line.index('-') + 1] not in kinds}
ours = {'/etc/hosts', '/etc/hostname', '/etc/resolv.conf', '/sbin/docker-init', '/dev/init'}
holds(found.keys() <= ours and all('ro' in line[5].split(',') for line in found.values())
      and not any('docker.sock' in ' '.join(line) for line in lines))
""",
        "holds",
        "no host directories",
    ),
    Probe(
        23,
        "nor its names' files writable",
        "holds(os.statvfs('/etc/hosts').f_flag & os.ST_RDONLY)",
        "holds",
        "read-only root",
    ),
    Probe(
        24,
        "its environment is what is said and no more",
        f"holds(set(os.environ) <= {NAMES})",
        "holds",
        "no host environment",
    ),
    Probe(
        24,
        "the environment has nothing of the host's",
        "holds('AGENTBOX_CANARY_SECRET' not in os.environ)",
        "holds",
        "no host environment",
    ),
]
