"""The options of ``%%sandbox`` and ``%sandbox``: from a line to typed options, or one clear line of error."""

from __future__ import annotations

import argparse
import difflib
import keyword
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from IPython.core.error import UsageError

from agentbox_magic import arguments, packages
from agentbox_magic.limits import Limits, parse_size

LIMITS = ("mem", "cpus", "pids", "timeout", "network")


class Parser(argparse.ArgumentParser):
    """argparse, but a mistake is a UsageError and nothing exits or prints, and its help is plain text: a docstring."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.color = False  # which Python 3.14 knows

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.prog}: {message}; {self.prog}? lists the options")

    def parse(self, line: str) -> argparse.Namespace:
        """The options of a line. Raises UsageError, with what was meant perhaps."""
        try:
            words = shlex.split(line)
        except ValueError as error:
            raise UsageError(f"{self.prog}: {error} in {line!r}") from None
        options, unknown = self.parse_known_args(words)
        if unknown:
            wrong = unknown[0].partition("=")[0]
            what = f"there is no option {wrong}" if wrong.startswith("-") else f"{wrong} belongs to no option"
            self.error(what + did_you_mean(wrong, self._option_string_actions))
        return options


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """
    >>> did_you_mean("--memory", ["--mem", "--cpus"])
    ', did you mean --mem?'
    >>> did_you_mean("--x", ["--mem", "--cpus"])
    ''
    """
    close = difflib.get_close_matches(wrong, list(known), 1)
    return f", did you mean {close[0]}?" if close else ""


@dataclass(frozen=True)
class CellOptions:
    """What a ``%%sandbox`` line says.

    Attributes:
        inputs: what goes in: the name in the box to the name in the notebook.
        outputs: what comes back: the name in the notebook to the name in the box.
        max_transfer: bytes that go in at most, and that come back.
        background: the name of the variable for the job; empty for none, None if the cell is waited for.
        badge: tell the walls of the box under its result.
        quiet: nothing under the cell but what its code shows.
        given: the names of the options that the line has, such as ``"mem"``.
    """

    limits: Limits
    image: str | None
    runtime: str
    packages: tuple[str, ...]
    preload: tuple[str, ...]
    env: dict[str, str]
    cwd: str | None
    session: str | None
    language: str | None
    raise_error: bool
    allow_scripts: bool
    inputs: dict[str, str]
    outputs: dict[str, str]
    max_transfer: int
    background: str | None
    badge: bool
    quiet: bool
    given: frozenset[str]


def cell_parser() -> Parser:
    """The parser of ``%%sandbox``; its help is the magic's."""
    parser = Parser(prog="%%sandbox", add_help=False, allow_abbrev=False)
    limits = parser.add_argument_group("limits")
    limits.add_argument("--mem", metavar="SIZE", help="memory, its files included (default 512m)")
    limits.add_argument("--cpus", metavar="N", help="cores, such as 0.5 (default 1)")
    limits.add_argument("--pids", metavar="N", help="processes and threads (default 50)")
    limits.add_argument("--timeout", metavar="SECONDS", help="deadline, 0 for none (default 300)")
    box = parser.add_argument_group("box")
    box.add_argument(
        "-s", "--session", metavar="NAME", help="keep the box, and its state, for the next cell that names it"
    )
    box.add_argument("-l", "--language", metavar="NAME", help="python (default) or bash")
    box.add_argument("--image", metavar="NAME", help="an image with Python 3.9 or newer (default: ours)")
    box.add_argument("--runtime", metavar="NAME", help="the engine's, such as runsc (default: its own)")
    box.add_argument("--with", dest="packages", action="append", metavar="PKG,...",
                     help="packages for pip to fetch, such as polars,httpx==0.27")  # fmt: skip
    box.add_argument("--preload", metavar="MODULE,...",
                     help="modules that are imported while the box waits, such as pandas")  # fmt: skip
    box.add_argument("--network", metavar="NAME", help="none: loopback only (default)")
    box.add_argument("--env", action="append", metavar="NAME=VALUE", help="for the environment of the code")
    box.add_argument("--cwd", metavar="DIRECTORY", help="where the code starts (default /workspace)")
    values = parser.add_argument_group("variables")
    values.add_argument("-i", "--input", action="extend", nargs="+", metavar="NAME",
                        help="take variables in: -i a,b or -i there=here")  # fmt: skip
    values.add_argument("-o", "--output", action="extend", nargs="+", metavar="NAME",
                        help="bring variables back: -o a,b or -o here=there")  # fmt: skip
    values.add_argument("--max-transfer", metavar="SIZE", help="the most that goes in, and comes back (default 64m)")
    running = parser.add_argument_group("running")
    running.add_argument("--bg", nargs="?", const="", metavar="NAME",
                         help="go on at once; the job is the cell's value, and the variable NAME")  # fmt: skip
    running.add_argument("--allow-scripts", action="store_true",
                         help="scripts of figures run, in a frame that can send what it shows to anyone")  # fmt: skip
    running.add_argument("--badge", action="store_true", help="show which walls the box has, under its result")
    running.add_argument("-q", "--quiet", action="store_true", help="show only what the code shows")
    running.add_argument("--no-raise-error", action="store_true", help="show an error of the code, but go on (Run All)")
    return parser


def parse_cell(line: str, defaults: Mapping[str, Any] | None = None) -> CellOptions:
    """Options of a ``%%sandbox`` line, and ``defaults`` for those of mem, cpus, pids, timeout, network, image,
    runtime, packages, preload and max_transfer that it does not have.

    >>> parse_cell("--mem 300m --cpus 0.5").limits.cpus
    0.5
    >>> parse_cell("-i a,b there=here -o scores").inputs
    {'a': 'a', 'b': 'b', 'there': 'here'}

    Raises:
        UsageError: an option that does not exist, or a value that no box can have.
    """
    options = cell_parser().parse(line)
    given = {name: value for name, value in vars(options).items() if value not in (None, False, "")}
    wanted = {**(defaults or {}), **given}
    try:
        limits = Limits.of(**{name: wanted[name] for name in LIMITS if name in wanted})
        env = arguments.environment("env", _pairs(options.env or ()))
        cwd = None if options.cwd is None else arguments.text("cwd", arguments.path("cwd", options.cwd))
    except ValueError as error:
        raise UsageError(f"%%sandbox: --{error}") from None
    listed = wanted.get("packages") or ()
    try:
        specs = packages.normalise(
            spec for text in ([listed] if isinstance(listed, str) else listed) for spec in packages.split(text)
        )
    except ValueError as error:
        raise UsageError(f"%%sandbox: --with: {error}") from None
    try:
        preload = packages.modules(packages.split(wanted.get("preload") or ""))
    except ValueError as error:
        raise UsageError(f"%%sandbox: --preload: {error}") from None
    try:
        max_transfer = parse_size(wanted.get("max_transfer", "64m"))
    except ValueError as error:
        raise UsageError(f"%%sandbox: --max-transfer {error}") from None
    try:
        packages.image_name(wanted.get("image") or None if options.image is None else options.image)
    except ValueError as error:
        raise UsageError(f"%%sandbox: --image: {error}") from None
    inputs, outputs = _names("-i", options.input), _names("-o", options.output)
    if (inputs or outputs) and options.language not in (None, "python"):
        raise UsageError(f"%%sandbox: -i and -o are for Python, not for {options.language}; use files there")
    if options.bg:
        _names("--bg", [options.bg])
    return CellOptions(
        limits=limits,
        image=wanted.get("image"),
        runtime=wanted.get("runtime") or "",
        packages=specs,
        preload=preload,
        env=env,
        cwd=cwd,
        session=options.session,
        language=options.language,
        raise_error=not options.no_raise_error,
        allow_scripts=options.allow_scripts,
        inputs=inputs,
        outputs=outputs,
        max_transfer=max_transfer,
        background=options.bg,
        badge=options.badge,
        quiet=options.quiet,
        given=frozenset(given),
    )


def _pairs(texts: Iterable[str]) -> dict[str, str]:
    """Variables as ``--env`` takes them.

    >>> _pairs(["A=1", "B="])
    {'A': '1', 'B': ''}
    """
    pairs = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"env: {text} is not NAME=VALUE")
        pairs[name] = value
    return pairs


def _names(option: str, words: list[str] | None) -> dict[str, str]:
    """Names as ``-i`` and ``-o`` take them: where a value goes, to where it is from."""
    names: dict[str, str] = {}
    for item in ",".join(words or []).split(",") if words else []:
        target, _, source = item.strip().partition("=")
        for name in (target, source or target):
            if not name.isidentifier() or keyword.iskeyword(name):
                raise UsageError(f"%%sandbox: {option}: {name!r} is no name of a variable; give a, or b=a")
        names[target] = source or target
    return names


def check_session(name: str, had: CellOptions, wanted: CellOptions) -> None:
    """A session keeps what its box was made with: raise UsageError where a later cell asks for something else."""
    for option in ("mem", "cpus", "pids", "network"):
        before, now = getattr(had.limits, option), getattr(wanted.limits, option)
        if option in wanted.given and before != now:
            raise _differs(name, option, f"{before // 2**20}m" if option == "mem" else str(before))
    if "image" in wanted.given and had.image != wanted.image:
        raise _differs(name, "image", had.image or "ours")
    if "runtime" in wanted.given and had.runtime != wanted.runtime:
        raise _differs(name, "runtime", had.runtime or "the engine's")
    if "packages" in wanted.given and had.packages != wanted.packages:
        raise _differs(name, "with", ",".join(had.packages) or "nothing")
    if "preload" in wanted.given and had.preload != wanted.preload:
        raise _differs(name, "preload", ",".join(had.preload) or "nothing")
    if "env" in wanted.given and had.env != wanted.env:
        raise _differs(name, "env", " ".join(had.env) or "nothing")
    if "cwd" in wanted.given and had.cwd != wanted.cwd:
        raise _differs(name, "cwd", had.cwd or "/workspace")


def _differs(name: str, option: str, had: str) -> UsageError:
    return UsageError(
        f"%%sandbox: the session {name} has --{option} {had}; leave the option out, or end it: %sandbox stop {name}"
    )
