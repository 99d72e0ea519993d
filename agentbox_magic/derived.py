"""Images made from others: any image with a Python serves as a box, and any image can have more packages.

What is added is one layer of files: the executor where it is missing, and packages that the host has fetched. No
command of an image runs while it is built. To learn what Python an image has, and to compile for it, its Python runs in
a container with all the walls of a box.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import posixpath
import re
import secrets
import struct
import tarfile
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from agentbox_magic import hardening, images, packages, readback, uids, wheels, will
from agentbox_magic.engine import Engine
from agentbox_magic.errors import EngineUnavailableError, ImageError, SandboxError
from agentbox_magic.hardening import OURS, Start
from agentbox_magic.images import Progress
from agentbox_magic.limits import Limits

REPOSITORY = f"{images.REPOSITORY}-derived"
OLDEST = (3, 9)
"""The oldest Python that can serve, as ``agent_executor/__main__.py`` says too."""

_HOME = "opt/agentbox"
_COMMAND_LABEL = "agentbox.command"
_PROBE_SECONDS = 60.0
_MAX_FACTS = 4 * 2**20
_COMPILE_SECONDS = 300.0
_MAX_COMPILED = 512 * 2**20
_WRITABLE = ("/workspace/", "/tmp/", "/dev/", "/proc/", "/sys/")
_DOCKERFILE = b"ARG BASE\nFROM ${BASE}\nADD layer.tar /\n"


def prepare(
    engine: Engine, image: str | None, specs: Sequence[str] = (), progress: Progress | None = None
) -> tuple[str, Start]:
    """Get an image ready to be a box: pulled, built, or found as it was left the last time.

    Args:
        engine: where it is wanted.
        image: its name; None for the default one.
        specs: packages it is to have too, such as ``["polars", "httpx==0.27"]``.
        progress: told what is being done, unless everything is there already.

    Returns:
        The name to create containers from, and how to start them.

    Raises:
        ValueError: the name, or a package's specification, is not one.
        ImageError: it cannot be had, cannot serve as a box, or cannot have a package.

    Example:
        >>> name, start = prepare(Engine.connect(), None)
        >>> start.command
        ('python', '-m', 'agent_executor')
    """
    specs = packages.normalise(specs)
    packages.image_name(image)
    progress = progress or (lambda text, part: None)
    if image is None or image == images.default_image():
        name = images.build(engine, progress)
        if not specs:
            return name, OURS
        known = engine.image(name)
        if known is None:
            raise ImageError(f"the image {name} was built and is gone again; build it once more")
    else:
        name, known = image, _get(engine, image, progress)
        _refuse(image, known)
    labels = known["Config"].get("Labels") or {}
    has_executor = labels.get(images.EXECUTOR_LABEL) == images.executor_hash()
    if has_executor and not specs:
        return name, _start(known)
    derived = f"{REPOSITORY}:{_digest(known['Id'], specs)}"
    made = engine.image(derived)
    if made is None:
        _derive(engine, name, known, specs, derived, progress)
        made = engine.image(derived)
        if made is None:
            raise ImageError(f"the image {derived} was built and is gone again; build it once more")
    return derived, _start(made)


def _digest(base: str, specs: Sequence[str]) -> str:
    text = "\n".join([base, images.executor_hash(), *specs])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _get(engine: Engine, image: str, progress: Progress) -> dict[str, Any]:
    """The engine's description of an image, pulled if need be."""
    known = engine.image(image)
    if known is None:
        try:
            images.pull(engine, image, lambda text, part: progress(text, part * 0.5))
        except ImageError as error:
            why = str(error).splitlines()[0][:300] if str(error) else "no reason given"
            raise ImageError(
                f"the engine has no image {image} and cannot pull it ({why}); "
                "check the name, or load it yourself (docker pull, docker load)"
            ) from error
        known = engine.image(image)
    if known is None:
        raise ImageError(f"the image {image} was pulled and is gone again; pull it once more (docker pull {image})")
    return known


def _refuse(image: str, known: dict[str, Any]) -> None:
    config = known["Config"]
    if config.get("Volumes"):
        raise ImageError(
            f"the image {image} has a VOLUME ({', '.join(config['Volumes'])[:200]}), which is a writable disk of the "
            "host in a read-only box; build the image without it"
        )
    if config.get("OnBuild"):
        raise ImageError(
            f"the image {image} has ONBUILD commands, which would run outside of any box; build the image without them"
        )
    if known.get("Os", "linux") != "linux":
        raise ImageError(f"the image {image} is for {known['Os']}; name one for Linux")


def _start(known: dict[str, Any]) -> Start:
    """How to start an image that holds the executor. Of its environment only directories of its PATH are kept.

    >>> _start({"Config": {"Env": ["PATH=/opt/conda/bin:.:/tmp/x:/bin", "LD_PRELOAD=x.so"]}})
    Start(command=('python', '-m', 'agent_executor'), path=('/opt/conda/bin', '/bin'), unset=('LD_PRELOAD',))
    """
    config = known["Config"]
    env = dict(entry.partition("=")[::2] for entry in config.get("Env") or [])
    path = []
    for folder in env.pop("PATH", "").split(":"):
        # A relative one is whatever directory the code is in, and in a writable one it can put programs.
        if folder.startswith("/") and posixpath.normpath(folder) == folder and not f"{folder}/".startswith(_WRITABLE):
            path.append(folder)
    command = OURS.command
    python = (config.get("Labels") or {}).get(_COMMAND_LABEL)
    if python:
        command = (python, f"/{_HOME}/agent_executor/__main__.py")
    return Start(command, tuple(dict.fromkeys(path or OURS.path)), tuple(sorted(env)))


# -- running an image's Python behind the walls -----------------------------------------------------------------------


def _run(
    engine: Engine, image: str, start: Start, *, stdin: bytes = b"", seconds: float, limit: int, mem: str = "256m"
) -> tuple[bytes, str]:
    """What a command of an image writes to stdout, and the end of what it writes to stderr.

    Raises:
        SandboxError: it cannot be started.
        ImageError: it writes more than ``limit`` bytes or takes more than ``seconds``.
    """
    config = hardening.container_config(Limits.of(mem=mem), hardening.Box(image=image, start=start), uids.draw(engine))
    with will.in_force(engine.where):
        return _run_config(engine, image, config, stdin, seconds, limit)


def _run_config(
    engine: Engine, image: str, config: dict[str, Any], stdin: bytes, seconds: float, limit: int
) -> tuple[bytes, str]:
    container = will.create(engine, config, f"{hardening.LABEL}_{secrets.token_hex(8)}")
    if container is None:
        raise ImageError(f"the image {image} is gone; pull or build it once more")
    try:
        pipe = engine.attach(container)
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            pipe.close()

        late = threading.Timer(seconds, expire)
        try:
            engine.start(container)
            late.start()
            found = engine.inspect(container)
            if found is not None:  # it may have ended
                readback.verify(engine.traits, engine.traits.translate(config), found, None)
            with contextlib.suppress(OSError):  # it has ended; what it said tells why
                pipe.send(stdin)
            output = bytearray()
            while data := pipe.recv():
                output += data
                if len(output) > limit:
                    raise ImageError(f"the image {image} is not usable: its Python says more than it was asked")
            if expired.is_set():
                raise ImageError(f"the image {image} is not usable: its Python did not answer within {seconds:g} s")
            return bytes(output), pipe.stderr.decode("utf-8", "replace").strip()
        finally:
            late.cancel()
            pipe.close()
    finally:
        will.remove(engine, container)


@dataclass(frozen=True)
class _Facts:
    """What ``agent_executor/probe.py`` tells, checked."""

    target: wheels.Target
    site: str
    takes_wheels: bool


def _probe(engine: Engine, name: str, known: dict[str, Any]) -> _Facts:
    """What Python an image has: the first on its PATH that is called python3, or else python."""
    start = _start(known)
    text = (images.EXECUTOR / "probe.py").read_text("utf-8")
    ours = images.EXECUTOR_LABEL in (known["Config"].get("Labels") or {})
    for program in ("python", "python3") if ours else ("python3", "python"):  # ours is called python
        try:
            command = Start((program, "-c", text), start.path, start.unset)
            said, wrong = _run(engine, known["Id"], command, seconds=_PROBE_SECONDS, limit=_MAX_FACTS)
        except (ImageError, EngineUnavailableError):
            raise
        except SandboxError as error:
            if re.search(r"not found|no such file", str(error), re.IGNORECASE):
                continue
            raise ImageError(f"the image {name} cannot be started: {_line(str(error))}; try another") from error
        return _checked(name, said, wrong)
    raise ImageError(f"the image {name} has no Python; name one with Python 3.9 or newer, such as python:3.12-slim")


def _line(text: str) -> str:
    """The last line of a text, which of an error is the one that says most."""
    return (text.splitlines() or [""])[-1][:300]


def _checked(name: str, said: bytes, wrong: str = "") -> _Facts:
    """What an image says of itself, checked. Raises ImageError: it is too old, or makes no sense."""
    try:
        return _facts(name, json.loads(said))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ImageError(
            f"the Python of the image {name} does not work: {_line(wrong) or 'it does not say what it is'}; "
            "try another image"
        ) from error


def _facts(name: str, facts: dict[str, Any]) -> _Facts:
    version = tuple(int(part) for part in facts["version"][:3])
    python = ".".join(map(str, version))
    if version < OLDEST:
        raise ImageError(f"the image {name} has Python {python}, which is too old; name one with Python 3.9 or newer")
    for path in (facts["executable"], facts["site"]):
        if not (isinstance(path, str) and re.fullmatch(r"(/[\w.+@-]+)+", path) and posixpath.normpath(path) == path):
            raise ValueError("not a path")
    if not re.fullmatch(r"\w{1,20}", facts["machine"]):
        raise ValueError("not a machine")
    libc = re.fullmatch(r"glibc 2\.(\d{1,3})(\.\d+)?", facts["libc"] or "")
    installed = {str(key): str(value) for key, value in facts["installed"].items()}
    target = wheels.Target(
        python, facts["executable"], facts["machine"], int(libc[1]) if libc else None, packages.installed(installed)
    )
    return _Facts(target, facts["site"], facts["implementation"] == "cpython" and facts["free_threaded"] is False)


# -- building ---------------------------------------------------------------------------------------------------------


def _derive(
    engine: Engine, name: str, known: dict[str, Any], specs: Sequence[str], derived: str, progress: Progress
) -> None:
    """Build one layer on an image: the executor unless it is there, and packages."""
    labels = known["Config"].get("Labels") or {}
    progress(f"looking at {name}", 0.5)
    facts = _probe(engine, name, known)
    marks = {images.LABEL: "image", images.EXECUTOR_LABEL: images.executor_hash()}
    with images.workplace() as folder:
        files: dict[str, bytes] = {}
        if labels.get(images.EXECUTOR_LABEL) != images.executor_hash():
            files.update((f"{_HOME}/{path}", data) for path, data in images.executor_files())
            marks[_COMMAND_LABEL] = facts.target.executable
        tree = None
        if specs:
            if not facts.takes_wheels:
                raise ImageError(
                    f"packages cannot be added to the image {name}: its Python is not CPython with a lock (GIL); "
                    "name another image, or one that has them"
                )
            tree = wheels.install(specs, facts.target, folder, lambda text, part: progress(text, 0.55 + part * 0.3))
        if tree:
            files[f"{facts.site.lstrip('/')}/agentbox-packages.pth"] = f"/{_HOME}/packages\n".encode()
        layer = folder / "layer.tar"
        with tarfile.open(layer, "w") as tar:
            for path, data in files.items():
                images.add_file(tar, path, data)
            if tree:
                tar.add(tree, f"{_HOME}/packages", filter=_owned_by_root)
            progress("compiling", 0.85)
            start = Start((facts.target.executable,), _start(known).path, _start(known).unset)
            for path, data in _compiled(engine, name, known, start, files, tree):
                images.add_file(tar, path, data)
        progress("building the image", 0.95)
        with tempfile.TemporaryFile(dir=folder) as context:
            _context(context, layer)
            for _ in engine.build(context, derived, {"BASE": known["Id"]}, marks):
                pass
    progress("image ready", 1.0)


def _context(context: IO[bytes], layer: Path) -> None:
    with tarfile.open(fileobj=context, mode="w") as tar:
        images.add_file(tar, "Dockerfile", _DOCKERFILE)
        tar.add(layer, "layer.tar")
    context.seek(0)


def _owned_by_root(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Readable by the box's uid, whatever the wheel and this process's umask say; nothing but files and folders."""
    if not (member.isfile() or member.isdir()):
        return None
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
    return member


def _compiled(
    engine: Engine, name: str, known: dict[str, Any], start: Start, files: dict[str, bytes], tree: Path | None
) -> Iterator[tuple[str, bytes]]:
    """The ``.pyc`` files of a layer, as the image's Python makes them.

    None may be left out because something failed: an older one of the image's would be taken for it.
    """
    sources = {path: data for path, data in files.items() if path.endswith(".py")}
    if tree:
        for file in sorted(tree.rglob("*.py")):
            if file.is_file() and not file.is_symlink():
                sources[f"{_HOME}/packages/{file.relative_to(tree).as_posix()}"] = file.read_bytes()
    question = io.BytesIO()
    with tarfile.open(fileobj=question, mode="w") as tar:
        for path, data in sources.items():
            images.add_file(tar, path, data)
    text = (images.EXECUTOR / "bytecode.py").read_text("utf-8")
    answer, wrong = _run(
        engine, known["Id"], Start((*start.command, "-c", text), start.path, start.unset), stdin=question.getvalue(),
        seconds=_COMPILE_SECONDS, limit=_MAX_COMPILED, mem="1g",
    )  # fmt: skip
    # It may say what it likes: it can only give contents to files that are named here.
    tag = re.match(rb"([\w-]{1,40})\n", answer)
    position = tag.end() if tag else len(answer)
    for path in sources:
        (size,) = struct.unpack_from("!I", answer.ljust(position + 4, b"\xff"), position)
        data = answer[position + 4 : position + 4 + size]
        position += 4 + size
        if tag is None or position > len(answer):
            raise ImageError(
                f"the Python of the image {name} does not compile: {_line(wrong) or 'it ended without a word'}; "
                "try another image"
            )
        if data:
            folder, _, module = path.rpartition("/")
            yield f"{folder}/__pycache__/{module.removesuffix('.py')}.{tag[1].decode()}.pyc", data
