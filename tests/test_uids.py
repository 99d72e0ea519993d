"""Each box is a user that no other box of the engine is, and that no person is."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import docker
import pytest

from agentbox_magic import Sandbox, SandboxError, derived, hardening, images, uids
from agentbox_magic.engine import Engine
from agentbox_magic.limits import Limits

Boxes = Callable[[], set[str]]


def user(client: docker.DockerClient, container: str) -> int:
    found = client.api.inspect_container(container)
    uid = int(found["Config"]["User"].partition(":")[0])
    assert found["Config"]["Labels"][hardening.UID] == str(uid)
    return uid


@contextlib.contextmanager
def other(uid: int) -> Iterator[str]:
    """Another process's box that is a user already."""
    engine = Engine.connect()
    config = hardening.container_config(Limits(), hardening.Box(image=images.default_image()), uid)
    container = engine.create(config)
    assert container is not None
    try:
        yield container
    finally:
        engine.remove(container)


def test_users_of_boxes_are_nobodys_on_the_host() -> None:
    traits = replace(Engine.connect().traits, userns=False, rootless=False)
    assert (uids.of(traits)[0], uids.of(traits)[-1]) == (65536, 99999)
    assert (uids.of(replace(traits, rootless=True))[-1]) < 65536  # all that such an engine maps
    assert uids.of(replace(traits, userns=True)) == uids.MAPPED


def test_boxes_at_once_are_all_different_users(monkeypatch: pytest.MonkeyPatch, client: docker.DockerClient) -> None:
    """Of as many users as there are boxes, so that they meet."""
    monkeypatch.setenv("AGENTBOX_UIDS", "70000-70002")
    with ThreadPoolExecutor(3) as threads, contextlib.ExitStack() as stack:
        made = [threads.submit(Sandbox.create) for _ in range(3)]
        boxes = [stack.enter_context(one.result()) for one in made]
        assert {user(client, box.sandbox_id) for box in boxes} == {70000, 70001, 70002}
        assert [box.run_code("import os\nos.getuid()").text for box in boxes] == [
            str(user(client, box.sandbox_id)) for box in boxes
        ]


def test_a_user_that_another_process_has_taken_is_not_taken_again(
    monkeypatch: pytest.MonkeyPatch, client: docker.DockerClient, boxes: Boxes
) -> None:
    monkeypatch.setenv("AGENTBOX_UIDS", "70010-70011")
    with other(70010) as theirs, Sandbox.create() as box:
        assert user(client, box.sandbox_id) == 70011
        with pytest.raises(SandboxError, match=r"^all 2 users of 70010-70011 are other boxes'; end some, or set"):
            Sandbox.create()
        assert boxes() == {theirs, box.sandbox_id}
    with Sandbox.create() as box:
        assert user(client, box.sandbox_id) in (70010, 70011)


@pytest.mark.parametrize("text", ["1000", "0-5", "9-8", "1-4294967295", "a-b", "-5-7", "1-2-3", "٣-٤"])
def test_a_range_that_is_none_is_an_error_that_says_what_one_is(
    monkeypatch: pytest.MonkeyPatch, boxes: Boxes, text: str
) -> None:
    monkeypatch.setenv("AGENTBOX_UIDS", text)
    with pytest.raises(SandboxError, match=r"^AGENTBOX_UIDS is '.*'; give the first and the last user .* 65536-99999$"):
        Sandbox.create()
    assert boxes() == set()


def test_no_container_is_named_as_others_tools_sweep(monkeypatch: pytest.MonkeyPatch, image: str) -> None:
    """Some remove whatever is called ``agentbox-``."""
    names: list[str | None] = []
    create = Engine.create

    def noted(self: Engine, config: dict[str, Any], name: str | None = None) -> str | None:
        names.append(name)
        return create(self, config, name)

    monkeypatch.setattr(Engine, "create", noted)
    with Sandbox.create() as box:
        (info,) = (info for info in Sandbox.list() if info.sandbox_id == box.sandbox_id)
        assert info.metadata == {}  # a name may tell of them, and this one does not
    command = hardening.Start(("python", "-c", "print(1)"))  # what looks into another image
    assert derived._run(Engine.connect(), image, command, seconds=60, limit=100)[0] == b"1\n"
    assert len(names) == 2
    assert all(name and name.startswith("agentbox_") for name in names)
