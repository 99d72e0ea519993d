"""Boxes started ahead for processes that live no longer than one command: ``agentbox init --use-pool``.

What waits here is detached: it needs nobody, and ends by itself after ten minutes. Whoever takes one, or finds none,
has the next ones started by a process in the background. They wait for all processes that see the same directory of
sockets (:func:`agentbox_magic.relay.folder`): this user's, on this host. A lock in it lets one of them at a time
choose, and what is chosen is renamed before the lock is let go, so nobody else finds it.

How a box is fitted to what it was asked for, and what only a new one can have, is as in :mod:`agentbox_magic.pool`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import subprocess
import sys
import time
from dataclasses import asdict, replace
from typing import Any

from agentbox_magic import config, hardening, owner, pool, relay
from agentbox_magic.channel import Channel
from agentbox_magic.engine import Engine
from agentbox_magic.errors import SandboxError
from agentbox_magic.hardening import Box, Start
from agentbox_magic.launch import Launched, configure, greet, launch
from agentbox_magic.limits import Limits

LIFETIME = 600.0
"""Seconds for which a box waits."""
PARTING_SECONDS = 20.0
"""So long before its end a box that waits is nobody's any more."""
_UNREADY = f"{hardening.WARM}unready_"
"""How the name of a box begins that is still being made: its walls have not been looked at."""
_CLAIM, _FILL = "pool", "fill"
"""The locks: of those who choose, and of those who make."""


def take(engine: Engine, limits: Limits, box: Box) -> Launched | None:
    """A box that fits, configured; None if none waits, or if only a new one will do."""
    plain = _plain(box)
    if plain is None:
        return None
    claimed = _claim(engine, _label(limits, plain), limits, box)
    if claimed is None:
        return None
    container, had = claimed
    try:
        launched = greet(engine, container, Channel(relay.connect(container)))
        try:
            pool.fit(launched, had, limits, box)
        except BaseException:
            launched.channel.close()
            raise
        return launched
    except SandboxError:  # its time was over, or it refuses; no second one is tried: a new one that refuses says so
        _end(engine, container)
        return None
    except BaseException:  # the user does not wait for it
        _end(engine, container)
        raise


def refill(limits: Limits, box: Box) -> None:
    """Have boxes like this one wait, as many as :func:`config.pool_size` says; they are started in the background."""
    plain = _plain(box)
    if plain is not None:
        wish = json.dumps({"limits": asdict(limits), "box": asdict(plain)})
        subprocess.run(
            # A shell between, so that the process is no child of ours.
            ["/bin/sh", "-c", '"$@" &', "sh", sys.executable, "-m", "agentbox_magic.shared_pool", wish],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            cwd="/", env={**os.environ, "AGENTBOX_POOL": str(config.pool_size())}, check=False,
        )  # fmt: skip


def drain(engine: Engine) -> list[str]:
    """End all that wait for this user's processes on this host; the ids of those that this call has removed."""
    with relay.only_one(_CLAIM):
        return [one["Id"] for one in _waiting(engine) if _end(engine, one["Id"])]


def _plain(box: Box) -> Box | None:
    """What is started ahead for it; None if nothing can be."""
    plain = pool.plain(box)
    if plain is None or set(box.metadata) - {hardening.NAME} or not config.pool_size():
        return None
    return replace(plain, metadata={}, lifetime=LIFETIME)


def _place() -> str:
    """For whom it waits: those who see the same locks."""
    folder = relay.folder().stat()
    return _digest([*owner.current().split(" ")[:2], folder.st_dev, folder.st_ino])


def _label(limits: Limits, plain: Box) -> str:
    """For whom it waits, and what of it cannot be changed."""
    kind = [asdict(replace(plain, waits="")), *pool.fixed(limits, plain)]
    return f"{_place()} {_digest(kind)}"


def _digest(facts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


def _waiting(engine: Engine, label: str | None = None) -> list[dict[str, Any]]:
    """The boxes that wait for us, or are being made; all, or those with a label; newest first."""
    wanted = hardening.WAITS if label is None else f"{hardening.WAITS}={label}"
    place = _place()
    found = [
        one
        for one in engine.containers(wanted)
        if _name(one).startswith(hardening.WARM) and one["Labels"][hardening.WAITS].startswith(place)
    ]
    return sorted(found, key=lambda one: -int(one["Created"]))


def _name(one: dict[str, Any]) -> str:
    return str((one["Names"] or [""])[0]).removeprefix("/")


def _claim(engine: Engine, label: str, limits: Limits, box: Box) -> tuple[str, Limits] | None:
    """Make one that waits ours; its id and the limits that it has."""
    with relay.only_one(_CLAIM):
        for one in _waiting(engine, label):
            # Of a box that is about to end by itself nothing is changed: the engine might never finish its removal.
            ends = int(one["Created"]) + LIFETIME - PARTING_SECONDS
            if one["State"] == "running" and not _name(one).startswith(_UNREADY) and time.time() < ends:
                name = hardening.name_of(one["Id"], limits, box.metadata.get(hardening.NAME))
                with contextlib.suppress(SandboxError):  # it has ended since
                    engine.rename(one["Id"], name)
                    return one["Id"], hardening.limits_of("", one["Labels"])
    return None


def _end(engine: Engine, container: str) -> bool:
    """Whether it is this call that has removed it."""
    with contextlib.suppress(SandboxError):
        return engine.remove(container)
    return False


# -- in the background -------------------------------------------------------------------------------------------------


def fill(limits: Limits, plain: Box) -> None:
    """Make what is to wait. Raises SandboxError."""
    engine = Engine.connect()
    label = _label(limits, plain)
    with relay.only_one(_FILL):
        # Counted once: boxes that end as fast as they are made would be made for ever.
        for _ in range(config.pool_size() - len(_waiting(engine, label))):
            _make(engine, limits, replace(plain, waits=label))
    with relay.only_one(_CLAIM):
        for one in _waiting(engine)[config.pool_size() :]:  # of too many, whatever their kind, the newest stay
            _end(engine, one["Id"])


def _make(engine: Engine, limits: Limits, box: Box) -> None:
    mark = secrets.token_hex(8)
    launched = launch(engine, limits, box, f"{_UNREADY}{mark}")
    try:
        configure(launched.channel)  # answered when the worker waits for code
        with launched.changed():
            engine.rename(launched.container, f"{hardening.WARM}{mark}")
    except BaseException:
        _end(engine, launched.container)
        raise
    finally:
        launched.channel.close()


def main(text: str) -> None:
    """Make what somebody wished."""
    wish = json.loads(text)
    box = wish["box"]
    box["start"] = Start(**{name: tuple(words) for name, words in box["start"].items()})
    box["preload"] = tuple(box["preload"])
    with contextlib.suppress(SandboxError):  # whoever asks next hears why from a start of its own
        fill(Limits(**wish["limits"]), Box(**box))


if __name__ == "__main__":
    main(sys.argv[1])
