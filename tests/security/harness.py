"""Boxes with and without walls, and what an attack in one came to."""

from __future__ import annotations

import errno
import re
import signal
from dataclasses import replace
from typing import Any

from security.probes.prelude import PRELUDE
from security.probes.probe import Probe
from security.walls import without

from agentbox_magic import Execution, Sandbox, derived, hardening, uids
from agentbox_magic.channel import Channel
from agentbox_magic.engine import Engine
from agentbox_magic.errors import ExecutionError
from agentbox_magic.launch import greet
from agentbox_magic.limits import Limits


def start(walls: tuple[str, ...] = (), *, cpus: float = 1.0, mem: str = "128m", pids: int = 40) -> Sandbox:
    """A box that lacks these walls, and AppArmor if it lacks any. `Sandbox.start` would refuse it."""
    engine = Engine.connect()
    if walls:
        engine = Engine(engine._client, replace(engine.traits, apparmor="unconfined"), engine.where)
    image, command = derived.prepare(engine, None, (), None)
    limits = Limits.of(mem=mem, cpus=cpus, pids=pids, timeout=60)
    config = hardening.container_config(limits, hardening.Box(image=image, start=command), uids.draw(engine))
    container = engine.create(without(config, walls))
    assert container is not None
    pipe = engine.attach(container)
    try:
        engine.start(container)
        return Sandbox(greet(engine, container, Channel(pipe)), limits, False)
    except BaseException:
        pipe.close()
        engine.remove(container)
        raise


def word(run: Execution) -> str:
    """How an attack ended, as probes/ has it."""
    if run.status == "ok":
        return "done"
    if run.status == "killed" and run.signal:
        return signal.Signals(run.signal).name
    if not isinstance(run.error, ExecutionError):
        return run.status
    if run.error.name == "Holds":
        return "holds"
    if run.error.name == "Killed":
        return run.error.value
    number = re.match(r"\[Errno (\d+)\]", run.error.value)
    if number:
        return errno.errorcode.get(int(number[1]), number[1])
    return f"{run.error.name}: {run.error.value}"


def attack(box: Sandbox, probe: Probe, host: dict[str, Any]) -> str:
    """Run a probe in a box; its word."""
    code = probe.code
    for name, value in host.items():
        code = code.replace(name, str(value))
    return word(box.run_code(PRELUDE + code))
