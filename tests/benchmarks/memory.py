"""What idle sandboxes take of the machine's memory: PSS, which splits a shared page among those who share it."""

from __future__ import annotations

import re
from pathlib import Path

import docker


def pss(process: Path) -> int:
    found = re.search(r"^Pss:\s+(\d+) kB", (process / "smaps_rollup").read_text("ascii"), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def parent(process: Path) -> Path:
    return Path("/proc") / (process / "stat").read_text("ascii").rpartition(")")[2].split()[1]


def of_box(client: docker.DockerClient, container: str) -> dict[str, int]:
    """Bytes of PSS: the supervisor, the worker, the engine's shim."""
    first = Path("/proc") / str(client.api.inspect_container(container)["State"]["Pid"])
    workers = [one for one in Path("/proc").iterdir() if one.name.isdigit() and one.exists() and parent_is(one, first)]
    return {"supervisor": pss(first), "worker": sum(map(pss, workers)), "shim": pss(parent(first))}


def parent_is(process: Path, first: Path) -> bool:
    try:
        return parent(process) == first
    except OSError:
        return False
