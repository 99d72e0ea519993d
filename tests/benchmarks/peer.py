"""One peer, in a process of its own, in ``.venv-peers``: does what a line on stdin says, and answers with a line.

Each does what its documentation says to do, on our engine and image. A row is a method, :mod:`benchmarks.peers` times
it.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

CODE = "print(1 + 1)"
STAY = {"command": ["sleep", "infinity"], "user": "root"}
"""Our image's own command ends when nobody speaks to it."""
SIZE = 100 * 2**20


class LlmSandbox:
    """llm-sandbox: each run is a ``docker exec`` of a new Python.

    Its interactive session is not here: it installs packages in its container, where there is no network.
    """

    rows = ("fresh", "warm", "into", "out_of")

    def __init__(self, image: str) -> None:
        from llm_sandbox import SandboxSession

        self._new = lambda: SandboxSession(lang="python", image=image, keep_template=True, runtime_configs=STAY)
        self._session = self._new()
        self._session.open()
        self._folder = tempfile.TemporaryDirectory()
        self._data = Path(self._folder.name, "data")
        self._data.write_bytes(os.urandom(SIZE))

    def fresh(self) -> None:
        self._fresh = self._new()
        self._fresh.open()
        right(self._fresh.run(CODE).stdout)

    def end(self) -> None:
        self._fresh.close()

    def warm(self) -> None:
        right(self._session.run(CODE).stdout)

    def into(self) -> None:
        self._session.copy_to_runtime(str(self._data), "/tmp/data")

    def out_of(self) -> None:
        back = Path(self._folder.name, "back")
        self._session.copy_from_runtime("/tmp/data", str(back))
        assert back.stat().st_size == SIZE

    def close(self) -> None:
        self._session.close()
        self._folder.cleanup()


class LlmSandboxPool:
    """llm-sandbox's pool, which hands a container out again."""

    rows = ("pooled",)

    def __init__(self, image: str) -> None:
        from llm_sandbox.pool import PoolConfig, create_pool_manager

        self._manager = create_pool_manager(
            backend="docker", config=PoolConfig(max_pool_size=2, min_pool_size=1, enable_prewarming=True),
            lang="python", image=image, runtime_configs=STAY,
        )  # fmt: skip

    def pooled(self) -> None:
        from llm_sandbox import SandboxSession

        with SandboxSession(lang="python", pool=self._manager) as session:
            right(session.run(CODE).stdout)

    def close(self) -> None:
        self._manager.close()


class Autogen:
    """autogen's Docker executor: each run is a ``docker exec`` of a file that the host wrote into a mount."""

    rows = ("fresh", "warm")

    def __init__(self, image: str) -> None:
        self._image = image
        self._folder = tempfile.TemporaryDirectory()
        Path(self._folder.name).chmod(0o755)  # the image's user is not root
        self._loop = asyncio.new_event_loop()
        self._executor = self._start()

    def _do(self, task: Coroutine[Any, Any, Any]) -> Any:
        return self._loop.run_until_complete(task)

    def _start(self) -> Any:
        from autogen_ext.code_executors.docker import DockerCommandLineCodeExecutor

        executor = DockerCommandLineCodeExecutor(image=self._image, work_dir=self._folder.name)
        self._do(executor.start())
        return executor

    def _run(self, executor: Any) -> None:
        from autogen_core import CancellationToken
        from autogen_core.code_executor import CodeBlock

        block = [CodeBlock(code=CODE, language="python")]
        right(self._do(executor.execute_code_blocks(block, CancellationToken())).output)

    def fresh(self) -> None:
        self._fresh = self._start()
        self._run(self._fresh)

    def end(self) -> None:
        self._do(self._fresh.stop())

    def warm(self) -> None:
        self._run(self._executor)

    def close(self) -> None:
        self._do(self._executor.stop())
        self._folder.cleanup()


class Smolagents:
    """smolagents' Docker executor: a Jupyter kernel behind a kernel gateway, which this image needs to have."""

    rows = ("fresh", "warm")

    def __init__(self, image: str) -> None:
        self._image = image
        self._executor = self._start()

    def _start(self) -> Any:
        from smolagents.monitoring import AgentLogger, LogLevel
        from smolagents.remote_executors import DockerExecutor

        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        gateway = ["--KernelGatewayApp.ip=0.0.0.0", "--KernelGatewayApp.port=8888"]
        return DockerExecutor(
            [], AgentLogger(level=LogLevel.OFF), image_name=self._image, build_new_image=False, port=port,
            container_run_kwargs={"entrypoint": ["python", "-m", "kernel_gateway"], "command": gateway, "user": "root"},
        )  # fmt: skip

    def fresh(self) -> None:
        self._fresh = self._start()
        right(self._fresh(CODE).logs)

    def end(self) -> None:
        self._fresh.cleanup()

    def warm(self) -> None:
        right(self._executor(CODE).logs)

    def close(self) -> None:
        self._executor.cleanup()


PEERS = {
    "llm-sandbox": LlmSandbox,
    "llm-sandbox, pool": LlmSandboxPool,
    "autogen": Autogen,
    "smolagents": Smolagents,
}


def right(said: object) -> None:
    assert str(said).strip() == "2", said


def main() -> None:
    name, image = sys.argv[1:]
    # Peers print what they do: the answers have a descriptor of their own.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    peer: Any = None
    word = ""
    try:
        peer = PEERS[name](image)
        print("ready", file=answers)
        for line in sys.stdin:
            word = line.strip()
            getattr(peer, word)()
            print("done", file=answers)
    except Exception as error:
        print(f"{type(error).__name__}: {error}".replace("\n", " ")[:300], file=answers)
    finally:
        if peer is not None:
            try:
                if word == "fresh":  # it began, and was not told to end
                    peer.end()
            finally:
                peer.close()


if __name__ == "__main__":
    main()
