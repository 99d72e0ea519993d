"""What holds of a box that has started: what the engine says it made, and what the kernel says of PID 1.

Three witnesses, before any code has run in the box:

- the engine's description of the container: an engine leaves out, with no more than a warning, what its kernel lacks;
- the box's PID 1, in its greeting: what it sees of itself, wherever the engine is;
- the host's own ``/proc`` and cgroup files, where the engine is on this host: they know what a runtime did not do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentbox_magic import resources
from agentbox_magic.errors import PolicyError
from agentbox_magic.limits import format_size
from agentbox_magic.traits import Traits

STATUS = ("Uid", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")
"""The lines of ``/proc/PID/status`` that are walls; as in ``agent_executor/supervisor.py``."""


@dataclass(frozen=True)
class Wall:
    """One wall of a box.

    Attributes:
        name: what it is, in a few words.
        holds: whether it does.
        seen: what was found, in a few words.
        advice: what to do where it does not hold.
    """

    name: str
    holds: bool
    seen: str
    advice: str


def verify(
    traits: Traits, asked: Mapping[str, Any], found: Mapping[str, Any], greeting: Mapping[str, Any] | None
) -> None:
    """Raise PolicyError for the first wall that does not hold. The arguments are those of :func:`walls`."""
    for wall in walls(traits, asked, found, greeting):
        if not wall.holds:
            raise PolicyError(
                f"the box was removed, because a wall is missing: {wall.name} ({wall.seen}); {wall.advice}"
            )


def verify_limits(asked: Mapping[str, Any], found: Mapping[str, Any], memory_limit: Any) -> None:
    """Raise PolicyError if a running box has other limits than it was just given.

    Args:
        asked: fields of the HostConfig.
        found: the engine's description of the box.
        memory_limit: what its PID 1 says.
    """
    answers = [
        Wall(f"the limit {field}", found["HostConfig"].get(field) == value, f"{found['HostConfig'].get(field)}", "")
        for field, value in asked.items()
    ]
    for wall in [*answers, _memory("seen from inside", memory_limit, asked["Memory"])]:
        if not wall.holds:
            raise PolicyError(f"the box was removed, because a wall is missing: {wall.name} ({wall.seen})")


def walls(
    traits: Traits, asked: Mapping[str, Any], found: Mapping[str, Any], greeting: Mapping[str, Any] | None
) -> list[Wall]:
    """Every wall that was looked at.

    Args:
        traits: of the engine.
        asked: the container that was asked for, in the engine's words.
        found: the engine's description of it.
        greeting: what its PID 1 said first; None for a container that does not speak.
    """
    host = asked["HostConfig"]
    kind = traits.kind(host["Runtime"])
    answers = [_engine_says(traits, host, found)]
    uid = asked["User"].partition(":")[0]
    if greeting is not None:
        answers += _process("seen from inside", greeting.get("status"), uid, kind)
        answers.append(_memory("seen from inside", greeting.get("memory_limit"), host["Memory"]))
    process = Path("/proc", str(found["State"]["Pid"]))
    if traits.local and kind != "vm" and _is_first_of_its_namespace(process):
        if kind == "runc":
            answers += _process(
                "seen from the host", status(process), "" if traits.rootless or traits.userns else uid, kind
            )
            if traits.apparmor:
                answers.append(_apparmor(process, traits.apparmor))
        limit = memory_limit(process, traits.cgroup)
        if limit is not None:
            answers.append(_memory("seen from the host", limit, host["Memory"]))
    return answers


# -- the engine -------------------------------------------------------------------------------------------------------


def _engine_says(traits: Traits, asked: Mapping[str, Any], found: Mapping[str, Any]) -> Wall:
    told = traits.described(found, asked)
    differs = [field for field, value in asked.items() if _plain(value) != _plain(told.get(field))]
    return Wall(
        "the configuration", not differs, f"the engine has another {', '.join(differs)}" if differs else "as asked",
        "`docker info` warns of what the engine's kernel lacks, such as cgroup controllers that a rootless engine was "
        "not given",
    )  # fmt: skip


def _plain(value: Any) -> Any:
    """Engines differ in how they say nothing, and a namespace of its own."""
    return None if not value or value == "private" else value


# -- the process ------------------------------------------------------------------------------------------------------


def status(process: Path) -> dict[str, str]:
    """The lines of a process's ``status`` that are walls; none if it cannot be read."""
    try:
        text = (process / "status").read_text("ascii", "replace")
    except OSError:
        return {}
    return {name: value for name, value in re.findall(r"^(\w+):\t(.*)$", text, re.MULTILINE) if name in STATUS}


def _is_first_of_its_namespace(process: Path) -> bool:
    """Whether this is a container's PID 1, and so hardly another process that has its number here by chance."""
    try:
        text = (process / "status").read_text("ascii", "replace")
    except OSError:
        return False
    numbers = re.search(r"^NSpid:\t(.*)$", text, re.MULTILINE)
    return numbers is not None and len(numbers[1].split()) > 1 and numbers[1].split()[-1] == "1"


def _process(where: str, lines: Any, uid: str, kind: str) -> list[Wall]:
    """Walls of a process. What gVisor and virtual machines do in place of a filter is theirs."""
    lines = lines if isinstance(lines, dict) else {}
    seen = {name: str(lines.get(name, "nothing"))[:60] for name in STATUS}
    sets = [name for name in STATUS if name.startswith("Cap") and (kind == "runc" or name in lines)]
    users = set(seen["Uid"].split())
    stranger = users != {uid} if uid else "0" in users or not all(map(str.isdigit, users))
    found = {
        "no capabilities": ([name for name in sets if seen[name].strip("0")], sets),
        "a user of its own": (["Uid"] if stranger else [], ["Uid"]),
    }
    if kind == "runc":
        found["no new privileges"] = (["NoNewPrivs"] if seen["NoNewPrivs"] != "1" else [], ["NoNewPrivs"])
        found["the seccomp filter"] = (["Seccomp"] if seen["Seccomp"] != "2" else [], ["Seccomp"])
    advice = "the runtime does not do what the engine asks of it: use another one, or update it"
    return [
        Wall(f"{name}, {where}", not bad and bool(read), ", ".join(f"{one} {seen[one]}" for one in bad or read), advice)
        for name, (bad, read) in found.items()
    ]


def _apparmor(process: Path, profile: str) -> Wall:
    try:
        seen = (process / "attr" / "current").read_text("utf-8", "replace").strip("\0\n")
    except OSError as error:
        seen = error.strerror or "unreadable"
    return Wall(
        "the AppArmor profile, seen from the host", seen == f"{profile} (enforce)", seen[:80],
        f"load it: sudo apparmor_parser -r {resources.APPARMOR}",
    )  # fmt: skip


# -- the memory -------------------------------------------------------------------------------------------------------


def memory_limit(process: Path, cgroup: int) -> int | None:
    """The limit of a process's cgroup in bytes, as the host's kernel has it; None where that cannot be read."""
    root = Path("/sys/fs/cgroup")
    try:
        for line in (process / "cgroup").read_text("utf-8", "replace").splitlines():
            _, controllers, path = line.split(":", 2)
            if cgroup == 2 and not controllers:
                text = (root / path.lstrip("/") / "memory.max").read_text("ascii").strip()
                return 2**63 if text == "max" else int(text)
            if cgroup == 1 and "memory" in controllers.split(","):
                return int((root / "memory" / path.lstrip("/") / "memory.limit_in_bytes").read_text("ascii"))
    except (OSError, ValueError):
        return None
    return None


def _memory(where: str, limit: Any, asked: int) -> Wall:
    known = isinstance(limit, int) and not isinstance(limit, bool)
    holds = known and 0 < limit <= asked
    seen = format_size(limit) if known and limit < 2**62 else "none"
    return Wall(
        f"the memory limit, {where}", holds, seen if holds else f"{seen}, not {format_size(asked)}",
        "the runtime or the engine does not enforce it: gVisor must be registered without --ignore-cgroups, and a "
        "rootless engine needs cgroup delegation",
    )  # fmt: skip
