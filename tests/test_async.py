"""AsyncSandbox: the same box, for async code."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable

import pytest

from agentbox_magic import AsyncSandbox, CommandExitException, Sandbox
from agentbox_magic.async_sandbox import AsyncCommands, AsyncFiles
from agentbox_magic.commands import Commands
from agentbox_magic.files import Files


@pytest.mark.parametrize(
    ("waiting", "plain"), [(AsyncSandbox, Sandbox), (AsyncFiles, Files), (AsyncCommands, Commands)]
)
def test_every_public_name_is_there(waiting: type, plain: type) -> None:
    ours = {"check", "start", "python_version", "call_pickled", "answer_tool"}  # what other parts of the package use
    names = {name for name in dir(plain) if not name.startswith("_")} - ours
    assert names <= set(dir(waiting))
    for name in names - {"is_running", "get_host", "forward"}:  # they do not wait
        member = inspect.getattr_static(waiting, name)
        member = getattr(member, "__func__", member)
        assert inspect.iscoroutinefunction(member) or isinstance(member, property), name


def test_boxes_side_by_side(boxes: Callable[[], set[str]]) -> None:
    async def one(number: int) -> str | None:
        async with await AsyncSandbox.create() as box:
            await box.files.write("in.txt", str(number))
            assert (await box.commands.run("cat in.txt")).stdout == str(number)
            with pytest.raises(CommandExitException):
                await box.commands.run("exit 3")
            handle = await box.commands.run("cat", background=True, stdin=True)
            await handle.send_stdin("x")
            await handle.close_stdin()
            assert (await handle.wait()).stdout == "x"
            return (await box.run_code(f"{number} ** 2")).text

    async def several() -> list[str | None]:
        return await asyncio.gather(*(one(number) for number in range(3)))

    assert asyncio.run(several()) == ["0", "1", "4"]
    assert boxes() == set()


@pytest.mark.parametrize(
    "code",
    [
        "import time; time.sleep(100)",
        "while True:\n    try:\n        while True: pass\n    except KeyboardInterrupt: pass",
    ],
)
def test_cancelling_a_run_ends_it(code: str) -> None:
    async def cancel() -> str | None:
        async with await AsyncSandbox.create() as box:
            running = asyncio.Event()
            loop = asyncio.get_running_loop()
            run = asyncio.create_task(
                box.run_code(
                    f"import os; os.write(1, b'running')\n{code}",
                    on_stdout=lambda text: loop.call_soon_threadsafe(running.set),
                )
            )
            await asyncio.wait_for(running.wait(), 30)
            run.cancel()
            with pytest.raises(asyncio.CancelledError):
                await run
            return (await box.run_code("1 + 1")).text

    assert asyncio.run(cancel()) == "2"
