"""What callers give by mistake: a clear word, and nothing is lost."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agentbox_magic import Sandbox

# -- the box's side: a host of ours asks nothing of this kind, and a box that is asked all the same answers


REQUESTS: list[tuple[str, dict[str, Any], Any]] = [
    ("execute_request", {"timeout": "5"}, b"1"),
    ("execute_request", {"timeout": -1}, b"1"),
    ("execute_request", {"timeout": True}, b"1"),
    ("execute_request", {"envs": {"A": 1}}, b"1"),
    ("execute_request", {"envs": {"": "x"}}, b"1"),
    ("execute_request", {"envs": {"A=B": "x"}}, b"1"),
    ("execute_request", {"envs": {"A": "\0"}}, b"1"),
    ("execute_request", {"envs": {"A": "\ud800"}}, b"1"),
    ("execute_request", {"envs": "A"}, b"1"),
    ("execute_request", {"max_output": "many"}, b"1"),
    ("execute_request", {"context": ["default"]}, b"1"),
    ("command_request", {"timeout": "5"}, {"cmd": "true", "cwd": None, "envs": {}}),
    ("command_request", {}, {"cmd": 5, "cwd": None, "envs": {}}),
    ("command_request", {}, {"cmd": "echo \0", "cwd": None, "envs": {}}),
    ("command_request", {}, {"cmd": "true", "cwd": "\0", "envs": {}}),
    ("command_request", {}, {"cmd": "true", "cwd": None, "envs": {"A": 1}}),
    ("command_request", {}, b"no JSON"),
    ("context_request", {"operation": "create"}, b""),
    ("context_request", {"operation": "create", "context": {}, "language": "python", "cwd": None}, b""),
    ("lifetime_request", {"seconds": "5"}, b""),
    ("lifetime_request", {"seconds": -5}, b""),
    ("signal_request", {"pid": [], "signal": 9}, b""),
    ("files_request", {"operation": "read"}, {"path": "\0"}),
    ("files_request", {"operation": "read"}, {"path": None}),
    ("files_request", {"operation": "read"}, {}),
    ("files_request", {"operation": "eat"}, {}),
    ("files_request", {"operation": "list"}, {"path": "/", "depth": "1"}),
    ("forward_request", {"port": 2**70}, b""),
    ("configure_request", {}, {"env": {"PORT": 8080}, "cwd": None, "lifetime": None}),
    ("configure_request", {}, {"env": {"PORT": "1"}, "cwd": None, "lifetime": "long"}),
    ("reset_request", {}, {"env": {"PORT": 8080}, "cwd": None, "lifetime": None}),
]


@pytest.mark.parametrize(("kind", "fields", "payload"), REQUESTS)
def test_a_malformed_request_is_answered(box: Sandbox, kind: str, fields: dict[str, Any], payload: Any) -> None:
    box.run_code("kept = 1")
    raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    with box._link.call(kind, raw, budget=2**22, **fields) as call:
        header, body = call.get(30)
        assert header["type"] == "reply"
        assert header["error"] in ("EINVAL", "ESRCH", "ENOENT"), body
    assert box.run_code("kept").text == "1"
    assert box.run_code("import os; os.environ.get('PORT')").text is None


def test_a_context_begins_where_its_directory_was(box: Sandbox) -> None:
    box.files.make_dir("/tmp/gone")
    context = box.create_code_context(cwd="/tmp/gone")
    assert box.run_code("1 + 1", context=context).text == "2"
    box.files.remove("/tmp/gone")
    box.restart_code_context(context)
    assert box.run_code("import os; os.getcwd()", context=context).text == "'/tmp/gone'"


def test_a_directory_that_may_not_be_entered(box: Sandbox) -> None:
    with pytest.raises(PermissionError, match="may not enter the directory /root"):
        box.create_code_context(cwd="/root")
    assert box.run_code("1 + 1").text == "2"


def test_a_lifetime_beyond_what_the_kernel_waits_for() -> None:
    with Sandbox.create(lifetime=2**31 / 1000 + 1e6) as box:  # the kernel's clock takes 2**31 ms
        assert box.run_code("1 + 1").text == "2"
        assert box.run_code("2 + 2", timeout=9e6).text == "4"
