"""Names of images are checked before anything is asked of an engine."""

from __future__ import annotations

from typing import Any

import pytest
from IPython.core.error import UsageError

from agentbox_magic import Sandbox, agent
from agentbox_magic.magics.parser import parse_cell
from agentbox_magic.packages import image_name

WRONG = [
    "../..", "..", ".", "/", "", " ", "a b", "a\0b", "Ubuntu", "library/UBUNTU", "a" * 300, "python:", "python:3 12",
    "-x", "--privileged", "a//b", "a/", "https://example.org/a", "scratch", "scratch:latest", "a\n", "a@sha256:xyz",
    "\u202ea", "é", "a:" + "b" * 200,
]  # fmt: skip
RIGHT = [
    "python:3.12-slim", "ubuntu", "ghcr.io/astral-sh/uv:0.4", "localhost:5000/a/b_c--d:X.Y", "me/scratch",
    "a@sha256:" + "0" * 64, "sha256:" + "0" * 64, "0123456789ab", "Example.ORG/a:tag", "[::1]:5000/a",
]  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_no_image_can_be_called_is_refused_at_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")  # so an engine that is asked is another error
    with pytest.raises(ValueError, match=r"no name of an image|empty image|holds a NUL") as caught:
        Sandbox.create(image=name)
    assert str(caught.value).isascii()
    with pytest.raises(ValueError, match=r"no name of an image|empty image|holds a NUL"):
        agent(image=name)(len)


@pytest.mark.parametrize("name", RIGHT)
def test_what_images_are_called_is_taken(name: str) -> None:
    assert image_name(name) == name


def test_other_things_are_no_names() -> None:
    wrong: Any = 5
    with pytest.raises(TypeError, match=r"image must be a name such as 'python:3.12-slim', not int"):
        image_name(wrong)
    for line in ("--image ../..", "--image ''"):
        with pytest.raises(UsageError, match=r"--image: .* is no name of an image"):
            parse_cell(line)
