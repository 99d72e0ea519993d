"""The walls of a box in one line.

:func:`told` takes the engine's word for them, which costs one question; :mod:`agentbox_magic.doctor` tries them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agentbox_magic.traits import Traits


def line(standing: Sequence[str], absent: Sequence[str]) -> str:
    """What stands, and what does not.

    >>> line(["seccomp", "no network"], ["AppArmor"])
    'walls: seccomp, no network · absent: AppArmor'
    """
    parts = [f"walls: {', '.join(standing) or 'none'}"]
    if absent:
        parts.append(f"absent: {', '.join(absent)}")
    return " · ".join(parts)


def told(found: Mapping[str, Any], traits: Traits) -> str:
    """The line for a container as the engine describes it (``docker inspect``).

    It is what the engine was told to do, not what was tried. A box that starts has had its walls read back
    (:mod:`agentbox_magic.readback`), so the two differ only where something changed since, or where engine, runtime and
    kernel all say what is not so.
    """
    host = found["HostConfig"]
    options = {option.replace("=", ":").partition(":")[0]: option for option in host.get("SecurityOpt") or []}
    kind = traits.kind((found.get("OCIRuntime") if traits.podman else host.get("Runtime")) or "")
    walls = {
        "a kernel of its own": kind != "runc",
        "seccomp": "seccomp" in options and not options["seccomp"].endswith("unconfined"),
        "no-new-privs": "no-new-privileges" in options,
        "caps 0": "ALL" in (host.get("CapDrop") or []),
        "read-only": bool(host.get("ReadonlyRootfs")),
        "no network": host.get("NetworkMode") == "none",
        "AppArmor": bool(found.get("AppArmorProfile")) and found["AppArmorProfile"] != "unconfined",
        "userns": traits.userns or traits.rootless,
    }
    if traits.podman:
        del walls["caps 0"]  # it names those that it dropped, not those that are left
    absent = [name for name, stands in walls.items() if not stands and name != "a kernel of its own"]
    return line([name for name, stands in walls.items() if stands], absent)
