"""The magics in a real kernel: what a notebook would hold."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest
from kernel import Kernel
from waiting import seconds_until

from agentbox_magic.display import pace


def test_output_is_native(kernel: Kernel) -> None:
    cell = kernel.run("%%sandbox\nimport sys\nprint('out')\nprint('err', file=sys.stderr)\n6 * 7")
    assert cell.status == "ok"
    assert cell.text("stdout") == "out\n"
    assert cell.text("stderr") == "err\n"
    assert cell.data("text/plain") == ["42", "sandbox: ok"]


def test_a_table_and_a_figure(kernel: Kernel) -> None:
    cell = kernel.run(
        "%%sandbox\nimport pandas as pd, matplotlib.pyplot as plt\n"
        "plt.plot([1, 2])\nplt.show()\npd.DataFrame({'a': [1]})"
    )
    assert len(cell.data("image/png")) == 1
    assert cell.data("text/html")[0].count("<table") == 1


def test_the_cell_is_taken_as_it_is(kernel: Kernel) -> None:
    kernel.run("name = 'host'")
    assert kernel.run("%%sandbox\nprint('{name} $name')").text("stdout") == "{name} $name\n"


def test_an_exception_is_shown_once_and_fails_the_cell(kernel: Kernel) -> None:
    cell = kernel.run("%%sandbox\ndef f():\n    return 1 / 0\nf()")
    assert cell.status == "error"
    assert (cell.error["ename"], cell.error["evalue"]) == ("ExecutionError", "ZeroDivisionError: division by zero")
    shown = "\n".join(cell.error["traceback"])
    assert shown.count("ZeroDivisionError") == 2  # the head and the last line, as always
    assert shown.count("line 2") == 1
    assert "sandbox_magics" not in shown


def test_no_raise_error_goes_on(kernel: Kernel) -> None:
    cell = kernel.run("%%sandbox --no-raise-error\n1 / 0")
    assert cell.status == "ok"
    assert "division by zero" in cell.text("stderr")


def test_limits_say_what_to_do(kernel: Kernel) -> None:
    oom = kernel.run("%%sandbox --mem 128m\nbytearray(10**9)")
    assert oom.error["traceback"] == [
        "MemoryLimitError: killed: used 128 MiB of 128 MiB; raise mem, such as --mem 256m"
    ]
    late = kernel.run("%%sandbox --timeout 0.5\nwhile True: pass")
    assert late.error["traceback"] == ["TimeLimitError: killed: ran past its 0.5 s; raise timeout, such as --timeout 1"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--mem 12q", "%%sandbox: --mem 12q is not a size; give a number with a unit, such as 512m or 2g"),
        ("--cpus 0", "%%sandbox: --cpus 0 is out of range; give a number of cores from 0.01, such as 0.5 or 2"),
        ("--mem 1k", "%%sandbox: --mem 1k is too little; a box needs at least 64m, such as 512m"),
        (
            "--timeout -1",
            "%%sandbox: --timeout -1 is out of range; give a number of seconds, such as 30, or 0 or None for "
            "no deadline",
        ),
        ("--env A", "%%sandbox: --env: A is not NAME=VALUE"),
        ("--env =1", "%%sandbox: --env has the name ''; give names that are not empty and without \"=\""),
        ("--me 1g", "%%sandbox: there is no option --me, did you mean --mem?; %%sandbox? lists the options"),
        ("--zzz", "%%sandbox: there is no option --zzz; %%sandbox? lists the options"),
        ("stray", "%%sandbox: stray belongs to no option; %%sandbox? lists the options"),
        ("-i 1a", "%%sandbox: -i: '1a' is no name of a variable; give a, or b=a"),
        ("-o a=class", "%%sandbox: -o: 'class' is no name of a variable; give a, or b=a"),
        ("-i nowhere", "%%sandbox: -i: there is no variable nowhere"),
        ("-i get_ipyton", "%%sandbox: -i: there is no variable get_ipyton, did you mean get_ipython?"),
        ("-o a -l bash", "%%sandbox: -i and -o are for Python, not for bash; use files there"),
        (
            "--max-transfer x",
            "%%sandbox: --max-transfer x is not a size; give a number with a unit, such as 512m or 2g",
        ),
        ("--mem", "%%sandbox: argument --mem: expected one argument; %%sandbox? lists the options"),
        ("--mem '1g", '%%sandbox: No closing quotation in "--mem \'1g"'),
    ],
)
def test_a_bad_option_is_one_line_and_starts_nothing(
    kernel: Kernel, boxes: Callable[[], set[str]], line: str, message: str
) -> None:
    cell = kernel.run(f"%%sandbox {line}\nprint('ran')")
    assert cell.status == "error"
    assert cell.text("stderr") == f"UsageError: {message}\n"
    assert cell.text("stdout") == ""
    assert boxes() == set()


def test_line_magic(kernel: Kernel) -> None:
    assert kernel.run("%sandbox build").text("stdout").endswith(" is ready\n")
    assert "there is no verb nonsense; there are: ps, " in kernel.run("%sandbox nonsense").text("stderr")
    assert "there is no verb prun, did you mean prune?" in kernel.run("%sandbox prun").text("stderr")


def test_help_has_the_options_and_examples(kernel: Kernel) -> None:
    cell = kernel.run("print(get_ipython().find_cell_magic('sandbox').__doc__)")
    for word in ("--mem SIZE", "--no-raise-error", "Examples::"):
        assert word in cell.text("stdout")


def test_stop_interrupts_the_cell(kernel: Kernel, boxes: Callable[[], set[str]]) -> None:
    message = kernel.start("%%sandbox\nprint('ready', flush=True)\nimport time\ntime.sleep(100)")
    kernel.wait_for_stream(message, "ready")
    start = time.monotonic()
    kernel.manager.interrupt_kernel()
    cell = kernel.finish(message)
    assert time.monotonic() - start < 5
    assert cell.error["traceback"] == ["KeyboardInterrupt: the sandboxed code was interrupted"]
    assert boxes() == set()


def test_a_flood_of_displays_is_paced_to_the_page(kernel: Kernel) -> None:
    """jupyter_server cuts a kernel off above 1,000 messages a second; what is last stays last."""
    start = time.monotonic()
    cell = kernel.run(
        "%%sandbox --quiet\nfrom IPython.display import clear_output, display\n"
        "for n in range(3000):\n    clear_output(wait=True)\n    display(n)"
    )
    assert cell.data("text/plain") == ["2999"]
    assert cell.messages < pace.BURST + pace.RATE * (time.monotonic() - start) + 100  # of 6,000


def test_terminal_controls_do_not_pass(kernel: Kernel) -> None:
    cell = kernel.run("%%sandbox\nprint('a\\x1b]52;c;ZXZpbA==\\x07b')\nraise ValueError('\\x1b]8;;x\\x07<a href=x>')")
    assert cell.text("stdout") == "ab\n"
    assert "\x1b]" not in str(cell.error)
    assert "<a" not in "".join(cell.error["traceback"])


@pytest.fixture
def doomed() -> Iterator[Kernel]:
    """A kernel of a test's own, to be killed."""
    kernel = Kernel()
    yield kernel
    kernel.close()


def test_a_killed_kernel_leaves_nothing(doomed: Kernel, boxes: Callable[[], set[str]]) -> None:
    message = doomed.start("%%sandbox\nprint('ready', flush=True)\nwhile True: pass")
    doomed.wait_for_stream(message, "ready")
    assert len(boxes()) == 1
    os.kill(doomed.pid, signal.SIGKILL)
    seconds_until(lambda: not boxes(), within=5)


def test_a_session_keeps_its_state(kernel: Kernel, boxes: Callable[[], set[str]]) -> None:
    before = boxes()
    assert kernel.run("%%sandbox -s one --mem 256m\nkept = 41").status == "ok"
    assert kernel.run("%%sandbox -s one\nkept + 1").data("text/plain")[0] == "42"
    assert kernel.run("%%sandbox --session one -l bash\nA=5").status == "ok"
    assert kernel.run("%%sandbox -s one -l bash\necho $A").text("stdout") == "5\n"
    assert kernel.run("%%sandbox\nkept").error["evalue"] == "NameError: name 'kept' is not defined"
    assert len(boxes() - before) == 1

    other = kernel.run("%%sandbox -s one --mem 512m\n1")
    assert other.text("stderr") == (
        "UsageError: %%sandbox: the session one has --mem 256m; leave the option out, or end it: %sandbox stop one\n"
    )
    assert kernel.run("%%sandbox -s one --mem 256m --timeout 5\nkept").status == "ok"

    assert kernel.run("%sandbox stop one").status == "ok"
    assert boxes() == before
    assert "there is no session one; there are: none" in kernel.run("%sandbox stop one").text("stderr")


def test_a_session_whose_box_is_gone_says_so(kernel: Kernel) -> None:
    kernel.run("%%sandbox -s two\nkept = 1")
    kernel.run("get_ipython().magics_manager.registry['SandboxMagics'].sessions['two'][0].kill()")
    cell = kernel.run("%%sandbox -s two\nprint('kept' in dir())")
    assert cell.text("stderr") == "The session two had ended; a new one begins, without its state.\n"
    assert cell.text("stdout") == "False\n"
    kernel.run("%sandbox stop two")


def test_stop_keeps_the_state_of_a_session(kernel: Kernel) -> None:
    kernel.run("%%sandbox -s three\nkept = 1")
    message = kernel.start("%%sandbox -s three\nprint('ready', flush=True)\nimport time\ntime.sleep(100)")
    kernel.wait_for_stream(message, "ready")
    kernel.manager.interrupt_kernel()
    assert kernel.finish(message).status == "error"
    assert kernel.run("%%sandbox -s three\nprint(kept)").text("stdout") == "1\n"
    kernel.run("%sandbox stop three")


def test_other_languages(kernel: Kernel) -> None:
    assert kernel.run("%%sandbox -l bash\necho hello; cd /tmp; pwd").text("stdout") == "hello\n/tmp\n"
    failed = kernel.run("%%sandbox -l bash\nfalse")
    assert failed.error["evalue"] == "CalledProcessError: the last command ended with exit status 1"
    assert kernel.run("%%sandbox -l r\n1").text("stderr") == (
        "UsageError: %%sandbox: no language r in this image; it has python, bash\n"
    )


def test_a_display_is_updated_in_place(kernel: Kernel) -> None:
    cell = kernel.run(
        "%%sandbox\nfrom IPython.display import display\nh = display('first', display_id='mine')\n"
        "h.update('second')\ndisplay('other', display_id='mine2')"
    )
    assert cell.data("text/plain")[:2] == ["'second'", "'other'"]


def test_clear_output(kernel: Kernel) -> None:
    cell = kernel.run(
        "%%sandbox\nfrom IPython.display import clear_output, display\nfor n in range(3):\n"
        "    clear_output(wait=True)\n    display(n)"
    )
    assert cell.data("text/plain") == ["2", "sandbox: ok"]


def test_a_runtime_that_the_engine_lacks_is_one_line(kernel: Kernel) -> None:
    cell = kernel.run("%%sandbox --runtime nosuch\n1")
    assert cell.error["ename"] == "SandboxError"
    assert cell.error["evalue"].startswith("the engine has no runtime nosuch; it has ")


def test_the_environment_and_the_directory(kernel: Kernel) -> None:
    line = "%%sandbox -s env --env A=1 --env 'B=2 3' --cwd /tmp/there --timeout 0\n"
    code = "import os; print(os.environ['A'], os.environ['B'], os.getcwd())"
    assert kernel.run(line + code).text("stdout") == "1 2 3 /tmp/there\n"
    assert kernel.run(f"%%sandbox -s env\n{code}").text("stdout") == "1 2 3 /tmp/there\n"
    for other in ("--env A=2", "--cwd /tmp"):
        cell = kernel.run(f"%%sandbox -s env {other}\n1")
        assert f"%%sandbox: the session env has --{other[2:5]} " in cell.text("stderr")
    kernel.run("%sandbox stop env")


def test_a_cell_without_a_deadline_in_a_session_that_has_one(kernel: Kernel) -> None:
    assert kernel.run("%%sandbox -s late --timeout 0.5\n1").status == "ok"
    assert kernel.run("%%sandbox -s late --timeout 0\nimport time; time.sleep(1)").status == "ok"
    kernel.run("%config SandboxMagics.timeout = None")
    assert kernel.run("%%sandbox -s late\nimport time; time.sleep(1)").status == "ok"
    kernel.run("%config SandboxMagics.timeout = 300.0")
    kernel.run("%sandbox stop late")


def test_defaults_of_the_box(kernel: Kernel) -> None:
    kernel.run("%config SandboxMagics.runtime = 'nosuch'")
    assert "no runtime nosuch" in kernel.run("%%sandbox\n1").error["evalue"]
    kernel.run("%config SandboxMagics.runtime = ''\n")
    kernel.run("%config SandboxMagics.packages = 'not/a/name'")
    assert "--with: package 'not/a/name' is not a name" in kernel.run("%%sandbox\n1").text("stderr")
    kernel.run("%config SandboxMagics.packages = ''")
    assert kernel.run("%%sandbox\n1").status == "ok"


def test_a_session_keeps_its_runtime(kernel: Kernel) -> None:
    assert kernel.run("%%sandbox -s runtime --runtime runc\n1").status == "ok"
    assert kernel.run("%%sandbox -s runtime\n1").status == "ok"
    cell = kernel.run("%%sandbox -s runtime --runtime runsc\n1")
    assert "%%sandbox: the session runtime has --runtime runc; " in cell.text("stderr")
    kernel.run("%sandbox stop runtime")
