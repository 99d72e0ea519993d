"""Nothing that a box displays acts on the page that shows it. Displayed raw, each attempt works."""

from __future__ import annotations

import json
from collections.abc import Callable

import nbformat
from waiting import seconds_until

from browser.hostile import SET, VICTIM
from browser.lab import Beacon, Lab, Notebook

LOAD = "%load_ext agentbox_magic"


def cells(beacon: Beacon, magic: str) -> list[str]:
    return [LOAD, VICTIM, *(magic + one.code.replace("BEACON", beacon.url) for one in SET)]


def held(lab: Lab, page: Notebook) -> str:
    """All outputs, as the notebook file has them."""
    page.command("docmanager:save")
    return json.dumps([cell.outputs for cell in lab.read(page.name).cells], ensure_ascii=False)


def carried(outputs: str) -> set[str]:
    return {one.name for one in SET if one.carries and json.dumps(one.carries, ensure_ascii=False)[1:-1] in outputs}


def test_raw_each_of_them_works(lab: Lab, beacon: Beacon, notebook: Callable[[str, list[str]], Notebook]) -> None:
    page = notebook("raw.ipynb", cells(beacon, ""))
    page.run_all()
    fires = {one.name for one in SET if not one.carries}

    def loaded() -> bool:
        page.page.wait_for_timeout(100)  # the page's events are served meanwhile
        return len(fires & set(beacon.hits)) > len(fires) * 2 // 3

    seconds_until(loaded, within=30)
    page.click_everything(300)
    assert fires - set(beacon.hits) == set()
    assert carried(held(lab, page)) == {one.name for one in SET if one.carries}
    assert page.scripts()


def assert_nothing_acts(page: Notebook, beacon: Beacon) -> None:
    address, before = page.page.url, beacon.connections

    def loaded() -> bool:
        page.page.wait_for_timeout(100)  # the page's events are served meanwhile
        return all(frame.evaluate("() => document.readyState") == "complete" for frame in page.page.frames)

    seconds_until(loaded, within=60)
    page.page.wait_for_timeout(1000)  # in which what comes late would be seen
    page.click_everything(50)
    assert page.scripts() == []
    assert page.requests == []
    assert beacon.connections == before
    assert page.page.url == address
    assert [one.url for one in page.context.pages] == [address]


def test_safe_none_of_them_does(lab: Lab, beacon: Beacon, notebook: Callable[[str, list[str]], Notebook]) -> None:
    assert len(SET) >= 25
    page = notebook("safe.ipynb", cells(beacon, "%%sandbox -s hostile\n"))
    before = beacon.connections
    page.run_all()
    assert_nothing_acts(page, beacon)
    assert beacon.connections == before
    assert carried(held(lab, page)) == set()
    # All cells have run, and their text is there: what was shown was made safe, not lost.
    outputs = page.outputs()
    assert all(("✗ error" if one.name.startswith("traceback") else "✓ ok") in text
               for one, text in zip(SET, outputs[2:], strict=True))  # fmt: skip
    assert "'honest'" in outputs[1]
    assert "invoice<U+202E>fdp.exe" in " ".join(outputs)
    assert page.page.locator("iframe").evaluate_all("all => all.map(one => one.getAttribute('sandbox'))").count("") > 5

    # Opened by somebody who has not run it, JupyterLab's own sanitiser comes on top.
    document = lab.read("safe.ipynb")
    document.cells[0].source += "  # of another hand"
    page.shut_down()
    nbformat.write(document, lab.root / "safe.ipynb")
    page.open()
    assert_nothing_acts(page, beacon)
    assert not page.page.evaluate("() => window.jupyterapp.shell.currentWidget.content.widgets[2].model.trusted")
    assert all(text for text in page.outputs()[2:])


SCRIPTS = """
from IPython.display import HTML
HTML('''<p id="said">nothing</p><script>
let said = "ran";
try { parent.document.title = "owned"; said += ", reached the page" } catch (error) { said += ", " + error.name }
try { localStorage.x = 1; said += ", stores" } catch (error) { said += ", " + error.name }
document.getElementById("said").textContent = said;
fetch("BEACON/from-frame");
new Image().src = "BEACON/from-frame";
</script>''')
"""


def test_allowed_scripts_run_in_a_frame_of_their_own(
    beacon: Beacon, notebook: Callable[[str, list[str]], Notebook]
) -> None:
    before = beacon.connections
    code = SCRIPTS.replace("BEACON", beacon.url)
    page = notebook("scripts.ipynb", [LOAD, f"%%sandbox --allow-scripts{code}", f"%%sandbox{code}"])
    page.run_all()
    frame = page.page.frame_locator("iframe[sandbox=allow-scripts]")
    frame.get_by_text("ran, SecurityError, SecurityError").wait_for()
    outputs = page.outputs()
    assert "it can send what it shows to anyone" in outputs[1]
    assert "scripts do not run here; %%sandbox --allow-scripts shows it" in outputs[2]
    assert page.page.locator("iframe").count() == 1
    assert beacon.connections == before
    assert "owned" not in page.page.title()
