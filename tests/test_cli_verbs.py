"""The agentbox command, as agents that delegate work use it: each call a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from command import COMMAND, agentbox, as_json, detached, start
from relays import relays
from waiting import seconds_until

from agentbox_magic import Sandbox, relay

APP = """
import http.server, os, pathlib

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"hello from {pathlib.Path('name').read_text()}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pathlib.Path("visits").write_text("1")

http.server.HTTPServer(("127.0.0.1", 5000), Handler).serve_forever()
"""


def fetch(url: str) -> str:
    """A page, from when its server listens."""
    page = ""

    def there() -> bool:
        nonlocal page
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310  # ours
                page = answer.read().decode()
        except (urllib.error.URLError, ConnectionError):
            return False
        return True

    seconds_until(there, within=60)
    return page


@pytest.fixture(scope="module")
def box() -> Iterator[str]:
    with detached() as box:
        yield box


# -- delegation -------------------------------------------------------------------------------------------------------


def delegate(name: str, folder: Path) -> None:
    """What one agent does with its box, from init to kill."""
    app = folder / name
    app.mkdir()
    (app / "app.py").write_text(APP)
    (app / "name").write_text(name)
    box = as_json("init", "--timeout", "300", "--metadata", "owner=fox", "--pty")["id"]
    assert [one["metadata"] for one in as_json("ps") if one["id"] == box] == [{"owner": "fox"}]
    agentbox("upload", box, str(app), "app")
    server = as_json("exec", "--background", "--cwd", "app", box, "exec python app.py > log 2>&1")["pid"]
    host = as_json("get-host", "--detach", box, "5000")
    assert fetch(host["url"]) == f"hello from {name}"
    assert str(server) in agentbox("exec", box, "pgrep -f app.py || grep -l app.py /proc/[0-9]*/cmdline")
    agentbox("download", box, "app", str(folder / f"{name}-back"))
    assert (folder / f"{name}-back" / "visits").read_text() == "1"
    agentbox("kill", box)
    assert box not in {one["id"] for one in as_json("ps")}
    seconds_until(lambda: not (psutil.pid_exists(host["pid"]) or relays(box)), within=20)


def test_three_agents_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(delegate, ["one", "two", "three"], [tmp_path] * 3))


def test_many_at_once_on_one_box(box: str) -> None:
    """They run side by side: each waits for a file that the next one makes."""

    def one(number: int) -> str:
        wait = f"until [ -e step{number + 1} ]; do sleep 0.05; done; " if number < 4 else ""
        return agentbox("exec", "--timeout", "60", box, f"{wait}touch step{number}; echo {number}")

    with ThreadPoolExecutor(5) as pool:
        assert list(pool.map(one, range(5))) == [f"{number}\n" for number in range(5)]


def test_a_long_command_holds_up_nobody(box: str) -> None:
    other = agentbox("init").strip()
    with start("exec", other, "echo on; sleep 1000") as long:
        assert long.stdout is not None
        assert long.stdout.readline() == "on\n"
        assert other in {one["id"] for one in as_json("ps")}
        assert agentbox("exec", other, "echo beside") == "beside\n"
        assert agentbox("kill", other) == other + "\n"
        assert long.wait(30) == 125
        assert long.stderr is not None
        assert "went away" in long.stderr.read()


def test_python_and_the_shell_share_a_box(box: str) -> None:
    here = Sandbox.connect(box)
    again = Sandbox.connect(box)
    here.run_code("x = 6")
    assert again.run_code("x * 7").text == "42"
    agentbox("exec", box, "echo shell > from-shell")
    assert here.files.read("from-shell") == "shell\n"
    here.disconnect()
    assert again.run_code("x").text == "6"
    again.disconnect()


# -- exec -------------------------------------------------------------------------------------------------------------


def test_output_and_exit_code_are_the_commands(box: str) -> None:
    done = subprocess.run(
        [*COMMAND, "exec", box, "echo out; echo err >&2; exit 7"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")
    assert agentbox("exec", box, "kill -TERM $$", code=143) == ""
    assert agentbox("exec", box, "no-such-command", code=127) == ""
    assert as_json("exec", box, "echo out; exit 3", code=3) == {
        "stdout": "out\n", "stderr": "", "exit_code": 3, "error": None,
    }  # fmt: skip


def test_output_comes_as_it_is_written(box: str) -> None:
    with start("exec", box, "echo first; read line; echo $line", stdin=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stdin is not None
        assert running.stdout.readline() == "first\n"
        running.stdin.write("second\n")
        running.stdin.flush()
        assert running.stdout.readline() == "second\n"
        running.stdin.close()
        assert running.wait(30) == 0


def test_words_stay_words(box: str) -> None:
    assert agentbox("exec", box, "printf", "%s|", "a b", "$HOME", "'") == "a b|$HOME|'|"
    assert agentbox("exec", box, "--", "echo", "-n", "--json") == "--json"
    assert agentbox("exec", "--env", "A=b c", "--cwd", "/tmp", box, 'echo "$A"; pwd') == "b c\n/tmp\n"


def test_stdin_is_the_commands(box: str) -> None:
    text = "line\n" * 200_000
    assert agentbox("exec", box, "wc -c", stdin=text) == f"{len(text)}\n"
    assert agentbox("exec", box, "cat", stdin="") == ""


def test_a_deadline_and_memory_have_codes_of_their_own(box: str) -> None:
    assert agentbox("exec", "--timeout", "0.5", box, "echo begun; sleep 100", code=124) == "begun\n"
    assert "--timeout" not in agentbox("exec", box, "python -c 'bytearray(2**30)'", code=137)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 137)])
def test_a_signal_ends_the_command_and_not_the_box(box: str, number: int, code: int) -> None:
    with start("exec", box, "echo on; exec sleep 4321") as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "on\n"
        running.send_signal(number)
        assert running.wait(30) == code
    assert agentbox("exec", box, "grep -l 432[1] /proc/[0-9]*/cmdline; true") == ""


def test_the_reader_of_the_output_goes_away(box: str) -> None:
    with start("exec", box, "yes 8765") as running:
        assert running.stdout is not None
        running.stdout.readline()
        running.stdout.close()
        assert running.wait(60) == 125
    seconds_until(lambda: agentbox("exec", box, "grep -l 876[5] /proc/[0-9]*/cmdline; true") == "", within=20)


def test_a_command_in_the_background_goes_on(box: str) -> None:
    pid = agentbox("exec", "--background", box, "until [ -e stop ]; do sleep 0.05; done; echo done > end").strip()
    wait = f"kill -0 {pid}; touch stop; until [ -e end ]; do sleep 0.05; done; cat end"
    assert agentbox("exec", box, wait) == "done\n"


# -- files ------------------------------------------------------------------------------------------------------------


def test_files_up_and_down(box: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    assert as_json("upload", box, str(tmp_path / "a.txt"), "in/") == {
        "path": "in/a.txt", "files": 1, "size": 1, "skipped": 0,
    }  # fmt: skip
    (tmp_path / "out").mkdir()
    agentbox("download", box, "in/a.txt", str(tmp_path / "out"))
    assert (tmp_path / "out" / "a.txt").read_text() == "a"
    assert as_json("download", box, "in/a.txt", str(tmp_path / "out"), code=125)["error"]["type"] == "FileExistsError"
    assert as_json("download", box, "none", str(tmp_path / "x"), code=125)["error"]["type"] == "FileNotFoundError"
    assert as_json("upload", box, "/none", "x", code=125)["error"]["type"] == "FileNotFoundError"


# -- get-host ---------------------------------------------------------------------------------------------------------


def test_get_host_until_interrupted(box: str) -> None:
    server = "python -m http.server 8000"
    agentbox("exec", "--background", box, server)
    with start("get-host", box, "8000") as running:
        assert running.stdout is not None
        url = running.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:")
        assert "Directory listing" in fetch(url)
        running.send_signal(signal.SIGINT)
        assert running.wait(30) == 0
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(url)  # noqa: S310  # ours


def test_get_host_tells_when_nothing_listens(box: str) -> None:
    with start("get-host", "--json", box, "8001") as running:
        assert running.stdout is not None
        assert running.stderr is not None
        url = json.loads(running.stdout.readline())["url"]
        with pytest.raises(ConnectionResetError):
            urllib.request.urlopen(url)  # noqa: S310  # ours
        assert running.stderr.readline() == (
            "agentbox: a connection to port 8001 of the box was closed: nothing listens there\n"
        )
        running.terminate()


# -- making, finding, ending ------------------------------------------------------------------------------------------


def test_a_name_and_the_beginning_of_an_id() -> None:
    name = f"test-{os.getpid()}"
    made = as_json("init", "--name", name, "--mem", "128m", "--cpus", "0.5")
    try:
        assert (made["name"], made["lifetime"], made["limits"]["mem"]) == (name, 3600, 128 * 2**20)
        for known_as in (name, made["id"], made["id"][:10]):
            assert agentbox("exec", known_as, "echo here") == "here\n"
        assert "choose another" in as_json("init", "--name", name, code=125)["error"]["message"]
        (found,) = [one for one in as_json("ps") if one["id"] == made["id"]]
        assert (found["name"], found["state"], found["detached"]) == (name, "running", True)
        assert f"{made['id'][:12]}  {name}" in agentbox("ps")
    finally:
        assert as_json("kill", name) == {"killed": [made["id"]]}
    assert as_json("kill", name, code=125)["error"]["type"] == "SandboxClosedError"


def test_a_lifetime_ends_it() -> None:
    box = agentbox("init", "--timeout", "2").strip()
    seconds_until(lambda: box not in {one["id"] for one in as_json("ps")}, within=20)
    seconds_until(lambda: not relays(box), within=10)


def test_a_box_of_another_process_is_its_own() -> None:
    with Sandbox.create() as box:
        error = as_json("exec", box.sandbox_id, "true", code=125)["error"]["message"]
    assert "belongs to another process" in error


def test_run(tmp_path: Path) -> None:
    assert agentbox("run", "-", stdin="print('in'); 6 * 7") == "in\n42\n"
    assert agentbox("run", "-c", "x = 1") == ""
    (tmp_path / "script.sh").write_text("echo $BASH_VERSION | cut -c1; exit 4")
    assert agentbox("run", "--env", "A=b", str(tmp_path / "script.sh"), code=4) == "5\n"
    where = "import os, sys; print(os.environ['A'], os.getcwd(), 'wave' in sys.modules)"
    options = ["--env", "A=b", "--cwd", "/tmp/there", "--preload", "wave,json", "--network", "none", "--timeout", "0"]
    assert agentbox("run", *options, "-c", where) == "b /tmp/there True\n"
    assert agentbox("run", "-c", "import sys; print('out'); sys.exit(3)", code=3) == "out\n"
    assert agentbox("run", "-c", "exit()") == ""
    # An exception is one, whatever its words are.
    posing = "class CalledProcessError(Exception): pass\nraise CalledProcessError('bash ended with exit status 0')"
    assert as_json("run", "-c", posing, code=1)["exit_code"] is None
    (tmp_path / "windows.py").write_bytes("\ufeff#!/usr/bin/env python3\r\nprint('é')\r\n".encode())
    assert agentbox("run", str(tmp_path / "windows.py")) == "é\n"
    (tmp_path / "old.py").write_bytes("# -*- coding: latin-1 -*-\nprint('é')\n".encode("latin-1"))
    assert agentbox("run", str(tmp_path / "old.py")) == "é\n"
    done = as_json("run", "-c", "print('out')\n1 / 0", code=1)
    assert (done["status"], done["error"]["name"], "".join(done["logs"]["stdout"])) == (
        "error",
        "ZeroDivisionError",
        "out\n",
    )
    assert as_json("run", "--timeout", "0.5", "-c", "while True: pass", code=124)["status"] == "timeout"
    assert as_json("run", "--mem", "128m", "-c", "bytearray(2**30)", code=137)["status"] == "oom"


def test_build_and_prune_say_what_they_did(image: str, box: str) -> None:
    assert as_json("build") == {"image": image}
    left = [relay.folder() / f"{'0' * 32}{suffix}" for suffix in ("", ".lock")]  # of a relay that was killed
    for path in left:
        path.write_text("")
    assert isinstance(as_json("prune")["removed"], list)
    assert not any(path.exists() for path in left)
    assert agentbox("exec", box, "echo here") == "here\n"  # its relay was left alone


def test_the_doctor() -> None:
    report = as_json("doctor")
    assert report["ok"]
    assert agentbox("doctor").endswith(report["badge"] + "\n")
    assert "no runtime nowhere" in as_json("doctor", "--runtime", "nowhere", code=125)["error"]["message"]
