"""The image boxes are made of: named by what is in it, built when the engine lacks it.

The base is ``python:X.Y-slim``, X.Y being this interpreter's; where no registry can be reached it is made from the
packages of the release that has this Python, or the nearest. Wheels are fetched here, with the user's own pip
configuration, and installed in the image without a network.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import agent_executor
from agentbox_magic import disk, resources, scratch
from agentbox_magic.engine import Engine
from agentbox_magic.errors import ImageError
from agentbox_magic.limits import format_size

Progress = Callable[[str, float], None]
"""Told what is being done and how much of the whole is, from 0 to 1."""

REPOSITORY = "agentbox-magic"
EXECUTOR = Path(agent_executor.__file__).parent
"""The files that are the same on the host and in every image."""
LABEL = "agentbox"
EXECUTOR_LABEL = "agentbox.executor"
"""On an image that holds the executor: which."""
NO_ROOM = "free some there, or set TMPDIR to another directory"
PIP = (sys.executable, "-m", "pip")
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
_MANYLINUX = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_24", "manylinux_2_17", "manylinux2014", "linux")

_KEYRINGS = Path("/usr/share/keyrings")
_RELEASES = {
    "3.10": ("jammy", "ubuntu"),
    "3.11": ("bookworm", "debian"),
    "3.12": ("noble", "ubuntu"),
    "3.13": ("trixie", "debian"),
}
"""The releases a base can be made of, by the minor of the Python they have; and whose, which is whose keys it takes."""

_present: dict[tuple[Engine, str], str] = {}
"""What was seen on an engine as this interpreter's default image: what creates containers of it hears if it is gone."""


def python_minor() -> str:
    """This interpreter's, such as ``"3.11"``: functions travel as its bytecode."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


@functools.cache
def default_image() -> str:
    """The name of the image for this interpreter, this version of the executor and these requirements.

    >>> default_image()  # doctest: +ELLIPSIS
    'agentbox-magic:py3...'
    """
    return _image_of(python_minor())


def _image_of(minor: str) -> str:
    return f"{REPOSITORY}:py{minor}-{digest_of(_context_files())}"


def _context_files() -> Iterator[tuple[str, bytes]]:
    for name in ("Dockerfile", "requirements.txt"):
        yield name, (resources.IMAGE / name).read_bytes()
    yield from executor_files()


def executor_files() -> Iterator[tuple[str, bytes]]:
    """The executor's modules as ``agent_executor/NAME.py`` and content."""
    for path in sorted(EXECUTOR.glob("*.py")):
        yield f"agent_executor/{path.name}", path.read_bytes()


@functools.cache
def executor_hash() -> str:
    """What an image is labelled with that holds this version of the executor."""
    return digest_of(executor_files())


def digest_of(files: Iterable[tuple[str, bytes]]) -> str:
    """Twelve hexadecimal digits that change with any name or content."""
    digest = hashlib.sha256()
    for name, data in files:
        digest.update(f"{name}\0{len(data)}\0".encode() + data)
    return digest.hexdigest()[:12]


def build(engine: Engine, progress: Progress) -> str:
    """Build the default image unless the engine has it.

    Returns:
        Its name: :func:`default_image`, or where a base with this Python cannot be had, that of the image with the
        nearest one. Cells do not notice; agents, which travel as bytecode, are refused.

    Raises:
        ImageError: a part cannot be had; the message says which and what to do.
    """
    wanted = default_image()
    name = _present.get((engine, wanted)) or find(engine) or _make(engine, progress)
    _present[engine, wanted] = name
    return name


def find(engine: Engine) -> str | None:
    """What the engine has: the image for this Python, or the one that took its place when it could not be had; None if
    it is to be built."""
    if engine.image(default_image()):
        return default_image()
    minor, _ = nearest_release(python_minor())
    if minor == python_minor() or engine.image(_official(python_minor())):
        return None
    return _image_of(minor) if engine.image(_image_of(minor)) else None


def _make(engine: Engine, progress: Progress) -> str:
    base, minor = _base(engine, lambda text, part: progress(text, part * 0.4))
    name = _image_of(minor)
    with workplace() as folder:
        wheels = folder / "wheels"
        _download_wheels(wheels, minor, engine.traits.architecture, lambda text, part: progress(text, 0.4 + part * 0.3))
        with tempfile.TemporaryFile(dir=folder) as context:
            with tarfile.open(fileobj=context, mode="w") as tar:
                for member, data in _context_files():
                    add_file(tar, member, data)
                tar.add(wheels, "wheels")
            context.seek(0)
            labels = {LABEL: "image", EXECUTOR_LABEL: executor_hash()}
            for record in engine.build(context, name, {"BASE": base}, labels):
                step = re.match(r"Step (\d+)/(\d+) : (.*)", str(record.get("stream", "")))
                if step:
                    progress(f"building: {step[3][:60]}", 0.7 + 0.3 * (int(step[1]) - 1) / int(step[2]))
    progress("image ready", 1.0)
    return name


@contextlib.contextmanager
def workplace() -> Iterator[Path]:
    """A directory to build in. Raises ImageError where this machine has no room for it."""
    where = tempfile.gettempdir()
    with disk.written(where, NO_ROOM, ImageError), scratch.folder() as folder:
        folder.chmod(0o755)  # mmdebstrap works as other users too
        yield folder


def forget(name: str) -> None:
    """Look for an image the next time, because an engine has said that it lacks it."""
    for known in [key for key, value in _present.items() if value == name]:
        del _present[known]


def add_file(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """Add a file of root's that all may read; always the same bytes for the same file."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o644
    tar.addfile(info, io.BytesIO(data))


def _base(engine: Engine, progress: Progress) -> tuple[str, str]:
    """The base image's name and its Python minor: pulled, or built from a distribution's packages."""
    name = _official(python_minor())
    if engine.image(name):
        return name, python_minor()
    try:
        pull(engine, name, progress)
        return name, python_minor()
    except ImageError as error:
        return _offline_base(engine, progress, error)


def _official(minor: str) -> str:
    return f"python:{minor}-slim"


def pull(engine: Engine, name: str, progress: Progress) -> None:
    """Pull an image from its registry. Raises ImageError with the engine's reason."""
    layers: dict[str, tuple[int, int]] = {}
    progress(f"pulling {name}", 0.0)
    for record in engine.pull(name):
        detail = record.get("progressDetail") or {}
        if detail.get("total"):
            layers[record["id"]] = detail["current"], detail["total"]
            done, total = (sum(column) for column in zip(*layers.values(), strict=True))
            progress(f"pulling {name}: {format_size(done)} of {format_size(total)}", done / total)


def nearest_release(minor: str) -> tuple[str, str]:
    """The release to make a base of for a Python, of those whose keys this machine has: its minor, and its name.

    The nearest one where there is none with this very Python; of two, the newer, which runs all that the older does.

    >>> nearest_release("3.11"), nearest_release("3.15")
    (('3.11', 'bookworm'), ('3.13', 'trixie'))
    """

    def distance(other: str) -> tuple[int, int]:
        theirs, ours = int(other.partition(".")[2]), int(minor.partition(".")[2])
        return abs(theirs - ours), -theirs

    # Without any keys, what builds it tells what is missing.
    known = {
        other: release
        for other, (release, vendor) in _RELEASES.items()
        if vendor == "debian" or (_KEYRINGS / f"{vendor}-archive-keyring.gpg").is_file()
    }
    found = min(known, key=distance)
    return found, known[found]


def _offline_base(engine: Engine, progress: Progress, why: ImageError) -> tuple[str, str]:
    script = resources.IMAGE / "build-base"
    minor, release = nearest_release(python_minor())
    tag = f"{release}-{hashlib.sha256(script.read_bytes()).hexdigest()[:12]}"
    name = f"{REPOSITORY}-base:{tag}"
    if engine.image(name):
        return name, minor
    progress(f"no image registry answers; building the base from the packages of {release}", 0.0)
    with workplace() as folder:
        tar = f"{folder}/base.tar"
        lines = run(["sh", str(script), tar, release], folder, lambda line: ImageError(
            f"the base image cannot be pulled ({why}) nor built here ({line}); "
            f"load {_official(python_minor())} with docker load, or make a registry reachable"
        ))  # fmt: skip
        for count, line in enumerate(lines):
            progress(f"building the base: {line.removeprefix('I: ')[:60]}", min(0.9, count / 15))
        with tarfile.open(tar) as archive:
            found = {
                match[1] for member in archive if (match := re.fullmatch(r"\./usr/bin/python(3\.\d+)", member.name))
            }
        if found != {minor}:
            its = " and ".join(sorted(found)) or "nothing"
            raise ImageError(f"the base image cannot be built: {release} has Python {its}, not {minor}")
        progress("importing the base", 0.95)
        engine.import_image(tar, f"{REPOSITORY}-base", tag, ["LABEL agentbox=image"])
    return name, minor


def _download_wheels(folder: Path, minor: str, architecture: str, progress: Progress) -> None:
    machine = _MACHINES.get(architecture)
    if machine is None:
        raise ImageError(f"there is no image for {architecture}; use an engine on x86-64 or arm64")
    folder.mkdir()
    wanted = _requirements(minor, machine)
    lock = folder.parent / "requirements.txt"
    lock.write_text("\n".join(wanted), "utf-8")
    command = [*PIP, "download", "--no-deps", "--only-binary=:all:", "--require-hashes",
               "--disable-pip-version-check", "--no-input", "--progress-bar=off", "--implementation=cp",
               f"--python-version={minor}", *(f"--platform={name}_{machine}" for name in _MANYLINUX),
               f"--dest={folder}", f"--requirement={lock}"]  # fmt: skip
    lines = run(command, folder.parent, lambda line: ImageError(
        f"the image's packages cannot be fetched with pip: {line}; check pip's configuration (pip config list)"
    ))  # fmt: skip
    done = 0
    for line in lines:
        if line.startswith(("Collecting ", "Processing ")):
            progress(f"fetching {Path(line.split()[1]).name}", done / len(wanted))
            done += 1


def _requirements(minor: str, machine: str) -> list[str]:
    """The locked requirements that hold in the image. pip itself would judge markers by the host's Python."""
    from packaging.requirements import Requirement

    environment = wheel_environment(minor, machine)
    text = (resources.IMAGE / "requirements.txt").read_text("utf-8").replace("\\\n", " ")
    wanted = []
    for line in text.splitlines():
        requirement, _, hashes = line.partition(" --hash=")
        if not requirement.strip():
            continue
        parsed = Requirement(requirement)
        if parsed.marker is None or parsed.marker.evaluate(environment):
            wanted.append(f"{parsed.name}{parsed.specifier} --hash={hashes}")
    return wanted


def wheel_environment(minor: str, machine: str) -> dict[str, str]:
    """What environment markers are judged by in an image."""
    return {
        "python_version": minor, "python_full_version": f"{minor}.0", "sys_platform": "linux",
        "platform_system": "Linux", "platform_machine": machine, "os_name": "posix",
        "implementation_name": "cpython", "platform_python_implementation": "CPython",
    }  # fmt: skip


def run(command: list[str], folder: Path, failed: Callable[[str], ImageError]) -> Iterator[str]:
    """The lines a command prints, as it prints them; it ends with us.

    Args:
        command: words.
        folder: a :func:`workplace`, where it may put what it needs for itself.
        failed: makes the error of its last error line.
    """
    with (
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            errors="replace", env={**os.environ, "TMPDIR": str(folder)}, start_new_session=True,
        ) as process,
        scratch.program(process),
    ):  # fmt: skip
        last, full = "", False
        assert process.stdout is not None
        for line in process.stdout:
            full = full or disk.said_so(line)
            if line.strip():
                last = line.strip() if not last.startswith(("ERROR", "E:")) else last
                yield line.strip()
        process.wait()
    if process.returncode and full:
        raise ImageError(f"{folder.parent} cannot be written: {last[:200]}; {NO_ROOM}")
    if process.returncode:
        raise failed(last[:300])
