"""Others on the same engine and image, with their own packages in an environment of their own: ``make bench-peers``.

Each does what its documentation says to do: a fresh sandbox and a first result, and a result in one that is warm.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

CODE = "print(1 + 1)"
STAY = {"command": ["sleep", "infinity"], "user": "root"}
"""Our image's own command ends when nobody speaks to it."""


def figure(times: list[float]) -> dict[str, float]:
    low, middle, high = statistics.quantiles(times, n=4, method="inclusive")
    return {"median": middle, "low": low, "high": high, "count": len(times)}


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    assert "2" in str(action())
    return time.perf_counter() - start


def llm_sandbox(image: str) -> Iterator[tuple[str, list[float]]]:
    from llm_sandbox import SandboxSession

    options: dict[str, Any] = {"lang": "python", "image": image, "keep_template": True, "runtime_configs": STAY}

    def fresh() -> str:
        with SandboxSession(**options) as session:
            return str(session.run(CODE).stdout)

    yield "llm-sandbox: fresh", [seconds(fresh) for _ in range(3)]
    with SandboxSession(**options) as session:
        session.run(CODE)
        yield "llm-sandbox: warm", [seconds(lambda: session.run(CODE).stdout) for _ in range(9)]


def llm_sandbox_pool(image: str) -> Iterator[tuple[str, list[float]]]:
    from llm_sandbox import SandboxSession
    from llm_sandbox.pool import PoolConfig, create_pool_manager

    manager = create_pool_manager(
        backend="docker", config=PoolConfig(max_pool_size=2, min_pool_size=1, enable_prewarming=True),
        lang="python", image=image, runtime_configs=STAY,
    )  # fmt: skip

    def hit() -> str:
        with SandboxSession(lang="python", pool=manager) as session:
            return str(session.run(CODE).stdout)

    try:
        hit()
        yield "llm-sandbox: from its pool (which hands a container out again)", [seconds(hit) for _ in range(9)]
    finally:
        manager.close()


def autogen(image: str) -> Iterator[tuple[str, list[float]]]:
    from autogen_core import CancellationToken
    from autogen_core.code_executor import CodeBlock
    from autogen_ext.code_executors.docker import DockerCommandLineCodeExecutor

    block = [CodeBlock(code=CODE, language="python")]

    async def fresh() -> str:
        async with DockerCommandLineCodeExecutor(image=image) as executor:
            return (await executor.execute_code_blocks(block, CancellationToken())).output

    async def warm() -> list[float]:
        times = []
        async with DockerCommandLineCodeExecutor(image=image) as executor:
            await executor.execute_code_blocks(block, CancellationToken())
            for _ in range(9):
                start = time.perf_counter()
                assert "2" in (await executor.execute_code_blocks(block, CancellationToken())).output
                times.append(time.perf_counter() - start)
        return times

    yield "autogen: fresh", [seconds(lambda: asyncio.run(fresh())) for _ in range(3)]
    yield "autogen: warm", asyncio.run(warm())


def main() -> None:
    image, out = sys.argv[1], Path(sys.argv[2])
    found: dict[str, Any] = {}
    for peer in (llm_sandbox, llm_sandbox_pool, autogen):
        try:
            for name, times in peer(image):
                found[name] = figure(times)
                print(f"{name}: {found[name]['median'] * 1e3:.0f} ms", flush=True)
        except Exception:  # one that does not run is left out, and said so
            print(f"{peer.__name__} does not run here:", file=sys.stderr)
            traceback.print_exc(limit=-2)
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(found, indent=1), "utf-8")


if __name__ == "__main__":
    main()
