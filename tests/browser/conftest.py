"""One JupyterLab and one browser for the whole group; they end with it, because Playwright keeps a loop running."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from browser import lab as labs
from browser.lab import Beacon, Lab, Notebook


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    if labs.CHROMIUM is None:
        pytest.skip("Chromium is not installed; on Debian or Ubuntu: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = labs.start_browser(playwright)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def lab(chromium: Browser, image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with labs.serve(tmp_path_factory.mktemp("lab")) as lab:
        yield lab


@pytest.fixture(scope="package")
def beacon() -> Iterator[Beacon]:
    beacon = Beacon()
    yield beacon
    beacon.close()


@pytest.fixture
def notebook(chromium: Browser, lab: Lab) -> Iterator[Callable[[str, list[str]], Notebook]]:
    """Makes a notebook of cells and opens it in a page of its own."""
    opened: list[Notebook] = []

    def make(name: str, cells: list[str]) -> Notebook:
        lab.write(name, cells)
        opened.append(Notebook(chromium.new_context(), lab, name))
        return opened[-1]

    yield make
    for one in opened:
        one.close()
