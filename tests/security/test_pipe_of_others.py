"""The pipe of a detached box: nothing that hosts carry for code can speak in a host's place."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from relays import relay_of
from waiting import seconds_until

from agent_executor.wire import NEW_HOST, encode, escape
from agentbox_magic import Sandbox
from agentbox_magic.engine import Engine

TAKE_OVER = NEW_HOST + encode({"type": "lifetime_request", "id": 1, "seconds": 100_000.0})
"""What a new host writes first, and a request: to live on."""


@pytest.fixture
def detached() -> Iterator[Sandbox]:
    box = Sandbox.create(detach=True, lifetime=300)
    yield box
    box.kill()


def left(box: Sandbox) -> float:
    """Seconds that a box has yet to live."""
    return float(box._link.info()["lifetime"])


def test_what_is_carried_for_code_is_not_heard(detached: Sandbox) -> None:
    """Even where it begins like a host, at the first byte of a payload, or after a frame's worth of bytes."""
    for payload in (TAKE_OVER, b"x" * 2**20 + TAKE_OVER, TAKE_OVER * 3):
        detached.files.write("/workspace/file", payload)
        assert detached.files.read("/workspace/file", format="bytes") == payload
        detached.push({"pushed": payload})
        assert detached.run_code("len(pushed)").text == str(len(payload))
        reader = detached.commands.run("cat >/dev/null", stdin=True, background=True)
        reader.send_stdin(payload)
        reader.close_stdin()
        reader.wait()
    assert detached.run_code(f"x = {TAKE_OVER.decode('latin-1')!r}; 1").text == "1"
    assert left(detached) <= 300


def test_what_a_host_says_is(detached: Sandbox) -> None:
    """The control: the same bytes, from where a host speaks."""
    relay = relay_of(detached)
    detached.disconnect()
    relay.kill()
    relay.wait(10)
    pipe = Engine.connect().attach(detached.sandbox_id)
    pipe.send(escape(b"\x00\x00\x00\x10\x00\x10\x00\x00half a frame") + TAKE_OVER)
    pipe.close()
    with Sandbox.connect(detached.sandbox_id) as again:
        seconds_until(lambda: left(again) > 300, within=20)


def test_no_process_holds_what_the_box_was_started_with(detached: Sandbox) -> None:
    shown = detached.commands.run("cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'").stdout
    assert "PATH=" in shown  # the control
    assert "AGENTBOX_" not in shown
