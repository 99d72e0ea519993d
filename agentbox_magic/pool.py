"""Boxes started ahead: a call gets one that waits for code already, and another takes its place in the background.

A box is handed out once and never comes back. As many wait as :func:`config.pool_size` says, each like one of the last
that were asked for. Nothing is started before the first use, and after ten minutes without use nothing waits any more.
A box that waits has an open pipe, so it ends with this process.

A box that was started ahead is like one that was started for the call: its limits are changed by the engine where they
differ, and its environment, directory and lifetime are told to it before any code runs. What cannot be changed tells
boxes apart (:func:`_kind`); who asks for what only a new container can have gets a new one.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import secrets
import threading
from collections import deque
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field, replace

from agentbox_magic import config, deadline, derived, hardening, images, readback
from agentbox_magic.engine import Engine
from agentbox_magic.errors import SandboxError
from agentbox_magic.hardening import Box
from agentbox_magic.launch import START_SECONDS, Launched, configure, launch
from agentbox_magic.limits import Limits

IDLE_SECONDS = 600.0
"""After so long without a call nothing waits any more."""
CLOSE_SECONDS = 5.0
"""How long the end of the process waits for what is being started."""
REST_SECONDS = 0.05
"""From a call to the start of the next box: a short cell is over by then, and was not slowed."""

READ_AT_START = ("PYTHON", "LD_", "LC_", "LANG", "IPY", "MALLOC_", "GLIBC_", "TZ", "HOME", "TMP", "XDG_")
"""How the names of variables begin that a started interpreter has read already."""


@dataclass(frozen=True)
class Wish:
    """What somebody asked for. ``box`` is without what is told to a box that runs."""

    engine: Engine
    limits: Limits
    box: Box


@dataclass
class _Warm:
    """A box that waits, or will: ``ready`` has it when it has started."""

    wish: Wish
    ready: Future[Launched] = field(default_factory=Future)

    @property
    def is_alive(self) -> bool:
        if not self.ready.done():
            return True
        return self.ready.exception() is None and not self.ready.result().channel.closed

    def close(self) -> None:
        """End it, or have it end as soon as it has started."""

        def end(ready: Future[Launched]) -> None:
            if ready.exception() is None:
                ready.result().channel.close()

        self.ready.add_done_callback(end)


def _wish(engine: Engine, limits: Limits, box: Box) -> Wish | None:
    """None if only a new container will do."""
    alike = None if box.detached or box.metadata else plain(box)
    return None if alike is None else Wish(engine, limits, alike)


def plain(box: Box) -> Box | None:
    """The box without what is told to one that runs; None if it cannot be told."""
    # Only these names change with what the image holds.
    known = box.image.startswith((f"{images.REPOSITORY}:", f"{derived.REPOSITORY}:"))
    if not known or any(name.startswith(READ_AT_START) for name in box.env):
        return None
    return replace(box, env={}, cwd=None, lifetime=None)


def fit(launched: Launched, had: Limits, limits: Limits, box: Box) -> None:
    """Make a box that was started for nobody in particular what was asked for. Raises SandboxError."""
    wanted = hardening.resources_of(limits)
    changed = wanted != hardening.resources_of(had)
    if changed:
        with launched.changed():
            launched.engine.update(launched.container, wanted)
    threads = hardening.thread_counts(limits)
    is_told = box.env or box.cwd or box.lifetime is not None or threads != hardening.thread_counts(had)
    if not changed and not is_told:  # it is what was asked for, and its pipe is open
        return
    env = {**threads, **box.env}
    answer = configure(launched.channel, env=env, cwd=box.cwd, lifetime=box.lifetime)
    if changed:
        found = launched.engine.inspect(launched.container) or {"HostConfig": {}}
        readback.verify_limits(wanted, found, answer.get("memory_limit"))


def fixed(limits: Limits, box: Box) -> tuple[object, ...]:
    """What of the limits cannot be changed once a box runs."""
    # Numeric libraries read at their start how many threads they may have.
    threads = str(hardening.thread_counts(limits)) if {*box.preload} - {*hardening.PRELOAD} else ""
    return hardening.files_size(limits), limits.network, threads


def _kind(wish: Wish) -> tuple[object, ...]:
    """What cannot be changed once a box runs."""
    return wish.engine, wish.box, *fixed(wish.limits, wish.box)


def _serves(warm: Wish, wish: Wish) -> bool:
    """Whether a box will do: what it has loaded beside what is wanted does no harm."""
    return {*warm.box.preload} >= {*wish.box.preload} and _kind(warm) == _kind(
        replace(wish, box=replace(wish.box, preload=warm.box.preload))
    )


class Pool:
    """The boxes that wait in this process, and the one thread that starts them."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._wishes: deque[Wish] = deque()
        self._warm: list[_Warm] = []
        self._names: dict[str, tuple[str, Launched]] = {}
        self._used = False
        self._closed = False
        self._thread: threading.Thread | None = None

    # -- for callers --------------------------------------------------------------------------------------------------

    def take(self, engine: Engine, limits: Limits, box: Box) -> Launched | None:
        """A box that fits, configured; None if there is none. Either way the next one is being made."""
        wish = _wish(engine, limits, box)
        if wish is None or config.pool_size() == 0:
            self.trim()
            return None
        with self._changed:
            self._wishes.append(wish)
            self._used = True
            self._wake()
        warm = self._pick(wish)
        if warm is None:
            return None
        try:
            launched = warm.ready.result(deadline.left(START_SECONDS))
            fit(launched, warm.wish.limits, limits, box)
        except (SandboxError, TimeoutError, FutureTimeoutError):
            # It has died, or the engine was restarted or is frozen, or it refuses. No second one is tried: others are
            # made as fast as they are tried, and a new one that refuses says so.
            warm.close()
            return None
        except BaseException:  # the user does not wait for it
            warm.close()
            raise
        with self._changed:
            self._names[launched.container] = hardening.name_of(launched.container, limits), launched
            self._used = True  # the thread may have looked for names before there was this one
            self._wake()
        return launched

    def warm(self, wish: Wish, count: int) -> None:
        """Have ``count`` boxes wait, as many as that takes, and wait for them. Raises SandboxError."""
        config.pool = count
        with self._changed:
            self._wishes = deque([wish] * count)
            self._used = True
            self._wake()
            self._changed.wait_for(lambda: self._count(wish) >= count or not self._wishes or self._closed)
            if count and not self._wishes:
                raise SandboxError("the boxes cannot be started; Sandbox.create() tells why")

    def waiting(self) -> list[tuple[str, Limits, str]]:
        """What waits: id, limits, image."""
        with self._changed:
            return [(warm.ready.result().container, warm.wish.limits, warm.wish.box.image) for warm in self._alive()]

    def renames(self) -> dict[str, str]:
        """Containers that have been handed out, and the name that the engine does not know yet."""
        with self._changed:
            return {container: name for container, (name, _) in self._names.items()}

    def trim(self) -> None:
        """Let go at once of what is too much, after the size has changed."""
        with self._changed:
            if self._thread is not None:
                self._used = True
                self._wake()

    def close(self) -> None:
        """Let go of all and end the thread."""
        with self._changed:
            self._closed = True
            self._wishes.clear()
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:  # what it has begun and not ended by then is the will's
            thread.join(CLOSE_SECONDS)

    # -- what waits ---------------------------------------------------------------------------------------------------

    def _pick(self, wish: Wish) -> _Warm | None:
        """Take a box of a wish's kind, at best with its limits, off what waits or is being made."""
        with self._changed:
            fitting = [warm for warm in self._warm if _serves(warm.wish, wish) and warm.is_alive]
            fitting.sort(
                key=lambda warm: (not warm.ready.done(), warm.wish.box != wish.box, warm.wish.limits != wish.limits)
            )
            if not fitting:
                return None
            self._warm.remove(fitting[0])
            return fitting[0]

    def _wanted(self) -> list[Wish]:
        """What should wait: one for each of the last wishes."""
        while len(self._wishes) > config.pool_size():
            self._wishes.popleft()
        return [] if self._closed else list(self._wishes)

    def _count(self, wish: Wish) -> int:
        """How many wait that are of a wish's kind."""
        return sum(_kind(warm.wish) == _kind(wish) for warm in self._alive())

    def _alive(self) -> list[_Warm]:
        return [warm for warm in self._warm if warm.ready.done() and warm.is_alive]

    # -- the thread ---------------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        if self._thread is None and not self._closed:
            self._thread = threading.Thread(target=self._work, name="agentbox-pool", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._used or self._closed, IDLE_SECONDS)
                if self._closed or not self._used:
                    self._wishes.clear()
                    self._thread = None
                self._used = False
                ends = self._thread is None
                if not ends:
                    self._changed.wait_for(lambda: self._closed, REST_SECONDS)
            self._rename()
            for warm in self._surplus():
                warm.close()
            if ends:
                return
            while (wanted := self._begin()) is not None:
                self._make(wanted)

    def _rename(self) -> None:
        """Tell the engine, and with it whoever lists its boxes, which do not wait any more."""
        with self._changed:
            names = dict(self._names)
        for container, (name, launched) in names.items():
            with contextlib.suppress(SandboxError), launched.changed():  # or it has ended since
                launched.engine.rename(container, name)
            with self._changed:
                self._names.pop(container, None)

    def _surplus(self) -> list[_Warm]:
        """Take out what nobody asked for lately, and what has died."""
        with self._changed:
            wanted = [_kind(wish) for wish in self._wanted()]
            keep, out = [], []
            for warm in reversed(self._warm):  # of too many the newest stay
                kind = _kind(warm.wish)
                if warm.is_alive and kind in wanted:
                    wanted.remove(kind)
                    keep.append(warm)
                else:
                    out.append(warm)
            self._warm = keep[::-1]
            return out

    def _begin(self) -> _Warm | None:
        """The next box to make."""
        with self._changed:
            there = [_kind(warm.wish) for warm in self._warm]
            for wish in self._wanted():
                if _kind(wish) in there:
                    there.remove(_kind(wish))
                else:
                    warm = _Warm(wish)
                    self._warm.append(warm)
                    return warm
            return None

    def _make(self, warm: _Warm) -> None:
        wish = warm.wish
        try:
            launched = launch(wish.engine, wish.limits, wish.box, f"{hardening.WARM}{secrets.token_hex(8)}")
            try:
                configure(launched.channel)  # answered when the worker waits for code
            except SandboxError:
                launched.channel.close()
                raise
            warm.ready.set_result(launched)
        except Exception as error:
            why = error if isinstance(error, SandboxError) else SandboxError(str(error))
            warm.ready.set_exception(why)
            with self._changed:
                self._wishes.clear()  # whoever asks next hears why from a start of its own
                if warm in self._warm:
                    self._warm.remove(warm)
        with self._changed:
            self._changed.notify_all()


def start_ahead(count: int, progress: images.Progress | None = None) -> None:
    """Have so many boxes with the default limits wait, from now on, and wait until they do.

    Raises:
        EngineUnavailableError: no usable Docker engine.
        ImageError: the image cannot be had.
        SandboxError: a box does not start.
    """
    engine = Engine.connect()
    image, start = derived.prepare(engine, None, progress=progress)
    current().warm(Wish(engine, Limits(), Box(image=image, start=start)), count)


_pool = Pool()


def current() -> Pool:
    """The pool of this process."""
    return _pool


def _after_fork() -> None:
    """In a fork: what waits is the parent's."""
    global _pool
    _pool = Pool()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(lambda: _pool.close())
