"""The element around each piece of HTML that we put on a page."""

from __future__ import annotations

QUIET = "color:var(--jp-ui-font-color2,var(--vscode-descriptionForeground,inherit))"
"""The colour of what is said beside an output, in every theme."""


def block(kind: str, html: str) -> str:
    """``html``, which must be well formed and safe, with a class of our own, and closed to the page's MathJax: that
    would find macros, which can load images and make links, in any cell of any table.

    >>> block("note", "x")
    '<div class="agentbox-note mathjax_ignore tex2jax_ignore">x</div>'
    """
    return f'<div class="agentbox-{kind} mathjax_ignore tex2jax_ignore">{html}</div>'
