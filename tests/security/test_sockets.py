"""Memory that no cgroup counts: what sockets hold, and huge pages. The figures are the host's.

Each attack is run twice: in a box, and as PID 1 of the same container, where nobody looks what sockets hold.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from security.harness import start
from security.host import Host
from waiting import seconds_until

from agentbox_magic import MemoryLimitError, Sandbox, derived, hardening, uids
from agentbox_magic.engine import Engine
from agentbox_magic.limits import Limits

MEM = 256 * 2**20
"""Of the boxes that are attacked. An attack holds half as much again if nobody ends it, which a host can spare."""

TCP = """
import os, socket, time
def fill():
    kept, data = [], bytes(2**17)
    server = socket.create_server(('127.0.0.1', 0))
    while len(kept) < 900:
        client = socket.create_connection(server.getsockname())
        pair = client, server.accept()[0]
        for one in pair:
            one.setblocking(False)
            try:
                while True:
                    one.send(data)
            except BlockingIOError:
                pass
        kept += pair
    time.sleep(60)
for _ in range(5):
    if os.fork() == 0:
        try:
            fill()
        finally:
            os._exit(0)
"""
UDP = """
import os, socket, time
def fill():
    kept = []
    while len(kept) < 900:
        one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        one.bind(('127.0.0.1', 0))
        for _ in range(6):
            one.sendto(bytes(40000), one.getsockname())
        kept.append(one)
    time.sleep(60)
for _ in range(2):
    if os.fork() == 0:
        try:
            fill()
        finally:
            os._exit(0)
"""
WAIT = "time.sleep(60)"
FLOODS = {"TCP": TCP, "UDP": UDP}


def held(process: int) -> int:
    """Bytes that the sockets of a process's network namespace hold, at least; 0 if it has ended."""
    total = 0
    for name in ("tcp", "udp"):
        try:
            lines = Path(f"/proc/{process}/net/{name}").read_text().splitlines()[1:]
        except OSError:
            return 0
        for words in map(str.split, lines):
            if words[3] != "0A":  # a listening socket counts its connections there
                total += sum(int(queue, 16) for queue in words[4].split(":"))
    return total


@contextmanager
def measured(container: str) -> Iterator[Callable[[], int]]:
    """The most that the sockets of a container held, and, asked once more, what they hold now."""
    found = Engine.connect().inspect(container)
    assert found is not None
    process, seen, done = found["State"]["Pid"], [0], threading.Event()

    def look() -> None:
        while not done.wait(0.005):
            seen.append(held(process))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield lambda: max(seen)
    finally:
        done.set()
        thread.join()


@contextmanager
def alone(code: str) -> Iterator[str]:
    """A container with the walls of a box, where the code is PID 1 itself."""
    engine = Engine.connect()
    image, command = derived.prepare(engine, None, (), None)
    limits = Limits.of(mem=MEM, pids=40)
    config = hardening.container_config(limits, hardening.Box(image=image, start=command), uids.draw(engine))
    container = engine.create({**config, "Entrypoint": ["python", "-c", code]})
    assert container is not None
    pipe = engine.attach(container)
    try:
        engine.start(container)
        yield container
    finally:
        pipe.close()
        engine.remove(container)


@pytest.fixture
def box(host: Host) -> Iterator[Sandbox]:
    with start(mem=str(MEM)) as box:
        yield box


@pytest.mark.parametrize("protocol", FLOODS)
def test_what_sockets_hold_is_bounded(box: Sandbox, protocol: str) -> None:
    with measured(box.sandbox_id) as peak:
        run = box.run_code(FLOODS[protocol] + WAIT)
        assert run.status == "oom"
        assert isinstance(run.error, MemoryLimitError)
        assert "its sockets held more than a quarter of its 256 MiB" in str(run.error)
        assert peak() < MEM
    found = Engine.connect().inspect(box.sandbox_id)
    assert found is not None
    seconds_until(lambda: held(found["State"]["Pid"]) == 0, within=10)
    assert box.run_code("1 + 1").text == "2"


@pytest.mark.parametrize("protocol", FLOODS)
def test_where_nobody_looks_they_hold_more(host: Host, protocol: str) -> None:
    """The control: no cgroup counts it, on version 1; on version 2 the kernel ends what takes too much."""
    if Engine.connect().traits.cgroup != 1:
        pytest.skip("version 2 of cgroups charges what sockets hold")
    with alone(FLOODS[protocol] + WAIT) as container, measured(container) as peak:
        seconds_until(lambda: peak() > MEM * 1.1, within=60)


def test_what_code_leaves_running_is_looked_at_too(box: Sandbox) -> None:
    later = "import os, time\nif os.fork() == 0:\n    time.sleep(0.5)\n" + indented(UDP + WAIT)
    with measured(box.sandbox_id) as peak:
        assert box.run_code(later).status == "ok"
        seconds_until(lambda: peak() > MEM / 8, within=30)
        seconds_until(lambda: box.run_code("import psutil\nlen(psutil.pids())").text == "3", within=30)
        assert peak() < MEM


def indented(code: str) -> str:
    return "".join(f"    {line}\n" for line in code.splitlines())


UNACCEPTED = """
import socket
servers = []
for _ in range(200):
    server = socket.socket()
    server.bind(('127.0.0.1', 0))
    server.listen(100)
    servers.append(server)
    for _ in range(90):
        socket.create_connection(server.getsockname()).close()
import time
time.sleep(60)
"""


def test_connections_that_nobody_accepts_are_counted(host: Host) -> None:
    with start(mem="64m") as box:
        assert box.run_code(UNACCEPTED).status == "oom"


SERVER = """
import asyncio
async def serve(reader, writer):
    writer.write(await reader.readexactly(100_000))
    await writer.drain()
    writer.close()
async def ask(port):
    reader, writer = await asyncio.open_connection('127.0.0.1', port)
    writer.write(bytes(100_000))
    data = await reader.read(-1)
    writer.close()
    return len(data)
async def main():
    server = await asyncio.start_server(serve, '127.0.0.1', 0)
    port = server.sockets[0].getsockname()[1]
    return sum(await asyncio.gather(*(ask(port) for _ in range(200))))
print(await main())
"""


def test_an_honest_server_with_two_hundred_connections_goes_on(box: Sandbox) -> None:
    run = box.run_code(SERVER)
    assert (run.status, run.stdout) == ("ok", "20000000\n")


PAGES = Path("/proc/sys/vm/nr_hugepages")
TAKE = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
kept = libc.mmap(None, ctypes.c_size_t(4 * 2**21), 3, 0x40022, -1, ctypes.c_long(0))
taken = kept not in (None, ctypes.c_void_p(-1).value)
if taken:
    ctypes.memset(kept, 1, 4 * 2**21)
print(taken, end='')
"""


def free_huge_pages() -> int:
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return int(lines["HugePages_Free"])


@pytest.fixture
def huge_pages() -> Iterator[None]:
    """Some on this host, whatever it had."""
    before = PAGES.read_text() if PAGES.exists() and os.access(PAGES, os.W_OK) else ""
    if not before:
        pytest.skip("only root can reserve huge pages, where the kernel has them")
    PAGES.write_text(str(int(before) + 8))
    try:
        if free_huge_pages() < 8:
            pytest.skip("the host's memory has no room for huge pages")
        yield
    finally:
        PAGES.write_text(before)


def test_huge_pages_of_the_host_are_not_taken(host: Host, huge_pages: None) -> None:
    before = free_huge_pages()
    with start() as box:
        assert box.run_code(TAKE).stdout == "False"
        assert free_huge_pages() == before
    with start(("seccomp: huge pages",)) as box:  # the control
        assert box.run_code(TAKE).stdout == "True"
        assert free_huge_pages() <= before - 4
