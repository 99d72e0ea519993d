"""First cells of notebooks as people write them: each runs to its end, or ends with an error that is its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from kernel import Kernel

from agentbox_magic import Execution, ExecutionError, Sandbox, agent

PNG = b"\x89PNG\r\n\x1a\n"
END = "print('the rest has run')"
PLOT = "import matplotlib.pyplot as plt\nplt.plot([1, 3, 2])"


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    with Sandbox.create(mem="1g", timeout=120) as box:
        yield box


def formats(run: Execution) -> list[list[str]]:
    return [result.formats() for result in run.results]


ANALYSIS = """
import numpy as np
import pandas as pd
import matplotlib.pyplot as plt
%matplotlib inline
import warnings
warnings.filterwarnings('ignore')
plt.rcParams['figure.figsize'] = (12, 6)
plt.rcParams.update({'font.size': 12, 'axes.grid': True})
plt.style.use('ggplot')
pd.set_option('display.max_columns', None)
pd.options.display.float_format = '{:.2f}'.format
np.set_printoptions(precision=3, suppress=True)
np.random.seed(42)
"""
DEVELOPMENT = """
%load_ext autoreload
%autoreload 2
%matplotlib inline
%config InlineBackend.figure_format = 'retina'
%config Completer.use_jedi = False
import os, sys, logging
sys.path.append('..')
os.environ['CUDA_VISIBLE_DEVICES'] = '0'
logging.basicConfig(level=logging.INFO, format='%(asctime)s %(message)s')
logging.getLogger('matplotlib').setLevel(logging.WARNING)
"""
FUNCTIONS = """
from IPython import get_ipython
ip = get_ipython()
if ip is not None:
    ip.run_line_magic("load_ext", "autoreload")
    ip.run_line_magic("autoreload", "2")
    ip.run_line_magic("matplotlib", "inline")
    ip.run_line_magic("config", "InlineBackend.figure_format = 'svg'")
"""
DISPLAY = """
from IPython.display import HTML, Image, Markdown, clear_output, display
from IPython.core.interactiveshell import InteractiveShell
InteractiveShell.ast_node_interactivity = "all"
display(HTML("<style>.container { width: 100% !important; }</style>"))
InteractiveShell.ast_node_interactivity = "last_expr"
"""
COLAB = """
try:
    import google.colab
    IN_COLAB = True
    %tensorflow_version 2.x
except ImportError:
    IN_COLAB = False
for folder, _, files in __import__('os').walk('/kaggle/input'):
    print(folder, files)
"""
OPTIONAL = """
try:
    from tqdm.notebook import tqdm
except ImportError:
    tqdm = list
for _ in tqdm(range(3)):
    pass
"""
WHOLE = [
    "%matplotlib inline",
    "%matplotlib",
    "%matplotlib agg",
    "%matplotlib notebook",
    "%matplotlib widget\nimport matplotlib.pyplot as plt",
    "%matplotlib ipympl",
    "%matplotlib qt",
    "%matplotlib tk\n%matplotlib inline",
    "%pylab inline\nfigsize(12, 6)\nsqrt(4)",
    "%pylab",
    "%gui",
    "%gui qt",
    "get_ipython().run_line_magic('matplotlib', 'inline')",
    "import matplotlib\nmatplotlib.use('Agg')\nimport matplotlib.pyplot as plt\n%matplotlib inline",
    "from matplotlib_inline.backend_inline import set_matplotlib_formats\nset_matplotlib_formats('svg', 'png')",
    ANALYSIS,
    DEVELOPMENT,
    FUNCTIONS,
    DISPLAY,
    COLAB,
    OPTIONAL,
    "%autosave 60\n%connect_info\n%qtconsole\n%subshell\n%man ls\n%clear",
    "%edit\n%notebook all.ipynb\n%pastebin 1",
    "x = 1\n%store x\n%store",
    "%history -n\n%recall 1\n%lsmagic",
    "%time sum(range(10))\n%timeit -n 1 -r 1 sum(range(10))\n%prun sum(range(10))",
    "!pip list\n!echo $HOME\nfiles = !ls /",
    "%pip list",
    "%cd /tmp\n%pwd\n%ls\n%cd /workspace",
    "%env MODE=fast\n%env\n%set_env LEVEL=2",
    "%precision 3\n%xmode Minimal\n%xmode Context\n%colors NoColor\n%colors Linux",
    "%who\n%whos\n%reset -f\n%reset -f in out",
    "%reset",  # asks, and hears nothing
    "import asyncio\nawait asyncio.sleep(0)\n%autoawait",
    "%pdb on\n%pdb off\n%logstate\n%page 1\n%quickref",
    "print?\n?print\nlen??",
    "!echo n = 5 >/tmp/l.py\n%less /tmp/l.py\n%load /tmp/l.py\n%run /tmp/l.py\nassert n == 5",
    "#!/usr/bin/env python3\n# -*- coding: utf-8 -*-",
]


@pytest.mark.parametrize("cell", WHOLE, ids=lambda cell: cell.strip().splitlines()[0])
def test_a_first_cell_runs_to_its_end(box: Sandbox, cell: str) -> None:
    run = box.run_code(f"{cell}\n{END}").raise_for_status()
    assert run.stdout.endswith("the rest has run\n")


@pytest.mark.parametrize(
    ("cell", "name", "words"),
    [
        ("%load_ext sql", "ModuleNotFoundError", "No module named 'sql'"),
        ("import seaborn as sns\nsns.set_theme()", "ModuleNotFoundError", "No module named 'seaborn'"),
        ("from tqdm import tqdm", "ModuleNotFoundError", "No module named 'tqdm'"),
        ("%watermark -v", "UsageError", "`%watermark` not found"),
        ("%run missing.py", "Exception", "missing.py"),
        ("%matplotlib inline\n1 / 0", "ZeroDivisionError", "division by zero"),
    ],
)
def test_what_is_not_there_is_told_as_what_it_is(box: Sandbox, cell: str, name: str, words: str) -> None:
    run = box.run_code(f"{cell}\n{END}")
    assert isinstance(run.error, ExecutionError)
    assert run.error.name == name
    assert words in run.error.value
    assert "the rest" not in run.stdout


@pytest.mark.parametrize("name", ["inline", "", "notebook", "widget", "qt"])
def test_figures_are_shown_after_any_choice_that_wants_to_see_them(box: Sandbox, name: str) -> None:
    box.restart_code_context(box.list_code_contexts()[0])
    run = box.run_code(f"%matplotlib {name}\n{PLOT};").raise_for_status()
    assert [result.png[:8] for result in run.results if result.png] == [PNG]
    assert ("figures are shown inline instead" in run.stderr) == (name not in ("inline", ""))


def test_a_format_that_was_chosen_is_the_one_that_comes(box: Sandbox) -> None:
    box.restart_code_context(box.list_code_contexts()[0])
    first = "%matplotlib inline\n%config InlineBackend.figure_format = 'svg'\n"
    assert formats(box.run_code(f"{first}{PLOT}; plt.show()")) == [["text/plain", "image/svg+xml"]]
    retina = box.run_code(f"%config InlineBackend.figure_format = 'retina'\n{PLOT};").raise_for_status()
    usual = box.run_code(f"%config InlineBackend.figure_format = 'png'\n{PLOT};").raise_for_status()
    assert retina.results[0].png is not None
    assert usual.results[0].png is not None
    widths = [int.from_bytes(png[16:20], "big") for png in (retina.results[0].png, usual.results[0].png)]
    assert widths[0] > 1.9 * widths[1]
    # A backend that only draws shows nothing by itself.
    assert formats(box.run_code(f"%matplotlib agg\n{PLOT};")) == []


def test_a_function_of_an_agent_may_ask_for_figures_too() -> None:
    @agent(mem="1g", timeout=120)
    def draw() -> str:
        from IPython import get_ipython

        get_ipython().run_line_magic("matplotlib", "inline")  # type: ignore[no-untyped-call]
        import matplotlib.pyplot as plt

        plt.plot([1, 2])
        return str(plt.get_backend())

    assert "inline" in draw()


SAME = [
    "x, y = 1, 'two'\n%who int\n%who_ls str",
    "%env MODE=fast",
    "%precision 3\n3.14159",
    "%xmode Plain\n%xmode Context",
    "!echo out",
    "%%bash\necho one\necho two >&2",
    "%%bash\nexit 3",
    "%%writefile first_cell.py\nn = 6 * 7\nprint(n)",
    "%run first_cell.py\nn",
    "%%capture said\nprint('hidden')",
    "print(said.stdout)",
    "%alias say echo said\n%say it",
    "%load_ext nothing_of_that_name",
    "from IPython.display import HTML, Markdown\nHTML('<b>bold</b>')",
    "from IPython.display import Markdown, display\ndisplay(Markdown('# head'), {'a': 1})",
    "import asyncio\nawait asyncio.sleep(0, 'slept')",
    "import warnings\nwarnings.filterwarnings('ignore')\nwarnings.warn('unseen')",
    "import sys\nprint('both', file=sys.stderr)\nprint('streams')",
    "%config Completer.use_jedi = False",
    "%reset -f\n%who",
    "if True:\n    %env DEEP=1",
    "a = %env DEEP\na",
]


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    kernel = Kernel()
    assert kernel.run(f"import os\nos.chdir({str(tmp_path_factory.mktemp('kernel'))!r})").status == "ok"
    yield kernel
    kernel.close()


@pytest.mark.parametrize("cell", SAME, ids=lambda cell: cell.splitlines()[0])
def test_a_cell_gives_what_a_kernel_gives(box: Sandbox, kernel: Kernel, cell: str) -> None:
    run, expected = box.run_code(cell), kernel.run(cell)

    def shown(data: dict[str, Any]) -> dict[str, Any]:
        return {mime: value for mime, value in data.items() if mime.startswith("text/")}

    assert run.stdout == expected.text("stdout").replace("\r\n", "\n")  # a kernel gives commands a terminal
    assert run.stderr == expected.text("stderr")
    outputs = [shown(out["data"]) for out in expected.outputs if "data" in out]
    assert [shown(result.data) for result in run.results] == outputs
    names = [out["ename"] for out in expected.outputs if "ename" in out]
    assert [run.error.name] * isinstance(run.error, ExecutionError) == names if run.error else not names
