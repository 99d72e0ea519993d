"""What must be true of a box after whatever code did to it."""

from __future__ import annotations

from waiting import seconds_until

from agentbox_magic import Sandbox

_LOOK = """
import os as _os
def _look():
    zombies = []
    for name in _os.listdir("/proc"):
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            continue
        if fields[0] == b"Z" and fields[1] == b"1":
            zombies.append(int(name))
    with open("/proc/1/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[19]), zombies
_look()
"""


def look(box: Sandbox) -> tuple[int, list[int]]:
    """When PID 1 of a box was started, in ticks of the kernel's clock, and which zombies it has not reaped."""
    context = box.create_code_context()  # not the default one, whose state is the test's
    text = box.run_code(_LOOK, context=context, timeout=30).raise_for_status().text
    box.remove_code_context(context)
    started, _, zombies = str(text).strip("()").partition(", ")
    return int(started), [int(pid) for pid in zombies.strip("[]").split(",") if pid]


def assert_usable(box: Sandbox, started: int) -> None:
    """The default context answers, PID 1 is the process it was, and it has buried its dead."""
    run = box.run_code("1 + 1", timeout=30)
    assert (run.status, run.text, run.stdout, run.stderr) == ("ok", "2", "", "")
    seconds_until(lambda: look(box) == (started, []), within=10)
