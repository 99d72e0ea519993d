"""The image under plain ``docker run``: a task in the environment, and nobody of ours on the host."""

from __future__ import annotations

import docker
import pytest
from docker.models.containers import Container
from waiting import seconds_until

from agentbox_magic import Sandbox

FLAGS = {
    "mem_limit": "512m", "cpu_period": 100_000, "cpu_quota": 50_000, "pids_limit": 50, "network_mode": "none",
    "read_only": True, "cap_drop": ["ALL"], "security_opt": ["no-new-privileges"], "user": "10000:10000",
}  # fmt: skip


def run(client: docker.DockerClient, image: str, agent: str, task: str) -> Container:
    return client.containers.run(image, detach=True, environment={"AGENT_ID": agent, "TASK": task}, **FLAGS)


def end(container: Container) -> tuple[int, str]:
    try:
        return container.wait()["StatusCode"], container.logs().decode()
    finally:
        container.remove(force=True)


def test_five_agents(client: docker.DockerClient, image: str) -> None:
    task = "import os\nprint(os.environ['AGENT_ID'], 'works')\n{} ** 2"
    agents = [run(client, image, f"agent-{n}", task.format(n)) for n in range(5)]
    assert [end(one) for one in agents] == [(0, f"agent-{n} works\n{n**2}\n") for n in range(5)]


@pytest.mark.parametrize(
    ("task", "code", "says"),
    [
        ("print('before')\n1 / 0", 1, "ZeroDivisionError"),
        ("def", 1, "SyntaxError"),
        ("import sys; sys.exit(3)", 3, ""),
        ("import sys; sys.exit()", 0, ""),
        ("import sys; sys.exit('no fox')", 1, "no fox"),
        ("import tempfile, matplotlib.pyplot as plt\ntempfile.mkdtemp()\nplt.plot([1])\nprint('drawn')", 0, "drawn"),
        ("import asyncio\nawait asyncio.sleep(0)\nprint('slept')", 0, "slept"),
    ],
)
def test_a_task_ends_with_an_exit_code(
    client: docker.DockerClient, image: str, task: str, code: int, says: str
) -> None:
    ended, text = end(run(client, image, "one", task))
    assert (ended, says in text) == (code, True), text
    assert says or not text


def test_it_stops_when_told(client: docker.DockerClient, image: str) -> None:
    """Not only at the kill that follows: PID 1 has no handler but its own."""
    container = run(client, image, "one", "import time\nprint('up')\ntime.sleep(600)")
    seconds_until(lambda: container.logs() == b"up\n", within=30)
    container.stop(timeout=60)
    assert end(container)[0] == 128 + 15


def test_a_box_with_a_task_in_its_environment_is_still_a_box() -> None:
    with Sandbox.create(env={"TASK": "1 / 0"}) as box:
        assert box.run_code("import os; os.environ['TASK']").text == "'1 / 0'"
