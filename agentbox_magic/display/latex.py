"""Formulas for the page's MathJax, which can do much: ``\\href`` makes links, ``\\style`` loads images, ``\\def`` makes
loops. So what passes is a list of macros that do nothing but draw."""

from __future__ import annotations

import re

MAX_LATEX = 8 * 1024
MAX_DEPTH = 30
"""Groups in groups: what MathJax makes of them takes time and space that grow with the square, and more."""

_DRAWING = """
alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa varkappa lambda mu nu xi omicron pi
varpi rho varrho sigma varsigma tau upsilon phi varphi chi psi omega digamma Alpha Beta Gamma Delta Epsilon Zeta Eta
Theta Iota Kappa Lambda Mu Nu Xi Omicron Pi Rho Sigma Tau Upsilon Phi Chi Psi Omega aleph beth gimel daleth hbar
hslash ell wp Re Im partial nabla infty emptyset varnothing forall exists nexists imath jmath angle
frac dfrac tfrac cfrac sqrt binom dbinom tbinom over choose atop left right middle big Big bigg Bigg bigl bigr Bigl
Bigr biggl biggr Biggl Biggr lvert rvert lVert rVert vert Vert lfloor rfloor lceil rceil langle rangle lbrace rbrace
lbrack rbrack backslash mid nmid
sum prod coprod int iint iiint oint bigcup bigcap bigsqcup bigvee bigwedge bigoplus bigotimes bigodot biguplus lim
limsup liminf sup inf max min arg det dim gcd lcm deg ker hom exp log ln lg sin cos tan cot sec csc sinh cosh tanh
coth arcsin arccos arctan operatorname mod bmod pmod limits nolimits Pr
pm mp times div cdot cdotp ast star circ bullet oplus ominus otimes oslash odot cap cup sqcap sqcup uplus vee wedge
lor land lnot neg setminus wr amalg dagger ddagger diamond triangle triangleleft triangleright bigtriangleup top bot
leq le geq ge neq ne lt gt equiv sim simeq approx cong propto doteq asymp ll gg prec succ preceq succeq subset supset
subseteq supseteq subsetneq sqsubseteq in ni notin perp parallel models vdash dashv therefore because colon not
leqslant geqslant lesssim gtrsim
to gets leftarrow rightarrow leftrightarrow Leftarrow Rightarrow Leftrightarrow longleftarrow longrightarrow
Longleftarrow Longrightarrow longleftrightarrow Longleftrightarrow mapsto longmapsto hookleftarrow hookrightarrow
uparrow downarrow updownarrow Uparrow Downarrow nearrow searrow swarrow nwarrow implies impliedby iff rightharpoonup
rightleftharpoons xrightarrow xleftarrow
hat widehat bar overline underline vec tilde widetilde dot ddot dddot acute grave breve check overbrace underbrace
overset underset stackrel substack boxed cancel overrightarrow overleftarrow
mathrm mathbf mathit mathsf mathtt mathcal mathscr mathfrak mathbb boldsymbol bm text textbf textit textrm texttt
mbox rm bf it cal displaystyle textstyle scriptstyle scriptscriptstyle quad qquad ldots cdots vdots ddots dots dotsc
dotsb prime square Box blacksquare checkmark degree begin end hline cr
"""
_LAYOUTS = """
align aligned alignat array bmatrix Bmatrix cases eqnarray equation gather gathered matrix multline pmatrix smallmatrix
split vmatrix Vmatrix
"""
_MACROS, _ENVIRONMENTS = frozenset(_DRAWING.split()), frozenset(_LAYOUTS.split())
_TOKEN = re.compile(r"\\([a-zA-Z]+|.|\Z)", re.DOTALL)
_ENVIRONMENT = re.compile(r"\\(?:begin|end)(?:\{([a-zA-Z]+)\*?\})?")
_SYMBOLS = frozenset("\\,;:!{}| %_&#$\n")
_GROUP = re.compile(r"(\\(?:left|begin)\b|(?<!\\)\{)|(\\(?:right|end)\b|(?<!\\)\})")
_SKIP = re.compile(r"\\\\\s*\[(?!\s*\d{1,2}(?:\.\d+)?\s*(?:pt|ex|em|mm)\s*\])")
"""Room after a row that is not small: it could be any, or negative."""
_FORMULA = re.compile(r"(\$\$?)(.+?)\1", re.DOTALL)


def safe_latex(source: str) -> str | None:
    """One formula that may be shown as ``text/latex``; None if it has anything that is not known to only draw.

    Some front ends take the type as Markdown or put it on the page as it is, so it has no angle bracket and no entity.

    >>> safe_latex(r"$\\frac{1}{2} < x$")
    '$\\\\frac{1}{2} \\\\lt  x$'
    >>> safe_latex(r"$\\href{javascript:evil()}{x}$") is None
    True
    """
    source = source.strip()
    if len(source) > MAX_LATEX or "`" in source or "](" in source or "![" in source or "://" in source:
        return None
    match = _FORMULA.fullmatch(source)
    if match:
        delimiter, body = match.groups()
    elif source[:2] + source[-2:] in (r"\[\]", r"\(\)"):
        delimiter, body = ("$$" if source[1] == "[" else "$"), source[2:-2]
    elif source.startswith(r"\begin{"):
        delimiter, body = "", source
    else:
        return None
    tokens = _TOKEN.findall(body)
    if not all(token in _MACROS or token in _SYMBOLS for token in tokens):
        return None
    if not all(found[1] in _ENVIRONMENTS for found in _ENVIRONMENT.finditer(body)):
        return None
    if "$" in _TOKEN.sub("", body) or body.endswith("\\"):
        return None
    if _depth(body) > MAX_DEPTH or _SKIP.search(body):
        return None
    body = body.replace("<", r"\lt ").replace(">", r"\gt ").replace("&", "& ")
    return f"{delimiter}{body}{delimiter}"


def _depth(body: str) -> int:
    deepest = depth = 0
    for begins, _ in _GROUP.findall(body.replace(r"\\", " ")):
        depth += 1 if begins else -1
        deepest = max(deepest, depth)
    return deepest
