"""What a box is made of: the name of an image, packages and preloaded modules, checked and in one spelling."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from agentbox_magic import arguments

_ARCHIVE = re.compile(r"\.(zip|whl|tar|tar\.\w+|t[a-z]z2?)$")  # pip takes such a name for a file if there is one


_WORD = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST = r"[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?(?::\d{1,5})?|\[[0-9a-fA-F:]+\](?::\d{1,5})?"
_IMAGE = re.compile(
    rf"(?:(?:{_HOST})/)?({_WORD}(?:/{_WORD})*)(?::[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})?"
    r"(?:@[a-z0-9]+(?:[+._-][a-z0-9]+)*:[0-9a-f]{32,128})?|sha256:[0-9a-f]{64}",
    re.ASCII,
)
MAX_IMAGE = 255


def image_name(name: str | None) -> str:
    """The name of an image as engines take it; empty for None, which is the default one.

    >>> image_name("python:3.12-slim"), image_name(None)
    ('python:3.12-slim', '')

    Raises:
        TypeError: it is no text.
        ValueError: no image can have that name.
    """
    if name is None:
        return ""
    if not isinstance(name, str):
        raise TypeError(f"image must be a name such as 'python:3.12-slim', not {type(name).__name__}")
    match = _IMAGE.fullmatch(name)
    if match is None or len(match[1] or "") > MAX_IMAGE or len(name) > 3 * MAX_IMAGE:
        raise ValueError(f"{ascii(name)[:100]} is no name of an image; give one such as 'python:3.12-slim'")
    if re.match(r"scratch(?:[:@]|\Z)", name):
        raise ValueError("scratch is the empty image, in which nothing can run; give one such as 'python:3.12-slim'")
    return name


def split(text: str) -> list[str]:
    """The specifications in a list with commas, which stand inside specifications too.

    >>> split("polars,httpx[http2,brotli]>=0.27,<1")
    ['polars', 'httpx[http2,brotli]>=0.27,<1']
    """
    return [part.strip() for part in re.split(r",(?=\s*\w)(?![^\[]*\])", text) if part.strip()]


def normalise(specs: Iterable[str]) -> tuple[str, ...]:
    """Specifications as pip takes them, in one spelling, sorted, each once.

    >>> normalise(["Polars", "httpx == 0.27"])
    ('httpx==0.27', 'polars')

    Raises:
        ValueError: not a name with an optional version: an option, a path, an address, a condition, or a slip.
    """
    if isinstance(specs, str):
        raise ValueError(f"packages is one string; write a list: packages={split(specs)!r}")
    specs = arguments.texts("packages", specs, "a list of names with an optional version, such as ['polars']")
    if not specs:
        return ()
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    found = set()
    for spec in specs:
        try:
            parsed = Requirement(spec)
        except InvalidRequirement:
            parsed = None
        if parsed is None or parsed.url or parsed.marker or "===" in spec or _ARCHIVE.search(parsed.name.lower()):
            raise ValueError(
                f"package {spec[:100]!r} is not a name with an optional version; write it like polars or httpx==0.27"
            )
        extras = f"[{','.join(sorted(map(canonicalize_name, parsed.extras)))}]" if parsed.extras else ""
        found.add(f"{canonicalize_name(parsed.name)}{extras}{parsed.specifier}")
    return tuple(sorted(found))


def modules(names: Iterable[str]) -> tuple[str, ...]:
    """Names of modules, sorted, each once.

    >>> modules(["pandas", "numpy", "pandas"])
    ('numpy', 'pandas')

    Raises:
        ValueError: one that no module can have.
    """
    if isinstance(names, str):
        raise ValueError(f"preload is one string; write a list: preload={split(names)!r}")
    names = arguments.texts("preload", names, "a list of names of modules, such as ['pandas']")
    for name in names:
        if not all(part.isidentifier() for part in name.split(".")):
            raise ValueError(f"{name[:100]!r} is no name of a module; write it as after import, like numpy")
    return tuple(sorted(set(names)))


def installed(versions: Mapping[str, str]) -> dict[str, str]:
    """What an image has, by normalised name; without what has no proper name and version.

    >>> installed({"Jinja2": "3.1", "my_pkg": "1.0-debian", "x y": "1"})
    {'jinja2': '3.1'}
    """
    from packaging.utils import canonicalize_name
    from packaging.version import InvalidVersion, Version

    known = {}
    for name, version in versions.items():
        try:
            if re.fullmatch(r"[A-Za-z0-9._-]{1,200}", name):
                known[str(canonicalize_name(name))] = str(Version(version))
        except InvalidVersion:
            continue
    return known
