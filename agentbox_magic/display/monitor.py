"""A live view of a running box: a widget under the cell, from a second on until the end.

Threads never show anything: the main thread shows the widget, one thread per kernel looks at the boxes and assigns the
widget's text, and the main thread closes it. What stays in the notebook is a line of constant text.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable
from html import escape
from typing import TYPE_CHECKING, Any

from IPython.core.getipython import get_ipython
from IPython.display import display

from agentbox_magic.errors import SandboxError
from agentbox_magic.limits import format_size

if TYPE_CHECKING:
    from agentbox_magic.records import Metrics
    from agentbox_magic.sandbox import Sandbox

PERIOD_SECONDS = 0.5
NEAR, AT = 0.8, 0.95
"""Parts of a limit from which on it is said to be near, and to be reached."""

_COLOURS = {
    "": "inherit",
    "near its limit": "var(--jp-warn-color0, #a15c00)",
    "at its limit": "var(--jp-error-color0, #c62828)",
}


def is_live() -> bool:
    """Whether live views are wanted: ``AGENTBOX_LIVE=0`` turns them off."""
    return os.environ.get("AGENTBOX_LIVE") != "0"


class Monitor:
    """The live view of one run.

    Args:
        box: looked at twice a second.
        timeout: the run's deadline in seconds.
        on_stop: makes a Stop button that calls it. A button is of use only while the kernel is free: it is for jobs.
    """

    def __init__(self, box: Sandbox, timeout: float | None, on_stop: Callable[[], Any] | None = None) -> None:
        self._box = box
        self._timeout = timeout
        self._on_stop = on_stop
        self._started = time.monotonic()
        self._output = 0
        self._cpu: tuple[float, float] | None = None
        self._lock = threading.RLock()
        self._ended = ""
        self._handles: list[Any] = []
        self._models: list[Any] = []

    def count(self, text: str) -> None:
        """Count output."""
        self._output += len(text)

    def show(self, text: str = "") -> None:
        """Show it, in the main thread; ``text`` is what stands in a saved notebook until it is closed."""
        if not is_live():
            if text:
                display({"text/plain": text}, raw=True)
            return
        if not getattr(get_ipython(), "kernel", None):
            print(text or "sandbox: running; Ctrl-C stops it", file=sys.stderr)
            return
        if not self._models:
            self._make()
        view = {"version_major": 2, "version_minor": 0, "model_id": self._root.model_id}
        bundle = {"text/plain": text, "application/vnd.jupyter.widget-view+json": view}
        self._handles.append(display(bundle, raw=True, display_id=True))

    def _make(self) -> None:
        import ipywidgets  # type: ignore[import-untyped]  # it has no types

        self._text = ipywidgets.HTML(value=self._page(self._ended or "running", []))
        self._models = [self._text, self._text.layout, self._text.style]
        self._root = self._text
        if self._on_stop:
            stop = self._on_stop
            self._button = ipywidgets.Button(
                description="Stop",
                tooltip="interrupt it; again to kill it",
                disabled=bool(self._ended),
                layout={"width": "auto"},
            )
            self._button.on_click(lambda _: stop())
            self._root = ipywidgets.HBox([self._button, self._text])
            self._models += [self._button, self._button.layout, self._button.style, self._root, self._root.layout]
        if not self._ended:
            _poller.add(self)

    # -- the poller's thread ------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Look at the box, and assign what has changed."""
        page = self._look()
        with self._lock:
            if page and self._models and not self._ended and page != self._text.value:
                self._text.value = page

    def _look(self) -> str:
        try:
            now = self._box.get_metrics()
        except SandboxError:  # it has ended; so will the run
            return ""
        return self._page("running", self._items(now))

    def _items(self, now: Metrics) -> list[str]:
        items = []
        if now.memory is not None:
            label = f"{format_size(min(now.memory, now.memory_limit))} of {format_size(now.memory_limit)}"
            items.append(_item("memory", label, now.memory / now.memory_limit))
        if now.cpu_seconds is not None:
            moment, before = time.monotonic(), self._cpu
            self._cpu = moment, now.cpu_seconds
            if before and moment > before[0]:
                share = (now.cpu_seconds - before[1]) / (moment - before[0])
                items.append(f"CPU {max(0.0, share):.0%} of {now.cpu_count * 100:g}%")
        if now.pids is not None:
            limit = self._box.limits.pids
            items.append(_item("processes", f"{now.pids} of {limit}", now.pids / limit, meter=False))
        if self._output:
            items.append(f"output {format_size(self._output)}")
        return items

    def _page(self, word: str, items: list[str]) -> str:
        elapsed = time.monotonic() - self._started
        clock = f"{elapsed:.0f} s"
        if self._timeout is not None:
            clock = _item("", f"{elapsed:.0f} of {self._timeout:g} s", elapsed / self._timeout, meter=False)
        parts = " · ".join([f"<b>{escape(word)}</b>", clock, *items])
        return (
            '<div class="agentbox-monitor" role="group" aria-label="sandbox" style="font-size:85%;line-height:1.6;'
            f'color:var(--jp-ui-font-color1, inherit)">sandbox: {parts}</div>'
        )

    # -- the end ------------------------------------------------------------------------------------------------------

    def finish(self, status: str) -> None:
        """The run has ended. From any thread: it only assigns traits."""
        _poller.remove(self)
        with self._lock:
            self._ended = status
            if self._models:
                self._text.value = self._page(status, [f"output {format_size(self._output)}"])
                if self._on_stop:
                    self._button.disabled = True

    def close(self, text: str = "") -> None:
        """Take the widget away, in the main thread; ``text`` stays in its place."""
        _poller.remove(self)
        with self._lock:
            models, self._models = self._models, []
            self._ended = self._ended or "closed"
            for handle in self._handles:
                handle.update({"text/plain": text}, raw=True)
            self._handles.clear()
            for model in models:
                model.close()


def _item(name: str, label: str, share: float, *, meter: bool = True) -> str:
    """A number against its limit; near it, in another colour and with a word that says so."""
    word = "at its limit" if share >= AT else "near its limit" if share >= NEAR else ""
    bar = ""
    if meter:
        bar = f' <meter style="width:6em" max="1" high="{NEAR}" value="{min(1.0, share):.2f}">{share:.0%}</meter>'
    text = f"{name} {label}".strip() + (f", {word}" if word else "")
    return f'<span style="color:{_COLOURS[word]}">{text}</span>{bar}'


class _Poller:
    """The thread that refreshes what is shown; it lives while there is something to refresh."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._monitors: list[Monitor] = []
        self._running = False

    def add(self, monitor: Monitor) -> None:
        with self._lock:
            self._monitors.append(monitor)
            if not self._running:
                self._running = True
                threading.Thread(target=self._run, name="agentbox-monitor", daemon=True).start()

    def remove(self, monitor: Monitor) -> None:
        with self._lock, contextlib.suppress(ValueError):
            self._monitors.remove(monitor)

    def _run(self) -> None:
        while True:
            with self._lock:
                monitors = list(self._monitors)
                if not monitors:
                    self._running = False
                    return
            for monitor in monitors:
                monitor.refresh()
            time.sleep(PERIOD_SECONDS)


_poller = _Poller()
