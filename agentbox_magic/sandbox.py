"""A box and what one does with it. The names are E2B's."""

from __future__ import annotations

import builtins
import contextlib
import inspect
import os
import re
import secrets
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import PurePath
from types import TracebackType
from typing import Any

from agent_executor.wire import Header
from agentbox_magic import (
    arguments,
    badge,
    calls,
    deadline,
    derived,
    exchange,
    hardening,
    images,
    pool,
    reaper,
    relay,
    shared_pool,
)
from agentbox_magic import packages as specifications
from agentbox_magic.arguments import OF_BOX, Deadline
from agentbox_magic.channel import Channel
from agentbox_magic.collector import MAX_OUTPUT, Collector, OnClear, OnIdle, OnResult, OnText
from agentbox_magic.commands import Commands
from agentbox_magic.engine import Engine
from agentbox_magic.errors import EngineUnavailableError, SandboxClosedError, SandboxError
from agentbox_magic.execution import Execution
from agentbox_magic.files import Files
from agentbox_magic.forward import Forward
from agentbox_magic.launch import START_SECONDS, ImageGoneError, Launched, configure, greet, launch
from agentbox_magic.limits import Limits
from agentbox_magic.link import Link
from agentbox_magic.records import Context, Metrics, Pulled, SandboxInfo
from agentbox_magic.values import MAX_SIZE

DETACHED_LIFETIME = 3600.0
KILL_SECONDS, ANSWER_SECONDS = 4.0, 0.7
"""How long :meth:`Sandbox.kill` waits for the removal, and then for the engine to say how it stands: 5 are promised."""
PROMPT_SECONDS = 0.5
"""How long a run that ends with its box waits for the engine."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
"""The id of a container, or a name."""
_LANGUAGE = "the name of a language, such as python or bash"


class Sandbox:
    """One container, from :meth:`create` to :meth:`kill`. Also a context manager::

        with Sandbox.create(mem="512m", cpus=1) as box:
            run = box.run_code("1 + 1")
            assert run.text == "2"

    State is kept from one :meth:`run_code` to the next. The container dies with this process, with this object, or
    with :meth:`kill`, whichever comes first; a detached one dies with :meth:`kill` or at the end of its lifetime.

    Attributes:
        files: its files, see :class:`~agentbox_magic.files.Files`.
        commands: shell commands in it, see :class:`~agentbox_magic.commands.Commands`.
    """

    def __init__(self, launched: Launched, limits: Limits, detached: bool) -> None:
        """Not for callers: use :meth:`create` or :meth:`connect`."""
        self._engine = launched.engine
        self._container = launched.container
        self._channel = channel = launched.channel
        self._lock = threading.Lock()
        self._owner = os.getpid()
        self._removal: _Removal | None = None
        self._python = launched.python
        self._detached = detached
        # What a box that waited was told: its container does not know it, so a reset tells it again.
        self._told: tuple[dict[str, str], str | None] = {}, None
        myself = weakref.ref(self)

        def end() -> None:
            box = myself()  # a strong reference would keep an abandoned box alive
            if box is not None:
                box._give_up()

        self._link = Link(channel, limits, end, detached=detached)
        self.files = Files(self._link)
        self.commands = Commands(self._link)
        self._forwards: dict[int, Forward] = {}
        self._forwarding = threading.Lock()
        # When nobody holds the box any more its pipe closes, and PID 1 ends at the end of its pipe.
        weakref.finalize(self, channel.close)

    # -- making and finding -------------------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        *,
        mem: str | int = "512m",
        cpus: float = 1,
        pids: int = 50,
        timeout: float | None = 300,
        image: str | None = None,
        runtime: str | None = None,
        network: str = "none",
        env: dict[str, str] | None = None,
        packages: Sequence[str] = (),
        preload: Sequence[str] = (),
        cwd: str | PurePath | None = None,
        pty: bool = False,
        detach: bool = False,
        lifetime: float | None = None,
        metadata: dict[str, str] | None = None,
        use_pool: bool = False,
        progress: images.Progress | None = None,
    ) -> Sandbox:
        """Start a box.

        Args:
            mem: memory, files in it included, as ``docker run`` writes it: ``"512m"``, ``"2g"``.
            cpus: cores.
            pids: processes and threads together.
            timeout: seconds each run may take unless it says otherwise; 0 or None for no deadline.
            image: an image other than the default one: any with Python 3.9 or newer; pulled if the engine lacks it.
            runtime: the engine's runtime, such as ``"runsc"`` (gVisor); the engine's default if None.
            network: ``"none"``, loopback only.
            env: environment variables; nothing else of this process's environment is seen inside.
            packages: what pip can fetch and the image lacks, such as ``["polars", "httpx==0.27"]``. The image with them
                is kept for the next time.
            preload: modules, such as ``["pandas"]``, that are imported before the box is handed out, so that no code
                waits for it; all contexts of the box share their memory. Nothing of theirs is reloaded by an import.
            cwd: where code and commands start; ``/workspace`` if None.
            pty: commands may have a terminal. (Without it a box has none: the host has few.)
            detach: outlive this process, until the lifetime ends.
            lifetime: seconds after which the box ends by itself; an hour if it is detached, else None.
            metadata: labels of your own, to find it by in :meth:`list`.
            use_pool: take a detached box that waits, if one does, and have the next one wait, for ten minutes, for
                whichever process of this user asks first. (Boxes that are not detached have this process's own pool.)
            progress: told how the image's build goes, if it must be built.

        Raises:
            TypeError, ValueError: a limit that no box can have, a package that is not a name with an optional version,
                what is no name of a module, no environment variable, no label. Nothing has been started.
            EngineUnavailableError: no usable Docker engine.
            ImageError: the image or a package cannot be had, or the image cannot serve as a box.
            PolicyError: a wall of the box does not hold; the box has been removed.
            SandboxError: the engine refuses, has no such runtime, or the box does not start.
        """
        given = {name: value for name, value in locals().items() if name != "cls"}
        return cls.start(*_plan(**given), progress, use_pool=use_pool)

    @classmethod
    def check(cls, **options: Any) -> None:
        """Raise what :meth:`create` would for options that it does not take; for who starts a box later."""
        given = inspect.signature(cls.create).bind(**options)
        given.apply_defaults()
        _plan(**given.arguments)

    @classmethod
    def start(
        cls,
        limits: Limits,
        box: hardening.Box,
        packages: Sequence[str] = (),
        progress: images.Progress | None = None,
        *,
        use_pool: bool = False,
    ) -> Sandbox:
        """:meth:`create` for what has been checked already."""
        with deadline.within(START_SECONDS):
            engine = Engine.connect()
            reaper.sweep_once(engine)
            engine.traits.kind(box.runtime)  # before anything is built for a runtime that is not there
        image, start = derived.prepare(engine, box.image or None, packages, progress)  # which may be built, or pulled
        whole = replace(box, image=image, start=start)
        take = shared_pool.take if use_pool else pool.current().take
        with deadline.within(START_SECONDS):
            launched = take(engine, limits, whole)
        if launched is None:
            try:
                launched = launch(engine, limits, whole)
            except ImageGoneError:  # it was there when this process first looked
                images.forget(image)
                derived.prepare(engine, box.image or None, packages, progress)
                launched = launch(engine, limits, whole)
        if use_pool:
            shared_pool.refill(limits, whole)
        made = cls(launched, limits, box.detached)
        made._told = box.env, box.cwd
        return made

    @classmethod
    def connect(cls, sandbox_id: str) -> Sandbox:
        """Attach to a detached box, from this process or any other, and from as many at once as wish to; its state and
        its background commands are as they were.

        Raises:
            SandboxClosedError: there is no such box.
            SandboxError: it is not detached, or it does not answer.
        """
        arguments.name_of("sandbox_id", sandbox_id, "the id of a sandbox, as Sandbox.list() tells it")
        engine = Engine.connect()
        found = engine.inspect(sandbox_id) if _ID.fullmatch(sandbox_id) else None
        labels = found["Config"]["Labels"] if found else {}
        if found is None or labels.get(hardening.LABEL) != "sandbox" or not found["State"]["Running"]:
            raise SandboxClosedError(
                f"there is no sandbox {arguments.plain(sandbox_id)}; Sandbox.list() tells which there are"
            )
        if hardening.MAKER not in labels:
            raise SandboxError(f"the sandbox {sandbox_id} belongs to another process; create it with detach=True")
        limits = hardening.limits_of(found["Name"].removeprefix("/"), labels)
        with deadline.within(START_SECONDS):
            channel = Channel(relay.connect(found["Id"]))
            return cls(greet(engine, found["Id"], channel), limits, detached=True)

    @classmethod
    def list(cls, metadata: dict[str, str] | None = None) -> builtins.list[SandboxInfo]:
        """The boxes on the engine, of this process and of others, newest first.

        Args:
            metadata: only those that have at least this.
        """
        wanted = arguments.labels("metadata", metadata).items()
        with deadline.within(START_SECONDS):
            found = Engine.connect().containers(f"{hardening.LABEL}=sandbox")
        named = [(one, _name(one)) for one in found]
        infos = [_info(one, name) for one, name in named if not name.startswith(hardening.WARM)]
        return [info for info in infos if wanted <= info.metadata.items()]

    # -- what it is ---------------------------------------------------------------------------------------------------

    @property
    def sandbox_id(self) -> str:
        """The id of its container."""
        return self._container

    @property
    def limits(self) -> Limits:
        """What it may use."""
        return self._link.limits

    @property
    def python_version(self) -> str:
        """The Python in the box, such as ``"3.11.2"``."""
        return self._python

    def is_running(self) -> bool:
        """Whether the box still listens."""
        self._link.check_owner()
        return self._link.is_open

    def get_info(self) -> SandboxInfo:
        """The engine's view of it. Raises SandboxClosedError if it has ended."""
        self._link.check_owner()
        with deadline.within(START_SECONDS):
            found = self._engine.inspect(self._container)
            boxes = self._engine.containers(f"{hardening.LABEL}=sandbox")
        for one in boxes:
            if found is not None and one["Id"] == self._container:
                return replace(_info(one, _name(one)), walls=badge.told(found, self._engine.traits))
        raise SandboxClosedError("this sandbox has ended; create another")

    def get_metrics(self, patience: float = 60.0) -> Metrics:
        """What it uses now, if it says so within ``patience`` seconds."""
        info = self._link.info(arguments.duration("patience", patience))
        limits = self.limits
        return Metrics(
            timestamp=datetime.now(timezone.utc),
            memory=info["memory"],
            memory_peak=info["memory_peak"],
            memory_limit=limits.mem,
            cpu_seconds=info["cpu_seconds"],
            cpu_count=limits.cpus,
            pids=info["pids"],
        )

    # -- running ------------------------------------------------------------------------------------------------------

    def run_code(
        self,
        code: str,
        *,
        language: str | None = None,
        context: Context | str | None = None,
        envs: dict[str, str] | None = None,
        timeout: float | Deadline | None = OF_BOX,
        max_output: int = 2**20,
        on_stdout: OnText | None = None,
        on_stderr: OnText | None = None,
        on_result: OnResult | None = None,
        on_clear: OnClear | None = None,
        on_idle: OnIdle | None = None,
        on_start: Callable[[Callable[[], None]], Any] | None = None,
        on_slow: Callable[[], Any] | None = None,
    ) -> Execution:
        """Run a cell and wait for its end. An error of the code is told in the answer, not raised.

        Args:
            code: as in a notebook cell; in Python, magics, ``!command`` and top-level await included.
            language: ``"python"`` or ``"bash"``; each has a context of its own.
            context: where state is kept, from :meth:`create_code_context`, or its id; runs in one take turns, and
                contexts run side by side.
            envs: environment variables of this run.
            timeout: seconds; 0 or None for no deadline; the box's own if it is left out.
            max_output: bytes kept of stdout, and as many of stderr: head and tail. At most 64 MiB.
            on_stdout: called with text as it is written, in the calling thread. Likewise ``on_stderr``.
            on_result: called with each :class:`Result` as it is displayed; again with a later state of one that has a
                ``display_id``.
            on_start: called at once with a function that interrupts this run, for another thread to call; the second
                time it kills the code's process.
            on_slow: called once, in the calling thread, if the run goes on after a second.
            on_clear: called when the code clears its displays, with whether it means to wait for the next one.
            on_idle: called while nothing comes; it gives the seconds after which to call it again, or None.

        What one of these functions raises ends the run, which is interrupted, and killed if that is not enough; the box
        goes on.

        Raises:
            TypeError, ValueError: an argument that is not what it should be, a language that the image lacks, or both a
                language and a context. Nothing has run.
            SandboxClosedError: the box has ended before.
            ExecutionInterrupted: the user pressed Ctrl-C; a second one kills the box.
            PolicyError: the box broke the protocol; it has been killed.

        Example:
            >>> with Sandbox.create() as box:
            ...     box.run_code("print('hi'); 6 * 7")
            Execution(ok, text='42')
        """
        if language is not None and context is not None:
            raise ValueError("give a language or a context, not both: a context has its language")
        payload = arguments.text("code", code).encode()
        variables = arguments.environment("envs", envs, arguments.MAX_ENVS)
        seconds = self.limits.timeout if timeout is OF_BOX else arguments.seconds("timeout", timeout)
        max_output = arguments.whole("max_output", max_output, 0, MAX_OUTPUT, f"bytes, at most {MAX_OUTPUT}")
        for name, function in (
            ("on_stdout", on_stdout), ("on_stderr", on_stderr), ("on_result", on_result), ("on_clear", on_clear),
            ("on_start", on_start), ("on_slow", on_slow), ("on_idle", on_idle),
        ):  # fmt: skip
            arguments.callback(name, function)
        where = arguments.context(context)
        spoken = "python" if language is None else arguments.name_of("language", language, _LANGUAGE)
        if spoken != "python":
            where = self._language_context(spoken)
        collector = Collector(
            self.limits, seconds, on_stdout, on_stderr, on_result, on_clear, on_idle, max_output=max_output
        )
        fields = {"context": where, "envs": variables, "timeout": seconds, "max_output": max_output}
        with self._link.call("execute_request", payload, budget=collector.budget, **fields) as call:
            if on_start:
                with self._link.ending(call, collector):
                    on_start(lambda: self._link.interrupt(call))
            until = self._link.deadline(call, seconds, where)
            return self._link.follow_to_deadline(call, collector, until, on_slow)

    def call_pickled(
        self,
        packed: bytes,
        *,
        envs: dict[str, str],
        on_stdout: OnText | None = None,
        on_stderr: OnText | None = None,
        on_tool: calls.OnTool | None = None,
    ) -> tuple[Execution, bytearray]:
        """Call a function that :func:`agentbox_magic.pickling.dumps` has packed, where and as :meth:`run_code` runs a
        cell; and what it returned, for :func:`agentbox_magic.values.decode`.

        Args:
            packed: it, its arguments, and what it needs.
            envs: environment variables of this call.
            on_stdout: called with text as it is written, in the calling thread. Likewise ``on_stderr``.
            on_tool: called with each request for a tool; :meth:`answer_tool` answers it.
        """
        return calls.call(self._link, packed, envs, on_stdout, on_stderr, on_tool)

    def answer_tool(self, header: Header, payload: bytes) -> None:
        """Answer a request for a tool; nobody hears it if the call has ended meanwhile."""
        self._link.send({"type": "tool_reply", **header}, payload)

    def _language_context(self, language: str) -> str:
        name = f"language:{language}"
        if all(context.id != name for context in self.list_code_contexts()):
            self._create_context(name, language, None)
        return name

    def create_code_context(self, *, cwd: str | PurePath | None = None, language: str | None = "python") -> Context:
        """A new place for state, with a process of its own.

        Args:
            cwd: where its code starts; the box's own directory if None.
            language: ``"python"``, also if None, or ``"bash"``.

        Raises:
            TypeError, ValueError: an argument that is not what it should be, or a language that the image lacks; the
                message says which it has.
            FileNotFoundError, PermissionError: there is no such directory, or it may not be entered.
        """
        spoken = arguments.name_of("language", "python" if language is None else language, _LANGUAGE)
        where = None if cwd is None else arguments.path("cwd", cwd)
        return self._create_context(f"context:{secrets.token_hex(4)}", spoken, where)

    def _create_context(self, name: str, language: str, cwd: str | None) -> Context:
        try:
            self._link.request("context_request", operation="create", context=name, language=language, cwd=cwd)
        except OSError as error:
            if isinstance(error, (FileNotFoundError, PermissionError)):
                raise
            raise ValueError(error.strerror) from None
        return next(context for context in self.list_code_contexts() if context.id == name)

    def list_code_contexts(self) -> builtins.list[Context]:
        """The contexts there are."""
        return [Context(str(one["id"]), str(one["language"]), str(one["cwd"])) for one in self._link.info()["contexts"]]

    def restart_code_context(self, context: Context | str) -> None:
        """Begin anew in a context: its process is killed, and what runs in it ends as ``killed``."""
        self._link.request("context_request", operation="restart", context=arguments.context(context))

    def remove_code_context(self, context: Context | str) -> None:
        """End a context and its process."""
        self._link.request("context_request", operation="remove", context=arguments.context(context))

    # -- values -------------------------------------------------------------------------------------------------------

    def push(
        self, values: Mapping[str, Any], *, context: Context | str | None = None, max_size: int = MAX_SIZE
    ) -> int:  # fmt: skip
        """Assign variables in the box, after what runs there already. The values are copied, as plain data: numbers,
        text, bytes, dates, lists, dicts and sets of them, NumPy arrays, pandas tables.

        Args:
            values: by name. Dataclasses arrive as dicts, other classes of one's own as what they are made of.
            context: where; the default one if None.
            max_size: bytes.

        Returns:
            The bytes that crossed.

        Raises:
            ValueError: a name that no variable can have.
            TransferError: a value cannot cross; the message says where in it, why, and what to do instead.
            SandboxError: as :attr:`Execution.error` has it: no memory for it in the box, no time.

        Example:
            >>> with Sandbox.create() as box:
            ...     _ = box.push({"n": 20})
            ...     _ = box.run_code("scores = {'double': n * 2}")
            ...     box.pull(["scores"])
            {'scores': {'double': 40}}
        """
        if not isinstance(values, Mapping):
            raise TypeError(f"values is {arguments.shown(values)}; give a dict of values by name, such as {{'n': 1}}")
        arguments.names("values", values)
        where, most = arguments.context(context), _max_size(max_size)
        return exchange.push(self._link, dict(values), where, most)

    def pull(
        self, names: str | Sequence[str], *, context: Context | str | None = None, max_size: int = MAX_SIZE
    ) -> Pulled:  # fmt: skip
        """Variables of the box, after what runs there already: copies, made of plain data, as :meth:`push` takes it.
        Nothing that comes is unpickled, imported or called.

        Args:
            names: one name or several.
            context: where from; the default one if None.
            max_size: bytes.

        Raises:
            ValueError: a name that no variable can have.
            TransferError: there is no such variable, or it cannot cross, or what came is not a value; the message says
                where in it, why, and what to do instead.
            SandboxError: as :meth:`push`.
        """
        wanted = arguments.names("names", names)
        found, size = exchange.pull(self._link, wanted, arguments.context(context), _max_size(max_size))
        return Pulled(found, size)

    # -- ports --------------------------------------------------------------------------------------------------------

    def get_host(self, port: int) -> str:
        """Where a TCP port of the box can be reached from this machine: ``"127.0.0.1:NNNNN"``.

        Connections to it, at most 64 at once, are carried over the box's pipe until the box ends; the box has no
        network all the same. A connection that nothing in the box takes is closed. The address is loopback's: other
        users of this machine can reach it too, and no other machine. Pages that a box serves are as trustworthy as the
        code in it: browsers send them the cookies that any page of 127.0.0.1 has set, whatever its port.

        Raises:
            ValueError: no port has that number.
            OSError: there is no room for one more process in the box.

        Example:
            >>> with Sandbox.create() as box:
            ...     server = box.commands.run("python -m http.server 8000", background=True)
            ...     box.get_host(8000).partition(":")[0]  # open http://127.0.0.1:NNNNN once it listens
            '127.0.0.1'
        """
        return self.forward(port).host

    def forward(self, port: int, on_note: Callable[[str], object] | None = None) -> Forward:
        """:meth:`get_host`, as an object that can be waited for and closed.

        Args:
            port: in the box.
            on_note: told, in a thread, why a connection was closed; by default that is logged.

        Raises:
            ValueError, OSError: as :meth:`get_host`.
        """
        port = arguments.whole("port", port, 1, 2**16 - 1, "a whole number from 1 to 65535")
        arguments.callback("on_note", on_note)
        self._link.check_owner()
        with self._forwarding:
            forward = self._forwards.get(port)
            if forward is None or not forward.is_open:
                forward = self._forwards[port] = Forward(self._link, port, on_note)
        return forward

    # -- living and ending --------------------------------------------------------------------------------------------

    def set_timeout(self, timeout: float) -> None:
        """End the box so many seconds from now, whatever its lifetime was."""
        self._link.request("lifetime_request", seconds=arguments.duration("timeout", timeout))

    def reset(self, *, env: dict[str, str] | None = None) -> None:
        """Make the box as it was when it was created: every process but its first is killed, every file removed, and it
        is looked whether anything is left. What is running ends as ``killed``.

        What the kernel has counted since the start of the container stays: its peak of memory, its CPU time, the last
        process number. Code in the box can read these; nothing else of what came before.

        Args:
            env: environment variables, in the place of those of an earlier ``reset``, beside those of the creation.

        Raises:
            TypeError, ValueError: ``env`` is not what it should be; the box is as it was.
            SandboxError: something cannot be undone, or the box does not answer within a minute; it has been killed.

        Example:
            >>> with Sandbox.create() as box:
            ...     _ = box.files.write("secret", "x")
            ...     box.reset()
            ...     box.files.exists("secret")
            False
        """
        told, cwd = self._told
        variables = {**hardening.thread_counts(self.limits), **told, **arguments.environment("env", env)}
        self._link.check_owner()
        try:
            configure(self._channel, "reset_request", env=variables, cwd=cwd)
        except SandboxError:
            self._give_up()
            raise

    def pause(self) -> None:
        """Freeze all that runs in it; it keeps its memory and uses no CPU. Deadlines go on."""
        self._link.check_owner()
        with self._changed():
            self._engine.pause(self._container)

    def resume(self) -> None:
        """Let it go on."""
        self._link.check_owner()
        with self._changed():
            self._engine.unpause(self._container)

    @contextlib.contextmanager
    def _changed(self) -> Iterator[None]:
        """Around what the engine does to the container. Raises SandboxClosedError if that has ended."""
        with self._channel.held_open() as is_open:
            if not is_open:
                raise SandboxClosedError("this sandbox has ended; create another")
            yield

    def disconnect(self) -> None:
        """Let go of a detached box, which goes on. Another box ends."""
        self._link.check_owner()
        if self._detached:
            self._link.killed = True
            self._channel.close()
        else:
            self.close()

    def kill(self, *, wait: bool = True) -> bool:
        """End the box and remove its container, whatever it is doing; False if it had ended before.

        Args:
            wait: until the engine has removed the container, or for 5 seconds, by when it says at least that it has
                ended. The box's pipe, at whose end it ends, is closed in any case.

        Raises:
            EngineUnavailableError: the engine has not said so within 5 seconds, so the container may still be there:
                the engine is frozen, or away. What is left to do is done once it answers; and this can be called again.
        """
        arguments.flag("wait", wait)
        self._link.check_owner()
        start = time.monotonic()
        removal = self._end()
        if not wait:
            return removal.was_open
        left = max(0.0, start + KILL_SECONDS - time.monotonic())
        if not (removal.wait(left) or removal.is_over()):
            how = (
                "it ends when its lifetime does; kill it again" if self._detached else "it ends by itself with its pipe"
            )
            why = f": {removal.failure}" if removal.failure else ""
            raise EngineUnavailableError(
                f"the engine does not say that the container {self._container[:12]} is gone; {how}{why}"
            )
        ended, removal.was_open = removal.was_open, False
        return ended

    def close(self) -> None:
        """What leaving a ``with`` block does: :meth:`kill`, and no word if the engine does not answer."""
        if os.getpid() == self._owner:  # a fork may unwind its parent's frames; the box is the parent's
            with contextlib.suppress(EngineUnavailableError):
                self.kill()

    def _end(self) -> _Removal:
        """Close the pipe and have the container removed."""
        with self._lock:
            removal = self._removal
            if removal is None:
                self._link.killed = True
                # Of a detached box a closed pipe tells no more than that its relay has gone.
                was_open = self._detached or not self._channel.closed
                removal = self._removal = _Removal(self._engine, self._container, was_open, self._detached)
            elif removal.failure is None:
                return removal
        self._channel.close()  # its PID 1 ends at the end of its pipe, and a container that ends is removed
        removal.begin()
        return removal

    def _give_up(self) -> None:
        """End a box that cannot go on, though its user has not asked for that."""
        removal = self._end()
        removal.was_open = False
        removal.wait(PROMPT_SECONDS)

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Sandbox({self._container[:12]}, {'running' if self._link.is_open else 'ended'})"


class _Removal:
    """The removal of a container, in a thread of its own: whoever waits for it need not do so to its end.

    Attributes:
        was_open: the box had not ended before.
        failure: why it could not be removed.
    """

    def __init__(self, engine: Engine, container: str, was_open: bool, detached: bool) -> None:
        self.was_open = was_open
        self.failure: SandboxError | None = None
        self._engine = engine
        self._container = container
        self._detached = detached
        self._tried = threading.Event()

    def begin(self) -> None:
        """Have it removed; once more, if that has failed."""
        self.failure = None
        self._tried.clear()
        threading.Thread(target=self._work, name="agentbox-remove", daemon=True).start()

    def wait(self, seconds: float) -> bool:
        """Whether it is known to be gone within so many seconds."""
        return self._tried.wait(seconds) and self.failure is None

    def is_over(self) -> bool:
        """Whether the engine says, at once, that nothing runs there any more: its removal can take long."""
        with deadline.within(ANSWER_SECONDS, anew=True), contextlib.suppress(SandboxError):
            found = self._engine.inspect(self._container)
            return found is None or not found["State"]["Running"]
        return False

    def _work(self) -> None:
        try:
            if self._detached:
                was_there = self._engine.remove(self._container)
                self.was_open = self.was_open and was_there
            else:
                self._engine.finish(self._container)
        except SandboxError as error:
            self.failure = error
        finally:
            self._tried.set()


def _plan(
    *,
    mem: object,
    cpus: Any,
    pids: Any,
    timeout: Any,
    image: object,
    runtime: object,
    network: Any,
    env: object,
    packages: Any,
    preload: Any,
    cwd: object,
    pty: object,
    detach: object,
    lifetime: object,
    metadata: object,
    use_pool: object,
    progress: object,
) -> tuple[Limits, hardening.Box, tuple[str, ...]]:
    """What :meth:`Sandbox.create` was given, checked: the limits, the box, the packages."""
    limits = Limits.of(mem, cpus, pids, timeout, network)
    detached = arguments.flag("detach", detach)
    if arguments.flag("use_pool", use_pool) and not detached:
        raise ValueError("use_pool is for detached boxes; give detach=True too")
    arguments.callback("progress", progress)
    ends = DETACHED_LIFETIME if detached else None
    box = hardening.Box(
        image=specifications.image_name(arguments.optional("image", image, "the name of an image, or None for ours")),
        runtime=arguments.optional("runtime", runtime, "the name of a runtime, or None for the engine's default") or "",
        env=arguments.environment("env", env),
        cwd=None if cwd is None else arguments.text("cwd", arguments.path("cwd", cwd)),
        pty=arguments.flag("pty", pty),
        lifetime=ends if lifetime is None else arguments.duration("lifetime", lifetime),
        detached=detached,
        metadata=arguments.labels("metadata", metadata),
        preload=(*hardening.PRELOAD, *specifications.modules(preload)),
    )
    return limits, box, specifications.normalise(packages)


def _max_size(value: int) -> int:
    return arguments.whole("max_size", value, 0, 2**62, "a number of bytes")


def _name(one: dict[str, Any]) -> str:
    """The name of a container; of one just handed out, the one that it is about to have."""
    return pool.current().renames().get(one["Id"], "") or str((one["Names"] or [""])[0]).removeprefix("/")


def _info(one: dict[str, Any], name: str) -> SandboxInfo:
    labels = one["Labels"]
    return SandboxInfo(
        sandbox_id=one["Id"],
        state=one["State"],
        image=one["Image"],
        limits=hardening.limits_of(name, labels),
        started_at=datetime.fromtimestamp(one["Created"], timezone.utc),
        detached=hardening.MAKER in labels,
        metadata=hardening.metadata_of(name, labels),
    )
