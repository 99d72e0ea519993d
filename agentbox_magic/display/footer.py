"""The line under a cell that tells what it used."""

from __future__ import annotations

from html import escape
from typing import Any

from agentbox_magic.execution import Execution
from agentbox_magic.limits import format_size


def footer(run: Execution) -> dict[str, Any]:
    """The MIME bundle for a finished run. The text is the same from run to run; figures are in the HTML only."""
    usage = run.usage
    parts = [f"<b>{escape(run.status)}</b>", f"{run.duration:.2f} s"]
    if usage.memory_peak is not None and usage.memory_limit:
        peak, limit = min(usage.memory_peak, usage.memory_limit), usage.memory_limit
        parts.append(
            f'memory {format_size(peak)} of {format_size(limit)} <meter style="width:5em" min="0" max="{limit}" '
            f'high="{limit * 0.9:.0f}" value="{peak}">{peak / limit:.0%}</meter>'
        )
    if usage.cpu_seconds is not None:
        parts.append(f"CPU {usage.cpu_seconds:.2f} s")
    if usage.oom_kills and run.status != "oom":
        parts.append(f"{usage.oom_kills} of its processes killed for memory")
    html = f'<div class="agentbox-footer" style="font-size:85%;opacity:.75">sandbox: {" · ".join(parts)}</div>'
    return {"text/plain": f"sandbox: {run.status}", "text/html": html}
