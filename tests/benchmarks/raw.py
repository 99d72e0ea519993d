"""What there is beside a sandbox: the engine itself, a kernel on the host, and the least that any design must do."""

from __future__ import annotations

import contextlib
import io
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from IPython.core.interactiveshell import InteractiveShell

from agentbox_magic import hardening, images, resources, uids
from agentbox_magic.channel import Channel
from agentbox_magic.engine import Engine
from agentbox_magic.limits import Limits


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def flags() -> list[str]:
    """The walls of a box, as ``docker run`` takes them."""
    limits = Limits()
    host = hardening.container_config(limits, hardening.Box(image=images.default_image()), 10001)["HostConfig"]
    profile = Path(__file__).parent.parent.parent / "build" / "seccomp.json"
    profile.parent.mkdir(exist_ok=True)
    profile.write_text(resources.seccomp_profile(), "utf-8")
    found = ["--network=none", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"]
    found += [f"--security-opt=seccomp={profile}", f"--memory={limits.mem}", f"--memory-swap={limits.mem}"]
    found += [f"--cpus={limits.cpus}", f"--pids-limit={limits.pids}", "--user=10001:10001", "--log-driver=none"]
    found += [f"--shm-size={host['ShmSize']}", "--ipc=private", "--oom-score-adj=500", "--cgroupns=private"]
    found += [f"--tmpfs={path}:{options}" for path, options in host["Tmpfs"].items()]
    found += [f"--sysctl={name}={value}" for name, value in host["Sysctls"].items()]
    found += [f"--ulimit={one['Name']}={one['Soft']}:{one['Hard']}" for one in host["Ulimits"]]
    return found


class Echo:
    """A container that only sends back what it gets: a bare round trip through the engine's pipe."""

    def __init__(self) -> None:
        self._engine = Engine.connect()
        config = hardening.container_config(Limits(), hardening.Box(image=images.default_image()), 10001)
        container = self._engine.create({**config, "Entrypoint": ["cat"]})
        assert container is not None
        self._container = container
        self._pipe = self._engine.attach(container)
        self._engine.start(container)

    def __call__(self) -> None:
        self._pipe.send(b"x" * 200)
        left = 200
        while left:
            left -= len(self._pipe.recv())

    def close(self) -> None:
        self._pipe.close()
        self._engine.remove(self._container)


class Plain:
    """The container of a box with what Docker does unless told otherwise, but without a network."""

    def __init__(self) -> None:
        self._engine = Engine.connect()
        config = hardening.container_config(Limits(), hardening.Box(image=images.default_image()), 10001)
        env = ["HOME=/workspace" if word.startswith("HOME=") else word for word in config["Env"]]
        host = {"AutoRemove": True, "NetworkMode": "none", "Runtime": "", "SecurityOpt": []}
        # The image's own user, to whom its /workspace belongs.
        self._config = {**config, "User": "10000:10000", "Env": env, "HostConfig": host}

    def start(self) -> tuple[str, Channel]:
        container = self._engine.create(self._config)
        assert container is not None
        channel = Channel(self._engine.attach(container))
        self._engine.start(container)
        channel.handshake(60)
        return container, channel

    def end(self, started: tuple[str, Channel]) -> None:
        """As Sandbox.kill does it."""
        container, channel = started
        channel.close()
        self._engine.finish(container)


def silence() -> contextlib.redirect_stdout[io.StringIO]:
    return contextlib.redirect_stdout(io.StringIO())


def run_cell() -> None:
    """IPython's own part of a cell."""
    with silence():
        InteractiveShell.instance().run_cell("1 + 1", store_history=False)


def create_start_remove(count: int, threads: int) -> None:
    """The engine's part of ``count`` sandboxes, and nothing else: nobody waits for what is in the containers."""
    engine = Engine.connect()
    limits = Limits()
    box = hardening.Box(image=images.default_image())

    def one(_: int) -> None:
        container = engine.create(hardening.container_config(limits, replace(box), uids.draw(engine)))
        assert container is not None
        engine.start(container)
        engine.remove(container)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(one, range(count)))
