"""A tab of a real browser with what it costs: whether it answers, after how long, and its renderers' memory."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psutil
from playwright.sync_api import Browser, Error

MIB = 2**20
MOST = 1200 * MIB
"""Memory of a tab at which it is ended, so that nothing else on the machine suffers from what it shows."""

# JupyterLab's own way with HTML that was made in this session, and with text.
_SHOW = """([kind, data]) => {
    const out = document.createElement(kind === "text/plain" ? "pre" : "div");
    if (kind === "text/plain") out.textContent = data; else out.innerHTML = data;
    document.body.append(out);
}"""
_READY = "() => Promise.all([...document.images].map(one => one.decode().catch(() => null))).then(() => null)"


@dataclass
class Cost:
    """What a display cost the tab.

    Attributes:
        seconds: until it had drawn it and answered.
        memory: the most bytes that its renderers held in RAM.
        answers: whether it did, in time.
        ended: it was ended because of :data:`MOST`.
    """

    seconds: float = 0.0
    memory: int = 0
    answers: bool = False
    ended: bool = False


class Renderers:
    """The renderer processes of a browser, watched by a thread."""

    def __init__(self, browser: Browser) -> None:
        session = browser.new_browser_cdp_session()
        known = session.send("SystemInfo.getProcessInfo")["processInfo"]
        (pid,) = (one["id"] for one in known if one["type"] == "browser")
        self._browser = psutil.Process(pid)

    def _memory(self) -> dict[psutil.Process, int]:
        found = {}
        for one in self._browser.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if "--type=renderer" in one.cmdline():
                    found[one] = one.memory_info().rss
        return found

    @contextlib.contextmanager
    def watched(self, cost: Cost) -> Iterator[None]:
        """Keep the most memory in ``cost``; end the renderers that take more than :data:`MOST`."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(0.05):
                held = self._memory()
                cost.memory = max(cost.memory, sum(held.values()))
                if sum(held.values()) > MOST:
                    cost.ended = True
                    for one in held:
                        with contextlib.suppress(psutil.NoSuchProcess):
                            one.kill()

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def show(browser: Browser, bundle: dict[str, Any], within: float) -> Cost:
    """Show a bundle in a new tab, and wait until it is drawn, its frames too, at most so many seconds."""
    cost = Cost()
    context = browser.new_context()
    page = context.new_page()
    page.set_content("<!DOCTYPE html><body></body>")
    kind = "text/html" if "text/html" in bundle else "text/plain"
    data = bundle[kind]
    for mime in ("image/png", "image/jpeg"):
        if mime in bundle:
            kind, data = "text/html", f'<img src="data:{mime};base64,{bundle[mime]}">'
    begin = time.monotonic()

    def left() -> float:
        return max(100.0, 1000 * (begin + within - time.monotonic()))

    with Renderers(browser).watched(cost), contextlib.suppress(Error):
        page.set_default_timeout(left())
        page.evaluate(_SHOW, [kind, data])
        page.wait_for_function(f"() => ({_READY})().then(() => true)", timeout=left())
        page.screenshot(timeout=left())  # now all of it that is in sight must have been drawn
        cost.answers = page.wait_for_function("() => 1 + 1", timeout=left()).json_value() == 2
    cost.seconds = time.monotonic() - begin
    with contextlib.suppress(Error):
        context.close()
    return cost
