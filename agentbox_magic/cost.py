"""What a run would have cost in E2B's cloud: by the second, for the cores and the memory that a sandbox has."""

from __future__ import annotations

import os
import threading

from agentbox_magic.limits import Limits

YEAR = 2026
"""When these were the prices at https://e2b.dev/pricing."""
VCPU_SECOND = 0.000014
"""US dollars."""
GIB_SECOND = 0.0000045
"""US dollars."""


def on_e2b(limits: Limits, seconds: float) -> float:
    """US dollars for so many seconds of a sandbox with these limits.

    >>> round(on_e2b(Limits.of(mem="1g", cpus=2), 3600), 4)
    0.117
    """
    return seconds * (limits.cpus * VCPU_SECOND + limits.mem / 2**30 * GIB_SECOND)


class Meter:
    """The runs of this process so far."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.runs = 0
        self.seconds = 0.0
        self.dollars = 0.0

    def add(self, limits: Limits, seconds: float) -> None:
        """Count a run."""
        with self._lock:
            self.runs += 1
            self.seconds += seconds
            self.dollars += on_e2b(limits, seconds)

    def report(self) -> str:
        """Two lines.

        >>> print(Meter().report())
        0 runs, 0.0 s: on E2B $0.0000
        (at $0.000014 per vCPU-second and $0.0000045 per GiB-second, its prices of 2026)
        """
        prices = f"${VCPU_SECOND:f} per vCPU-second and ${GIB_SECOND:.7f} per GiB-second, its prices of {YEAR}"
        return f"{self.runs} runs, {self.seconds:.1f} s: on E2B ${self.dollars:.4f}\n(at {prices})"


METER = Meter()
# In a fork: another thread of the parent's may have held it.
os.register_at_fork(after_in_child=METER._lock._at_fork_reinit)  # type: ignore[attr-defined]  # not in its stubs
