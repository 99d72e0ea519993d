"""A progress bar for the one slow thing: the first build of the image."""

from __future__ import annotations

import sys
from html import escape
from types import TracebackType
from typing import Any

from IPython.core.getipython import get_ipython
from IPython.display import display

from agentbox_magic.display.block import block


class ProgressBar:
    """Call it with a text and a part from 0 to 1. It appears with the first call and stays as one line.

    In a notebook it is an output that is updated in place; elsewhere a line on stderr.
    """

    def __init__(self) -> None:
        self._handle: Any = None
        self._in_notebook = bool(getattr(get_ipython(), "kernel", None))
        self._last = ""

    def __call__(self, text: str, part: float) -> None:
        if self._in_notebook:
            bundle = self._bundle(text, part)
            if self._handle is None:
                self._handle = display(bundle, raw=True, display_id=True)
            else:
                self._handle.update(bundle, raw=True)
        elif sys.stderr.isatty():
            filled = round(part * 20)
            print(f"\r\x1b[K[{'#' * filled}{'.' * (20 - filled)}] {part:4.0%} {text[:80]}", end="", file=sys.stderr)
        elif text != self._last:
            print(f"{part:4.0%} {text}", file=sys.stderr)
        self._last = text
        sys.stderr.flush()

    @staticmethod
    def _bundle(text: str, part: float) -> dict[str, str]:
        bar = f'<progress max="1" value="{part:.3f}" style="width:16em">{part:.0%}</progress>'
        return {
            "text/plain": f"{part:.0%} {text}",
            "text/html": block("progress", f"{bar} {part:.0%} {escape(text)}"),
        }

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._last and not self._in_notebook and sys.stderr.isatty():
            print(file=sys.stderr)
