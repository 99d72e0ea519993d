"""Other runtimes than the engine's own: gVisor end to end, and one that does less than it says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from kernel import Kernel
from own_engine import NEEDED, OwnEngine, own_engine
from waiting import seconds_until

from agentbox_magic import PolicyError, Sandbox, SandboxError, doctor
from agentbox_magic.engine import Engine
from agentbox_magic.hardening import LABEL

pytestmark = [
    *NEEDED,
    pytest.mark.skipif(shutil.which("runsc") is None, reason="gVisor is not installed (Debian package runsc)"),
    pytest.mark.timeout(300),
]
QUICKSTART = Path(__file__).parent.parent / "notebooks" / "01_quickstart.ipynb"
RUNSC = shutil.which("runsc")
RUNTIMES = {
    "runsc": {"path": RUNSC, "runtimeArgs": ["--network=none"]},
    "unlimited": {"path": RUNSC, "runtimeArgs": ["--network=none", "--ignore-cgroups"]},
}


@pytest.fixture(scope="module", autouse=True)
def engine() -> Iterator[OwnEngine]:
    with pytest.MonkeyPatch.context() as monkeypatch, own_engine(runtimes=RUNTIMES) as engine:
        monkeypatch.setenv("DOCKER_HOST", engine.host)
        yield engine


@pytest.fixture(scope="module")
def box(engine: OwnEngine) -> Iterator[Sandbox]:
    with Sandbox.create(runtime="runsc", timeout=60, mem="300m") as box:
        yield box


def test_it_is_gvisors_kernel(box: Sandbox) -> None:
    assert "gVisor" in box.commands.run("dmesg").stdout


def test_code_commands_and_files(box: Sandbox) -> None:
    assert box.run_code("import numpy\nint(numpy.arange(4).sum())").text == "6"
    assert box.run_code("echo hi", language="bash").stdout == "hi\n"
    assert box.commands.run("echo one | tr o 0").stdout == "0ne\n"
    box.files.write("data.csv", "n\n1\n")
    assert box.files.read("data.csv") == "n\n1\n"
    assert box.run_code("1 / 0").status == "error"
    assert box.run_code("while True: pass", timeout=0.5).status == "timeout"
    assert box.run_code("'still here'").text == "'still here'"


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("open('/usr/x', 'w')", "Permission denied"),
        ("__import__('socket').create_connection(('1.1.1.1', 53), 2)", "No route to host"),
        ("__import__('pty').openpty()", "out of pty devices"),
        ("open('/workspace/x', 'wb').write(bytes(200 * 2**20))", "No space left"),
    ],
)
def test_what_a_box_may_not_do(box: Sandbox, code: str, error: str) -> None:
    run = box.run_code(code)
    assert run.error is not None
    assert error in str(run.error)


def test_more_memory_than_it_has_ends_the_box() -> None:
    """The limit is on all of gVisor, so nothing of it is left to tell what happened."""
    with Sandbox.create(runtime="runsc", mem="200m") as box:
        run = box.run_code("x = bytearray(2**30)\nfor i in range(0, len(x), 4096): x[i] = 1\nprint('done')")
    assert run.status != "ok"
    assert "done" not in run.stdout


def test_a_limit_that_is_accepted_and_not_enforced_is_noticed() -> None:
    def boxes() -> set[str]:
        return {one["Id"] for one in Engine.connect().containers(f"{LABEL}=sandbox")}

    before = boxes()
    with pytest.raises(PolicyError, match=r"a wall is missing: the memory limit, .*without --ignore-cgroups"):
        Sandbox.create(runtime="unlimited")
    seconds_until(lambda: boxes() <= before, within=10)


def test_the_doctor_tells_what_a_runtime_adds() -> None:
    report = doctor.run(Engine.connect(), "runsc")
    assert report.ok, str(report)
    told = {check.name: check for check in report.checks}
    assert told["a kernel of its own"].holds
    assert told["seccomp filter"].holds is None  # its kernel is its own, and so is what it says
    assert "a kernel of its own" in report.runtimes["runsc"]
    assert not doctor.run(Engine.connect(), "unlimited").ok


def test_a_runtime_that_is_not_there(engine: OwnEngine) -> None:
    with pytest.raises(SandboxError, match=r"^the engine has no runtime kata; it has .*runc, runsc, unlimited\. "):
        Sandbox.create(runtime="kata")


def test_the_quickstart_runs(engine: OwnEngine) -> None:
    """Each ``%%sandbox`` cell of it, with ``--runtime runsc``, ends as it does on the engine's own runtime."""
    cells = [cell for cell in json.loads(QUICKSTART.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]
    kernel = Kernel()
    try:
        ran = 0
        for cell in cells:
            source = "".join(cell["source"])
            if not source.startswith("%%sandbox") or "/proc/self/status" in source:  # gVisor has walls of its own
                continue
            ran += 1
            got = kernel.run(source.replace("%%sandbox", "%%sandbox --runtime runsc", 1))
            errors = [output["ename"] for output in cell["outputs"] if "ename" in output]
            seen = [output["ename"] for output in got.outputs if "ename" in output]
            if errors == ["MemoryLimitError"]:  # see above
                assert len(seen) == 1
            else:
                assert seen == errors, source
        assert ran >= 5
    finally:
        kernel.close()
