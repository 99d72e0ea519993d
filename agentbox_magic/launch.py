"""Starts a container and waits until its PID 1 listens: the one way there is, for a box at once and for the pool."""

from __future__ import annotations

import contextlib
import json
import queue
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from agent_executor.wire import Header, ProtocolError
from agentbox_magic import deadline, hardening, readback, relay, uids, will
from agentbox_magic.channel import Channel, ChannelClosedError, RefusedError
from agentbox_magic.engine import Engine
from agentbox_magic.errors import ImageError, PolicyError, SandboxError
from agentbox_magic.limits import Limits
from agentbox_magic.text import clean

USERS = 10
"""How often another user is tried for a box whose user another box has taken at the same time."""
START_SECONDS = 60.0
"""How long a box may take from the engine's first word to its greeting, and to be configured."""
TIDY_SECONDS = 5.0
"""How long the engine may take to remove what has failed to start."""


class _SharedUserError(SandboxError):
    """Another box has the same user."""


class ImageGoneError(ImageError):
    """The engine lacks an image that it had."""


@dataclass(frozen=True)
class Launched:
    """A container whose PID 1 has greeted.

    Attributes:
        container: its id.
        channel: its pipe.
        python: the version of its Python, as it says.
    """

    engine: Engine
    container: str
    channel: Channel
    python: str

    @contextlib.contextmanager
    def changed(self) -> Iterator[None]:
        """Around a request to the engine that changes the container: it must not meet the container's end.

        Raises:
            SandboxError: that has begun.
        """
        with self.channel.held_open() as is_open:
            if not is_open:
                raise SandboxError("the box has ended")
            try:
                yield
            except (KeyboardInterrupt, SystemExit):
                # The engine is at it all the same, and looks at nothing else of this container meanwhile.
                with deadline.within(TIDY_SECONDS, anew=True), contextlib.suppress(SandboxError):
                    self.engine.inspect(self.container)
                raise


def launch(engine: Engine, limits: Limits, box: hardening.Box, name: str | None = None) -> Launched:
    """Create, attach, start, greet. ``box`` is complete: it has its image and how that is started.

    Raises:
        ImageGoneError: the engine lacks the image.
        SandboxError: the engine refuses, or the box does not answer.
    """
    taken: frozenset[int] = frozenset()
    with will.in_force(engine.where), deadline.within(START_SECONDS):
        for _ in range(USERS):
            try:
                # Not agentbox-: others' tools sweep what begins so.
                called = name or f"{hardening.LABEL}_{secrets.token_hex(8)}"
                return _launch(engine, limits, box, uids.draw(engine, taken), called)
            except _SharedUserError:
                taken = uids.taken(engine)
    raise SandboxError(f"no user was free for the box in {USERS} attempts; set AGENTBOX_UIDS to a larger range")


def _launch(engine: Engine, limits: Limits, box: hardening.Box, uid: int, name: str) -> Launched:
    config = hardening.container_config(limits, box, uid)
    container = will.create(engine, config, name)
    if container is None:
        raise ImageGoneError(f"the image {box.image} was there and is gone; try once more")
    pipe = None
    try:
        pipe = None if box.detached else engine.attach(container)
        engine.start(container)
        found = engine.inspect(container)  # while its Python starts, so that it costs no time; likewise:
        if uids.is_shared(engine, uid, container):
            raise _SharedUserError(f"another box is user {uid}")

        def check(greeting: Header) -> None:
            if found is not None:
                readback.verify(engine.traits, engine.traits.translate(config), found, greeting)

        return greet(engine, container, Channel(pipe or relay.connect(container)), check)
    except BaseException:
        if pipe is not None:
            pipe.close()
        with deadline.within(TIDY_SECONDS, anew=True):
            will.remove(engine, container)
        raise


def greet(engine: Engine, container: str, channel: Channel, check: Callable[[Header], None] | None = None) -> Launched:
    """Wait for PID 1's greeting, and have it checked. Raises SandboxError; the channel is closed then."""
    try:
        hello = channel.handshake(deadline.left(START_SECONDS))
        if check:
            check(hello)
    except PolicyError:
        channel.close()
        raise
    except (queue.Empty, ChannelClosedError, ProtocolError) as error:
        channel.close()
        said = channel.last_words.strip().splitlines()
        silent = "it does not greet in time" if isinstance(error, queue.Empty) else "it ended without a word"
        why = str(error) or (said[-1][:300] if said else silent)
        raise SandboxError(f"the box does not answer: {why}") from error
    python = hello.get("python")  # the text of anything but a string could overflow the stack
    python = clean(python[:40], colour=False) if isinstance(python, str) else "unknown"
    return Launched(engine, container, channel, python)


def configure(
    channel: Channel, kind: str = "configure_request", *, env: dict[str, str] | None = None, cwd: str | None = None,
    lifetime: float | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Tell a started box what it could have been created with, and wait until its worker waits for code; what its PID 1
    says of itself then.

    Raises:
        SandboxError: the box refuses, or is not there any more.
    """
    wish = {"env": env or {}, "cwd": cwd, "lifetime": lifetime}
    try:
        answer = channel.request(kind, json.dumps(wish).encode(), timeout=deadline.left(START_SECONDS))
    except RefusedError as error:
        raise SandboxError(f"the box refuses: {error}") from error
    except (queue.Empty, ChannelClosedError, ProtocolError) as error:
        why = str(error) or ("not in time" if isinstance(error, queue.Empty) else "it has ended")
        raise SandboxError(f"the box does not answer: {why}") from error
    return answer if isinstance(answer, dict) else {}
