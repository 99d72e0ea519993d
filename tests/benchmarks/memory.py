"""What idle boxes take of the machine's memory: PSS, which splits a shared page among those who share it.

The shim's program and libpython's pages are shared by all containers on the engine: a box beside others costs less than
one that is alone.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import docker
from waiting import seconds_until

from agentbox_magic import Sandbox, hardening, owner, pool
from benchmarks.latencies import nobody_waits

COUNTS = (1, 2, 5, 11, 20)


def pss(process: Path) -> int:
    found = re.search(r"^Pss:\s+(\d+) kB", (process / "smaps_rollup").read_text("ascii"), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def parent(process: Path) -> Path:
    return Path("/proc") / (process / "stat").read_text("ascii").rpartition(")")[2].split()[1]


def parent_is(process: Path, first: Path) -> bool:
    try:
        return parent(process) == first
    except OSError:
        return False


def of_box(client: docker.DockerClient, container: str) -> dict[str, int]:
    """Bytes of PSS: the supervisor, the worker, the engine's shim."""
    first = Path("/proc") / str(client.api.inspect_container(container)["State"]["Pid"])
    workers = [one for one in Path("/proc").iterdir() if one.name.isdigit() and parent_is(one, first)]
    return {"supervisor": pss(first), "worker": sum(map(pss, workers)), "shim": pss(parent(first))}


def of_each(client: docker.DockerClient, containers: list[str]) -> dict[str, int]:
    """Of one of so many, on average."""
    parts = [of_box(client, container) for container in containers]
    return {name: sum(one[name] for one in parts) // len(parts) for name in parts[0]}


def memories() -> dict[str, Any]:
    """Bytes of each box where there are so many: that wait in the pool, and that have run a cell.

    And how many containers of somebody else there were, which share pages with those that are measured.
    """
    client = docker.from_env()
    ours = {"label": f"{hardening.OWNER}={owner.current()}"}

    def none_left() -> None:
        nobody_waits()
        seconds_until(lambda: not client.api.containers(filters=ours), 60)

    none_left()
    others = len(client.api.containers())
    waiting, used = {}, {}
    for count in COUNTS:
        pool.start_ahead(count)
        waiting[count] = of_each(client, [container for container, _, _ in pool.current().waiting()])
    none_left()
    boxes: list[Sandbox] = []
    for count in COUNTS:
        while len(boxes) < count:
            boxes.append(Sandbox.create())
            boxes[-1].run_code("1 + 1")
        used[count] = of_each(client, [box.sandbox_id for box in boxes])
    for box in boxes:
        box.kill()
    return {"bytes of each box": {"waiting": waiting, "used": used}, "containers of others": others}
