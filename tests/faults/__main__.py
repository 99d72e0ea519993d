"""All of it, and ``docs/faults.md``: ``python -m faults``."""

from __future__ import annotations

import sys
from pathlib import Path

from faults.table import Table, everything
from faults.world import world

TARGET = Path(__file__).parents[2] / "docs" / "faults.md"
TEXT = """# Faults

What `make faults` did to boxes, their engine and the process that uses them, on an engine of its own, and what was
seen. Moments are random, from a seed. After each fault it is looked whether anything is left: containers, processes,
files, sockets; what word the calls ended with that it hit; and whether the next call works. `RAW` would be an error
that is not one of ours. "Nothing left after" is the slowest of all; what acts for a dead process looks for what may yet
appear for some seconds more.

"""


def main() -> None:
    """Do all, and write down what was seen."""
    with world() as one:
        table = Table(one)
        try:
            everything(table)
        finally:
            wrong = "".join(f"- {line}\n" for line in table.wrong)
            print(table.markdown())
            print(wrong)
            TARGET.parent.mkdir(exist_ok=True)
            TARGET.write_text(TEXT + table.markdown(), "utf-8")
    sys.exit(bool(table.wrong))


if __name__ == "__main__":
    main()
