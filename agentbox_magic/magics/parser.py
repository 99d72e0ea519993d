"""The options of ``%%sandbox`` and ``%sandbox``: from a line to typed options, or one clear line of error."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import dataclass
from typing import NoReturn

from IPython.core.error import UsageError

from agentbox_magic import packages
from agentbox_magic.limits import Limits

LIMITS = ("mem", "cpus", "pids", "timeout", "network")


class _Parser(argparse.ArgumentParser):
    """argparse, but a mistake is a UsageError and nothing exits or prints."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.prog}: {message}; {self.prog}? lists the options")


@dataclass(frozen=True)
class CellOptions:
    """What a ``%%sandbox`` line says.

    Attributes:
        given: the names of the options that the line has, such as ``"mem"``.
    """

    limits: Limits
    image: str | None
    runtime: str
    packages: tuple[str, ...]
    session: str | None
    language: str | None
    raise_error: bool
    given: frozenset[str]


def cell_parser() -> argparse.ArgumentParser:
    """The parser of ``%%sandbox``; its help is the magic's."""
    parser = _Parser(prog="%%sandbox", add_help=False, allow_abbrev=False)
    limits = parser.add_argument_group("limits")
    limits.add_argument("--mem", metavar="SIZE", help="memory, its files included (default 512m)")
    limits.add_argument("--cpus", metavar="N", help="cores, such as 0.5 (default 1)")
    limits.add_argument("--pids", metavar="N", help="processes and threads (default 50)")
    limits.add_argument("--timeout", metavar="SECONDS", help="deadline (default 300)")
    box = parser.add_argument_group("box")
    box.add_argument(
        "-s", "--session", metavar="NAME", help="keep the box, and its state, for the next cell that names it"
    )
    box.add_argument("-l", "--language", metavar="NAME", help="python (default) or bash")
    box.add_argument("--image", metavar="NAME", help="an image with Python 3.9 or newer (default: ours)")
    box.add_argument("--runtime", metavar="NAME", default="", help="the engine's, such as runsc (default: its own)")
    box.add_argument("--with", dest="packages", action="append", metavar="PKG,...",
                     help="packages for pip to fetch, such as polars,httpx==0.27")  # fmt: skip
    box.add_argument("--network", metavar="NAME", help="none: loopback only (default)")
    box.add_argument("--no-raise-error", action="store_true", help="show an error of the code, but go on (Run All)")
    return parser


def parse_cell(line: str) -> CellOptions:
    """Options of a ``%%sandbox`` line.

    >>> parse_cell("--mem 300m --cpus 0.5").limits.cpus
    0.5

    Raises:
        UsageError: an option that does not exist, or a value that no box can have.
    """
    options = cell_parser().parse_args(_words(line))
    given = {name: value for name, value in vars(options).items() if value not in (None, False, "")}
    try:
        limits = Limits.of(**{name: given[name] for name in LIMITS if name in given})
    except ValueError as error:
        raise UsageError(f"%%sandbox: --{error}") from None
    try:
        specs = packages.normalise(spec for text in options.packages or () for spec in packages.split(text))
    except ValueError as error:
        raise UsageError(f"%%sandbox: --with: {error}") from None
    return CellOptions(
        limits, options.image, options.runtime, specs, options.session, options.language, not options.no_raise_error,
        frozenset(given),
    )  # fmt: skip


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


def _differs(name: str, option: str, had: str) -> UsageError:
    return UsageError(
        f"%%sandbox: the session {name} has --{option} {had}; leave the option out, or end it: %sandbox stop {name}"
    )


def line_parser() -> argparse.ArgumentParser:
    """The parser of ``%sandbox``."""
    parser = _Parser(prog="%sandbox", add_help=False, allow_abbrev=False)
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    verbs.add_parser("build", help="build the image boxes are made of, if the engine lacks it", add_help=False)
    stop = verbs.add_parser("stop", help="end a session and its box", add_help=False, allow_abbrev=False)
    stop.add_argument("name", metavar="NAME")
    verbs.add_parser("prune", help="remove what a crash of the engine left of ours", add_help=False)
    return parser


def parse_line(line: str) -> argparse.Namespace:
    """What a ``%sandbox`` line says. Raises UsageError."""
    return line_parser().parse_args(_words(line))


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError as error:
        raise UsageError(f"%%sandbox: {error} in {line!r}") from None
