"""What decoding and showing a value costs, in a process of its own. ``growth.py`` reads cases from a pickle on stdin;
for each it writes the KiB by which its memory grew at most, and what came of it."""

from __future__ import annotations

import json
import os
import pickle
import resource
import sys

import pandas as pd

from agentbox_magic import TransferError
from agentbox_magic.values import decode

HEADROOM = 2**30
"""Address space that a case may take: what wants more fails, and harms nobody."""


def measure(data: bytes, max_size: int) -> tuple[int, str]:
    """In a child: its growth in KiB, and ``"shown"`` or why not."""
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + HEADROOM, used + HEADROOM))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        value = decode(data, max_size)
        repr(value)
        said = "shown"
    except (TransferError, MemoryError) as error:
        said = str(error) or "MemoryError"
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, said


def main() -> None:
    # What pandas loads when it shows its first values is not the case's own.
    repr((pd.DataFrame({"a": [1]}), pd.Series(pd.Categorical(["a"])), pd.MultiIndex.from_product([[1], [2]])))
    for name, (data, max_size) in pickle.load(sys.stdin.buffer).items():  # noqa: S301  # our own test wrote it
        child = os.fork()
        if not child:
            print(json.dumps([name, *measure(data, max_size)]), flush=True)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status:
            print(json.dumps([name, HEADROOM // 1024, f"died with status {status}"]), flush=True)


if __name__ == "__main__":
    main()
