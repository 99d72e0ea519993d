"""Where the engine is: as the docker command finds it, and then wherever engines that need no setting listen."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agentbox_magic.errors import EngineUnavailableError

DEFAULT = "unix:///var/run/docker.sock"


@dataclass(frozen=True)
class Endpoint:
    """An address of an engine.

    Attributes:
        url: ``unix://``, ``tcp://``, ``ssh://`` or ``npipe://``.
        source: who names it, for people.
        certificates: the directory with ``ca.pem``, ``cert.pem`` and ``key.pem``; None for no TLS.
        verify: whether the engine's own certificate must be one of that authority's.
    """

    url: str
    source: str
    certificates: Path | None = None
    verify: bool = True

    def environment(self) -> dict[str, str]:
        """The variables with which :func:`find` finds it again, in another process and whatever the context is then."""
        checked = self.certificates is not None and self.verify
        return {
            "DOCKER_HOST": self.url,
            "DOCKER_CERT_PATH": str(self.certificates or ""),
            "DOCKER_TLS_VERIFY": "1" if checked else "",
        }


def find() -> Endpoint:
    """The engine to use: ``DOCKER_HOST``, or the context of ``DOCKER_CONTEXT`` or ``docker context use``, or the first
    socket where an engine listens.

    Raises:
        EngineUnavailableError: the context cannot be read.
    """
    url = os.environ.get("DOCKER_HOST")
    if url:
        verify = bool(os.environ.get("DOCKER_TLS_VERIFY"))
        folder = os.environ.get("DOCKER_CERT_PATH")
        certificates = Path(folder) if folder else (_docker_home() if verify else None)
        return Endpoint(url, "DOCKER_HOST", certificates, verify)
    source, context = _context()
    if context:
        return _of_context(source, context)
    if os.name == "nt":
        return Endpoint("npipe:////./pipe/docker_engine", "the default pipe")
    candidates = [path for path in _sockets() if path.is_socket()]
    usable = [path for path in candidates if _listens(path)]
    for path in [*usable, *candidates]:
        return Endpoint(f"unix://{path}", "the first socket found")
    return Endpoint(DEFAULT, "the default socket")


def _docker_home() -> Path:
    return Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")


def _context() -> tuple[str, str]:
    """The name of the context in use, and who says so; empty for none."""
    name = os.environ.get("DOCKER_CONTEXT")
    source = "DOCKER_CONTEXT"
    if not name:
        source = "docker context use"
        try:
            config = json.loads((_docker_home() / "config.json").read_text("utf-8"))
            name = config.get("currentContext")
        except (OSError, ValueError, AttributeError):
            name = None
    return source, "" if name in (None, "default") else str(name)


def _of_context(source: str, name: str) -> Endpoint:
    """A context of the docker command: a file named by the hash of its name, and its TLS material beside it."""
    contexts = _docker_home() / "contexts"
    folder = hashlib.sha256(name.encode()).hexdigest()
    try:
        known = json.loads((contexts / "meta" / folder / "meta.json").read_text("utf-8"))["Endpoints"]["docker"]
        url, verify = str(known["Host"]), not known.get("SkipTLSVerify")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise EngineUnavailableError(
            f"the Docker context {name}, which {source} names, cannot be read; `docker context ls` lists those there "
            "are, and `docker context use NAME` takes another"
        ) from error
    certificates = contexts / "tls" / folder / "docker"
    return Endpoint(url, f"the context {name} ({source})", certificates if certificates.is_dir() else None, verify)


def _sockets() -> Iterator[Path]:
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}")
    yield Path("/var/run/docker.sock")
    yield runtime / "docker.sock"  # rootless
    yield Path.home() / ".docker" / "run" / "docker.sock"  # Docker Desktop on a Mac
    yield Path.home() / ".docker" / "desktop" / "docker.sock"  # Docker Desktop on Linux
    yield Path("/run/podman/podman.sock")
    yield runtime / "podman" / "podman.sock"


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True
