"""What every shell of a worker needs, with IPython or without it: the standard streams, and values as messages."""

from __future__ import annotations

import base64
import builtins
import contextlib
import getpass
import io
import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from agent_executor.wire import MAX_PAYLOAD

if TYPE_CHECKING:
    from types import TracebackType

    from agent_executor.worker import Control

OURS = os.path.dirname(os.path.abspath(__file__)) + os.sep
MAX_TEXT = 64 * 1024
"""Longest exception text and traceback sent, in characters."""


def encode_bundle(data: dict[str, Any], most: int = MAX_PAYLOAD) -> tuple[list[list[Any]], bytes]:
    """A MIME bundle as ``[[mime, size], ...]`` and one payload: text as UTF-8, images as they are, the rest as JSON.

    What is longer than a display may be (``most`` bytes) loses its largest forms, and says so in its text; text itself
    keeps its head.

    >>> encode_bundle({"text/plain": "42", "image/png": b"..."})
    ([['text/plain', 2], ['image/png', 3]], b'42...')
    """
    forms: dict[str, bytes] = {}
    for mime, value in data.items():
        is_binary = mime == "application/pdf" or (mime.startswith("image/") and mime != "image/svg+xml")
        if is_binary and isinstance(value, str):
            raw = base64.b64decode(value)  # IPython's own formatters give images like this
        elif isinstance(value, str):
            raw = value.encode("utf-8", "replace")
        elif isinstance(value, bytes):
            raw = value
        else:
            try:
                raw = json.dumps(value).encode()
            except (TypeError, ValueError, RecursionError):
                continue
        forms[str(mime)[:200]] = raw
    forms = dict(list(forms.items())[:20])
    if sum(map(len, forms.values())) > most:
        forms = _cut(forms, most)
    return [[mime, len(raw)] for mime, raw in forms.items()], b"".join(forms.values())


def _cut(forms: dict[str, bytes], most: int) -> dict[str, bytes]:
    """Forms that are too long together, without the largest ones, and with a text that says which those were."""
    text = forms.pop("text/plain", b"")
    gone = []
    room = most - min(len(text), most // 4) - 10_000
    while forms and sum(map(len, forms.values())) > room:
        largest = max(forms, key=lambda mime: len(forms[mime]))
        gone.append(f"[{largest} of {len(forms.pop(largest)):,} bytes is too large to be shown]")
    left = most - sum(map(len, forms.values())) - 10_000
    if len(text) > left:
        gone.insert(0, f"[... {len(text) - left:,} more bytes of text ...]")
        text = text[:left].decode("utf-8", "ignore").encode()
    return {
        "text/plain": b"\n".join([*([text] if text else []), *(one.encode("utf-8", "replace") for one in gone)]),
        **forms,
    }


def cut_ours(trace: TracebackType | None) -> None:
    """Take our own frames off the end of a traceback: who reads it wants the code's."""
    last = None
    while trace is not None:
        if not trace.tb_frame.f_code.co_filename.startswith(OURS):
            last = trace
        trace = trace.tb_next
    if last is not None:
        last.tb_next = None


def encode_error(name: str, value: str, traceback: str) -> bytes:
    """The body of an ``error`` message. Of what is too long, a value keeps its beginning and a traceback its end.

    >>> encode_error("ValueError", "bad", "")
    b'{"ename": "ValueError", "evalue": "bad", "traceback": ""}'
    """
    report = {"ename": name[:200], "evalue": value[:MAX_TEXT], "traceback": traceback[-MAX_TEXT:]}
    return json.dumps(report).encode("utf-8", "replace")


def exit_code(error: BaseException | None) -> dict[str, int]:
    """``exit_code`` for a reply, where the code ended with :func:`sys.exit` and a number.

    >>> exit_code(SystemExit(3)), exit_code(SystemExit()), exit_code(SystemExit("no")), exit_code(ValueError())
    ({'exit_code': 3}, {'exit_code': 0}, {}, {})
    """
    if isinstance(error, SystemExit) and (error.code is None or isinstance(error.code, int)):
        return {"exit_code": (error.code or 0) & 0xFF}
    return {}


def leave(error: BaseException | None) -> NoReturn:
    """End a process that the code forked and that came to the end of the code, as Python ends: with the exit status
    that it asked for, or with 1 and what it raised on stderr."""
    code = exit_code(error).get("exit_code", 0 if error is None else 1)
    with contextlib.suppress(BaseException):
        if isinstance(error, SystemExit):
            if not exit_code(error):
                print(error.code, file=sys.stderr)
        elif error is not None:
            from agent_executor.plain import describe  # here: it is seldom wanted

            sys.stderr.write(describe(error)[2])
        sys.stdout.flush()
        sys.stderr.flush()
    if isinstance(error, KeyboardInterrupt):
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(code)


class Stream(io.TextIOWrapper):
    """``sys.stdout`` or ``sys.stderr``: every write goes out at once, so that nothing is lost with the process, and a
    change of stream waits for the other. The supervisor makes one piece of what a ``print`` writes."""

    last: object = None
    """The stream written to last in this execution, or what else a write must wait for; None for nothing."""

    def __init__(self, fd: int, control: Control) -> None:
        super().__init__(io.BufferedWriter(io.FileIO(fd, "w", closefd=False)), "utf-8", "backslashreplace")
        self._control = control
        self._goes_on = False

    def write(self, text: str) -> int:
        if Stream.last is not self:
            if Stream.last is not None:
                self._control.sync()
            Stream.last = self
        written = super().write(text)
        super().flush()
        self._goes_on = not text.endswith("\n")
        return written

    def flush(self) -> None:
        """Have text that does not end in a newline passed on now."""
        super().flush()
        if self._goes_on:
            self._goes_on = False
            self._control.sync()

    def isatty(self) -> bool:
        return False


def no_input(prompt: object = "") -> str:
    """In the place of :func:`input`. Raises EOFError, as where nobody is at the keyboard, and says why."""
    __tracebackhide__ = True  # IPython leaves this frame out
    raise EOFError("input() has nobody to ask in a sandbox; pass the value in instead")


def no_password(prompt: str = "", stream: object = None, **_: object) -> str:
    """In the place of :func:`getpass.getpass`, which would write to a terminal first. Raises EOFError."""
    __tracebackhide__ = True
    raise EOFError("getpass() has nobody to ask in a sandbox; pass the value in instead")


def take_over(control: Control) -> None:
    """Make the standard streams this worker's own."""
    sys.stdin = open(os.devnull)  # noqa: SIM115  # open as long as the process
    sys.stdout, sys.stderr = Stream(1, control), Stream(2, control)
    vars(sys).update(__stdout__=sys.stdout, __stderr__=sys.stderr)  # what code restores after a replacement
    builtins.input = no_input
    getpass.getpass = no_password
