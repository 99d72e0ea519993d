"""The command line of agentbox: mistakes are told in one line, and help is quick."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from command import COMMAND, agentbox, as_json


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["frob"], "choose from"),
        (["run"], "run needs a FILE"),
        (["exec", "x"], "exec needs a command"),
        (["get-host", "x", "y"], "invalid int"),
        (["init", "--m", "1g"], "unrecognized arguments"),
        ([], "VERB"),
    ],
)
def test_a_wrong_command_line(words: list[str], message: str) -> None:
    said = agentbox(*words[:1], "--json", *words[1:], code=2)
    assert message in json.loads(said)["error"]["message"]
    agentbox(*words, code=2)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["init", "--mem", "1"], "mem 1 is too little"),
        (["init", "--env", "A"], "A is not NAME=VALUE"),
        (["init", "--name", "x y"], "cannot be a name"),
        (["init", "--timeout", "-1"], "timeout -1 is out of range"),
        (["run", "--timeout", "-1", "-c", "1"], "timeout -1 is out of range"),
        (["run", "--preload", "a b", "-c", "1"], "'a b' is no name of a module"),
        (["run", "--network", "host", "-c", "1"], "network host is not known; the only network is none"),
        (["run", "--env", "=1", "-c", "1"], "=1 is not NAME=VALUE"),
        (["run", "/none.py"], "No such file or directory: /none.py"),
        (["exec", "none-such", "true"], "there is no sandbox none-such"),
    ],
)
def test_a_wrong_value(words: list[str], message: str) -> None:
    assert message in as_json(*words, code=125)["error"]["message"]


def test_without_an_engine() -> None:
    environment = {**os.environ, "DOCKER_HOST": "unix:///none.sock"}
    done = subprocess.run([*COMMAND, "ps"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 125
    assert done.stderr.startswith("agentbox: no Docker engine at unix:///none.sock;")
    assert done.stderr.count("\n") == 1


def test_help_is_quick() -> None:
    code = "import sys; from agentbox_magic import cli\ntry: cli.main(['--help'])\nexcept SystemExit: pass\n"
    code += "print({'docker', 'requests', 'IPython', 'mcp'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"
    assert "exit codes" in done.stdout
