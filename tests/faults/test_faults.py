"""A small sample of the faults: ``make faults`` does all of them, and writes ``docs/faults.md``."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from own_engine import NEEDED

from faults.table import Table
from faults.world import World, world

pytestmark = [*NEEDED, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def engine() -> Iterator[World]:
    with world() as one:
        yield one


@pytest.fixture
def table(engine: World) -> Iterator[Table]:
    """A table of one's own, in which nothing may be wrong in the end."""
    table = Table(engine, seed=7)
    yield table
    assert table.rows
    assert not table.wrong, "\n".join(table.wrong)


def test_a_killed_host(table: Table) -> None:
    table.kills(5, ["create", "transfer", "refill", "agents", "detached"])


def test_interrupts(table: Table) -> None:
    table.interrupts(9, ["create", "run", "transfer"])


@pytest.mark.parametrize(("part", "phase"), [("dockerd", "create"), ("containerd", "create"), ("relay", "detached")])
def test_a_part_that_is_frozen_for_a_while(table: Table, part: str, phase: str) -> None:
    table.parts(part, signal.SIGSTOP, [phase])


@pytest.mark.parametrize(("part", "phase"), [("shim", "run"), ("dockerd", "transfer")])
def test_a_part_that_is_killed(table: Table, part: str, phase: str) -> None:
    table.parts(part, signal.SIGKILL, [phase])


@pytest.mark.parametrize("disk", ["create", "download"])
def test_a_full_disk(table: Table, disk: str) -> None:
    table.full_disks([disk])


def test_forks(table: Table) -> None:
    table.forks(1)
