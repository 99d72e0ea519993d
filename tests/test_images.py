"""Other people's images as boxes, and packages for any image."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import shutil
import struct
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import docker
import pytest
from kernel import Kernel
from waiting import seconds_until

import agent_executor
from agentbox_magic import ImageError, Sandbox, derived, images, packages, resources, wheels
from agentbox_magic.engine import Engine
from agentbox_magic.hardening import Start

MakeImage = Callable[..., str]
MakeBase = Callable[..., tuple[str, str]]


def unexpected(text: str, part: float) -> NoReturn:
    """A progress callback for what is to come from the cache."""
    raise AssertionError(f"work was done again: {text}")


@pytest.fixture
def make_image(client: docker.DockerClient, base: str) -> Iterator[MakeImage]:
    """Build an image from lines of a Dockerfile; its name."""
    made = []

    def make(*lines: str, start: str = base) -> str:
        name = f"agentbox-test:{len(made)}-{os.getpid()}"
        text = "\n".join([f"FROM {start}", *lines])
        client.images.build(fileobj=io.BytesIO(text.encode()), tag=name, rm=True, forcerm=True)
        made.append(name)
        return name

    yield make
    for name in made:
        client.images.remove(name)


def wheel(folder: Path, name: str, version: str = "1.0", requires: str = "", tag: str = "py3-none-any") -> None:
    """Write a wheel with one module, ``NAME``, that knows its ``version``, and a script, ``NAME-script``."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    files = {
        f"{name}.py": f"version = {version!r}\n\ndef main():\n    print({name!r})\n",
        f"{info}/METADATA": metadata + (f"Requires-Dist: {requires}\n" if requires else ""),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{name}-script = {name}:main\n",
    }
    record = ""
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / f"{name}-{version}-{tag}.whl", "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            record += f"{path},sha256={digest},{len(text)}\n"
        archive.writestr(f"{info}/RECORD", f"{record}{info}/RECORD,,\n")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all that pip knows of: its own configuration, as a user's."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


# -- other images -----------------------------------------------------------------------------------------------------


def test_an_image_with_a_python_is_a_box_and_is_made_ready_once(make_image: MakeImage) -> None:
    image = make_image("LABEL some=thing")
    said: list[str] = []
    with Sandbox.create(image=image, progress=lambda text, part: said.append(text)) as box:
        assert box.run_code("import sys; 6 * 7").text == "42"
        path = box.run_code("sys.path").text or ""
        assert "agent_executor" not in path
        assert path.startswith("['/workspace', '/usr/")
        run = box.run_code("import os, agent_executor.supervisor as s; os.path.exists(s.__cached__), s.__file__")
        assert run.text == "(True, '/opt/agentbox/agent_executor/supervisor.py')"
    assert said[-1] == "image ready"
    with Sandbox.create(image=image, progress=unexpected) as box:
        assert box.run_code("6 * 7").text == "42"


def test_nothing_of_an_image_but_its_files_and_path_counts(make_image: MakeImage) -> None:
    image = make_image(
        "ENV LD_PRELOAD=/nowhere.so PYTHONPATH=/evil PYTHONINSPECT=1 PYTHONHOME=/evil SECRET=x PYTHONSTARTUP=/x",
        "ENV PATH=/opt/odd/bin:.:/tmp/bin:/usr/local/bin:/usr/bin:/bin",
        "USER nobody",
        "WORKDIR /root",
        "STOPSIGNAL SIGUSR1",
        "EXPOSE 80",
        "HEALTHCHECK CMD exit 1",
        'ENTRYPOINT ["/bin/false"]',
        'CMD ["x"]',
    )
    with Sandbox.create(image=image) as box:
        run = box.run_code(
            "import os, sys; print(os.getuid() >= 10000, os.getcwd(), os.environ['PATH'])\n"
            "{*os.environ} & {'LD_PRELOAD', 'PYTHONPATH', 'PYTHONINSPECT', 'PYTHONHOME', 'SECRET', 'PYTHONSTARTUP'}"
        ).raise_for_status()
    assert run.stdout == (
        "True /workspace /opt/agentbox/venv/bin:/opt/agentbox/packages/bin:/opt/odd/bin:/usr/local/bin:/usr/bin:/bin\n"
    )
    assert (run.text, run.stderr) == ("set()", "")


def test_a_virtual_environment_on_the_path_stays_one(make_image: MakeImage) -> None:
    image = make_image("RUN python3 -m venv --without-pip /opt/env", "ENV PATH=/opt/env/bin:/usr/bin:/bin")
    with Sandbox.create(image=image, packages=["humanize"]) as box:
        assert box.run_code("import sys; sys.prefix").text == "'/opt/env'"
        assert box.run_code("import humanize; humanize.intcomma(10000)").text == "'10,000'"
        children = box.run_code(
            "import subprocess\nprint(subprocess.run(['python', '-c', 'import humanize, sys; print(sys.prefix)'],"
            " capture_output=True, text=True).stdout)"
        )
        assert children.stdout.strip() == "/opt/env"


def test_an_image_made_from_ours_is_used_as_it_is(make_image: MakeImage) -> None:
    image = make_image("ENV SECRET=x", start=images.default_image())
    name, start = derived.prepare(Engine.connect(), image, (), unexpected)
    assert name == image
    assert start.command == Start().command
    with Sandbox.create(image=image, progress=unexpected) as box:
        assert box.run_code("'get_ipython' in globals()").text == "True"


def test_an_image_with_another_executor_gets_this_one(make_image: MakeImage) -> None:
    image = make_image('LABEL agentbox.executor="000000000000"', start=images.default_image())
    name, _ = derived.prepare(Engine.connect(), image)
    assert name.startswith(derived.REPOSITORY)
    with Sandbox.create(image=image, progress=unexpected) as box:
        assert box.run_code("6 * 7").text == "42"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "VOLUME /data",
            r"has a VOLUME \(/data\), which is a writable disk of the host .*; build the image without it",
        ),
        ("ONBUILD RUN touch /x", "has ONBUILD commands, which would run outside of any box; build the image without"),
        (
            "RUN ln -sf /bin/true /usr/bin/python3",
            "the Python of the image .* does not work: it does not say what it is; try another image",
        ),
        (
            "RUN cd /usr/bin; rm python3; printf '#!/bin/sh\\ncat /dev/zero' >python3; chmod +x python3",
            "its Python says more than it was asked",
        ),
    ],
)
def test_an_image_that_cannot_serve(
    make_image: MakeImage, boxes: Callable[[], set[str]], line: str, message: str
) -> None:
    image = make_image(line)
    with pytest.raises(ImageError, match=message) as caught:
        Sandbox.create(image=image)
    assert str(caught.value).count("\n") == 0
    seconds_until(lambda: not boxes(), within=5)


def test_an_image_without_python(client: docker.DockerClient, boxes: Callable[[], set[str]]) -> None:
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        images.add_file(archive, "hello.txt", b"hello")
    name = f"agentbox-test:empty-{os.getpid()}"
    client.api.import_image_from_data(tar.getvalue(), repository=name.split(":")[0], tag=name.split(":")[1])
    try:
        with pytest.raises(ImageError, match=f"^the image {name} has no Python; name one with Python 3.9 or newer"):
            Sandbox.create(image=name)
    finally:
        client.images.remove(name)
    seconds_until(lambda: not boxes(), within=5)


def test_an_image_that_nobody_has() -> None:
    with pytest.raises(ImageError, match=r"the engine has no image no/such:image and cannot pull it \(.*\); check the"):
        Sandbox.create(image="no/such:image")


OLD = [("2.7.18", "2.7.18"), ("3.6.15", "3.6.15"), ("3.8.18", "3.8.18")]


def python(version: str) -> str:
    path = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions", version, "bin", "python")
    if not path.exists():
        pytest.skip(f"there is no Python {version} here")
    return str(path)


@pytest.mark.parametrize(("version", "shown"), OLD)
@pytest.mark.parametrize("by", ["path", "name"])
def test_an_old_python_says_so(version: str, shown: str, by: str) -> None:
    folder = Path(agent_executor.__file__).parent
    command = [str(folder / "__main__.py")] if by == "path" else ["-m", "agent_executor"]
    done = subprocess.run(
        [python(version), "-B", *command], cwd=folder.parent, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 1
    assert done.stderr == f"Python {shown} is too old, 3.9 is the oldest that can serve\n"


@pytest.mark.parametrize("version", ["2.7.18", "3.6.15", "3.8.18", "3.9.18", "3.13.0"])
def test_every_python_answers_the_probe(version: str) -> None:
    text = (images.EXECUTOR / "probe.py").read_text("utf-8")
    done = subprocess.run([python(version), "-c", text], capture_output=True, check=True)
    numbers = tuple(map(int, version.split(".")))
    if numbers < derived.OLDEST:
        with pytest.raises(ImageError, match=f"the image x has Python {version}, which is too old; name one with Py"):
            derived._checked("x", done.stdout)
    else:
        facts = derived._checked("x", done.stdout)
        assert facts.target.python == version
        assert facts.target.minor == ".".join(version.split(".")[:2])
        assert facts.takes_wheels


@pytest.mark.parametrize("version", ["3.9.18", "3.10.13", "3.12.1", "3.13.0"])
def test_every_supported_python_runs_the_executor(version: str) -> None:
    """Imported and compiled, without IPython."""
    program = python(version)
    folder = Path(agent_executor.__file__).parent
    code = "import agent_executor.supervisor, agent_executor.worker, agent_executor.plain as p; print(p.bundle_of(1))"
    done = subprocess.run([program, "-B", "-c", code], cwd=folder.parent, capture_output=True, text=True, check=True)
    assert done.stdout == "{'text/plain': '1'}\n"
    sources = io.BytesIO()
    with tarfile.open(fileobj=sources, mode="w") as tar:
        images.add_file(tar, "good.py", b"x = 1\n")
        images.add_file(tar, "bad.py", b"x = = 1\n")
    text = (images.EXECUTOR / "bytecode.py").read_text("utf-8")
    answer = subprocess.run([program, "-c", text], input=sources.getvalue(), capture_output=True, check=True).stdout
    tag, _, rest = answer.partition(b"\n")
    assert tag.decode() == "cpython-" + "".join(version.split(".")[:2])
    (size,) = struct.unpack_from("!I", rest)
    assert size > 0
    assert rest[4 + size :] == struct.pack("!I", 0)


# -- packages ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ours", [True, False], ids=["our image", "another image"])
@pytest.mark.parametrize(
    ("name", "code", "text"),
    [
        pytest.param("humanize", "humanize.intcomma(10000)", "'10,000'", id="pure"),
        pytest.param(
            "msgpack", "msgpack.packb(1), msgpack.Packer.__module__", "(b'\\x01', 'msgpack._cmsgpack')", id="C"
        ),
    ],
)
def test_a_package_is_there_and_the_second_time_at_once(base: str, ours: bool, name: str, code: str, text: str) -> None:
    image = None if ours else base
    with Sandbox.create(image=image, packages=[name]) as box:
        assert box.run_code(f"import {name}; {code}").text == text
        assert box.run_code(f"{name}.__cached__").text != "None"
        assert box.run_code("import os; os.path.exists(" + f"{name}.__cached__)").text == "True"
    with Sandbox.create(image=image, packages=[name.upper()], progress=unexpected) as box:
        assert box.run_code(f"import {name}; {code}").text == text


def test_what_the_image_has_is_not_changed(index: Path, box: Sandbox) -> None:
    numpy = box.run_code("import numpy; print(numpy.__version__)").stdout.strip()
    wheel(index, "numpy", numpy)
    wheel(index, "numpy", "99.0")
    wheel(index, "needs_numpy", requires="numpy")
    with Sandbox.create(packages=["needs-numpy", "numpy"]) as other:
        run = other.run_code("import numpy, needs_numpy; print(numpy.__version__, numpy.__file__, needs_numpy.version)")
    assert (
        run.stdout
        == f"{numpy} /opt/agentbox/venv/lib/python{images.python_minor()}/site-packages/numpy/__init__.py 1.0\n"
    )


def test_ipython_can_be_added_to_an_image_without(base: str) -> None:
    with Sandbox.create(image=base, packages=["ipython"]) as box:
        assert box.run_code("!echo $0").stdout != ""
        assert box.run_code("'get_ipython' in globals()").text == "True"


def test_scripts_of_a_package_run(index: Path) -> None:
    wheel(index, "scripted")
    with Sandbox.create(packages=["scripted==1.0"]) as box:
        assert box.run_code("!scripted-script").stdout == "scripted\n"


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        (
            ["nosuch"],
            r"^pip finds no package nosuch, for Python 3.*; check its name, or check pip's conf.* \(pip config list\)$",
        ),
        (["plain==7"], "^the package plain==7 has no wheel for Python 3.* on Linux .*; ask for another version"),
        (
            ["sourceonly"],
            "^the package sourceonly has no wheel for Python 3.* on Linux .*; ask for another version, or",
        ),
        (["foreign"], "^pip finds no package foreign, for Python 3.* on Linux"),
        (["broken"], "^pip finds no package absent, which they need, for Python 3"),
        (["numpy<1"], "^the image has numpy [0-9.]+, and numpy<1 asks for another; leave it out, or name an image"),
        (["stubborn"], "^the packages do not fit together or with the image: .*numpy.*; ask for other versions, or"),
    ],
)
def test_a_package_that_cannot_be_had(
    index: Path, boxes: Callable[[], set[str]], specs: list[str], message: str
) -> None:
    wheel(index, "plain")
    wheel(index, "foreign", tag="cp27-cp27m-win32")
    wheel(index, "broken", requires="absent")
    wheel(index, "stubborn", requires="numpy<1")
    wheel(index, "numpy", "0.9")
    with tarfile.open(index / "sourceonly-1.0.tar.gz", "w:gz") as tar:
        images.add_file(tar, "sourceonly-1.0/setup.py", b"raise SystemExit('this must not run')")
        images.add_file(tar, "sourceonly-1.0/PKG-INFO", b"Metadata-Version: 1.0\nName: sourceonly\nVersion: 1.0\n")
    with pytest.raises(ImageError, match=message) as caught:
        Sandbox.create(packages=specs)
    assert "\n" not in str(caught.value)
    seconds_until(lambda: not boxes(), within=5)


def test_an_index_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, index: Path) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_RETRIES", "1")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(ImageError, match=r"the index does not answer: .*; check pip's configuration"):
        Sandbox.create(packages=["nosuch"])


def test_conditions_are_judged_by_the_images_python(index: Path, tmp_path: Path) -> None:
    """A package that only an older Python needs is fetched for one, whatever the host's."""
    wheel(index, "outer", requires="inner[more]; python_version < '3.4'")
    wheel(index, "inner", requires="innermost; extra == 'more'")
    wheel(index, "innermost")
    target = wheels.Target("3.3.0", "/usr/bin/python3", "x86_64", 17, {})
    tree = wheels.install(["outer"], target, tmp_path, lambda text, part: None)
    assert tree is not None
    assert {path.name for path in tree.glob("*.py")} == {"outer.py", "inner.py", "innermost.py"}
    assert (tree / "bin" / "outer-script").read_text().startswith("#!/usr/bin/python3\n")
    assert sys.executable not in (tree / "bin" / "outer-script").read_text()


@pytest.mark.parametrize(
    "spec",
    [
        "--index-url=http://x", "-r x", "-e .", ".", "./x", "/x", "../x.whl", "x.whl", "x.tar.gz", "x @ https://x/x.whl",
        "x @ file:///x", "https://x/x.whl", "", " ", "x y", "x\ny", "x; y", "x; python_version > '3'",
        "x; touch /x", "$(x)", "`x`", "${X}", "x===${HOME}", "x==1 --hash=y", "x\\", "a,b",
    ],
)  # fmt: skip
def test_what_is_not_a_package_is_refused(spec: str, boxes: Callable[[], set[str]]) -> None:
    with pytest.raises(
        ValueError, match=r"is not a name with an optional version; write it like polars or httpx==0\.27"
    ):
        Sandbox.create(packages=[spec])
    assert boxes() == set()


def test_packages_as_one_string_are_refused() -> None:
    with pytest.raises(ValueError, match=r"packages is one string; write a list: packages=\['polars'\]"):
        packages.normalise("polars")


def test_the_option(kernel: Kernel) -> None:
    cell = kernel.run("%%sandbox --with humanize,msgpack>=1,<9\nimport humanize, msgpack\nhumanize.intcomma(10000)")
    assert cell.status == "ok"
    assert "'10,000'" in cell.data("text/plain")
    cell = kernel.run("%%sandbox --with ./x\n1")
    assert cell.status == "error"
    assert cell.text("stderr").startswith("UsageError: %%sandbox: --with: package './x' is not a name")


# -- the base, where no registry answers ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("minor", "ubuntu", "release"),
    [
        ("3.11", False, ("3.11", "bookworm")),
        ("3.13", False, ("3.13", "trixie")),
        ("3.10", False, ("3.11", "bookworm")),
        ("3.12", False, ("3.13", "trixie")),
        ("3.14", True, ("3.13", "trixie")),
        ("3.10", True, ("3.10", "jammy")),
        ("3.12", True, ("3.12", "noble")),
    ],
)
def test_the_release_with_the_python_or_the_nearest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minor: str, ubuntu: bool, release: tuple[str, str]
) -> None:
    monkeypatch.setattr(images, "_KEYRINGS", tmp_path)
    if ubuntu:
        (tmp_path / "ubuntu-archive-keyring.gpg").touch()
    assert images.nearest_release(minor) == release


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, client: docker.DockerClient) -> Iterator[MakeBase]:
    """Make the base for a Python of a script that makes a system with another, or the same."""
    made = set()
    shutil.copytree(resources.IMAGE, tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(resources, "IMAGE", tmp_path)
    monkeypatch.setattr(images, "_KEYRINGS", tmp_path)

    def make(minor: str, *found: str) -> tuple[str, str]:
        files = " ".join(f"usr/bin/python{one}" for one in found)
        script = f'cd "$(mktemp -d)"; mkdir -p usr/bin; touch {files} usr/bin/$2; tar -cf "$1" .; rm -r "$PWD"\n'
        (tmp_path / "build-base").write_text(script, "utf-8")
        monkeypatch.setattr(images, "python_minor", lambda: minor)
        name, its = images._offline_base(Engine.connect(), lambda text, part: None, ImageError("no registry"))
        made.add(name)
        return name, its

    yield make
    for name in made:
        client.images.remove(name)


def test_a_base_is_of_the_release_with_the_python_and_named_by_it(offline: MakeBase) -> None:
    first, minor = offline("3.11", "3.11")
    assert (minor, first.partition("-base:")[2].partition("-")[0]) == ("3.11", "bookworm")
    second, minor = offline("3.13", "3.13")  # the first is not taken for it
    assert (minor, second.partition("-base:")[2].partition("-")[0]) == ("3.13", "trixie")
    assert offline("3.12", "3.13") == (second, "3.13")  # its nearest


def test_a_release_with_another_python_is_refused(offline: MakeBase) -> None:
    with pytest.raises(ImageError, match=r"^the base image cannot be built: trixie has Python 3\.14, not 3\.13$"):
        offline("3.13", "3.14")


def test_where_this_python_cannot_be_had_cells_run_on_the_nearest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, client: docker.DockerClient, image: str
) -> None:
    ours = images.python_minor()
    if ours not in ("3.11", "3.13"):
        pytest.skip(f"Python {ours} is no release's")
    other = {"3.11": "3.10", "3.13": "3.14"}[ours]
    if client.images.list(f"python:{other}-slim"):
        pytest.skip("the engine has this Python")
    monkeypatch.setattr(images, "_KEYRINGS", tmp_path)
    monkeypatch.setattr(images, "python_minor", lambda: other)
    images.default_image.cache_clear()
    try:
        assert images.default_image().startswith(f"agentbox-magic:py{other}-")
        assert images.build(Engine.connect(), unexpected) == image
        with Sandbox.create(progress=unexpected) as box:
            assert box.run_code("import sys; sys.version_info[1]").text == ours.partition(".")[2]
    finally:
        images.default_image.cache_clear()
