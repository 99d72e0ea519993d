"""Which engine is used: as the docker command decides, and then where one listens."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from own_engine import short_folder
from waiting import seconds_until
from wills import BETWEEN, wills

from agentbox_magic import EngineUnavailableError, endpoint


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home, and no setting."""
    with short_folder("home") as folder:
        for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "DOCKER_CONFIG"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HOME", str(folder))
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder / "run"))
        yield folder


def make_context(home: Path, name: str, url: str, tls: bool = False) -> Path:
    """As ``docker context create`` does."""
    folder = hashlib.sha256(name.encode()).hexdigest()
    meta = home / ".docker" / "contexts" / "meta" / folder
    meta.mkdir(parents=True)
    known = {"Name": name, "Metadata": {}, "Endpoints": {"docker": {"Host": url, "SkipTLSVerify": False}}}
    (meta / "meta.json").write_text(json.dumps(known), "utf-8")
    material = home / ".docker" / "contexts" / "tls" / folder / "docker"
    if tls:
        material.mkdir(parents=True)
        (material / "ca.pem").write_text("", "utf-8")
    return material


def use(home: Path, name: str) -> None:
    """As ``docker context use`` does."""
    (home / ".docker").mkdir(exist_ok=True)
    (home / ".docker" / "config.json").write_text(json.dumps({"currentContext": name}), "utf-8")


def test_docker_host_wins(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_context(home, "remote", "tcp://10.0.0.1:2376")
    use(home, "remote")
    monkeypatch.setenv("DOCKER_CONTEXT", "remote")
    monkeypatch.setenv("DOCKER_HOST", "ssh://me@there")
    assert endpoint.find() == endpoint.Endpoint("ssh://me@there", "DOCKER_HOST", None, False)


def test_docker_host_with_tls(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://10.0.0.1:2376")
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    assert endpoint.find().certificates == home / ".docker"
    monkeypatch.setenv("DOCKER_CERT_PATH", "/certs")
    assert endpoint.find() == endpoint.Endpoint("tcp://10.0.0.1:2376", "DOCKER_HOST", Path("/certs"), True)


def test_the_context_in_use_and_the_variable_before_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    material = make_context(home, "remote", "tcp://10.0.0.1:2376", tls=True)
    make_context(home, "other", "ssh://me@there")
    use(home, "remote")
    found = endpoint.find()
    assert found == endpoint.Endpoint("tcp://10.0.0.1:2376", "the context remote (docker context use)", material, True)
    monkeypatch.setenv("DOCKER_CONTEXT", "other")
    assert endpoint.find().url == "ssh://me@there"
    monkeypatch.setenv("DOCKER_CONTEXT", "default")
    assert endpoint.find().url.startswith("unix://")


@pytest.mark.parametrize("tls", [True, False])
def test_it_is_found_again_by_its_environment(home: Path, monkeypatch: pytest.MonkeyPatch, tls: bool) -> None:
    """Whatever the context is then."""
    make_context(home, "remote", "tcp://10.0.0.1:2376", tls=tls)
    use(home, "remote")
    found = endpoint.find()
    use(home, "default")
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    monkeypatch.setenv("DOCKER_CERT_PATH", "/elsewhere")
    for name, value in found.environment().items():
        monkeypatch.setenv(name, value)
    again = endpoint.find()
    assert (again.url, again.certificates, again.verify and tls) == (found.url, found.certificates, tls)


def test_a_context_made_by_the_docker_command(home: Path) -> None:
    subprocess.run(["docker", "context", "create", "made", "--docker", "host=tcp://10.0.0.7:2375"], check=True)
    subprocess.run(["docker", "context", "use", "made"], check=True)
    assert endpoint.find().url == "tcp://10.0.0.7:2375"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"Endpoints": {}}'])
def test_a_context_that_cannot_be_read_is_one_line(home: Path, text: str) -> None:
    material = make_context(home, "broken", "tcp://x")
    (material.parent.parent.parent / "meta" / material.parent.name / "meta.json").write_text(text, "utf-8")
    use(home, "broken")
    with pytest.raises(EngineUnavailableError, match=r"^the Docker context broken, which docker context use names, "):
        endpoint.find()


def test_the_first_socket_where_an_engine_listens(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [home / "run" / "docker.sock", home / ".docker" / "run" / "docker.sock", home / "podman.sock"]
    monkeypatch.setattr(endpoint, "_sockets", lambda: paths)
    assert endpoint.find().url == endpoint.DEFAULT
    with socket.socket(socket.AF_UNIX) as dead, socket.socket(socket.AF_UNIX) as live:
        for one, path in ((dead, paths[0]), (live, paths[1])):
            path.parent.mkdir(parents=True, exist_ok=True)
            one.bind(str(path))
        assert endpoint.find().url == f"unix://{paths[0]}"  # to say that nothing answers there
        live.listen()
        assert endpoint.find().url == f"unix://{paths[1]}"


def test_where_engines_that_need_no_setting_listen(home: Path) -> None:
    assert [str(path) for path in endpoint._sockets()] == [
        "/var/run/docker.sock",
        f"{home}/run/docker.sock",
        f"{home}/.docker/run/docker.sock",
        f"{home}/.docker/desktop/docker.sock",
        "/run/podman/podman.sock",
        f"{home}/run/podman/podman.sock",
    ]


# -- ssh --------------------------------------------------------------------------------------------------------------

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/bin")


def connections(home: Path) -> list[int]:
    """The ssh clients that run with a configuration."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if f"{home}/config".encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found


@pytest.fixture
def machine(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """This machine, by ssh: a real server and the real client, with keys and a configuration of the test's own."""
    if os.getuid() != 0 or SSHD is None:
        pytest.skip("it takes root and an ssh server (Debian package openssh-server)")
    Path("/run/sshd").mkdir(exist_ok=True)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(home / name)], check=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [SSHD, "-D", "-e", "-f", "/dev/null", "-p", str(port), "-h", str(home / "host"),
         "-o", "ListenAddress=127.0.0.1",
         "-o", f"AuthorizedKeysFile={home}/user.pub", "-o", "StrictModes=no", "-o", f"PidFile={home}/pid",
         "-o", "PermitRootLogin=yes", "-o", "UsePAM=no"],
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    (home / "config").write_text(
        f"IdentityFile {home}/user\nIdentitiesOnly yes\nStrictHostKeyChecking no\nUserKnownHostsFile {home}/known\n"
        "LogLevel ERROR\n", "utf-8",
    )  # fmt: skip
    program = home / "bin" / "ssh"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {home}/config "$@"\n', "utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")

    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        seconds_until(listens, within=10)
        yield f"ssh://root@127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(10)
        # Of a process that is killed between attach and start, one stays: the engine never ends that stream.
        for pid in connections(home):
            os.kill(pid, signal.SIGKILL)


USER = """
from agentbox_magic import Sandbox
from agentbox_magic.engine import Engine
with Sandbox.create() as box:
    print(box.run_code("6 * 7").text, len(box.files.read(box.files.write("x", "y" * 300_000).path)))
    assert not Engine.connect().traits.local
"""


def python(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **env}, capture_output=True, text=True, check=False
    )


def test_an_engine_behind_ssh(home: Path, machine: str) -> None:
    make_context(home, "remote", machine)
    use(home, "remote")
    done = python(USER)
    assert done.stdout == "42 300000\n", done.stderr[-3000:]
    seconds_until(lambda: not connections(home), within=10)  # nothing is left behind


def test_a_will_behind_ssh(machine: str, client: docker.DockerClient) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", BETWEEN.format(options="", before="", then="")],
        env={**os.environ, "DOCKER_HOST": machine}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        container = process.stdout.readline().strip()
        process.kill()
    listed = {"all": True, "filters": {"id": container}}
    assert client.api.containers(**listed)
    seconds_until(lambda: not client.api.containers(**listed), within=5)
    seconds_until(lambda: not wills(process.pid), within=30)


def test_a_machine_that_does_not_answer_is_one_line(home: Path, machine: str) -> None:
    done = python(USER, DOCKER_HOST="ssh://root@127.0.0.1:9")  # nobody is there
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("agentbox_magic.errors.EngineUnavailableError: the Docker engine at ssh://root@127.0.0.1:")
    assert "Connection refused" in last or "not running" in last
