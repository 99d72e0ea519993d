"""The Docker engine, as far as this package needs it. The only module that imports docker."""

from __future__ import annotations

import contextlib
import http.client
import math
import os
import re
import socket
import struct
import threading
from collections.abc import Iterator
from typing import IO, Any

import docker
import docker.errors
import requests.exceptions
import urllib3.exceptions

from agentbox_magic import deadline, endpoint
from agentbox_magic.endpoint import DEFAULT, Endpoint
from agentbox_magic.errors import EngineUnavailableError, ImageError, SandboxError
from agentbox_magic.ssh import SSHAdapter
from agentbox_magic.traits import Traits

MIN_API = (1, 41)
"""Docker Engine 20.10: the first with ``CgroupnsMode`` (https://docs.docker.com/reference/api/engine/version-history/)."""

_SECONDS = 60
"""How long an answer may take."""
CONNECT_SECONDS = 40.0
"""How long the first words with an engine may take, all together; ssh gives up after 30."""
_READ_SIZE = 256 * 1024
"""Bytes read at once of what a box sends."""
REMOVAL_SECONDS = 10
ENDING_SECONDS = 2
"""From the end of its pipe, until a box that does not end by itself is killed: frozen, or out of memory."""
_REMOVING = 409
_GONE = 404


@contextlib.contextmanager
def _plain_errors() -> Iterator[None]:
    """Turn what docker-py and requests raise into errors a person can act on."""
    try:
        yield
    except docker.errors.APIError as error:
        raise refused(SandboxError, f"the Docker engine refused: {error.explanation or error}") from error
    except (
        docker.errors.DockerException, requests.exceptions.RequestException, OSError,
        # What reads an answer piece by piece sees these as they are.
        urllib3.exceptions.HTTPError, http.client.HTTPException,
    ) as error:  # fmt: skip
        raise unavailable(error) from error


def refused(kind: type[SandboxError], said: str) -> SandboxError:
    """An error of the engine's own, with what helps where its disk is to blame."""
    if re.search("no space left on device|disk quota exceeded|read-only file system", said, re.IGNORECASE):
        shared = Engine._shared
        root = shared[2].data_root if shared else ""
        said = said.strip().splitlines()[-1][:300]
        return kind(
            f"the disk of the Docker engine cannot be written ({root or 'its data root'}, on the engine's machine): "
            f"{said}; free some there, such as with docker system prune"
        )
    return kind(said)


def unavailable(error: BaseException) -> EngineUnavailableError:
    """The one line for an engine that does not answer, from whatever the client raised."""
    where = (
        endpoint.find().url.removeprefix("unix://") if not os.environ.get("DOCKER_HOST") else os.environ["DOCKER_HOST"]
    )
    text = str(error)
    if "PermissionError" in text or "Permission denied" in text:
        return EngineUnavailableError(
            f"no permission to use the Docker engine at {where}; add yourself to its group "
            "(sudo usermod -aG docker $USER, then log in again) or use rootless Docker"
        )
    if "FileNotFoundError" in text or "No such file" in text:
        return EngineUnavailableError(
            f"no Docker engine at {where}; start Docker, or install it (https://docs.docker.com/engine/install/), "
            "or set DOCKER_HOST"
        )
    if "ConnectionRefusedError" in text or "Connection refused" in text:
        return EngineUnavailableError(f"the Docker engine at {where} is not running; start it, or set DOCKER_HOST")
    if isinstance(error, requests.exceptions.Timeout) or "timed out" in text:
        return EngineUnavailableError(
            f"the Docker engine at {where} does not answer in time: it is frozen or overloaded"
        )
    return EngineUnavailableError(f"the Docker engine at {where} does not answer: {text.splitlines()[0][:200]}")


class _Client(docker.APIClient):
    """Docker's own, with a deadline over several requests."""

    def _set_request_timeout(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Overrides docker-py's: how long this request may wait for each part of its answer."""
        wanted = kwargs.get("timeout", self.timeout)
        kwargs["timeout"] = deadline.left(math.inf if wanted is None else wanted)
        if not kwargs["timeout"]:
            raise requests.exceptions.Timeout("the time is over")
        if kwargs["timeout"] == math.inf:
            kwargs["timeout"] = None
        return kwargs


def _client(where: Endpoint) -> docker.APIClient:
    if not where.url.startswith("ssh://"):
        return _Client(base_url=where.url, version="auto", timeout=_SECONDS, tls=_tls(where))
    # docker-py's own transport for ssh needs another library. Any version does to ask for the engine's.
    client = _Client(base_url=DEFAULT, version=".".join(map(str, MIN_API)), timeout=_SECONDS)
    client.mount("http+docker://", SSHAdapter(where.url, _SECONDS))
    spoken = client.version(api_version=False)["ApiVersion"]
    client.close()
    client = _Client(base_url=DEFAULT, version=spoken, timeout=_SECONDS)
    client.mount("http+docker://", SSHAdapter(where.url, _SECONDS))
    return client


def _tls(where: Endpoint) -> docker.TLSConfig | bool:
    if where.certificates is None:
        return False
    ca, certificate, key = (where.certificates / f"{name}.pem" for name in ("ca", "cert", "key"))
    mine = (str(certificate), str(key)) if certificate.is_file() and key.is_file() else None
    return docker.TLSConfig(client_cert=mine, ca_cert=str(ca) if ca.is_file() else None, verify=where.verify)


class Pipe:
    """The attached stdin and stdout of a container's PID 1.

    Docker sends stdout and stderr on one stream, each piece behind an 8-byte header
    (https://docs.docker.com/reference/api/engine/#tag/Container/operation/ContainerAttach); what PID 1 wrote to stderr,
    which is only ever its own failure, is kept apart, its last 4 KiB.
    """

    _HEADER = struct.Struct(">BxxxL")

    def __init__(self, raw: Any) -> None:
        # What holds the connection, outermost first: docker-py gives the innermost file of a response and hangs the
        # response on it. Closed from the inside out, the response would fail to flush when it is collected.
        response = getattr(raw, "_response", None)
        self._holders = [raw] if response is None else [response.raw, raw]
        self.socket: socket.socket = getattr(raw, "_sock", raw)
        self.socket.settimeout(None)
        self._owner = os.getpid()
        self._space = memoryview(bytearray(_READ_SIZE))  # kept: memory of this size is mapped anew for each read
        self._buffer = bytearray()
        self._left = 0
        self._stream = 0
        self._closed = False
        self.stderr = bytearray()

    def send(self, data: bytes) -> None:
        """Raises OSError when the box is gone."""
        self.socket.sendall(data)

    def recv(self) -> bytes:
        """What PID 1 wrote next to stdout; empty when it is gone."""
        while True:
            if self._left and self._buffer:
                with memoryview(self._buffer) as view:  # or what is sliced is copied twice
                    piece = bytes(view[: self._left])
                del self._buffer[: len(piece)]
                self._left -= len(piece)
                if self._stream != 2:
                    return piece
                self.stderr += piece
                del self.stderr[:-4096]
            elif not self._left and len(self._buffer) >= self._HEADER.size:
                self._stream, self._left = self._HEADER.unpack_from(self._buffer)
                del self._buffer[: self._HEADER.size]
            else:
                try:
                    count = self.socket.recv_into(self._space)
                except TimeoutError:  # of an outbox that sends over TLS
                    continue
                except OSError:
                    return b""
                if not count:
                    return b""
                self._buffer += self._space[:count]

    def close(self) -> None:
        """Close both ways: the box's PID 1 sees end of file and ends. Wakes a reader."""
        if not self._closed:
            self._closed = True
            if os.getpid() == self._owner:  # a fork has a copy of the descriptor, and the pipe is not its to end
                with contextlib.suppress(OSError):
                    self.socket.shutdown(socket.SHUT_RDWR)
            for holder in [*self._holders, self.socket]:
                with contextlib.suppress(OSError):
                    holder.close()


class Engine:
    """One connection to one engine. Get it from :meth:`connect`.

    Attributes:
        traits: what kind of engine it is.
        where: its address.
        data_root: where it keeps images and containers, on its own machine; empty if it does not say.
    """

    _lock = threading.Lock()
    # In a fork: another thread of the parent's may have held it.
    os.register_at_fork(after_in_child=_lock._at_fork_reinit)  # type: ignore[attr-defined]  # not in its stubs
    _shared: tuple[int, Endpoint, Engine] | None = None

    def __init__(self, client: docker.APIClient, traits: Traits, where: Endpoint) -> None:
        self._client = client
        self.traits = traits
        self.where = where
        self.data_root = ""
        self._capacity: tuple[int, int] | None = None

    @classmethod
    def connect(cls) -> Engine:
        """The engine of this process, where :func:`agentbox_magic.endpoint.find` finds it.

        Raises:
            EngineUnavailableError: nothing answers, or it may not be used, or it is too old.
        """
        where = endpoint.find()
        with cls._lock:
            # A fork needs a connection of its own.
            if cls._shared and cls._shared[:2] == (os.getpid(), where):
                return cls._shared[2]
        with _plain_errors(), deadline.within(CONNECT_SECONDS):  # without the lock: nobody waits for another's deadline
            client = _client(where)
            version = client.version()
            api = tuple(int(part) for part in version["ApiVersion"].split("."))
            if api < MIN_API:
                raise EngineUnavailableError(
                    f"the Docker engine is {version['Version']}, which is too old; install 20.10 or newer"
                )
            info = client.info()
            engine = cls(client, Traits.of(where.url, version, info), where)
            engine.data_root = str(info.get("DockerRootDir") or "")
        with cls._lock:
            if not (cls._shared and cls._shared[:2] == (os.getpid(), where)):  # another thread was faster
                cls._shared = os.getpid(), where, engine
            return cls._shared[2]

    def capacity(self) -> tuple[int, int]:
        """The cores and the bytes of memory of the engine's machine."""
        if self._capacity is None:
            with _plain_errors():
                info = self._client.info()
            self._capacity = int(info["NCPU"]), int(info["MemTotal"])
        return self._capacity

    # -- containers ---------------------------------------------------------------------------------------------------

    def create(self, config: dict[str, Any], name: str | None = None) -> str | None:
        """Create a container from Docker's own JSON; its id, or None if the engine lacks the image.

        Raises:
            SandboxError: the engine refuses, or does not have the runtime.
        """
        config = self.traits.translate(config)
        try:
            with _plain_errors():
                container: str = self._client.create_container_from_config(config, name)["Id"]
                return container
        except SandboxError as error:
            if isinstance(error.__cause__, docker.errors.ImageNotFound):
                return None
            raise

    def attach(self, container: str) -> Pipe:
        """The pipe to PID 1: attach before the start and nothing is missed."""
        with _plain_errors():
            params = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
            return Pipe(self._client.attach_socket(container, params=params))

    def start(self, container: str) -> None:
        """Start a created container."""
        with _plain_errors():
            self._client.start(container)

    def update(self, container: str, resources: dict[str, int]) -> None:
        """Change a running container's limits, named as in its HostConfig. (docker-py's own method lacks some.)

        Raises:
            SandboxError: the engine refuses, or cannot do all of it.
        """
        with _plain_errors():
            url = self._client._url("/containers/{0}/update", container)  # type: ignore[attr-defined]  # not in its stubs
            reply = self._client._post_json(url, data=resources)  # type: ignore[attr-defined]  # not in its stubs
            answer = self._client._result(reply, json=True)  # type: ignore[attr-defined]  # not in its stubs
        if answer.get("Warnings"):
            raise SandboxError(f"the Docker engine changed the limits only in part: {answer['Warnings'][0]}")

    def rename(self, container: str, name: str) -> None:
        """Give a container another name."""
        with _plain_errors():
            self._client.rename(container, name)

    def inspect(self, container: str) -> dict[str, Any] | None:
        """The engine's own description of a container; None if there is no such container."""
        try:
            with _plain_errors():
                description: dict[str, Any] = self._client.inspect_container(container)
                return description
        except SandboxError as error:
            if isinstance(error.__cause__, docker.errors.NotFound):
                return None
            raise

    def remove(self, container: str) -> bool:
        """Kill and remove a container, and wait until it is gone; False if it was gone or going already."""
        for last in (False, True):
            try:
                with _plain_errors():
                    self._client.remove_container(container, force=True, v=True)
                return True
            except SandboxError as error:
                cause = error.__cause__
                if isinstance(cause, docker.errors.APIError) and cause.status_code == _REMOVING:
                    self._goes(container, REMOVAL_SECONDS)  # it has ended by itself, and the engine is at it
                    return False
                if isinstance(cause, docker.errors.APIError) and cause.status_code == _GONE:
                    return False
                found = self.inspect(container)
                if found is None:
                    return False
                if last or found["State"]["Running"]:  # Podman refuses to kill what has just ended by itself
                    raise
        return False

    def finish(self, container: str) -> bool:
        """Wait until a container whose pipe has ended is gone; it ends by itself, or is removed: then True."""
        # To let it end is less work for the engine than to kill it. Podman looks only now and then whether it has.
        return (self.traits.podman or not self._goes(container, ENDING_SECONDS)) and self.remove(container)

    def _goes(self, container: str, seconds: int) -> bool:
        """Whether a container is gone within so many seconds."""
        try:
            self._client.wait(container, timeout=seconds, condition="removed")  # less, if the deadline says so
        except docker.errors.APIError as error:
            return bool(error.status_code == _GONE)
        except (requests.exceptions.RequestException, OSError):
            return False
        return True

    def containers(self, label: str) -> list[dict[str, Any]]:
        """The containers with a label, running or not, as the engine lists them; without those it is removing, which
        nobody can use. (Engine 20.10 may go on listing one that ended while it was removed; nothing else is left.)"""
        with _plain_errors():
            found: list[dict[str, Any]] = self._client.containers(all=True, filters={"label": label})
            return [one for one in found if one["State"] != "removing"]

    def ending(self, label: str) -> list[dict[str, Any]]:
        """The containers with a label that the engine is removing, or has failed to remove."""
        with _plain_errors():
            found: list[dict[str, Any]] = self._client.containers(all=True, filters={"label": label})
            return [one for one in found if one["State"] in ("removing", "dead")]

    def pause(self, container: str) -> None:
        """Stop the clock for all processes of a container."""
        with _plain_errors():
            self._client.pause(container)

    def unpause(self, container: str) -> None:
        """Let them go on."""
        with _plain_errors():
            self._client.unpause(container)

    # -- images -------------------------------------------------------------------------------------------------------

    def image(self, name: str) -> dict[str, Any] | None:
        """The engine's description of an image; None if it has no such image."""
        try:
            with _plain_errors():
                description: dict[str, Any] = self._client.inspect_image(name)
                return description
        except SandboxError as error:
            if isinstance(error.__cause__, docker.errors.ImageNotFound):
                return None
            raise

    def image_names(self) -> list[str]:
        """The names of the images there are."""
        with _plain_errors():
            found: list[dict[str, Any]] = self._client.images()
            return sorted(name for one in found for name in one["RepoTags"] or () if name != "<none>:<none>")

    def pull(self, name: str) -> Iterator[dict[str, Any]]:
        """Pull an image, yielding the engine's progress records. Raises ImageError when it cannot."""
        yield from self._records(lambda: self._client.pull(name, stream=True, decode=True))

    def build(
        self, context: IO[bytes], tag: str, buildargs: dict[str, str], labels: dict[str, str]
    ) -> Iterator[dict[str, Any]]:
        """Build an image from a tar, without network, yielding progress records. Raises ImageError when it fails."""
        yield from self._records(
            lambda: self._client.build(
                fileobj=context, custom_context=True, tag=tag, buildargs=buildargs, labels=labels,
                network_mode="none", rm=True, forcerm=True, decode=True, timeout=1800,
            )
        )  # fmt: skip

    def import_image(self, tar: str, repository: str, tag: str, changes: list[str]) -> None:
        """Make an image of a tar of its file system."""
        with _plain_errors():
            self._client.import_image_from_file(tar, repository=repository, tag=tag, changes=changes)

    @staticmethod
    def _records(start: Any) -> Iterator[dict[str, Any]]:
        try:
            with _plain_errors():
                for record in start():
                    if "error" in record:
                        raise refused(ImageError, str(record["error"]).strip())
                    yield record
        except SandboxError as error:
            if isinstance(error.__cause__, docker.errors.APIError):
                raise refused(ImageError, str(error.__cause__.explanation)) from error
            raise
