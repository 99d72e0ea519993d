"""Magics that speak with what shows a notebook. A box has no page to speak with, so each does what it can, or says in
one line what does it instead, and the rest of the cell runs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

BACKENDS = frozenset(
    {"inline", "agg", "svg", "pdf", "ps", "cairo", "auto", "module://matplotlib_inline.backend_inline"}
)
"""What matplotlib can draw with where nobody watches."""
NO_LOOP = frozenset({None, "", "inline", "none", "asyncio"})
"""What ``%gui`` may name without wanting a toolkit's loop: cells may ``await`` as they are."""

_FILE = "write a file in the box and download it"
INSTEAD = {
    "connect_info": "no kernel can be connected to in a sandbox",
    "qtconsole": "no console can be opened on a sandbox; run cells in it",
    "subshell": "a sandbox has contexts instead of subshells: run in another context",
    "edit": "nobody can edit a file in a sandbox; use %%writefile",
    "ed": "nobody can edit a file in a sandbox; use %%writefile",
    "man": "there are no manuals in a sandbox; try !COMMAND --help",
    "notebook": f"what ran in a sandbox is no notebook; save your own, or {_FILE}",
    "pastebin": f"a sandbox has no network; {_FILE}",
}
"""Magics that cannot do anything here."""


def tell(text: str) -> None:
    """Say something to the person, beside the output."""
    print(text, file=sys.stderr)


def register(shell: Any) -> None:
    """Give an IPython shell these magics."""
    for name, text in INSTEAD.items():
        shell.register_magic_function(_telling(f"%{name} has no effect: {text}"), "line", name)
    shell.register_magic_function(_autosave, "line", "autosave")
    shell.register_magic_function(_show, "line", "less")
    shell.register_magic_function(_show, "line", "more")
    shell.register_magic_function(_clear, "line", "clear")
    shell.register_magic_function(_store, "line", "store")


def _telling(text: str) -> Callable[[str], None]:
    def magic(line: str) -> None:
        tell(text)

    return magic


def _autosave(line: str) -> None:
    """Saving is the page's, which goes on as it was."""
    tell("%autosave has no effect: a sandbox saves no notebook")


def _show(line: str) -> None:
    """Show a file."""
    from IPython import get_ipython

    shell: Any = get_ipython()
    shell.run_line_magic("pycat" if line.endswith(".py") else "cat", line)


def _clear(line: str) -> None:
    """Clear what the cell has shown."""
    from IPython.display import clear_output

    clear_output()  # type: ignore[no-untyped-call]


def _store(line: str) -> None:
    """IPython's own, which is an extension."""
    from IPython import get_ipython

    shell: Any = get_ipython()
    shell.run_line_magic("load_ext", "storemagic")
    tell("%store keeps values as long as this box; pull them, or write a file and download it, to keep them longer")
    shell.run_line_magic("store", line)
