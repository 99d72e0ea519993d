"""The host that attacks must not touch."""

from __future__ import annotations

import os
from collections.abc import Iterator

import docker
import pytest
from security.host import Host
from security.walls import CANARY

from agentbox_magic.engine import Engine


@pytest.fixture(scope="package")
def host(client: docker.DockerClient, image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """The host, with canaries: among them a container that is not ours."""
    if not Engine.connect().traits.local:
        pytest.skip("the engine's host is not this one")
    os.environ[CANARY] = "secret"
    canary = client.containers.run(
        image, ["-c", "import time; time.sleep(3600)"], entrypoint="python", detach=True, network_mode="none"
    )
    canary.reload()
    host = Host(client, canary, tmp_path_factory.mktemp("host"))
    yield host
    host.close()
    canary.remove(force=True)
    del os.environ[CANARY]
