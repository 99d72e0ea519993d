"""What ``%sandbox doctor`` shows."""

from __future__ import annotations

from html import escape
from typing import Any

from agentbox_magic.display.block import block
from agentbox_magic.doctor import Report

_COLOURS = {
    "holds": "var(--jp-success-color1,green)",
    "FAILS": "var(--jp-error-color1,red)",
    "absent": "var(--jp-warn-color1,darkorange)",
    "unknown": "inherit",
}


def doctor_table(report: Report) -> dict[str, Any]:
    """The MIME bundle of a report: text, and the same as a static table."""
    rows = []
    for check in report.checks:
        advice = "" if check.holds or not check.advice else f"<br><i>{escape(check.advice)}</i>"
        rows.append(
            f'<tr><td style="text-align:left">{escape(check.name)}</td>'
            f'<td style="color:{_COLOURS[check.word]}"><b>{check.word}</b></td>'
            f'<td style="text-align:left">{escape(check.how)}{advice}</td></tr>'
        )
    runtimes = "".join(
        f"<li><code>{escape(name)}</code>: {escape(adds)}</li>" for name, adds in report.runtimes.items()
    )
    html = (
        f"<p>{escape(report.engine)}; box started by {escape(report.runtime)}</p>"
        '<table><thead><tr><th style="text-align:left">wall</th><th></th>'
        f'<th style="text-align:left">how it was checked</th></tr></thead><tbody>{"".join(rows)}</tbody></table>'
        f"<p>Runtimes of the engine (<code>--runtime NAME</code>):</p><ul>{runtimes}</ul>"
        f"<p><b>{escape(report.badge())}</b></p>"
    )
    return {"text/plain": str(report), "text/html": block("doctor", html)}
