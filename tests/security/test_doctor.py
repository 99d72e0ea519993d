"""The doctor says what is so: of this engine, and of boxes that lack a wall."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docker
import docker.errors
import pytest
from kernel import Kernel
from security.walls import without

from agentbox_magic import Sandbox, badge, doctor, hardening, readback
from agentbox_magic.display import doctor_table
from agentbox_magic.doctor import Check, Report
from agentbox_magic.engine import Engine

create = Engine.create


@pytest.fixture(scope="module")
def report() -> Report:
    return doctor.run(Engine.connect())


def test_all_that_is_promised_holds_here(report: Report) -> None:
    assert report.ok, str(report)
    assert len(report.checks) > 25
    for check in report.checks:
        assert check.holds or check.name == "CPU time is bounded" or not check.required, check  # a busy machine


def test_what_the_engine_lacks_is_told_and_no_failure(report: Report, client: docker.DockerClient) -> None:
    options = " ".join(client.info()["SecurityOptions"])
    told = {check.name: check for check in report.checks}
    for name, word in (("AppArmor", "name=apparmor"), ("users are mapped", "name=userns")):
        assert told[name].holds == (word in options)
        assert told[name].advice
        assert not told[name].required
    assert report.runtimes.keys() == client.info()["Runtimes"].keys()


MISSING: list[dict[str, str]] = [
    {
        "capabilities": "no capabilities, the host's kernel agrees",
        "seccomp": "seccomp filter, no system call that none needs, no sockets to the hypervisor, "
        "no memory by netlink, no protocols but TCP and UDP, no huge pages of the host, socket buffers stay small",
        "read-only root": "the root is read-only",
        "no network": "no network, loopback only",
        "no terminals": "no terminals of the host",
        "masked paths": "what tells of the host is masked",
        "no host directories": "no file system of the host",
        "open files": "open files are bounded",
        "pids": "processes are bounded",
        "no log": "no log on the host's disk",
    },
    {
        "no-new-privileges": "no new privileges, the host's kernel agrees",
        "user": "not root",
        "TCP buffers": "socket buffers stay small",
        "/workspace size": "/workspace is bounded",
        "/tmp size": "/tmp is bounded",
        "shared memory": "/dev/shm is bounded",
        "cpus": "CPU time is bounded",
    },
    {"memory": "memory is bounded, the host's kernel agrees on memory, what sockets hold is bounded"},
]
"""Walls that a box lacks, and for each the checks that miss it."""


@pytest.mark.parametrize("missing", MISSING, ids=lambda missing: next(iter(missing)))
def test_what_is_missing_is_found_and_nothing_else(monkeypatch: pytest.MonkeyPatch, missing: dict[str, str]) -> None:
    monkeypatch.setattr(Engine, "create", lambda self, config, name=None: create(self, without(config, missing)))
    monkeypatch.setattr(readback, "verify", lambda *args: None)  # which would not let the doctor have the box
    report = doctor.run(Engine.connect())
    assert not report.ok
    found = {check.name for check in report.checks if check.word == "FAILS"}
    wanted = {name for names in missing.values() for name in names.split(", ")}
    assert found in (wanted, wanted - {"CPU time is bounded"}), str(report)  # of which a busy machine may not tell


def test_a_reset_that_leaves_something_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control of that check: where nothing is reset, the secret is still there."""
    with Sandbox.create() as box:
        check = doctor._reset(box)
        assert check.holds, check
        monkeypatch.setattr(Sandbox, "reset", lambda self: None)
        check = doctor._reset(box)
        assert check.word == "FAILS", check


def test_a_box_that_does_not_start_for_want_of_a_wall(
    monkeypatch: pytest.MonkeyPatch, boxes: Callable[[], set[str]]
) -> None:
    monkeypatch.setattr(Engine, "create", lambda self, config, name=None: create(self, without(config, ["seccomp"])))
    report = doctor.run(Engine.connect())
    assert not report.ok
    assert report.checks[0].word == "FAILS"
    assert "SecurityOpt" in report.checks[0].how
    assert boxes() == set()


@pytest.mark.skipif(os.getuid() != 0 or shutil.which("chattr") is None, reason="only root can stand in an engine's way")
def test_a_box_that_the_engine_fails_to_remove_is_told(
    monkeypatch: pytest.MonkeyPatch, client: docker.DockerClient, image: str
) -> None:
    monkeypatch.setattr(doctor, "GONE_SECONDS", 0.5)
    assert doctor.no_box_is_stuck(Engine.connect()).holds
    container = client.containers.create(image, labels={hardening.LABEL: "sandbox"})
    folder = Path(client.info()["DockerRootDir"], "containers", container.id)
    if subprocess.run(["chattr", "+i", folder / "config.v2.json"], check=False, capture_output=True).returncode:
        container.remove()
        pytest.skip("this file system has no files that cannot be removed, or the engine's is not here")
    try:
        with pytest.raises(docker.errors.APIError):
            container.remove(force=True)
        check = doctor.no_box_is_stuck(Engine.connect())
    finally:
        subprocess.run(["chattr", "-i", folder / "config.v2.json"], check=True)
        container.remove(force=True)
    assert (check.word, check.how) == (
        "absent", f"the engine does not come to an end with 1: {container.id[:12]}",
    )  # fmt: skip
    assert "restart" in check.advice
    assert doctor.no_box_is_stuck(Engine.connect()).holds


def made_up(*checks: Check) -> Report:
    return Report("an engine <b>", "runc", checks, {"runc": "the host's kernel"})


def test_what_fails_a_report() -> None:
    holds, fails = Check("a", True, "", "", short="a"), Check("b", False, "", "mend it", short="b")
    unknown, absent = Check("c", None, "", ""), Check("d", False, "", "", required=False, short="d")
    assert made_up(holds, unknown, absent).ok
    assert not made_up(holds, fails).ok
    assert made_up(holds, fails, absent).badge() == "walls: a · absent: b, d"
    assert made_up(fails).to_dict()["checks"][0] == {
        "name": "b", "holds": False, "how": "", "advice": "mend it", "required": True, "short": "b",
    }  # fmt: skip
    assert json.loads(json.dumps(made_up(fails).to_dict()))["ok"] is False
    assert "mend it" in str(made_up(fails))


def test_the_table_is_text_and_static_html() -> None:
    hostile = Check("<script>", False, "<img src=x onerror=evil()>", "<iframe>")
    shown: dict[str, Any] = doctor_table(made_up(hostile))
    assert shown["text/plain"] == str(made_up(hostile))
    for tag in ("<script", "<img", "<iframe", "engine <b>"):
        assert tag not in shown["text/html"]


def test_the_cheap_line_is_the_engines_word(report: Report, client: docker.DockerClient, image: str) -> None:
    with Sandbox.create() as box:
        assert box.get_info().walls == report.badge()
        (listed,) = (info for info in Sandbox.list() if info.sandbox_id == box.sandbox_id)
        assert listed.walls is None
    open_box = client.containers.create(image)
    try:
        found = client.api.inspect_container(open_box.id)
        line = badge.told(found, Engine.connect().traits)
    finally:
        open_box.remove()
    assert line.startswith("walls: none · absent: seccomp, no-new-privs, caps 0, read-only, no network")


def test_in_a_notebook(kernel: Kernel, report: Report) -> None:
    (shown,) = kernel.run("%sandbox doctor").data("text/plain")
    assert shown.endswith(report.badge())
    assert kernel.run("%%sandbox --badge\n1 + 1").data("text/plain") == ["2", "sandbox: ok", report.badge()]
    assert kernel.run("%%sandbox\n1 + 1").data("text/plain") == ["2", "sandbox: ok"]
