"""Real boxes on a real engine. Every test leaves the engine as it found it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator

# Boxes that wait would be seen as leaks; with AGENTBOX_POOL=2 the whole suite runs on such boxes all the same.
os.environ.setdefault("AGENTBOX_POOL", "0")

import docker
import psutil
import pytest
from kernel import Kernel
from waiting import seconds_until

from agentbox_magic import Sandbox, derived, images, pool
from agentbox_magic.engine import Engine
from agentbox_magic.hardening import LABEL, OWNER, WARM


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--units", action="store_true", help="only the tests that need no engine")


def pytest_configure(config: pytest.Config) -> None:
    # Ctrl-C as a person's process takes it: whoever starts the tests in the background has it ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if config.getoption("--units"):
        os.environ["DOCKER_HOST"] = "unix:///nowhere/docker.sock"


@pytest.fixture(scope="session", autouse=True)
def image(request: pytest.FixtureRequest) -> str:
    """The image, built before any test counts on it."""
    if request.config.getoption("--units"):
        return ""
    return images.build(Engine.connect(), lambda text, part: None)


@pytest.fixture(scope="session")
def client() -> Iterator[docker.DockerClient]:
    """Docker itself, to look at what we did from outside."""
    client = docker.from_env()
    yield client
    client.close()


@pytest.fixture(scope="session", autouse=True)
def _derived_images(request: pytest.FixtureRequest) -> Iterator[None]:
    """Remove the derived images that the tests leave."""
    if request.config.getoption("--units"):
        yield
        return
    client: docker.DockerClient = request.getfixturevalue("client")

    def now() -> set[str]:
        return {tag for image in client.images.list(name=derived.REPOSITORY) for tag in image.tags}

    before = now()
    yield
    for tag in now() - before:
        client.images.remove(tag)


@pytest.fixture(scope="session")
def base(image: str) -> str:
    """An image with a Python and no IPython: what ours is made from."""
    return images._base(Engine.connect(), lambda text, part: None)[0]


@pytest.fixture
def boxes(client: docker.DockerClient) -> Callable[[], set[str]]:
    """The ids of the boxes on the engine that belong to this process, or to one that it started. Others are at work
    on the same engine, perhaps."""
    ours: dict[str, bool] = {}

    def is_ours(owner: str) -> bool:
        if owner not in ours:
            pid = int(owner.split()[2]) if owner else -1
            try:
                family = {pid, *(parent.pid for parent in psutil.Process(pid).parents())}
            except (psutil.NoSuchProcess, ValueError):
                family = set()
            ours[owner] = os.getpid() in family
        return ours[owner]  # remembered: an owner may be killed in a test

    def now() -> set[str]:
        found = client.api.containers(all=True, filters={"label": f"{LABEL}=sandbox"})
        taken = pool.current().renames()  # which the engine does not know yet
        used = [one for one in found if one["Id"] in taken or not (one["Names"] or [""])[0].startswith(f"/{WARM}")]
        return {one["Id"] for one in used if is_ours(one["Labels"].get(OWNER, ""))}

    before = now()
    return lambda: now() - before


@pytest.fixture
def no_tools_left(boxes: Callable[[], set[str]]) -> Iterator[None]:
    """No box, nor a thread of a tool, outlives the test."""
    yield
    seconds_until(
        lambda: not boxes() and not [one for one in threading.enumerate() if "-tool-" in one.name],
        within=10,
    )


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    """A box that the tests of a module share."""
    with Sandbox.create(timeout=60) as box:
        yield box


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    """A kernel with the extension loaded, shared by the tests of a module."""
    kernel = Kernel()
    yield kernel
    kernel.close()
