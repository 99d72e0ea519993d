"""The same box for ``async`` code: every method that waits is a coroutine with the name it has in
:class:`~agentbox_magic.sandbox.Sandbox`. The waiting is done in threads."""

from __future__ import annotations

import asyncio
import builtins
import functools
import threading
from collections.abc import Callable, Coroutine
from pathlib import PurePath
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar

from agentbox_magic import arguments
from agentbox_magic.commands import CommandHandle, Commands
from agentbox_magic.execution import Execution
from agentbox_magic.files import Files, WatchHandle
from agentbox_magic.forward import Forward
from agentbox_magic.limits import Limits
from agentbox_magic.records import Context
from agentbox_magic.sandbox import Sandbox

P = ParamSpec("P")
R = TypeVar("R")
Inner = TypeVar("Inner")


class _Async:
    """Around an object whose methods wait."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner


def _awaited(method: Callable[Concatenate[Inner, P], R]) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, R]]:
    """The method as a coroutine: the same arguments, result and errors."""

    @functools.wraps(method)
    async def call(self: _Async, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await asyncio.to_thread(method, self._inner, *args, **kwargs)

    return call


class AsyncFiles(_Async):
    """``box.files``. See :class:`~agentbox_magic.files.Files`."""

    read = _awaited(Files.read)
    write = _awaited(Files.write)
    write_files = _awaited(Files.write_files)
    exists = _awaited(Files.exists)
    get_info = _awaited(Files.get_info)
    make_dir = _awaited(Files.make_dir)
    rename = _awaited(Files.rename)
    remove = _awaited(Files.remove)
    list = _awaited(Files.list)
    upload = _awaited(Files.upload)
    download = _awaited(Files.download)

    async def watch_dir(self, path: str | PurePath, *, recursive: bool = False) -> AsyncWatchHandle:
        """See :meth:`Files.watch_dir <agentbox_magic.files.Files.watch_dir>`."""
        return AsyncWatchHandle(await asyncio.to_thread(self._inner.watch_dir, path, recursive=recursive))


class AsyncWatchHandle(_Async):
    """A watch. See :class:`~agentbox_magic.files.WatchHandle`."""

    get_new_events = _awaited(WatchHandle.get_new_events)
    stop = _awaited(WatchHandle.stop)


class AsyncCommandHandle(_Async):
    """A command in the background. See :class:`~agentbox_magic.commands.CommandHandle`."""

    wait = _awaited(CommandHandle.wait)
    interrupt = _awaited(CommandHandle.interrupt)
    kill = _awaited(CommandHandle.kill)
    send_stdin = _awaited(CommandHandle.send_stdin)
    close_stdin = _awaited(CommandHandle.close_stdin)
    disconnect = _awaited(CommandHandle.disconnect)

    @property
    def pid(self) -> int:
        """The command's process in the box."""
        pid: int = self._inner.pid
        return pid


class AsyncCommands(_Async):
    """``box.commands``. See :class:`~agentbox_magic.commands.Commands`."""

    list = _awaited(Commands.list)
    kill = _awaited(Commands.kill)
    send_stdin = _awaited(Commands.send_stdin)
    close_stdin = _awaited(Commands.close_stdin)

    async def run(self, cmd: str, background: bool = False, **options: Any) -> Any:
        """See :meth:`Commands.run <agentbox_magic.commands.Commands.run>`: a CommandResult, or in the background an
        :class:`AsyncCommandHandle`."""
        result = await asyncio.to_thread(self._inner.run, cmd, background, **options)
        return AsyncCommandHandle(result) if isinstance(result, CommandHandle) else result

    async def connect(self, pid: int, **options: Any) -> AsyncCommandHandle:
        """See :meth:`Commands.connect <agentbox_magic.commands.Commands.connect>`."""
        return AsyncCommandHandle(await asyncio.to_thread(self._inner.connect, pid, **options))


class AsyncSandbox(_Async):
    """A box for ``async`` code::

        async with await AsyncSandbox.create(mem="512m") as box:
            run = await box.run_code("1 + 1")

    A cancelled :meth:`run_code` interrupts the code in the box.
    """

    def __init__(self, inner: Sandbox) -> None:
        """Not for callers: use :meth:`create` or :meth:`connect`."""
        super().__init__(inner)
        self.files = AsyncFiles(inner.files)
        self.commands = AsyncCommands(inner.commands)

    @classmethod
    async def create(cls, **options: Any) -> AsyncSandbox:
        """See :meth:`Sandbox.create <agentbox_magic.sandbox.Sandbox.create>`."""
        return cls(await asyncio.to_thread(functools.partial(Sandbox.create, **options)))

    @classmethod
    async def connect(cls, sandbox_id: str) -> AsyncSandbox:
        """See :meth:`Sandbox.connect <agentbox_magic.sandbox.Sandbox.connect>`."""
        return cls(await asyncio.to_thread(Sandbox.connect, sandbox_id))

    @staticmethod
    async def list(metadata: dict[str, str] | None = None) -> Any:
        """See :meth:`Sandbox.list <agentbox_magic.sandbox.Sandbox.list>`."""
        return await asyncio.to_thread(Sandbox.list, metadata)

    get_info = _awaited(Sandbox.get_info)
    get_metrics = _awaited(Sandbox.get_metrics)
    create_code_context = _awaited(Sandbox.create_code_context)
    list_code_contexts = _awaited(Sandbox.list_code_contexts)
    restart_code_context = _awaited(Sandbox.restart_code_context)
    remove_code_context = _awaited(Sandbox.remove_code_context)
    push = _awaited(Sandbox.push)
    pull = _awaited(Sandbox.pull)
    set_timeout = _awaited(Sandbox.set_timeout)
    reset = _awaited(Sandbox.reset)
    pause = _awaited(Sandbox.pause)
    resume = _awaited(Sandbox.resume)
    disconnect = _awaited(Sandbox.disconnect)
    kill = _awaited(Sandbox.kill)
    close = _awaited(Sandbox.close)

    async def run_code(self, code: str, *, context: Context | str | None = None, **options: Any) -> Execution:
        """See :meth:`Sandbox.run_code <agentbox_magic.sandbox.Sandbox.run_code>`. Callbacks are called in a thread."""
        started = threading.Event()
        interrupts: builtins.list[Callable[[], None]] = []
        theirs = options.pop("on_start", None)
        arguments.callback("on_start", theirs)

        def on_start(interrupt: Callable[[], None]) -> None:
            interrupts.append(interrupt)
            started.set()
            if theirs is not None:
                theirs(interrupt)

        run = functools.partial(self._inner.run_code, code, context=context, on_start=on_start, **options)
        work = asyncio.ensure_future(asyncio.to_thread(run))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            await asyncio.to_thread(started.wait, 5)
            for _ in range(2):  # the second time kills code that does not listen
                for interrupt in interrupts:
                    interrupt()
                done, _pending = await asyncio.wait([work], timeout=2)
                if done:
                    break
            raise

    @property
    def sandbox_id(self) -> str:
        """The id of its container."""
        container: str = self._inner.sandbox_id
        return container

    @property
    def limits(self) -> Limits:
        """What it may use."""
        limits: Limits = self._inner.limits
        return limits

    def is_running(self) -> bool:
        """Whether the box still listens."""
        return bool(self._inner.is_running())

    def get_host(self, port: int) -> str:
        """See :meth:`Sandbox.get_host <agentbox_magic.sandbox.Sandbox.get_host>`; it waits for nothing."""
        host: str = self._inner.get_host(port)
        return host

    def forward(self, port: int, on_note: Callable[[str], object] | None = None) -> Forward:
        """See :meth:`Sandbox.forward <agentbox_magic.sandbox.Sandbox.forward>`; it waits for nothing."""
        forward: Forward = self._inner.forward(port, on_note)
        return forward

    async def __aenter__(self) -> AsyncSandbox:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()
