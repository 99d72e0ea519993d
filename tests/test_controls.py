"""What a notebook can say and see beside the code: variables, the live view, jobs, verbs, defaults, completion."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from kernel import Kernel
from waiting import seconds_until

from agentbox_magic.display.monitor import _item

WIDGET = "application/vnd.jupyter.widget-view+json"
MODELS = "import ipywidgets; print(len(ipywidgets.Widget.widgets))"
TALK = "import time\nprint('ready', flush=True)\ntime.sleep(3)"


# -- variables --------------------------------------------------------------------------------------------------------


def test_variables_go_in_and_come_back(kernel: Kernel) -> None:
    kernel.run("import pandas as pd\ndf = pd.DataFrame({'n': [1, 2]})\nlimit = 2")
    cell = kernel.run("%%sandbox -i df,top=limit -o scores copy=df\nscores = {'best': int(df['n'].max()) + top}")
    assert cell.status == "ok"
    lines = [text for text in cell.data("text/plain") if text.startswith("sandbox")]
    assert len(lines) == 2
    assert lines[0].startswith("sandbox: in df, top (")
    assert "); out scores, copy (" in lines[0]
    assert lines[1] == "sandbox: ok"
    assert kernel.run("print(scores, copy.equals(df), 'top' in dir())").text("stdout") == "{'best': 4} True False\n"


def test_variables_are_copies_and_sessions_keep_them(kernel: Kernel) -> None:
    kernel.run("items = [1]")
    kernel.run("%%sandbox -s vars -i items\nitems.append(2)")
    assert kernel.run("print(items)").text("stdout") == "[1]\n"
    kernel.run("%%sandbox -s vars -o items\nitems.append(3)")
    assert kernel.run("print(items)").text("stdout") == "[1, 2, 3]\n"
    kernel.run("%sandbox stop vars")


def test_what_cannot_cross_says_so(kernel: Kernel, boxes: Callable[[], set[str]]) -> None:
    kernel.run("bad = {'f': [len]}; big = bytes(2**20)")
    cell = kernel.run("%%sandbox -i bad\nprint('ran')")
    assert cell.error["traceback"] == [
        "TransferError: bad['f'][0] is a function; code does not cross: define it in the cell that uses it"
    ]
    assert cell.text("stdout") == ""
    cell = kernel.run("%%sandbox -i big --max-transfer 1m\nprint('ran')")
    assert cell.error["evalue"] == (
        "big is too large: more than 1 MiB; raise max_size (--max-transfer), or send less of it"
    )
    cell = kernel.run("%%sandbox -o nowhere\nprint('ran')")
    assert cell.text("stdout") == "ran\n"
    assert cell.data("text/plain") == ["sandbox: ok"]
    assert cell.error["evalue"] == "there is no nowhere in the box; assign it there, or do not ask for it"
    assert boxes() == set()


def test_an_error_of_the_code_brings_nothing_back(kernel: Kernel) -> None:
    cell = kernel.run("%%sandbox -o half\nhalf = 1\n1 / 0")
    assert cell.error["ename"] == "ExecutionError"
    assert kernel.run("print('half' in dir())").text("stdout") == "False\n"


@pytest.mark.parametrize("cell", ["%%sandbox -q\n6 * 7", "%%sandbox\nx = 42;", "%%sandbox --quiet -i n\nn"])
def test_quiet(kernel: Kernel, cell: str) -> None:
    kernel.run("n = 42")
    assert kernel.run(cell).data("text/plain") in (["42"], [])


# -- the live view ----------------------------------------------------------------------------------------------------


def test_a_short_cell_shows_nothing_and_loads_nothing(doomed: Kernel) -> None:
    cell = doomed.run("%%sandbox\n1")
    assert cell.data("text/plain") == ["1", "sandbox: ok"]
    assert doomed.run("import sys; print('ipywidgets' in sys.modules)").text("stdout") == "False\n"


def test_a_long_cell_has_a_view_that_is_gone_at_its_end(kernel: Kernel) -> None:
    before = kernel.run(MODELS).text("stdout")
    message = kernel.start(f"%%sandbox\n{TALK}")
    seen: list[str] = []

    def has_view() -> bool:
        kernel._take(message)
        seen.extend(str(out["data"]) for out in kernel._cells[message].outputs if WIDGET in out.get("data", {}))
        return bool(seen)

    seconds_until(has_view, within=30)
    cell = kernel.finish(message)
    assert cell.data("text/plain") == ["", "sandbox: ok"]
    assert cell.data(WIDGET) == []
    assert kernel.run(MODELS).text("stdout") == before
    threads = "import threading; print([t.name for t in threading.enumerate() if t.name == 'agentbox-monitor'])"
    seconds_until(lambda: kernel.run(threads).text("stdout") == "[]\n", within=5)


def test_the_view_shows_what_the_box_uses(kernel: Kernel) -> None:
    kernel.run(
        "from agentbox_magic.display.monitor import Monitor\npages = []\nrefresh = Monitor.refresh\n"
        "def spy(self):\n    refresh(self)\n    pages.append(self._text.value)\nMonitor.refresh = spy"
    )
    kernel.run("%%sandbox --mem 128m\nimport time\nkept = bytearray(90 * 2**20)\nprint('x' * 5000)\ntime.sleep(3)")
    page = kernel.run("Monitor.refresh = refresh\nprint(pages[-1])").text("stdout")
    assert "of 128 MiB, near its limit" in page or "of 128 MiB, at its limit" in page
    assert "<meter" in page
    assert "of 300 s" in page
    assert "of 50" in page
    assert "output 4.88 KiB" in page


def test_a_failed_and_a_stopped_cell_leave_no_view(kernel: Kernel) -> None:
    before = kernel.run(MODELS).text("stdout")
    assert kernel.run("%%sandbox --timeout 2\nwhile True: pass").error["ename"] == "TimeLimitError"
    message = kernel.start(f"%%sandbox\n{TALK}\ntime.sleep(100)")
    kernel.wait_for_stream(message, "ready")
    kernel.manager.interrupt_kernel()
    assert kernel.finish(message).status == "error"
    assert kernel.run(MODELS).text("stdout") == before


def test_it_can_be_turned_off(kernel: Kernel) -> None:
    kernel.run("import os; os.environ['AGENTBOX_LIVE'] = '0'")
    assert kernel.run(f"%%sandbox\n{TALK}").data("text/plain") == ["sandbox: ok"]
    kernel.run("del os.environ['AGENTBOX_LIVE']")


def test_a_terminal_gets_one_plain_line() -> None:
    code = "%load_ext agentbox_magic\nget_ipython().run_cell_magic('sandbox', '', 'import time; time.sleep(2)')"
    done = subprocess.run(
        [sys.executable, "-m", "IPython", "--colors=NoColor", "--no-banner"], input=code, capture_output=True, text=True
    )
    assert done.stderr.count("sandbox: running; Ctrl-C stops it") == 1


@pytest.mark.parametrize(
    ("share", "word"), [(0.5, ""), (0.79, ""), (0.8, "near its limit"), (0.95, "at its limit"), (1.2, "at its limit")]
)
def test_colour_and_word_change_near_a_limit(share: float, word: str) -> None:
    text = _item("memory", "1 of 2", share)
    assert (word in text) if word else ("limit" not in text)
    assert ("inherit" in text) == (not word)


# -- jobs -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def doomed() -> Iterator[Kernel]:
    """A kernel of a test's own."""
    kernel = Kernel()
    yield kernel
    kernel.close()


def test_a_cell_in_the_background(kernel: Kernel, boxes: Callable[[], set[str]]) -> None:
    before = boxes()
    models = kernel.run(MODELS).text("stdout")
    kernel.run("n = 20")
    cell = kernel.run("%%sandbox --bg job -i n -o twice\nimport time\ntime.sleep(2)\nprint('done')\ntwice = n * 2")
    assert len(cell.data(WIDGET)) == 1
    assert len(boxes() - before) == 1
    assert kernel.run("print(job.done(), job.status, 'twice' in dir())").text("stdout") == "False running False\n"
    assert kernel.run("%sandbox ps").text("stdout").count("job") == 1
    assert "job" in kernel.run("%sandbox stats").text("stdout")
    out = kernel.run("run = job.result(30)\nprint(run.stdout, run.status, twice, job.done(), job.cancel())").text(
        "stdout"
    )
    assert out == "done\n ok 40 True False\n"
    assert boxes() == before
    assert kernel.run(MODELS).text("stdout") == models


def test_an_ended_job_is_a_line_of_text(kernel: Kernel) -> None:
    models = kernel.run(MODELS).text("stdout")
    cell = kernel.run("%%sandbox --bg\nimport time\ntime.sleep(1)")
    assert cell.data("text/plain")[0].endswith(" in the background")
    kernel.run("_.result(30)")
    assert kernel.run(MODELS).text("stdout") == models


def test_a_job_can_be_stopped_and_says_how_it_ended(kernel: Kernel, boxes: Callable[[], set[str]]) -> None:
    before = boxes()
    kernel.run("%%sandbox --bg job\nprint('ready', flush=True)\nimport time\ntime.sleep(100)")
    kernel.run("import time\nwhile not job._monitor._output: time.sleep(0.01)")
    assert kernel.run("%sandbox stop $job.name").status == "ok"
    cell = kernel.run("job.result(30)")
    assert cell.error["evalue"] == "KeyboardInterrupt"
    assert kernel.run("print(job.status, job.exception())").text("stdout") == "interrupted KeyboardInterrupt\n"
    assert kernel.run("%%sandbox --bg job\n1 / 0").status == "ok"
    assert kernel.run("job.result(30)").error["evalue"] == "ZeroDivisionError: division by zero"
    assert kernel.run("%%sandbox --bg job -o nowhere\n1").status == "ok"
    assert "there is no nowhere in the box" in kernel.run("job.result(30)").error["evalue"]
    assert boxes() == before


def test_jobs_in_a_session_leave_its_box(kernel: Kernel) -> None:
    kernel.run("%%sandbox -s jobs --bg job\nkept = 5")
    kernel.run("job.result(30)")
    assert kernel.run("%%sandbox -s jobs\nkept").data("text/plain")[0] == "5"
    kernel.run("%sandbox stop jobs")


# -- %sandbox ---------------------------------------------------------------------------------------------------------


def test_verbs(kernel: Kernel, boxes: Callable[[], set[str]]) -> None:
    assert kernel.run("%sandbox stats").text("stdout") == "no session of this notebook runs\n"
    kernel.run("%%sandbox -s verbs --mem 256m\nimport sys\nprint('out\\x1b]0;t\\x07')\nprint('err', file=sys.stderr)")
    identity = next(iter(boxes()))[:12]
    listing = kernel.run("%sandbox").text("stdout")
    row = next(line for line in listing.splitlines() if line.startswith(identity))
    assert row.split()[1:5] == ["verbs", "running", "256", "MiB"]
    assert kernel.run("%sandbox ps").text("stdout").splitlines()[0].split() == listing.splitlines()[0].split()
    stats = kernel.run("%sandbox stats").text("stdout").splitlines()
    assert stats[1].split()[0] == "verbs"
    assert stats[1].split()[2:4] == ["256", "MiB"]
    assert kernel.run("%sandbox logs verbs").text("stdout") == "out\nerr\n"
    assert kernel.run("%sandbox logs").text("stdout") == "out\nerr\n"
    assert "there is no session verb, did you mean verbs?" in kernel.run("%sandbox logs verb").text("stderr")
    info = [line.split()[0] for line in kernel.run("%sandbox info").text("stdout").splitlines()]
    assert info == ["agentbox-magic", "engine", "runtimes", "image", "defaults"]
    assert "%sandbox stop NAME" in kernel.run("%sandbox help").text("stdout")
    assert "is no box; %sandbox ps lists their ids" in kernel.run("%sandbox rm nothing").text("stderr")
    assert kernel.run(f"%sandbox rm {identity}").text("stdout") == f"removed {identity}\n"
    assert boxes() == set()
    assert "the following arguments are required: NAME" in kernel.run("%sandbox stop").text("stderr")
    assert "%sandbox: stray belongs to no option" in kernel.run("%sandbox ps stray").text("stderr")
    kernel.run("%sandbox stop verbs")


def test_defaults_are_configured(kernel: Kernel) -> None:
    kernel.run('%config SandboxMagics.mem = "96m"\n%config SandboxMagics.timeout = 1.5')
    assert "ran past its 1.5 s" in kernel.run("%%sandbox\nwhile True: pass").error["evalue"]
    assert "of 96 MiB" in kernel.run("%%sandbox --timeout 20\nbytearray(10**9)").error["evalue"]
    wrong = kernel.run('%config SandboxMagics.mem = "12q"')
    assert "mem 12q is not a size" in str(wrong.outputs)
    assert "memory of a box, as --mem" in kernel.run("%config SandboxMagics").text("stdout")
    kernel.run('%config SandboxMagics.mem = "512m"\n%config SandboxMagics.timeout = 300')
    assert kernel.run("%%sandbox\n1").status == "ok"


# -- completion -------------------------------------------------------------------------------------------------------


def complete(kernel: Kernel, code: str) -> list[str]:
    message = kernel.client.complete(code, len(code))
    while True:
        reply = kernel.client.get_shell_msg(timeout=60)
        if reply["parent_header"].get("msg_id") == message:
            content = reply["content"]
            start = content["cursor_start"]
            return [code[:start] + match for match in content["matches"]]


def test_completion(kernel: Kernel) -> None:
    kernel.run("prices = [1]\nprint_it = print\n")
    kernel.run("%%sandbox -s complete\n1")
    assert complete(kernel, "%%sandbox --me") == ["%%sandbox --mem"]
    assert "%%sandbox --mem 1g --timeout" in complete(kernel, "%%sandbox --mem 1g --")
    assert "%%sandbox --mem 1g --mem" not in complete(kernel, "%%sandbox --mem 1g --")
    assert complete(kernel, "%%sandbox -i pri") == ["%%sandbox -i prices"]
    assert complete(kernel, "%%sandbox -i a,pri") == ["%%sandbox -i a,prices"]
    assert complete(kernel, "%%sandbox -i a there=pri") == ["%%sandbox -i a there=prices"]
    assert complete(kernel, "%%sandbox -s comp") == ["%%sandbox -s complete"]
    assert complete(kernel, "%%sandbox -l ") == ["%%sandbox -l bash", "%%sandbox -l python"]
    assert "%%sandbox --runtime runc" in complete(kernel, "%%sandbox --runtime ")
    images = complete(kernel, "%%sandbox --image agentbox-magic:")
    assert images
    assert all(image.startswith("%%sandbox --image agentbox-magic:py") for image in images)
    assert complete(kernel, "%sandbox st") == ["%sandbox stats", "%sandbox stop"]
    assert complete(kernel, "x = 1\n%sandbox stop comp") == ["x = 1\n%sandbox stop complete"]
    assert "%%sandbox\nprices" in complete(kernel, "%%sandbox\npri")  # the body is Python's
    assert "prices" in complete(kernel, "pri")
    kernel.run("%sandbox stop complete")


def test_help_is_clean(kernel: Kernel) -> None:
    """Python 3.13 writes options in another way, and 3.14 colours them."""
    text = kernel.run("print(get_ipython().find_cell_magic('sandbox').__doc__)").text("stdout")
    assert "usage: %%sandbox" in text
    assert "--input NAME [NAME ...]" in text
    assert "\x1b" not in text
    assert "%sandbox rm ID" in kernel.run("print(get_ipython().find_line_magic('sandbox').__doc__)").text("stdout")


def test_unloading_takes_everything_away(doomed: Kernel, boxes: Callable[[], set[str]]) -> None:
    before = boxes()
    doomed.run("%%sandbox -s kept\n1")
    assert len(boxes() - before) == 1
    assert doomed.run("%unload_ext agentbox_magic").status == "ok"
    assert boxes() == before
    assert "not found" in doomed.run("%%sandbox\n1").text("stderr")
    assert "%sandbox stop" not in complete(doomed, "%sandbox st")
    assert doomed.run("%load_ext agentbox_magic").status == "ok"
    assert doomed.run("%%sandbox\n1").status == "ok"
    assert doomed.run("%reload_ext agentbox_magic\n%config SandboxMagics.mem").status == "ok"
    assert complete(doomed, "%sandbox st") == ["%sandbox stats", "%sandbox stop"]
