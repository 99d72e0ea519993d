"""``@agent``: a function that always runs in a container of its own."""

from __future__ import annotations

import functools
import itertools
import json
import sys
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, overload

from agent_executor import calls
from agentbox_magic import arguments, pickling
from agentbox_magic import packages as specifications
from agentbox_magic.batch import Batch
from agentbox_magic.engine import Engine
from agentbox_magic.errors import BatchInterrupted, TransferError
from agentbox_magic.hardening import Box
from agentbox_magic.jobs import SPAWNED, Job, Spec
from agentbox_magic.limits import Limits
from agentbox_magic.tools import Tool, named

P = ParamSpec("P")
R = TypeVar("R")

MAX_TASK = 4096
"""Characters of ``TASK``, which goes in the header of a message; the argument itself is whole."""
MAX_ENV = 8192
"""Characters of all an agent's own environment variables."""
CLOUDPICKLE = "cloudpickle>=3,<4"
"""What functions are packed with, on both sides; our own image has it."""
MEMORY_SHARE = 0.8
"""Of the machine's memory, what boxes may be promised together by default."""


def concurrency_for(limits: Limits) -> int:
    """How many boxes with these limits the engine's machine carries."""
    cores, memory = Engine.connect().capacity()
    return max(1, min(int(cores / limits.cpus), int(MEMORY_SHARE * memory / limits.mem)))


def task_text(args: Sequence[Any], kwargs: dict[str, Any]) -> str:
    """A call's arguments as the text of ``TASK``.

    >>> task_text(("find a fox",), {}), task_text((1, [2]), {})
    ('find a fox', '[1, [2]]')
    """
    value: Any = args[0] if len(args) == 1 and not kwargs else [*args, *([kwargs] if kwargs else [])]
    if not isinstance(value, str):
        try:
            value = json.dumps(value)
        except (TypeError, ValueError, RecursionError):
            value = repr(value)
    text: str = value
    return text.replace("\0", "\\0")[:MAX_TASK]


class Agent(Generic[P, R]):
    """A function whose every call runs in a fresh box. Made by :func:`agent`.

    Attributes:
        function: the function itself.
        spec: its limits, tools and so on.
        last_batch: of the last :meth:`map`, also when that was stopped.
    """

    def __init__(
        self, function: Callable[P, Any], spec: Spec, include: Sequence[types.ModuleType], numbers: Iterator[int]
    ) -> None:
        """Not for callers: use :func:`agent`."""
        functools.update_wrapper(self, function)
        self.function = function
        self.spec = spec
        self.last_batch: Batch[R] | None = None
        self._include = tuple(include)
        self._numbers = numbers

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call it in a box and wait; a coroutine function, too, gives its value here.

        Raises:
            SandboxError: how it failed.
            ExecutionInterrupted: the user pressed Ctrl-C.
        """
        job = self._job(args, kwargs)
        job.run()
        return job.result()

    def local(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Call the function here, in this process, with no walls at all."""
        return self.function(*args, **kwargs)

    def options(self, **changes: Any) -> Agent[P, R]:
        """The same agent with other limits, tools or retries: the arguments are those of :func:`agent`."""
        return _make(self.function, self, changes)

    def spawn(self, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """Call it in the background; more calls than the machine carries wait for their turn.

        Example:
            >>> @agent(timeout=60)
            ... def double(x: int) -> int:
            ...     return 2 * x
            >>> job = double.spawn(21)
            >>> job.result()
            42
        """
        job = self._job(args, kwargs)
        SPAWNED.submit(job, 1 / concurrency_for(self.spec.limits))
        return job

    def map(
        self,
        tasks: Iterable[Any],
        *,
        concurrency: int | None = None,
        order_outputs: bool = True,
        return_exceptions: bool = False,
        reuse: bool = False,
    ) -> Batch[R]:
        """Call it once for each task, each in a box of its own, and wait for all; a notebook shows how it goes.

        No failure of a task ends the others, or this: the batch tells of them.

        Args:
            tasks: the argument of each call.
            concurrency: boxes at one time; as many as the machine's cores and memory carry if None.
            order_outputs: the batch has the tasks in their order here, not in the order in which they finished.
            return_exceptions: ``batch.values`` holds the exception of a task that failed, rather than raising it.
            reuse: tasks use boxes of this batch one after another, each made new in between (see
                :meth:`Sandbox.reset <agentbox_magic.sandbox.Sandbox.reset>`): many times faster where tasks are short,
                and what then separates two tasks of the batch is that reset and not a container each.

        Raises:
            BatchInterrupted: the user pressed Ctrl-C: all that ran was ended. What was done is in its ``batch``, and in
                :attr:`last_batch`.
        """
        order_outputs = arguments.flag("order_outputs", order_outputs)
        return_exceptions = arguments.flag("return_exceptions", return_exceptions)
        reuse = arguments.flag("reuse", reuse)
        batch = self._batch(tasks, concurrency)
        batch.order_outputs, batch.return_exceptions, batch.reuse = order_outputs, return_exceptions, reuse
        try:
            return batch.wait()
        except KeyboardInterrupt:
            raise BatchInterrupted(batch) from None

    async def as_completed(self, tasks: Iterable[Any], *, concurrency: int | None = None) -> AsyncIterator[Job[R]]:
        """:meth:`map` for ``async`` code: the jobs, each when it is done. Leaving the loop ends the rest::

        async for job in scout.as_completed(tasks):
            print(job.task, job.result())
        """
        batch = self._batch(tasks, concurrency)
        async for job in batch:
            yield job

    def _batch(self, tasks: Iterable[Any], concurrency: int | None) -> Batch[R]:
        if isinstance(tasks, (str, bytes)) or not isinstance(tasks, Iterable):
            raise TypeError(f"tasks is {arguments.shown(tasks)}; give a list with the argument of each call")
        if concurrency is None:
            size = concurrency_for(self.spec.limits)
        else:
            size = arguments.whole("concurrency", concurrency, 1, 10_000, "a whole number from 1, or None")
        jobs = [self._job((task,), {}) for task in tasks]
        self.last_batch = batch = Batch(self.spec, jobs, size, self._again)
        return batch

    def _again(self, jobs: Sequence[Job[R]], changes: dict[str, Any]) -> tuple[Spec, list[Job[R]]]:
        """New jobs for the calls of old ones, with other options perhaps."""
        other = self.options(**changes) if changes else self
        return other.spec, [other._job(*job.call) for job in jobs]

    def _job(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Job[R]:
        return Job(self.spec, next(self._numbers), task_text(args, kwargs), (args, kwargs), self._pack)

    def _pack(self, call: tuple[tuple[Any, ...], dict[str, Any]], python: str) -> bytes:
        ours = f"{sys.version_info.major}.{sys.version_info.minor}"
        if not python.startswith(ours + "."):
            image = f"the image {self.spec.box.image}" if self.spec.box.image else "our image here"
            raise TransferError(
                f"{self.spec.name} cannot be sent: functions travel as bytecode of this Python, {ours}, and {image} "
                f"has {python}; use @agent(image='python:{ours}-slim'), or send source text with Sandbox.run_code"
            )
        tools = [(original, tool.stand_in()) for tool in self.spec.tools.values() for original in (tool, tool.function)]
        return pickling.dumps(self.function, *call, tools=tools, include=self._include)

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        """As a method: the object goes along as the first argument."""
        return self if instance is None else self._bound(instance)

    def _bound(self, instance: object) -> Agent[Any, R]:
        return Agent(types.MethodType(self.function, instance), self.spec, self._include, self._numbers)

    def __reduce__(self) -> Any:
        """What an agent is in a box, where another agent or it itself refers to it: the function."""
        return calls.same, (self.function,)

    def __repr__(self) -> str:
        return f"<agent {self.spec.name}>"


class _Decorator(Protocol):
    @overload
    def __call__(self, function: Callable[P, Awaitable[R]], /) -> Agent[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Agent[P, R]: ...


@overload
def agent(function: Callable[P, Awaitable[R]], /) -> Agent[P, R]: ...
@overload
def agent(function: Callable[P, R], /) -> Agent[P, R]: ...
@overload
def agent(
    *,
    mem: str | int = ...,
    cpus: float = ...,
    pids: int = ...,
    timeout: float | None = ...,
    image: str | None = ...,
    runtime: str | None = ...,
    network: str = ...,
    env: dict[str, str] | None = ...,
    packages: Sequence[str] = ...,
    preload: Sequence[str] = ...,
    tools: Sequence[Callable[..., Any] | Tool] = ...,
    retries: int = ...,
    include: Sequence[types.ModuleType] = ...,
) -> _Decorator: ...
def agent(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a function an agent: ``@agent`` or ``@agent(mem="512m", ...)``. A call of it always runs in a box.

    Args:
        mem: memory of each box, as ``docker run`` writes it.
        cpus: cores.
        pids: processes and threads.
        timeout: seconds for one call, waiting for tools included; 0 or None for no deadline.
        image: an image other than the default one, with this Python's version (functions travel as bytecode).
        runtime: the engine's runtime, such as ``"runsc"`` (gVisor); the engine's default if None.
        network: ``"none"``, loopback only.
        env: environment variables, beside ``AGENT_ID`` and ``TASK``.
        packages: what pip can fetch and the image lacks.
        preload: modules that are imported before the call arrives, where boxes are started ahead or used again.
        tools: functions of the host that it may call: see :func:`~agentbox_magic.tools.tool`. The function refers to
            them by name as it would anyway; in the box each is a stand-in that asks the host.
        retries: calls after the first one that failed, each in a new box.
        include: modules of your own that the image lacks; they go along.

    Raises:
        TypeError, ValueError: a limit that no box can have, an option that does not exist or is not what it should be,
            or a tool with arguments that JSON cannot carry.

    Example:
        >>> @agent(mem="256m", timeout=60)
        ... def shout(text: str) -> str:
        ...     return text.upper()
        >>> shout("hello")
        'HELLO'
        >>> shout.map(["a", "b"]).values
        ['A', 'B']
    """
    if function is not None:
        return _make(function, None, options)
    return lambda function: _make(function, None, options)


_LIMITS = ("mem", "cpus", "pids", "timeout", "network")
_OTHERS = ("image", "runtime", "env", "packages", "preload", "tools", "retries", "include")


def _make(function: Callable[..., Any], base: Agent[Any, Any] | None, options: dict[str, Any]) -> Agent[Any, Any]:
    """An agent with the options of another, or with the defaults, and these changes."""
    for name in options:
        if name not in (*_LIMITS, *_OTHERS):
            raise TypeError(f"agent has no option {name}; it has {', '.join((*_LIMITS, *_OTHERS))}")
    if not callable(function):
        raise TypeError(f"@agent is for functions, and {function!r} is not one")
    if isinstance(function, Agent):
        raise TypeError(f"{function!r} is an agent already; other options: {function.spec.name}.options(...)")
    before = base.spec if base else Spec(pickling.name_of(function), Limits(), Box(preload=()), {}, (), {}, 0)
    limits = Limits.of(**{**{name: getattr(before.limits, name) for name in _LIMITS}, **_only(options, _LIMITS)})
    image, runtime = before.box.image, before.box.runtime
    if "image" in options:
        image = specifications.image_name(
            arguments.optional("image", options["image"], "the name of an image, or None for ours")
        )
    if "runtime" in options:
        form = "the name of a runtime, or None for the engine's default"
        runtime = arguments.optional("runtime", options["runtime"], form) or ""
    env = arguments.environment("env", options["env"]) if "env" in options else before.env
    if sum(len(name) + len(value) for name, value in env.items()) > MAX_ENV:
        raise ValueError(f"env is more than {MAX_ENV:,} characters; give long texts as arguments")
    packages = specifications.normalise(options["packages"]) if "packages" in options else before.packages
    retries = arguments.whole("retries", options.get("retries", before.retries), 0, 10_000, "a whole number from 0")
    tools = named(options["tools"]) if "tools" in options else before.tools
    if image:
        packages = specifications.normalise([*packages, CLOUDPICKLE])
    preload = specifications.modules(options["preload"]) if "preload" in options else before.box.preload
    box = replace(before.box, image=image, runtime=runtime, preload=preload)
    new = Spec(before.name, limits, box, env, packages, tools, retries)
    include = options.get("include", base._include if base else ())
    if not isinstance(include, Sequence) or not all(isinstance(one, types.ModuleType) for one in include):
        raise TypeError(f"include is {arguments.shown(include)}; give a list of modules, such as [mymodule]")
    return Agent(function, new, include, base._numbers if base else itertools.count(1))


def _only(options: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: options[name] for name in names if name in options}
