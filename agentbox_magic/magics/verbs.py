"""What ``%sandbox`` can do: a table of verbs. Another one is a function and a row."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from IPython.core.error import UsageError

from agentbox_magic import arguments, cost
from agentbox_magic.limits import format_size
from agentbox_magic.magics.parser import Parser, did_you_mean

if TYPE_CHECKING:
    from agentbox_magic.magics.sandbox_magics import SandboxMagics
    from agentbox_magic.sandbox import Sandbox

# What loads docker is imported where it is used: loading the extension must not.


@dataclass(frozen=True)
class Verb:
    """A row.

    Attributes:
        help: what it does, in half a line.
        run: does it, and prints.
        argument: what its one argument is called; None if it has none.
        required: the argument cannot be left out.
        values: what the argument can be, for completion.
    """

    help: str
    run: Callable[[SandboxMagics, argparse.Namespace], None]
    argument: str | None = None
    required: bool = True
    values: Callable[[SandboxMagics], Iterable[str]] = lambda magics: ()


def _table(rows: Sequence[Sequence[object]]) -> None:
    """Print rows in columns; the first is the head."""
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    for row in texts:
        print("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _ours(magics: SandboxMagics) -> dict[str, Sandbox]:
    """The boxes of this kernel that run, by what they are called."""
    found = {name: box for name, (box, _) in magics.sessions.items()}
    found.update({job.name: job.box for job in magics.jobs if not job.done()})
    return {name: box for name, box in found.items() if box.is_running()}


def _ids(magics: SandboxMagics) -> list[str]:
    from agentbox_magic.sandbox import Sandbox

    return [info.sandbox_id[:12] for info in Sandbox.list()]


def _ps(magics: SandboxMagics, options: argparse.Namespace) -> None:
    from agentbox_magic.sandbox import Sandbox

    names = {box.sandbox_id: name for name, box in _ours(magics).items()}
    rows = [
        (
            info.sandbox_id[:12],
            names.get(info.sandbox_id, "detached" if info.detached else "-"),
            info.state,
            format_size(info.limits.mem),
            f"{info.limits.cpus:g}",
            info.started_at.astimezone().strftime("%Y-%m-%d %H:%M:%S"),
            info.image,
        )
        for info in Sandbox.list()
    ]
    _table([("ID", "SESSION", "STATE", "MEM", "CPUS", "STARTED", "IMAGE"), *rows] if rows else [("no box runs",)])


def _stats(magics: SandboxMagics, options: argparse.Namespace) -> None:
    rows = []
    for name, box in _ours(magics).items():
        now = box.get_metrics()
        memory = "?" if now.memory is None else f"{now.memory / now.memory_limit:.0%}"
        cpu = "?" if now.cpu_seconds is None else f"{now.cpu_seconds:.1f} s"
        rows.append((name, memory, format_size(now.memory_limit), cpu, now.pids, box.limits.pids))
    head = ("SESSION", "MEMORY", "OF", "CPU", "PIDS", "OF")
    _table([head, *rows] if rows else [("no session of this notebook runs",)])


def _logs(magics: SandboxMagics, options: argparse.Namespace) -> None:
    name = options.argument
    if name is None:
        name = next(reversed(magics.logs), None)
    if name not in magics.logs:
        _unknown("session", name or "that has run anything", magics.logs)
    print(magics.logs[name], end="")


def _stop(magics: SandboxMagics, options: argparse.Namespace) -> None:
    name = options.argument
    for job in magics.jobs:
        if job.name == name and not job.done():
            job.cancel()
            return
    if name not in magics.sessions:
        _unknown("session", name, magics.sessions)
    magics.sessions.pop(name)[0].close()


def _rm(magics: SandboxMagics, options: argparse.Namespace) -> None:
    from agentbox_magic.engine import Engine
    from agentbox_magic.sandbox import Sandbox

    found = [info.sandbox_id for info in Sandbox.list() if info.sandbox_id.startswith(options.argument)]
    if len(found) != 1:
        which = "is no box" if not found else f"is {len(found)} boxes"
        raise UsageError(f"%sandbox: {options.argument} {which}; %sandbox ps lists their ids")
    Engine.connect().remove(found[0])
    print(f"removed {found[0][:12]}")


def _prune(magics: SandboxMagics, options: argparse.Namespace) -> None:
    from agentbox_magic import reaper
    from agentbox_magic.engine import Engine

    print(f"removed {len(reaper.sweep(Engine.connect()))} ownerless boxes")


def _build(magics: SandboxMagics, options: argparse.Namespace) -> None:
    from agentbox_magic import images
    from agentbox_magic.display import ProgressBar
    from agentbox_magic.engine import Engine

    with ProgressBar() as progress:
        name = images.build(Engine.connect(), progress)
    print(f"image {name} is ready")


def _warm(magics: SandboxMagics, options: argparse.Namespace) -> None:
    from agentbox_magic import pool
    from agentbox_magic.display import ProgressBar

    try:
        count = arguments.whole("warm", options.argument, 0, 1000, "a number of boxes, such as 2")
    except ValueError as error:
        raise UsageError(f"%sandbox: {error}") from None
    with ProgressBar() as progress:
        pool.start_ahead(count, progress)
    _pool(magics, options)


def _pool(magics: SandboxMagics, options: argparse.Namespace) -> None:
    from agentbox_magic import pool

    rows = [
        (container[:12], format_size(limits.mem), f"{limits.cpus:g}", image)
        for container, limits, image in pool.current().waiting()
    ]
    _table([("ID", "MEM", "CPUS", "IMAGE"), *rows] if rows else [("no box waits",)])


def _doctor(magics: SandboxMagics, options: argparse.Namespace) -> None:
    from IPython.display import display

    from agentbox_magic import doctor
    from agentbox_magic.display import ProgressBar, doctor_table
    from agentbox_magic.engine import Engine

    with ProgressBar() as progress:
        report = doctor.run(Engine.connect(), options.argument or "", progress)
    display(doctor_table(report), raw=True)


def runtimes(magics: SandboxMagics) -> Iterable[str]:
    """The names of the engine's runtimes."""
    from agentbox_magic.engine import Engine

    return Engine.connect().traits.runtimes


def _info(magics: SandboxMagics, options: argparse.Namespace) -> None:
    import agentbox_magic
    from agentbox_magic import images
    from agentbox_magic.engine import Engine

    engine = Engine.connect()
    image = images.find(engine)
    print(f"agentbox-magic   {agentbox_magic.__version__}")
    traits = engine.traits
    name = "Podman" if traits.podman else "Docker"
    mode = "rootless, " if traits.rootless else ""
    print(f"engine           {name} {traits.version}, {traits.architecture}, {mode}cgroup v{traits.cgroup}")
    print(f"runtimes         {', '.join(sorted(traits.runtimes))} (default {traits.runtime})")
    print(f"image            {image or f'{images.default_image()} (not built yet: %sandbox build)'}")
    print(f"defaults         {', '.join(f'{name} {value}' for name, value in magics.defaults().items() if value)}")


def _cost(magics: SandboxMagics, options: argparse.Namespace) -> None:
    print(cost.METER.report())


def _help(magics: SandboxMagics, options: argparse.Namespace) -> None:
    print(usage())


VERBS: dict[str, Verb] = {
    "ps": Verb("the boxes that run (also without a verb)", _ps),
    "stats": Verb("what the sessions of this notebook use now", _stats),
    "logs": Verb("the last output of a session", _logs, "NAME", False, lambda magics: magics.logs),
    "stop": Verb("end a session, or a job, and its box", _stop, "NAME", True, lambda magics: _ours(magics)),
    "rm": Verb("remove a box, whoever it belongs to", _rm, "ID", True, _ids),
    "prune": Verb("remove what a crash of the engine left of ours", _prune),
    "build": Verb("build the image boxes are made of, if the engine lacks it", _build),
    "warm": Verb("have so many boxes wait for the next cells", _warm, "N"),
    "pool": Verb("the boxes that wait for the next cells", _pool),
    "doctor": Verb("attack a box, and tell which walls hold", _doctor, "RUNTIME", False, runtimes),
    "info": Verb("versions, the image, the defaults", _info),
    "cost": Verb("what the runs of this notebook would have cost on E2B", _cost),
    "help": Verb("this list", _help),
}


def _unknown(what: str, wrong: str, known: Iterable[str]) -> NoReturn:
    names = sorted(known)
    hint = did_you_mean(wrong, names) or f"; there are: {', '.join(names) or 'none'}"
    raise UsageError(f"%sandbox: there is no {what} {wrong}{hint}")


def usage() -> str:
    """The table, as help."""
    calls = {name: f"{name} {verb.argument or ''}".strip() for name, verb in VERBS.items()}
    width = max(map(len, calls.values()))
    lines = [f"  %sandbox {calls[name]:{width}}  {verb.help}" for name, verb in VERBS.items()]
    return "\n".join(["Manage boxes and their image.", "", *lines])


def run(magics: SandboxMagics, line: str) -> None:
    """Do what a ``%sandbox`` line says. Raises UsageError."""
    name, _, rest = line.strip().removesuffix(";").strip().partition(" ")
    verb = VERBS.get(name or "ps")
    if verb is None:
        hint = did_you_mean(name, VERBS) or f"; there are: {', '.join(VERBS)}"
        raise UsageError(f"%sandbox: there is no verb {name}{hint}")
    parser = Parser(prog="%sandbox", add_help=False, allow_abbrev=False)
    if verb.argument:
        parser.add_argument("argument", metavar=verb.argument, nargs=None if verb.required else "?")
    verb.run(magics, parser.parse(rest))
