"""The ``agentbox`` command: boxes from a shell, for people and for agents that delegate work.

Exit codes are ``docker run``'s: the command's own; 125 for a failure of agentbox itself, 2 for a wrong command line.
Beside those, 124 is a deadline that ended the command, 137 also one that ran out of memory, and 130 an interrupt.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from agentbox_magic import cli_verbs, config
from agentbox_magic.cli_verbs import (
    DEADLINE,
    INTERRUPTED,
    OUT_OF_MEMORY,
    OWN_FAILURE,
    USAGE,
    Outcome,
    UsageError,
    print_outcome,
)
from agentbox_magic.errors import SandboxError
from agentbox_magic.limits import Limits
from agentbox_magic.text import clean

_ABOUT = """Run code and commands in isolated, resource-limited Docker containers.

A sandbox made by init lives until its lifetime ends or kill. ID is its id, the beginning of it, or its name; any number
of processes may use it at the same time."""

_EXIT_CODES = f"""exit codes: the command's own; {OWN_FAILURE} if agentbox itself failed, {USAGE} for a wrong command
line, {DEADLINE} for a deadline, {OUT_OF_MEMORY} for memory, {INTERRUPTED} for an interrupt"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; {self.prog} --help lists what there is")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    whole = _Parser(
        prog="agentbox", description=_ABOUT, epilog=_EXIT_CODES, formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )  # fmt: skip
    verbs = whole.add_subparsers(metavar="VERB", required=True)

    def verb(name: str, do: Callable[[argparse.Namespace], Outcome | None], about: str) -> argparse.ArgumentParser:
        one = verbs.add_parser(name, help=about, description=about, epilog=_EXIT_CODES, allow_abbrev=False)
        one.set_defaults(do=do)
        one.add_argument("--json", action="store_true", help="print one JSON document, for an error too")
        return one

    run = verb("run", cli_verbs.run, "run code in a fresh sandbox")
    run.add_argument("file", metavar="FILE", nargs="?", help="the code; - for stdin")
    run.add_argument("-c", dest="code", metavar="CODE", help="the code itself")
    run.add_argument("-l", "--language", metavar="NAME", help="python, or bash (default: by the file's name)")
    run.add_argument("--timeout", type=float, default=300, metavar="SECONDS", help="deadline, 0 for none (default 300)")
    _add_box_options(run)

    init = verb("init", cli_verbs.init, "start a sandbox that outlives this command, and print its id")
    init.add_argument("--timeout", type=float, default=3600, metavar="SECONDS", help="its lifetime (default 3600)")
    init.add_argument("--name", metavar="NAME", help="a name to call it by, beside its id")
    init.add_argument("--metadata", action="append", default=[], metavar="NAME=VALUE", help="a label of your own")
    init.add_argument("--pty", action="store_true", help="commands that Python starts in it may have a terminal")
    init.add_argument("--use-pool", action="store_true",
                      help="take one that waits, if one does; the next one is started in the background and waits for"
                      " ten minutes")  # fmt: skip
    _add_box_options(init)

    execute = verb("exec", cli_verbs.execute, "run a command in a sandbox; stdin goes to it unless that is a terminal")
    execute.add_argument("--background", action="store_true", help="print its pid in the sandbox, and let it go on")
    execute.add_argument("--timeout", type=float, metavar="SECONDS", help="deadline, 0 for none (default: none)")
    execute.add_argument("--cwd", metavar="DIRECTORY", help="where it starts (default /workspace)")
    execute.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="for its environment")
    execute.add_argument("id", metavar="ID")
    execute.add_argument("command", metavar="CMD", nargs=argparse.REMAINDER, help="one word is a line for the shell")

    upload = verb("upload", cli_verbs.upload, "copy a file or a directory into a sandbox")
    upload.add_argument("id", metavar="ID")
    upload.add_argument("local", metavar="LOCAL")
    upload.add_argument(
        "remote", metavar="REMOTE", help="the copy's own path; the directory it goes to if it ends in /"
    )

    download = verb("download", cli_verbs.download, "copy a file or a directory out of a sandbox")
    download.add_argument("id", metavar="ID")
    download.add_argument("remote", metavar="REMOTE")
    download.add_argument("local", metavar="LOCAL", help="the copy's own path, or a directory that it goes to")

    host = verb(
        "get-host", cli_verbs.get_host, "make a port of a sandbox a port of this machine's loopback, and print its URL"
    )
    host.add_argument("--detach", action="store_true", help="return at once; the port is there until the sandbox ends")
    host.add_argument("id", metavar="ID")
    host.add_argument("port", metavar="PORT", type=int)

    mcp = verb("mcp", cli_verbs.mcp, "serve a sandbox to a client of the Model Context Protocol, on stdin and stdout")
    mcp.add_argument(
        "--timeout", type=float, default=300, metavar="SECONDS", help="deadline of each call, 0 for none (default 300)"
    )
    _add_box_options(mcp)

    kill = verb("kill", cli_verbs.kill, "end sandboxes")
    kill.add_argument("ids", metavar="ID", nargs="+")

    verb("ps", cli_verbs.ps, "list the sandboxes on the engine")
    verb("build", cli_verbs.build, "build the image")
    one = verb(
        "doctor",
        cli_verbs.doctor,
        "attack a box and tell which walls hold; exit code 1 if one that is promised does not",
    )
    one.add_argument("--runtime", default="", metavar="NAME", help="the engine's, such as runsc (default: its own)")
    verb(
        "prune",
        cli_verbs.prune,
        "remove boxes that wait for init --use-pool, and what a crash left, if its owner is gone",
    )
    return whole


def _add_box_options(one: argparse.ArgumentParser) -> None:
    defaults = Limits()
    one.add_argument("--mem", default=defaults.mem, metavar="SIZE", help="memory, its files included (default 512m)")
    one.add_argument("--cpus", default=defaults.cpus, metavar="N", help="cores, such as 0.5 (default 1)")
    one.add_argument("--pids", default=defaults.pids, metavar="N", help="processes and threads (default 50)")
    one.add_argument("--image", metavar="NAME", help="an image with Python 3.9 or newer (default: ours)")
    one.add_argument("--runtime", default="", metavar="NAME", help="a runtime of the engine (default: the engine's)")
    one.add_argument("--with", dest="packages", action="append", default=[], metavar="PKG,...",
                     help="packages for pip to fetch")  # fmt: skip
    one.add_argument("--preload", action="append", default=[], metavar="MODULE,...",
                     help="modules to import before code runs, such as pandas")  # fmt: skip
    one.add_argument("--network", default=defaults.network, metavar="NAME", help="none: loopback only (default)")
    one.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="for its environment")
    one.add_argument("--cwd", metavar="DIRECTORY", help="where code and commands start (default /workspace)")


def _failed(error: Exception, as_json: bool, code: int) -> int:
    """Tell an error in one line."""
    message = str(error)
    if isinstance(error, OSError) and error.strerror:
        message = error.strerror + (f": {error.filename}" if error.filename else "")
    message = clean(message, colour=False)
    if as_json:
        print(json.dumps({"error": {"type": type(error).__name__, "message": message}}), flush=True)
    else:
        print("agentbox: " + " ".join(message.split("\n")), file=sys.stderr, flush=True)
    return code


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    as_json = "--json" in arguments
    try:
        options = parser().parse_args(arguments)
        as_json = options.json
        config.pool = 0  # a command wants one box and is over
        outcome = options.do(options)
        if outcome is None:
            return 0
        print_outcome(outcome, as_json)
        return int(outcome.code)
    except UsageError as error:
        return _failed(error, as_json, USAGE)
    except BrokenPipeError:  # whoever read our output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return OWN_FAILURE
    except (SandboxError, ValueError, OSError) as error:
        return _failed(error, as_json, OWN_FAILURE)
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
