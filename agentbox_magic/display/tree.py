"""JSON values as a tree that folds."""

from __future__ import annotations

import json
from html import escape
from typing import Any

from agentbox_magic.display.block import block
from agentbox_magic.text import clean

MAX_NODES = 2000
MAX_DEPTH = 12
MAX_TEXT = 2000


class _Tree:
    def __init__(self) -> None:
        self._left = MAX_NODES

    def node(self, label: str, value: Any, depth: int) -> str:
        self._left -= 1
        name = f"<b>{_text(label)}</b>: " if label else ""
        if not isinstance(value, (dict, list)):
            return f"<div>{name}{_text(json.dumps(value, ensure_ascii=False))}</div>"
        kind, unit = ("{}", "key") if isinstance(value, dict) else ("[]", "item")
        count = f"{kind} {len(value):,} {unit}{'s' * (len(value) != 1)}"
        if not value or depth == MAX_DEPTH:
            return f"<div>{name}{count}</div>"
        items = value.items() if isinstance(value, dict) else enumerate(value)
        rows: list[str] = []
        for key, item in items:
            if self._left <= 0:
                rows.append(f"<div>... {len(value) - len(rows):,} more</div>")
                break
            rows.append(self.node(str(key), item, depth + 1))
        return (
            f'<details{" open" * (depth == 0)}><summary style="cursor:pointer">{name}{count}</summary>'
            f'<div style="padding-left:1.2em">{"".join(rows)}</div></details>'
        )


def _text(value: str) -> str:
    more = f" ... {len(value) - MAX_TEXT:,} more characters" if len(value) > MAX_TEXT else ""
    return escape(clean(value[:MAX_TEXT], colour=False)) + more


def tree(value: Any) -> str:
    """JSON as nested ``<details>``, the first level open, at most :data:`MAX_NODES` of them.

    >>> "<b>a</b>: [] 2 items" in tree({"a": [1, 2]})
    True
    """
    return block("json", f'<div style="font-family:monospace">{_Tree().node("", value, 0)}</div>')
