"""The reaper removes what is ours and provably nobody's, and touches nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import docker
import psutil
import pytest
from docker.models.containers import Container

from agentbox_magic import hardening, images, owner, reaper
from agentbox_magic.engine import Engine


@pytest.fixture
def make(client: docker.DockerClient) -> Iterator[list[Container]]:
    made: list[Container] = []
    yield made
    for container in made:
        if container.id in {one.id for one in client.containers.list(all=True, sparse=True)}:
            container.remove(force=True)


def dead_owner() -> str:
    """A process like ours that has ended."""
    code = "from agentbox_magic import owner; print(owner.current())"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_only_ownerless_boxes_go(client: docker.DockerClient, make: list[Container]) -> None:
    dead = dead_owner()
    place, boot, pid, start = dead.split(" ")
    host, _, namespace = place.partition("/")
    owners = {
        "dead": dead,
        "of an earlier boot": f"{place} 00000000-0000-0000-0000-000000000000 1 {start}",
        "ours": owner.current(),
        "a reused pid": owner.current().rpartition(" ")[0] + " 1",
        "on another host": f"another-{host}/{namespace} {boot} {pid} {start}",
        "in another pid namespace": f"{host}/pid:[1] {boot} {pid} {start}",
        "detached": "",
        "detached and never started": "",
        "nonsense": "x y z",
    }
    boxes = {}
    for name, label in owners.items():
        labels = {hardening.LABEL: "sandbox", hardening.OWNER: label}
        if name.startswith("detached"):
            labels[hardening.MAKER] = dead
        make.append(client.containers.create(images.default_image(), labels=labels, stdin_open=True))
        boxes[name] = make[-1].id
        if name == "detached":
            make[-1].start()
    make.append(client.containers.create(images.default_image(), labels={hardening.OWNER: dead}))  # not ours
    canary = make[-1].id

    removed = reaper.sweep(Engine.connect())

    gone = {name for name, box in boxes.items() if box in removed}
    assert gone == {"dead", "of an earlier boot", "a reused pid", "detached and never started"}
    left = {one.id for one in client.containers.list(all=True, sparse=True)}
    assert {name for name, box in boxes.items() if box not in left} == gone
    assert canary in left


def test_a_process_that_has_ended_unheard_is_gone() -> None:
    """A zombie: its parent waits for it later, or never."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
        mine = owner.current().rpartition(" ")[0].rpartition(" ")[0]
        name = f"{mine} {child.pid} {owner._start_time(child.pid)}"
        assert not owner.is_gone(name)
        assert child.stdin is not None
        child.stdin.close()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE
        assert owner.is_gone(name)


def test_the_first_use_of_an_engine_sweeps(client: docker.DockerClient, make: list[Container]) -> None:
    labels = {hardening.LABEL: "sandbox", hardening.OWNER: dead_owner()}
    make.append(client.containers.create(images.default_image(), labels=labels))
    code = "from agentbox_magic import Sandbox\nwith Sandbox.create() as box: pass"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert make[0].id not in {one.id for one in client.containers.list(all=True, sparse=True)}


def test_of_two_prunes_at_once_each_counts_what_it_has_removed(
    client: docker.DockerClient, make: list[Container]
) -> None:
    labels = {hardening.LABEL: "sandbox", hardening.OWNER: dead_owner()}
    for _ in range(8):
        make.append(client.containers.create(images.default_image(), labels=labels))
    engine = Engine.connect()
    start = threading.Barrier(3)

    def prune(_: int) -> list[str]:
        start.wait()
        return reaper.sweep(engine)

    with ThreadPoolExecutor(3) as prunes:
        counted = [container for removed in prunes.map(prune, range(3)) for container in removed]
    assert sorted(counted) == sorted(str(one.id) for one in make)
