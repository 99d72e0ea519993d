"""Packages for an image's Python: wheels fetched by the host's pip, with the user's configuration, and unpacked.

No wheel is ever built, and nothing of a package runs on the host.
"""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import TYPE_CHECKING

from agentbox_magic.errors import ImageError
from agentbox_magic.images import PIP, Progress, run, wheel_environment

if TYPE_CHECKING:
    from packaging.requirements import Requirement

_ROUNDS = 5


@dataclass(frozen=True)
class Target:
    """The Python of an image.

    Attributes:
        python: its version, such as ``"3.11.2"``.
        executable: its absolute path in the image.
        machine: the kernel's word for the processor, such as ``"x86_64"``.
        glibc: the second number of glibc's version; None for another C library.
        installed: the packages it has, by normalised name, with their versions.
    """

    python: str
    executable: str
    machine: str
    glibc: int | None
    installed: Mapping[str, str]

    @property
    def minor(self) -> str:
        """Such as ``"3.11"``."""
        return self.python.rpartition(".")[0]

    @property
    def platforms(self) -> list[str]:
        """The platform tags of wheels that fit, best first (PEP 600, PEP 656)."""
        if self.glibc is None:
            names = ["musllinux_1_2", "musllinux_1_1"]
        else:
            old = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
            names = []
            for number in range(self.glibc, 4, -1):
                names += [f"manylinux_2_{number}", *([old[number]] if number in old else [])]
        return [f"{name}_{self.machine}" for name in [*names, "linux"]]

    def __str__(self) -> str:
        libc = "musl" if self.glibc is None else f"glibc 2.{self.glibc}"
        return f"Python {self.minor} on Linux {self.machine} ({libc})"


def install(specs: Sequence[str], target: Target, folder: Path, progress: Progress) -> Path | None:
    """Fetch packages and what they need, and unpack what the image lacks.

    Args:
        specs: normalised specifications.
        target: what they are for. Packages it has keep their versions.
        folder: an empty folder to work in.
        progress: told what is fetched.

    Returns:
        A folder to put on the image's import path; None if the image has everything already.

    Raises:
        ImageError: a package does not exist, has no wheel that fits, or contradicts what the image has.
    """
    from packaging.requirements import Requirement

    _check_installed(specs, target)
    wheels, wanted = folder / "wheels", list(specs)
    for _ in range(_ROUNDS):
        _download(wanted, target, wheels, progress)
        # pip judges the conditions of a package's requirements by the host's Python, not by the image's.
        missing = _missing([Requirement(spec) for spec in wanted], target, wheels)
        if not missing:
            break
        wanted += sorted(missing)
    new = [path for path in sorted(wheels.iterdir()) if target.installed.get(_parse(path)[0]) != _parse(path)[1]]
    if not new:
        return None
    progress("unpacking packages", 0.9)
    packages = folder / "packages"
    # Isolated: the user's configuration may name another place to install to, and here nothing is fetched.
    command = [*PIP, "install", "--isolated", "--no-index", "--no-deps", "--no-compile", "--disable-pip-version-check",
               "--no-input", *_tags(target), f"--target={packages}", *map(str, new)]  # fmt: skip
    for _line in run(command, folder, lambda line: ImageError(f"the packages cannot be unpacked: {line}")):
        pass
    _point_scripts(packages / "bin", target.executable)
    return packages


def _check_installed(specs: Sequence[str], target: Target) -> None:
    from packaging.requirements import Requirement
    from packaging.version import InvalidVersion

    for parsed in map(Requirement, specs):
        known = target.installed.get(parsed.name)
        try:
            fits = known is None or parsed.specifier.contains(known, prereleases=True)
        except InvalidVersion:
            continue
        if not fits:
            raise ImageError(
                f"the image has {parsed.name} {known}, and {parsed} asks for another; "
                "leave it out, or name an image that has it (--image)"
            )


def _tags(target: Target) -> list[str]:
    return ["--only-binary=:all:", "--implementation=cp", f"--python-version={target.python}",
            *(f"--platform={platform}" for platform in target.platforms)]  # fmt: skip


def _download(wanted: Sequence[str], target: Target, wheels: Path, progress: Progress) -> None:
    constraints = wheels.parent / "constraints.txt"
    constraints.write_text("".join(f"{name}=={version}\n" for name, version in target.installed.items()), "utf-8")
    command = [*PIP, "download", "--disable-pip-version-check", "--no-input", "--progress-bar=off", *_tags(target),
               f"--dest={wheels}", f"--constraint={constraints}", *wanted]  # fmt: skip
    said: list[str] = []
    count = 0
    for line in run(command, wheels.parent, lambda line: _explain(line, said, wanted, target)):
        said.append(line)
        if line.startswith("Collecting "):
            count += 1
            progress(f"fetching {line.split()[1]}", min(0.9, count / 20))


def _explain(line: str, said: Sequence[str], wanted: Sequence[str], target: Target) -> ImageError:
    """Of what pip said, the one line that helps."""
    from packaging.requirements import InvalidRequirement, Requirement

    check = "check pip's configuration (pip config list)"
    if any("Retrying (" in text for text in said):
        return ImageError(f"packages cannot be fetched with pip, the index does not answer: {line}; {check}")
    found = re.search(r"that satisfies the requirement ([^(]+)", line)
    if found:
        spec = found[1].strip()
        try:
            name = Requirement(spec).name
        except InvalidRequirement:
            name = spec
        needed = "" if any(re.match(re.escape(name) + r"\b", text, re.I) for text in wanted) else ", which they need"
        # "index versions" looks no further than the index: it builds nothing.
        known = subprocess.run(
            [*PIP, "index", "versions", "--disable-pip-version-check", "--no-input", name],
            stdin=subprocess.DEVNULL, capture_output=True, check=False,
        )  # fmt: skip
        if known.returncode:
            return ImageError(f"pip finds no package {spec}{needed}, for {target}; check its name, or {check}")
        return ImageError(
            f"the package {spec}{needed} has no wheel for {target}; ask for another version, "
            "or name an image that has it (--image)"
        )
    conflict = [text.strip() for text in said if re.match(r"(The user requested|\S+ \S+ depends on)", text.strip())]
    if conflict:
        return ImageError(
            f"the packages do not fit together or with the image: {'; '.join(conflict)[:500]}; "
            "ask for other versions, or name another image (--image)"
        )
    return ImageError(f"packages cannot be fetched with pip: {line}; {check}")


def _parse(wheel: Path) -> tuple[str, str]:
    """Name and version."""
    from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

    try:
        name, version, _, _ = parse_wheel_filename(wheel.name)
    except InvalidWheelFilename:  # an old one; pip is less strict
        old, number = wheel.name.split("-")[:2]
        return str(canonicalize_name(old)), number
    return str(name), str(version)


def _missing(wanted: Sequence[Requirement], target: Target, wheels: Path) -> set[str]:
    """What the fetched wheels need in the image that is neither fetched nor there."""
    from packaging.utils import canonicalize_name

    fetched = {_parse(path)[0]: path for path in wheels.iterdir()}
    environment = {**wheel_environment(target.minor, target.machine), "python_full_version": target.python}
    missing: set[str] = set()
    seen: set[tuple[str, str]] = set()
    todo = list(wanted)
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        if name not in fetched:
            if name not in target.installed:
                requirement.marker = None
                missing.add(str(requirement))
            continue
        for extra in ["", *requirement.extras]:
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            for needed in _requires(fetched[name]):
                if needed.marker is None or needed.marker.evaluate({**environment, "extra": extra}):
                    todo.append(needed)
    return missing


def _requires(wheel: Path) -> Iterator[Requirement]:
    from packaging.requirements import InvalidRequirement, Requirement

    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
        headers = BytesHeaderParser().parsebytes(archive.read(name))
    for text in headers.get_all("Requires-Dist", []):
        try:
            yield Requirement(str(text))
        except InvalidRequirement:  # of an old package; pip has judged it
            continue


def _point_scripts(folder: Path, executable: str) -> None:
    """pip has pointed the scripts at this interpreter; point them at the image's."""
    if not folder.is_dir():
        return
    ours, theirs = sys.executable.encode(), executable.encode()
    for path in folder.iterdir():
        data = path.read_bytes()
        if data.startswith(b"#!"):
            head, mark, rest = data.partition(b"# -*- coding")
            path.write_bytes(head.replace(ours, theirs) + mark + rest)
