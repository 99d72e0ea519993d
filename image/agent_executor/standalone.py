"""One task and nobody on the pipe: what the image does under plain ``docker run``.

``TASK`` holds Python as in a notebook cell. What it prints and displays goes to stdout and stderr as text; the exit
code is 0 if it ran to its end, 1 if it raised, and that of ``sys.exit`` if it called that.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from typing import TYPE_CHECKING, NoReturn, cast

from agent_executor.streams import take_over
from agent_executor.wire import Header
from agent_executor.worker import new_shell

if TYPE_CHECKING:
    from agent_executor.worker import Control

TASK = "TASK"


class Printer:
    """In the place of the socket to a supervisor: messages become text."""

    code = 0
    """The exit code."""
    is_ours = True

    def tell(self, header: Header, payload: bytes = b"") -> None:
        """Print what can be printed of a message."""
        kind = header["type"]
        if kind == "error":
            report = json.loads(payload)
            name, value = report["ename"], report["evalue"]
            self.code = 1
            if name == "SystemExit" and (value in ("", "None") or value.isdigit()):
                self.code = int(value) if value.isdigit() else 0
            else:
                print(report["traceback"] or f"{name}: {value}", file=sys.stderr, flush=True)
        elif kind in ("display_data", "execute_result"):
            start = 0
            for mime, size in header["parts"]:
                if mime == "text/plain":
                    print(payload[start : start + size].decode("utf-8", "replace"), flush=True)
                start += size

    tell_last = tell

    def sync(self) -> None:
        """Each write goes out at once."""


def _make_room() -> None:
    """A root file system that is read-only may leave but shared memory to write to."""
    try:
        folder = tempfile.gettempdir()
    except FileNotFoundError:
        folder = "/dev/shm"
    for name, path in {"TMPDIR": "", "HOME": "", "IPYTHONDIR": ".ipython", "MPLCONFIGDIR": ".matplotlib"}.items():
        os.environ[name] = os.path.join(folder, path)
    tempfile.tempdir = folder


def main() -> NoReturn:
    """Run the task and exit."""
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(128 + number))  # PID 1 has no default for it
    _make_room()
    printer = Printer()
    shell = new_shell()
    take_over(cast("Control", printer))
    shell.attach(cast("Control", printer))
    shell.run(os.environ[TASK])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(printer.code)
