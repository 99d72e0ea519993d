"""Every attack fails in a box, works in one without the walls that stop it, and leaves the host as it was.

The controls are the mutation run too: a wall that is taken out alone must let at least one attack through.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from security.harness import attack, start
from security.host import Host
from security.pairs import PAIRS
from security.probes import ELSEWHERE, NOT_YET, PROBES
from security.probes.probe import Probe
from security.walls import NOT_WALLS, WALLS, fields, without

from agentbox_magic import Sandbox, hardening
from agentbox_magic.limits import Limits

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers of system calls are x86-64's")

NOT_IN_THIS_KERNEL = {"EAFNOSUPPORT", "ENOSYS", "EPROTONOSUPPORT"}
"""What a control meets where the kernel lacks the very thing."""

Open = Callable[..., Sandbox]


@pytest.fixture(scope="module")
def opened() -> Iterator[Open]:
    """A box without the given walls, kept for the next test if that wants the same."""
    kept: dict[Any, Sandbox] = {}

    def get(walls: tuple[str, ...], cpus: float) -> Sandbox:
        if (walls, cpus) not in kept or not kept[walls, cpus].is_running():
            for box in kept.values():
                box.kill()
            kept.clear()
            kept[walls, cpus] = start(walls, cpus=cpus)
        return kept[walls, cpus]

    yield get
    for box in kept.values():
        box.kill()


@pytest.mark.parametrize("probe", sorted(PROBES, key=lambda probe: probe.cpus), ids=str)
def test_an_attack_fails(opened: Open, host: Host, probe: Probe) -> None:
    box = opened((), probe.cpus)
    assert attack(box, probe, host.names) in probe.denied.split()
    host.assert_unharmed(box)


@pytest.mark.parametrize("probe", sorted(PROBES, key=lambda probe: (probe.walls, probe.cpus)), ids=str)
def test_without_its_walls_it_works(opened: Open, host: Host, probe: Probe) -> None:
    """The control: else the attack proves nothing."""
    if not Path(probe.needs).exists():
        pytest.skip(f"this machine has no {probe.needs}")
    box = opened(probe.walls, probe.cpus)
    end = attack(box, probe, host.names)
    if end in NOT_IN_THIS_KERNEL - set(probe.reached.split()):
        pytest.skip(f"the kernel of this machine cannot do it at all: {end}")
    assert end in ["done", *probe.reached.split()]
    assert probe.outside is None or probe.outside(host.inspect(box))


def test_every_wall_is_guarded() -> None:
    """Some attack works as soon as this wall alone is gone: its control is a box that lacks nothing else."""
    controls = [probe.walls for probe in PROBES] + [pair.without for pair in PAIRS]
    assert set(WALLS) == {walls[0] for walls in controls if len(walls) == 1}


def test_every_setting_is_a_wall_or_is_not() -> None:
    """A setting that is added to the configuration needs a wall in walls.py, and that a probe."""
    config = hardening.container_config(Limits(), hardening.Box(image="image"), 70_000)
    settings = dict(fields(config))
    walls = set()
    for wall in WALLS:
        changed = dict(fields(without(config, [wall])))
        walls |= {name for name, value in settings.items() if changed.get(name) != value}
    assert set(settings) - walls == set(NOT_WALLS)


def test_every_number_is_somewhere() -> None:
    assert {probe.number for probe in PROBES} | set(ELSEWHERE) | set(NOT_YET) == set(range(1, 46))
