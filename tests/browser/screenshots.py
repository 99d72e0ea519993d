"""The pictures of README: scenes in a real JupyterLab, in light and dark. ``screenshots.py [SCENE ...]``"""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from browser import lab as labs
from browser.lab import Lab, Notebook

IMAGES = Path(__file__).parent.parent.parent / "notebooks" / "images"
THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}
WIDTH, HEIGHT = 860, 2000
SCALE = 1.5
MAX_BYTES = 100_000
# What belongs to the reader's own session: the selected cell and its buttons.
TIDY = """
.jp-Collapser, .jp-cell-toolbar, .jp-Notebook-footer { display: none !important }
.jp-Notebook .jp-Cell.jp-mod-active { border-color: transparent !important; box-shadow: none !important }
"""


@dataclass(frozen=True)
class Scene:
    """One picture.

    Attributes:
        cells: run one after the other; those that start with ``%load_ext`` are not in the picture.
        prepare: called when all have run; without ``wait``, as soon as they have been started: it waits for what the
            picture is to show.
    """

    cells: tuple[str, ...]
    prepare: Callable[[Notebook], None] = lambda notebook: None
    wait: bool = True


def unfold(notebook: Notebook) -> None:
    """The last footer, with its table."""
    notebook.page.locator(".agentbox-footer summary").last.click()


CELL = """%%sandbox --mem 300m --cpus 0.5
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

steps = np.random.default_rng(7).normal(size=(1000, 4))
walks = pd.DataFrame(steps.cumsum(axis=0), columns=["north", "east", "south", "west"])
walks.plot(figsize=(6.4, 2.2), legend=False)
plt.show()
walks.describe().loc[["mean", "std", "max"]].round(2)"""
OOM = """%%sandbox --mem 128m
import time

rows = []
while True:
    rows.append(bytearray(5_000_000))
    time.sleep(0.05)"""
MONITOR = """%%sandbox --mem 256m --timeout 60
import time

rows = []
for step in range(44):
    rows.append(bytearray(5_000_000))
    print(f"\\rstep {step}", end="")
    time.sleep(0.1)
time.sleep(60)"""
AGENT = """from agentbox_magic import agent


@agent(mem="128m", cpus=0.5, timeout=5)
def square(n: int) -> int:
    if n == 3:
        raise ValueError("three is not for me")
    if n == 5:
        rows = bytearray(500_000_000)
    while n == 6:
        pass
    print("squaring", n)
    return n * n"""
BATCH = "square.map(range(8), concurrency=4, return_exceptions=True)"


def near_the_limit(notebook: Notebook) -> None:
    """The live view, when the memory is nearly used up."""
    notebook.page.locator(".agentbox-monitor", has_text="near its limit").wait_for()


SCENES = {
    "cell": Scene(("%load_ext agentbox_magic", CELL)),
    "oom": Scene(("%load_ext agentbox_magic", OOM), unfold),
    "monitor": Scene(("%load_ext agentbox_magic", MONITOR), near_the_limit, wait=False),
    "agents": Scene(("%load_ext agentbox_magic", AGENT, BATCH)),
}


def take(browser: Browser, lab: Lab, name: str, scene: Scene) -> None:
    """Run a scene once, and take it in each theme."""
    lab.write(f"{name}.ipynb", list(scene.cells))
    context = browser.new_context(viewport={"width": WIDTH + 60, "height": HEIGHT}, device_scale_factor=SCALE)
    notebook = Notebook(context, lab, f"{name}.ipynb")
    notebook.command("application:toggle-left-area")
    notebook.page.add_style_tag(content=TIDY)
    if scene.wait:
        notebook.run_all()
    else:
        notebook.command("notebook:run-all-cells", wait=False)
    scene.prepare(notebook)
    for suffix, theme in THEMES.items():
        notebook.command("apputils:change-theme", theme=theme)
        notebook.page.wait_for_function(
            "dark => document.body.dataset.jpThemeLight === String(!dark)", arg=suffix == "dark"
        )
        notebook.page.wait_for_load_state("networkidle")
        save(notebook, IMAGES / f"{name}-{suffix}.png")
    notebook.close()


def save(notebook: Notebook, path: Path) -> None:
    cells = notebook.page.locator(".jp-Notebook .jp-CodeCell").filter(has_not_text="%load_ext")
    boxes = [box for box in (cell.bounding_box() for cell in cells.all()) if box]
    left, top = min(box["x"] for box in boxes), min(box["y"] for box in boxes)
    right = max(box["x"] + box["width"] for box in boxes)
    bottom = max(box["y"] + box["height"] for box in boxes)
    assert bottom < HEIGHT, "the scene is too high"
    raw = notebook.page.screenshot(
        clip={"x": left, "y": top, "width": right - left, "height": bottom - top}, animations="disabled"
    )
    picture = Image.open(io.BytesIO(raw)).convert("RGB").quantize(128, dither=Image.Dither.NONE)
    path.parent.mkdir(exist_ok=True)
    picture.save(path, optimize=True)
    size = path.stat().st_size
    assert size <= MAX_BYTES, f"{path} has {size:,} bytes"
    print(f"{path.name}: {picture.width} x {picture.height}, {size:,} bytes")


def main(names: list[str]) -> None:
    with (
        tempfile.TemporaryDirectory() as root,
        sync_playwright() as playwright,
        labs.serve(Path(root)) as lab,
        labs.start_browser(playwright) as browser,
    ):
        for name in names or SCENES:
            take(browser, lab, name, SCENES[name])


if __name__ == "__main__":
    main(sys.argv[1:])
