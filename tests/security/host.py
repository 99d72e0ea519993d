"""The machine around the boxes, before and after."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import docker
from docker.models.containers import Container

from agentbox_magic import Sandbox

_ENGINE_LOG = Path("/var/log/dockerd.log")
_PTYS = Path("/proc/sys/kernel/pty/nr")


class Host:
    """What attackers in boxes look for on the host, and must neither find nor change.

    Attributes:
        names: what stands for the host's own in the code of probes.
    """

    def __init__(self, client: docker.DockerClient, canary: Container, folder: Path) -> None:
        self._client = client
        self._canary = canary
        self._started: str = canary.attrs["State"]["StartedAt"]
        self._file = folder / "canary"
        self._file.write_text("untouched")
        self._shared = Path(f"/dev/shm/agentbox-canary-{os.getpid()}")
        self._shared.write_text("untouched")
        self._port = socket.create_server(("0.0.0.0", 0))  # noqa: S104 -- boxes must not reach it, wherever it listens
        self._abstract = socket.socket(socket.AF_UNIX)
        self._abstract.bind(f"\0agentbox-canary-{os.getpid()}")
        self._abstract.listen()
        self._ptys = int(_PTYS.read_text())
        bridge = client.networks.get("bridge").attrs["IPAM"]["Config"][0]
        self.names: dict[str, Any] = {
            "HOST_PID": os.getpid(),
            "HOST_SHM": self._shared.name,
            "HOST_SOCKET": f"agentbox-canary-{os.getpid()}",
            "HOST_PORT": self._port.getsockname()[1],
            "HOST_BRIDGE": bridge.get("Gateway", "172.17.0.1"),
            "HOST_NAME": os.uname().nodename,
        }

    def close(self) -> None:
        """Take the canaries away."""
        self._port.close()
        self._abstract.close()
        self._shared.unlink()

    def inspect(self, box: Sandbox) -> dict[str, Any]:
        """The engine's description of a box's container, with the size of what it wrote to its layer on disk."""
        url = self._client.api._url("/containers/{0}/json", box.sandbox_id)
        seen: dict[str, Any] = self._client.api._result(self._client.api._get(url, params={"size": 1}), json=True)
        return seen

    def assert_unharmed(self, box: Sandbox) -> None:
        """After an attack in a box: ptys, files, disk, log and a container that is not ours are as they were."""
        assert int(_PTYS.read_text()) < self._ptys + 100  # others use a few of the 4096; an attack takes them all
        assert self._file.read_text() == self._shared.read_text() == "untouched"
        seen = self.inspect(box)
        assert not seen.get("SizeRw")
        assert not seen["LogPath"]
        self._canary.reload()
        assert self._canary.status == "running"
        assert self._canary.attrs["State"]["StartedAt"] == self._started

    @staticmethod
    def engine_log(box: Sandbox) -> int:
        """Bytes in the engine's own log that tell of a box; 0 where that log cannot be read."""
        if not _ENGINE_LOG.exists():
            return 0
        with _ENGINE_LOG.open(errors="replace") as lines:
            return sum(len(line) for line in lines if box.sandbox_id in line)
