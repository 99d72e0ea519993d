"""A wall that is missing is noticed at the start, whoever left it out: the box is removed, and the error names it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from waiting import seconds_until

from agentbox_magic import PolicyError, Sandbox, readback
from agentbox_magic.engine import Engine

Boxes = Callable[[], set[str]]
create, inspect = Engine.create, Engine.inspect

WITHOUT: dict[str, dict[str, Any]] = {
    "CapDrop": {"CapDrop": ["NET_RAW"]},
    "SecurityOpt": {"SecurityOpt": ["no-new-privileges:true", "seccomp=unconfined"]},
    "Memory": {"Memory": 2**32, "MemorySwap": 2**32},
    "MemorySwap": {"MemorySwap": 2**32},
    "PidsLimit": {"PidsLimit": 0},
    "NanoCpus": {"NanoCpus": 0},
    "ReadonlyRootfs": {"ReadonlyRootfs": False},
    "NetworkMode": {"NetworkMode": "bridge"},
    "IpcMode": {"IpcMode": "shareable"},
    "Ulimits": {"Ulimits": []},
    "MaskedPaths": {"MaskedPaths": []},
    "LogConfig": {"LogConfig": {"Type": "json-file", "Config": {}}},
}
"""An engine that does not do one thing."""

KERNEL = {
    "no capabilities": ({"CapDrop": []}, {}),
    "no new privileges": ({"SecurityOpt": ["seccomp=unconfined"]}, {}),
    "the seccomp filter": ({"SecurityOpt": ["no-new-privileges:true", "seccomp=unconfined"]}, {}),
    "a user of its own": ({"Tmpfs": {"/workspace": "exec", "/tmp": ""}}, {"User": "0:0"}),
    "the memory limit": ({"Memory": 0, "MemorySwap": 0}, {}),
}
"""And one that says it did."""


def leave_out(monkeypatch: pytest.MonkeyPatch, host: dict[str, Any], rest: dict[str, Any], lie: bool = False) -> None:
    """Make the engine leave something out of what it is asked for; and claim it has not."""
    asked: dict[str, Any] = {}

    def less(self: Engine, config: dict[str, Any], name: str | None = None) -> str | None:
        asked.update(self.traits.translate(config)["HostConfig"])  # with AppArmor, where there is some
        return create(self, {**config, **rest, "HostConfig": {**config["HostConfig"], **host}}, name)

    def as_asked(self: Engine, container: str) -> dict[str, Any] | None:
        found = inspect(self, container)
        return found and {**found, "HostConfig": {**found["HostConfig"], **asked, "Runtime": "runc"}}

    monkeypatch.setattr(Engine, "create", less)
    if lie:
        monkeypatch.setattr(Engine, "inspect", as_asked)


@pytest.mark.parametrize("field", WITHOUT)
def test_what_the_engine_says_it_left_out(monkeypatch: pytest.MonkeyPatch, boxes: Boxes, field: str) -> None:
    leave_out(monkeypatch, WITHOUT[field], {})
    with pytest.raises(PolicyError, match=rf"a wall is missing: the configuration \(the engine has another .*{field}"):
        Sandbox.create()
    seconds_until(lambda: not boxes(), within=10)


@pytest.mark.parametrize("wall", KERNEL)
def test_what_the_engine_says_it_did(monkeypatch: pytest.MonkeyPatch, boxes: Boxes, wall: str) -> None:
    leave_out(monkeypatch, *KERNEL[wall], lie=True)
    with pytest.raises(PolicyError, match=f"a wall is missing: {wall}, seen from inside "):
        Sandbox.create()
    seconds_until(lambda: not boxes(), within=10)


@pytest.mark.skipif(not Engine.connect().traits.local, reason="the engine's processes are not in this /proc")
@pytest.mark.parametrize("wall", KERNEL)
def test_what_the_host_sees(monkeypatch: pytest.MonkeyPatch, wall: str) -> None:
    """The same with a box that says all is well: the host's own kernel knows better."""
    seen: list[readback.Wall] = []

    def look(traits: Any, asked: Any, found: Any, greeting: Any) -> None:
        seen.extend(readback.walls(traits, asked, found, greeting))

    monkeypatch.setattr(readback, "verify", look)
    leave_out(monkeypatch, *KERNEL[wall], lie=True)
    Sandbox.create().kill()
    missing = {one.name for one in seen if not one.holds}
    assert f"{wall}, seen from the host" in missing


def test_every_wall_of_a_box_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: and each of the three witnesses was heard."""
    seen: list[readback.Wall] = []

    def look(*facts: Any) -> None:
        seen.extend(readback.walls(*facts))

    monkeypatch.setattr(readback, "verify", look)
    Sandbox.create().kill()
    assert [one for one in seen if not one.holds] == []
    assert "the configuration" in {one.name for one in seen}
    assert any(one.name.endswith("seen from inside") for one in seen)
    assert any(one.name.endswith("seen from the host") for one in seen) == Engine.connect().traits.local


def test_another_process_with_the_number_of_pid_1_is_not_looked_at() -> None:
    """An engine in another pid namespace may name a pid that is somebody else's here."""
    assert not readback._is_first_of_its_namespace(Path(f"/proc/{os.getpid()}"))
