"""Boxes started ahead: as good as new ones, handed out once, and gone when nobody needs them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import docker
import pytest
from kernel import Kernel
from waiting import seconds_until

from agentbox_magic import MemoryLimitError, Sandbox, SandboxError, config, derived, hardening, pool
from agentbox_magic.engine import Engine
from agentbox_magic.launch import configure
from agentbox_magic.limits import Limits
from agentbox_magic.pool import Pool

START = 30.0


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch, client: docker.DockerClient) -> Iterator[Pool]:
    """A pool of one box, of this test."""
    mine = Pool()
    monkeypatch.setattr(pool, "_pool", mine)
    monkeypatch.setattr(config, "pool", 1)
    yield mine
    left = {container for container, _, _ in mine.waiting()}
    mine.close()
    seconds_until(lambda: not left & ids(client), START)


def ids(client: docker.DockerClient) -> set[str]:
    return {one["Id"] for one in client.api.containers(all=True)}


def fill(mine: Pool, count: int = 1) -> list[str]:
    """Wait until so many boxes wait; their ids."""
    seconds_until(lambda: len(mine.waiting()) == count, START)
    return [container for container, _, _ in mine.waiting()]


def test_nothing_waits_before_the_first_use(waiting: Pool) -> None:
    assert Sandbox.list() is not None
    assert waiting.waiting() == []
    assert "agentbox-pool" not in {thread.name for thread in threading.enumerate()}


def test_a_call_gets_the_box_that_waits_and_another_takes_its_place(waiting: Pool) -> None:
    with Sandbox.create() as first:
        (ahead,) = fill(waiting)
        with Sandbox.create() as second:
            assert second.sandbox_id == ahead != first.sandbox_id
            assert second.run_code("x = 1\nopen('left', 'w').write('x')\n1 + 1").execution_count == 1
            (next_one,) = fill(waiting)
            with Sandbox.create() as third:
                assert third.sandbox_id == next_one != second.sandbox_id
                run = third.run_code("import os\nos.listdir('.'), 'x' in globals()")
                assert (run.text, run.execution_count) == ("([], False)", 1)


LOOK = """
import os, resource, sys, threading, time, gc
def read(path):
    with open(path) as file: return file.read()
mounts = [line.split()[4:] for line in read("/proc/self/mountinfo").splitlines() if " tmpfs " in line]
wanted = ("Name", "Umask", "State", "CapEff", "NoNewPrivs", "Seccomp", "Threads", "SigIgn", "SigCgt")
status = [line for line in read("/proc/self/status").splitlines() if line.split(":")[0] in wanted]
v1, v2 = "/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory.max"
facts = {
    "environment": {name: value for name, value in os.environ.items() if name != "HOSTNAME"},
    "directory": os.getcwd(), "there": sorted(os.listdir(".")), "home": sorted(os.listdir(os.path.expanduser("~"))),
    "path": sys.path, "modules": sorted(sys.modules), "names": sorted(globals()), "argv": sys.argv,
    "limits": [resource.getrlimit(n) for n in range(16)], "cores": sorted(os.sched_getaffinity(0)),
    "memory": read(v1 if os.path.exists(v1) else v2),
    "processes": len([n for n in os.listdir("/proc") if n.isdigit()]), "session": os.getsid(0) == os.getpid(),
    "descriptors": sorted(os.listdir("/proc/self/fd")), "adjustment": read("/proc/self/oom_score_adj"),
    "threads": threading.active_count(), "status": status,
    "mounts": sorted(" ".join(m).replace(str(os.getuid()), "UID") for m in mounts),
}
facts
"""


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="the default"),
        pytest.param({"mem": "700m", "cpus": 2, "pids": 70}, id="other limits"),
        pytest.param({"env": {"AGENT_ID": "7", "TASK": "é"}, "cwd": "/tmp/deep/er"}, id="environment and directory"),
    ],
)
def test_it_is_like_a_new_one(waiting: Pool, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]) -> None:
    def facts(box: Sandbox) -> Any:
        return eval(str(box.run_code(LOOK).raise_for_status().text))  # noqa: S307  # our own words, and a test

    with Sandbox.create():
        (ahead,) = fill(waiting)
    with Sandbox.create(**options) as warm:
        assert warm.sandbox_id == ahead
        seen = facts(warm)
        command = warm.commands.run("pwd; env | grep -v HOSTNAME | sort").stdout
    monkeypatch.setattr(config, "pool", 0)
    with Sandbox.create(**options) as cold:
        expected = facts(cold)
        assert cold.commands.run("pwd; env | grep -v HOSTNAME | sort").stdout == command
    assert {name: value for name, value in seen.items() if value != expected[name]} == {}


def test_a_reset_makes_it_as_it_was_asked_for(waiting: Pool) -> None:
    with Sandbox.create():
        (ahead,) = fill(waiting)
    with Sandbox.create(env={"AGENT_ID": "7"}, cwd="/tmp/deep/er") as box:
        assert box.sandbox_id == ahead
        for extra in ("", "1"):
            box.reset(env={"EXTRA": extra} if extra else None)
            facts = "import os; os.environ['AGENT_ID'], os.environ.get('EXTRA', ''), os.getcwd()"
            assert box.run_code(facts).text == f"('7', '{extra}', '/tmp/deep/er')"


def test_other_limits_are_the_engines_too(waiting: Pool, client: docker.DockerClient) -> None:
    with Sandbox.create():
        (ahead,) = fill(waiting)
    with Sandbox.create(mem="600m", cpus=0.5, pids=20) as box:
        assert box.sandbox_id == ahead
        host = client.api.inspect_container(ahead)["HostConfig"]
        assert {name: host[name] for name in hardening.resources_of(box.limits)} == hardening.resources_of(box.limits)
        assert box.run_code("x = bytearray(560 * 2**20); x[::4096] = b'1' * len(x[::4096])").status == "ok"
        error = box.run_code("y = bytearray(640 * 2**20); y[::4096] = b'1' * len(y[::4096])").error
        assert isinstance(error, MemoryLimitError)
        assert "600 MiB" in str(error)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"metadata": {"a": "b"}}, id="labels"),
        pytest.param({"detach": True, "lifetime": 60}, id="detached"),
        pytest.param({"env": {"PYTHONHASHSEED": "1"}}, id="what the interpreter reads when it starts"),
        pytest.param({"pty": True}, id="terminals"),
        pytest.param({"mem": "1g"}, id="larger directories"),
    ],
)
def test_what_only_a_new_box_can_have(waiting: Pool, options: dict[str, Any]) -> None:
    with Sandbox.create():
        (ahead,) = fill(waiting)
    with Sandbox.create(**options) as box:
        assert box.sandbox_id != ahead
        assert box.run_code("1 + 1").text == "2"


def test_its_lifetime_is_told(waiting: Pool) -> None:
    with Sandbox.create():
        (ahead,) = fill(waiting)
    with Sandbox.create(lifetime=1) as box:
        assert box.sandbox_id == ahead
        seconds_until(lambda: not box.is_running(), 10)


def test_a_dead_one_is_not_handed_out(waiting: Pool, client: docker.DockerClient) -> None:
    with Sandbox.create():
        (ahead,) = fill(waiting)
    client.api.kill(ahead)
    with Sandbox.create() as box:
        assert box.sandbox_id != ahead
        assert box.run_code("1 + 1").text == "2"


def test_a_bad_directory_is_the_same_error(waiting: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    with Sandbox.create():
        fill(waiting)
    with pytest.raises(Exception, match="Read-only file system") as warm:
        Sandbox.create(cwd="/usr/nowhere")
    monkeypatch.setattr(config, "pool", 0)
    with pytest.raises(type(warm.value)) as cold:
        Sandbox.create(cwd="/usr/nowhere")
    assert str(warm.value) == str(cold.value)


def test_one_refusal_is_enough(waiting: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """However fast others take the place of the one that refused: who tries them all never comes to an end."""
    monkeypatch.setattr(config, "pool", 2)
    monkeypatch.setattr(pool, "REST_SECONDS", 0)
    with Sandbox.create(), Sandbox.create():
        ahead = fill(waiting, 2)
    with pytest.raises(Exception, match="Read-only file system"):
        Sandbox.create(cwd="/usr/nowhere")
    assert len({container for container, _, _ in waiting.waiting()} & {*ahead}) == 1


def test_what_a_waiting_box_cannot_make_out_it_refuses(waiting: Pool) -> None:
    """It answers, rather than being lost: whoever asked would wait for its answer."""
    engine = Engine.connect()
    image, start = derived.prepare(engine, None)
    box = hardening.Box(image=image, start=start, env={"PORT": 8080})  # type: ignore[dict-item]
    with Sandbox.create():
        fill(waiting)
    warm = waiting.take(engine, Limits(), replace(box, env={}))
    assert warm is not None
    with pytest.raises(SandboxError, match="refuses"):
        pool.fit(warm, Limits(), Limits(), box)
    assert configure(warm.channel) is not None  # and goes on
    warm.channel.close()


def test_the_list_has_what_is_used_with_its_limits(waiting: Pool) -> None:
    with Sandbox.create():
        (ahead,) = fill(waiting)
        assert ahead not in {info.sandbox_id for info in Sandbox.list()}
    with Sandbox.create(mem="600m", cpus=0.5, pids=20, timeout=None) as box:
        assert box.sandbox_id == ahead
        wanted = Limits.of("600m", 0.5, 20, None)
        assert [info.limits for info in Sandbox.list() if info.sandbox_id == ahead] == [wanted]
        assert box.get_info().limits == wanted
        code = "from agentbox_magic import Sandbox\n"
        code += f"print([i.limits for i in Sandbox.list() if i.sandbox_id == {ahead!r}])"

        def elsewhere() -> str:
            return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

        seconds_until(lambda: elsewhere().strip() == str([wanted]), START)


def test_many_threads_get_boxes_of_their_own(waiting: Pool) -> None:
    def one(number: int) -> tuple[str, str | None]:
        with Sandbox.create() as box:
            return box.sandbox_id, box.run_code(str(number)).text

    with ThreadPoolExecutor(4) as threads:
        done = list(threads.map(one, range(12)))
    assert [text for _, text in done] == [str(number) for number in range(12)]
    assert len({container for container, _ in done}) == 12


def test_after_a_while_nothing_waits(
    waiting: Pool, monkeypatch: pytest.MonkeyPatch, client: docker.DockerClient
) -> None:
    with Sandbox.create():
        (ahead,) = fill(waiting)
    monkeypatch.setattr(pool, "IDLE_SECONDS", 0.1)
    with Sandbox.create():  # the thread sees the shorter time from here on
        fill(waiting)
    seconds_until(lambda: not waiting.waiting(), START)
    seconds_until(lambda: ahead not in ids(client), START)
    seconds_until(lambda: "agentbox-pool" not in {thread.name for thread in threading.enumerate()}, START)
    with Sandbox.create() as box:  # and it begins anew
        fill(waiting)
        assert box.run_code("1 + 1").text == "2"
        fill(waiting, 0)


def test_a_smaller_number_takes_effect_at_once(waiting: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    with Sandbox.create():
        fill(waiting)
    monkeypatch.setattr(config, "pool", 0)
    waiting.trim()
    fill(waiting, 0)


def test_start_ahead(waiting: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    pool.start_ahead(2)
    ahead = fill(waiting, 2)
    with Sandbox.create() as box:
        assert box.sandbox_id in ahead
    pool.start_ahead(0)
    fill(waiting, 0)


OWNER = """
import os, sys, time
os.environ["AGENTBOX_POOL"] = "2"
from agentbox_magic import Sandbox, pool
for _ in range(2): Sandbox.create().kill()
while len(pool.current().waiting()) < 2: time.sleep(0.02)
print(*(one[0] for one in pool.current().waiting()), flush=True)
"""


@pytest.mark.parametrize("end", ["pass", "sys.stdin.read()"], ids=["it ends", "it is killed"])
def test_they_die_with_their_owner(client: docker.DockerClient, end: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER + end], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        ahead = set(owner.stdout.readline().split())
        assert len(ahead) == 2
        if end == "pass":
            assert owner.wait(START) == 0
        else:
            assert ahead <= ids(client)
            owner.send_signal(signal.SIGKILL)
        seconds_until(lambda: not ahead & ids(client), START)


def test_a_fork_leaves_them_alone(boxes: Callable[[], set[str]]) -> None:
    code = (
        OWNER
        + """
pid = os.fork()
if not pid:
    assert pool.current().waiting() == []
    with Sandbox.create() as box:
        assert box.run_code("1 + 1").text == "2"
    sys.exit(0)  # what is registered for the end runs in the fork too
assert os.waitpid(pid, 0)[1] == 0
ahead = [one[0] for one in pool.current().waiting()]
assert len(ahead) == 2
with Sandbox.create() as box:
    assert box.sandbox_id in ahead
    assert box.run_code("1 + 1").text == "2"
"""
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL, env=dict(os.environ))
    assert boxes() == set()


def test_the_magics_of_it() -> None:
    kernel = Kernel()
    try:
        assert kernel.run("%sandbox pool").text("stdout") == "no box waits\n"
        head, row = kernel.run("%sandbox warm 1").text("stdout").splitlines()
        assert head.split() == ["ID", "MEM", "CPUS", "IMAGE"]
        assert row.split()[1:4] == ["512", "MiB", "1"]
        assert row.split()[0] not in kernel.run("%sandbox").text("stdout")
        assert kernel.run("%%sandbox\n1 + 1").data("text/plain")[0] == "2"
        assert "warm many is not a number; give a number of boxes, such as 2" in kernel.run("%sandbox warm many").text(
            "stderr"
        )
        kernel.run("%config SandboxMagics.pool = 0")
        seconds_until(lambda: kernel.run("%sandbox pool").text("stdout") == "no box waits\n", START)
    finally:
        kernel.close()
