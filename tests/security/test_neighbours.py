"""Two boxes side by side cannot see, signal, reach or starve each other, and an attack leaves the host as it was."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path

import pytest
from security.harness import start, word
from security.host import Host
from security.pairs import PAIRS, Pair
from security.probes.prelude import PRELUDE

from agentbox_magic import Sandbox

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers of system calls are x86-64's")


@pytest.fixture(scope="module")
def apart() -> Iterator[tuple[Sandbox, Sandbox]]:
    """Two boxes as users have them."""
    with start() as first, start() as second:
        yield first, second


def end(pair: Pair, first: Sandbox, second: Sandbox) -> str:
    said = first.run_code(PRELUDE + pair.first).stdout
    return word(second.run_code(f"{PRELUDE}SAID = {said!r}\n{pair.second}"))


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_apart(apart: tuple[Sandbox, Sandbox], pair: Pair) -> None:
    assert end(pair, *apart) in pair.apart.split()


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_without_walls_they_are_not(pair: Pair) -> None:
    """The control."""
    with start(pair.without) as first, start(pair.without) as second:
        assert end(pair, first, second) == pair.joined


FORKS = """
import time
children = []
try:
    while len(children) < 10000:
        child = os.fork()
        if child == 0:
            time.sleep(600)
            os._exit(0)
        children.append(child)
except OSError as error:
    print(errno.errorcode[error.errno], end='')
"""


def test_processes_of_one_are_not_the_others(apart: tuple[Sandbox, Sandbox]) -> None:
    first, second = apart
    assert first.run_code(PRELUDE + FORKS).stdout == "EAGAIN"
    assert second.run_code("import subprocess\nfor _ in range(5): subprocess.run(['true'], check=True)").status == "ok"
    first.run_code("for child in children: os.kill(child, 9); os.waitpid(child, 0)")


PTYS = "terminals = []\nfor _ in range(200): terminals.append(os.openpty())"


def ptys() -> int:
    return int(Path("/proc/sys/kernel/pty/nr").read_text())


def test_terminals_of_the_host_are_not_taken(apart: tuple[Sandbox, Sandbox]) -> None:
    before = ptys()
    apart[0].run_code(PRELUDE + PTYS)
    assert ptys() - before < 100
    with start(("no terminals",)) as open_box:  # the control
        open_box.run_code(PRELUDE + PTYS)
        assert ptys() - before >= 200


ATTACK = """
import threading
for folder in ('/var/tmp', '/run/lock', '/', '/etc', '/workspace', '/tmp', '/dev/shm'):
    try:
        with open(f'{folder}/flood', 'wb', buffering=0) as file:
            for _ in range(64):
                file.write(bytes(2**20))
    except OSError:
        pass
    finally:
        if os.path.exists(f'{folder}/flood') and folder in ('/workspace', '/tmp', '/dev/shm'):
            os.unlink(f'{folder}/flood')
for path in ('/proc/1/fd/1', '/proc/1/fd/2', '/dev/kmsg', '/dev/console'):
    try:
        with open(path, 'wb') as file:
            file.write(b'x' * 2**20)
    except OSError:
        pass
for _ in range(32):
    os.write(1, b'x' * 2**20)
"""


def test_an_attack_leaves_the_host_as_it_was(host: Host) -> None:
    """Files, log and terminals; and what the engine's own log says of the box does not grow with what it writes."""
    with start() as box:
        assert box.run_code(PRELUDE + ATTACK).status == "ok"
        host.assert_unharmed(box)
        assert host.engine_log(box) < 64 * 1024
    with start(("read-only root", "no log")) as box:  # the control
        box.run_code(PRELUDE + ATTACK)
        seen = host.inspect(box)
        assert seen["SizeRw"] >= 64 * 2**20
        assert Path(seen["LogPath"]).stat().st_size > 2**20
