"""What callers give by mistake: a clear word, and nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import decimal
import json
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentbox_magic import AsyncSandbox, CommandExitException, Sandbox, SandboxError, agent, tool
from agentbox_magic.integrations.toolset import Toolset

# -- one by one: the argument is named, and nothing has been sent


async def _coroutine(text: str) -> None:
    """Nobody would await it."""


MISTAKES: list[tuple[Callable[[Sandbox], Any], type[Exception], str]] = [
    (lambda box: box.run_code(5), TypeError, "code is 5, of type int; give text"),  # type: ignore[arg-type]
    (lambda box: box.run_code("'\ud800'"), ValueError, "code holds '\\ud800', half of a surrogate pair"),
    (lambda box: box.run_code("1", envs={"A": 1}), TypeError, "envs['A'] is 1, of type int; give text, such as '1'"),  # type: ignore[dict-item]
    (lambda box: box.run_code("1", envs={"": "1"}), ValueError, "envs has the name ''; give names"),
    (lambda box: box.run_code("1", envs={"A=B": "1"}), ValueError, "envs has the name 'A=B'; give names"),
    (lambda box: box.run_code("1", envs={"A": "\0"}), ValueError, "envs['A'] holds a NUL character"),
    (lambda box: box.run_code("1", envs={"A": "x" * 70_000}), ValueError, "envs has 70,009 bytes, more than"),
    (lambda box: box.run_code("1", timeout=-1), ValueError, "timeout -1 is out of range; give a number of seconds"),
    (lambda box: box.run_code("1", timeout=float("inf")), ValueError, "timeout inf is not a number"),
    (lambda box: box.run_code("1", timeout=True), TypeError, "timeout is True, of type bool"),
    (lambda box: box.run_code("1", max_output="x"), ValueError, "max_output x is not a number"),  # type: ignore[arg-type]
    (lambda box: box.run_code("1", language=5), TypeError, "language is 5"),  # type: ignore[arg-type]
    (lambda box: box.run_code("1", context=5), TypeError, "context is 5"),  # type: ignore[arg-type]
    (lambda box: box.run_code("1", on_stdout=5), TypeError, "on_stdout is 5, of type int; give a function"),  # type: ignore[arg-type]
    (lambda box: box.run_code("1", on_stdout=_coroutine), TypeError, "on_stdout is a coroutine function"),
    (lambda box: box.run_code("#" * 2**25 + "#"), ValueError, "this is 32 MiB, and 32 MiB go to a box at once"),
    (lambda box: box.commands.run(["ls"]), TypeError, "cmd is ['ls'], of type list"),  # type: ignore[call-overload]
    (lambda box: box.commands.run("echo \0"), ValueError, "cmd holds a NUL character"),
    (lambda box: box.commands.run("#" + "x" * 200_000), ValueError, "cmd is longer than the 131,071 bytes"),
    (lambda box: box.commands.run("ls", timeout="x"), ValueError, "timeout x is not a number"),  # type: ignore[call-overload]
    (lambda box: box.commands.run("ls", pty=(0, 0)), ValueError, "pty 0 is out of range"),
    (lambda box: box.commands.run("ls", background="no"), TypeError, "background is 'no'"),  # type: ignore[call-overload]
    (lambda box: box.commands.kill("a"), ValueError, "pid a is not a number"),  # type: ignore[arg-type]
    (lambda box: box.commands.send_stdin(1, 5), TypeError, "data is 5"),  # type: ignore[arg-type]
    (lambda box: box.files.read(5), TypeError, "path is 5, of type int; give a path as text"),  # type: ignore[call-overload]
    (lambda box: box.files.read("a", format="json"), ValueError, "format 'json' is not known"),  # type: ignore[call-overload]
    (lambda box: box.files.read("a\0"), ValueError, "path a\\x00 holds a NUL character"),
    (lambda box: box.files.write("a", 5), TypeError, "data is 5"),  # type: ignore[arg-type]
    (lambda box: box.files.write("a", "\ud800"), ValueError, "data holds '\\ud800'"),
    (lambda box: box.files.write("a", {"b": 1}), TypeError, "data is {'b': 1}"),
    (lambda box: box.files.write_files([("a", "1"), "b"]), TypeError, "files has 'b'"),  # type: ignore[list-item]
    (lambda box: box.files.write_files([("a", "1"), ("b", 5)]), TypeError, "data is 5"),  # type: ignore[list-item]
    (lambda box: box.files.list(".", depth=0), ValueError, "depth 0 is out of range; give a whole number from 1"),
    (lambda box: box.files.upload(5, "a"), TypeError, "local is 5"),  # type: ignore[arg-type]
    (lambda box: box.files.download("a", 5), TypeError, "local is 5"),  # type: ignore[arg-type]
    (lambda box: box.push(5), TypeError, "values is 5; give a dict"),  # type: ignore[arg-type]
    (lambda box: box.push({1: 1}), TypeError, "values has the name 1"),  # type: ignore[dict-item]
    (lambda box: box.push({"a b": 1}), ValueError, "values: 'a b' is no name of a variable"),
    (lambda box: box.pull(5), TypeError, "names is 5"),  # type: ignore[arg-type]
    (lambda box: box.get_host("x"), ValueError, "port x is not a number"),  # type: ignore[arg-type]
    (lambda box: box.get_host(2**16), ValueError, "port 65536 is out of range; give a whole number from 1 to 65535"),
    (lambda box: box.set_timeout(0), ValueError, "timeout 0 is out of range; give a number of seconds above 0"),
    (lambda box: box.reset(env={"A": 1}), TypeError, "env['A'] is 1"),  # type: ignore[dict-item]
    (lambda box: box.create_code_context(cwd=5), TypeError, "cwd is 5"),  # type: ignore[arg-type]
    (lambda box: box.get_metrics("x"), ValueError, "patience x is not a number"),  # type: ignore[arg-type]
    (lambda box: box.kill(wait="no"), TypeError, "wait is 'no'"),  # type: ignore[arg-type]
    (lambda box: Sandbox.connect(5), TypeError, "sandbox_id is 5"),  # type: ignore[arg-type]
    (lambda box: Sandbox.list(metadata=5), TypeError, "metadata is 5"),  # type: ignore[arg-type]
    (lambda box: asyncio.run(AsyncSandbox(box).run_code("1", timeout=-1)), ValueError, "timeout -1 is out of range"),
    (lambda box: asyncio.run(AsyncSandbox(box).files.read(5)), TypeError, "path is 5"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("call", "error", "message"), MISTAKES)
def test_a_mistake_is_named(box: Sandbox, call: Callable[[Sandbox], Any], error: type[Exception], message: str) -> None:
    sent = box._channel._last
    with pytest.raises(error) as caught:
        call(box)
    assert type(caught.value) is error
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert box._channel._last == sent


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"env": {"PORT": 8080}}, "env['PORT'] is 8080, of type int; give text, such as '8080'"),
        ({"lifetime": 1e10}, "lifetime 1e+10 is out of range"),
        ({"mem": True}, "mem is True, of type bool"),
        ({"cpus": True}, "cpus is True, of type bool"),
        ({"image": 5}, "image is 5"),
        ({"runtime": 5}, "runtime is 5"),
        ({"packages": [5]}, "packages has 5"),
        ({"preload": 5}, "preload is 5"),
        ({"cwd": 5}, "cwd is 5"),
        ({"pty": "yes"}, "pty is 'yes'"),
        ({"detach": 1}, "detach is 1"),
        ({"metadata": {"a": 1}}, "metadata['a'] is 1"),
        ({"progress": 5}, "progress is 5"),
    ],
)
def test_a_mistake_starts_nothing(options: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///none.sock")  # nobody is asked
    makers: list[Callable[[], Any]] = [lambda: Sandbox.create(**options), lambda: Toolset(**options)]
    if {*options} <= {"env", "mem", "cpus", "image", "runtime", "packages", "preload"}:
        makers.append(lambda: agent(**options)(print))
    for make in makers:
        with pytest.raises((TypeError, ValueError)) as caught:
            make()
        assert str(caught.value).startswith(message)


def test_what_agents_and_tools_are_given() -> None:
    with pytest.raises(TypeError, match="tools is 5"):
        agent(tools=5)(print)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="a tool is a function, and 5 is none"):
        agent(tools=[5])(print)  # type: ignore[list-item]
    with pytest.raises(TypeError, match="include is 5"):
        agent(include=5)(print)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="retries is True"):
        agent(retries=True)(print)
    with pytest.raises(TypeError, match="tasks is 5"):
        agent(print).map(5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="concurrency 0 is out of range"):
        agent(print).map([1], concurrency=0)
    with pytest.raises(ValueError, match="calls -1 is out of range"):
        tool(print, calls=-1)


def test_a_model_is_told_its_mistakes() -> None:
    with Toolset() as tools:
        for name, given, message in (
            ("run_code", {"code": "'\ud800'"}, "half of a surrogate pair"),
            ("run_command", {"command": "a\0"}, "NUL"),
            ("write_file", {"path": "a", "content": "\ud800"}, "half of a surrogate pair"),
            ("read_file", {"path": "a\0"}, "NUL"),
        ):
            answer = tools.call(name, given)
            assert answer.failed
            assert message in answer.text
            answer.text.encode()
        assert "2" in tools.call("run_code", {"code": "1 + 1"}).text


# -- what works


@pytest.mark.parametrize("timeout", ["5", 5, 5.0, np.float32(5), np.int64(5), decimal.Decimal(5)])
def test_seconds_as_people_have_them(box: Sandbox, timeout: Any) -> None:
    assert box.run_code("1 + 1", timeout=timeout).text == "2"
    assert box.commands.run("echo x", timeout=timeout).stdout == "x\n"


def test_no_deadline_in_a_box_that_has_one() -> None:
    timeouts: list[Any] = [0, None, "0"]
    with Sandbox.create(timeout=0.3) as box:
        for timeout in timeouts:
            assert box.run_code("import time; time.sleep(0.5); 1", timeout=timeout).text == "1"
            assert box.commands.run("sleep 0.5; echo x", timeout=timeout).stdout == "x\n"
        assert box.run_code("while True: pass").status == "timeout"  # the box's own, if nothing is said


@pytest.mark.parametrize("timeout", [0, None])
def test_a_box_without_a_deadline(timeout: Any) -> None:
    assert agent(timeout=timeout)(print).spec.limits.timeout is None
    with Sandbox.create(timeout=timeout) as box:
        assert box.limits.timeout is None
        assert box.run_code("1 + 1").text == "2"
        assert box.run_code("while True: pass", timeout=0.2).status == "timeout"


def test_paths_as_people_have_them(box: Sandbox, tmp_path: Path) -> None:
    path = PurePosixPath("/workspace") / "there" / "a.txt"
    assert box.files.write(path, "x").path == str(path)
    assert box.files.read(path) == "x"
    assert box.files.exists(path)
    assert [one.name for one in box.files.list(path.parent)] == ["a.txt"]
    box.files.download(path, tmp_path / "a.txt")
    box.files.upload(tmp_path / "a.txt", path.with_name("b.txt"))
    assert box.files.rename(path.with_name("b.txt"), path.with_name("c.txt")).name == "c.txt"
    assert box.commands.run("pwd", cwd=path.parent).stdout == f"{path.parent}\n"
    context = box.create_code_context(cwd=path.parent)
    assert box.run_code("import os; os.getcwd()", context=context).text == repr(str(path.parent))
    box.files.remove(path.parent)


def test_a_name_that_is_not_utf8(box: Sandbox) -> None:
    """What a listing says can be read."""
    box.run_code("open(b'not-utf8-\\xff', 'w').write('x')").raise_for_status()
    (name,) = [one.path for one in box.files.list(".") if one.name.startswith("not-utf8")]
    assert box.files.read(name) == "x"


def test_files_as_e2b_has_them(box: Sandbox) -> None:
    files: list[Any] = [
        {"path": "e1", "data": "1"},
        ("e2", b"2"),
        ["e3", "3"],
        SimpleNamespace(path=PurePosixPath("e4"), data="4"),
    ]
    assert [one.name for one in box.files.write_files(files)] == ["e1", "e2", "e3", "e4"]
    assert [box.files.read(f"e{number}") for number in (1, 2, 3, 4)] == ["1", "2", "3", "4"]
    assert not box.files.exists("path")


def test_a_context_by_its_id(box: Sandbox) -> None:
    context = box.create_code_context()
    box.run_code("x = 42", context=context)
    assert box.run_code("x", context=context.id).text == "42"
    box.push({"y": 7}, context=context.id)
    assert box.pull("y", context=context.id) == {"y": 7}
    box.remove_code_context(context.id)
    with pytest.raises(FileNotFoundError, match="no context"):
        box.run_code("x", context=context.id)


def test_the_start_of_an_awaited_run_is_told(box: Sandbox) -> None:
    started: list[Callable[[], None]] = []
    run = asyncio.run(AsyncSandbox(box).run_code("1 + 1", on_start=started.append))
    assert (run.text, len(started)) == ("2", 1)


def test_many_long_commands(box: Sandbox) -> None:
    """What they are told with is bounded, or the host would take the answer for a flood."""
    handles = [box.commands.run("exec sleep 1000 #" + "x" * 130_000, background=True) for _ in range(36)]
    try:
        found = [one for one in box.commands.list() if one.cmd.startswith("exec sleep 1000 #x")]
        assert {one.pid for one in found} == {one.pid for one in handles}
    finally:
        for handle in handles:
            handle.kill()
    assert box.run_code("1 + 1").text == "2"


def test_a_runtime_for_agents() -> None:
    assert agent(runtime="runc")(print).options(mem="1g").spec.box.runtime == "runc"
    with pytest.raises(SandboxError, match="no runtime none-such"):
        agent(runtime="none-such")(print)()


# -- whatever is given: no lost box, no hang, and never the code's fault


def is_within(value: Any, least: float, most: float) -> bool:
    """Whether it is a number between these, or text of one."""
    try:
        return least < float(value) < most
    except (TypeError, ValueError, OverflowError):
        return False


FEW = settings(derandomize=True, deadline=None, database=None, max_examples=40, suppress_health_check=list(HealthCheck))
TEXT = st.text(st.characters(), max_size=20)  # with lone surrogates, controls and all
ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(min_value=2**60), st.floats(), st.decimals(),
    st.binary(max_size=9), TEXT,
    st.sampled_from(["5", "default", "python", "bash", "/root", "", ".", "\0", "\ud800", "=", "-1", "nan"]),
    st.lists(st.integers(), max_size=2), st.builds(object), st.builds(PurePosixPath, st.sampled_from(["/tmp", "a"])),
    st.complex_numbers(), st.sampled_from([print, _coroutine, np.float32(1.5), np.int8(3), np.bool_(1)]),
    st.dictionaries(TEXT, TEXT | st.integers(), max_size=2),
)  # fmt: skip
PATIENT = ODD.filter(lambda value: not is_within(value, 0, 5))
ENVS = st.none() | st.dictionaries(TEXT | st.integers(), TEXT | st.integers(), max_size=2) | ODD


def some(**strategies: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Some of these arguments."""
    return st.fixed_dictionaries({}, optional=strategies)


def attempt(box: Sandbox, call: Callable[[], Any], *others: type[Exception]) -> Any:
    """Do it: it works, or is a mistake before anything has been sent, or ends as may be. Either way the box goes on."""
    sent, found, mistake = box._channel._last, None, None
    try:
        found = call()
    except others:
        pass
    except (TypeError, ValueError) as error:
        mistake = error
    # Which languages an image has, the box knows alone.
    assert mistake is None or box._channel._last == sent or "no language" in str(mistake), mistake
    assert box.run_code("1 + 1").text == "2"
    return found


@FEW
@given(given=some(
    envs=ENVS, timeout=PATIENT, max_output=ODD, context=ODD, on_stdout=ODD, on_result=ODD, on_start=st.none() | TEXT,
))  # fmt: skip
def test_any_arguments_of_run_code(box: Sandbox, given: dict[str, Any]) -> None:
    run = attempt(box, lambda: box.run_code("1 + 1", **given), FileNotFoundError)
    assert run is None or run.status == "ok", run.error


@FEW
@given(code=ODD, language=ODD)
def test_any_code_and_language(box: Sandbox, code: Any, language: Any) -> None:
    run = attempt(box, lambda: box.run_code(code if isinstance(code, str) else "1", language=language))
    assert run is None or run.status in ("ok", "error")
    if not isinstance(code, str):
        assert attempt(box, lambda: box.run_code(code)) is None


@FEW
@given(given=some(
    envs=ENVS, cwd=ODD, timeout=PATIENT, stdin=ODD, max_output=ODD, on_stdout=ODD,
    pty=st.booleans() | st.tuples(ODD, ODD) | ODD,
), cmd=ODD.filter(lambda value: not isinstance(value, str)) | TEXT.map("true #".__add__))  # fmt: skip
def test_any_arguments_of_commands(box: Sandbox, given: dict[str, Any], cmd: Any) -> None:
    attempt(box, lambda: box.commands.run(cmd, **given), CommandExitException, OSError)


@FEW
@given(number=ODD.filter(lambda value: str(value) not in ("1", "1.0")), data=ODD)
def test_any_number_of_a_process(box: Sandbox, number: Any, data: Any) -> None:
    commands = box.commands
    attempt(box, lambda: commands.kill(number))
    attempt(box, lambda: commands.connect(number), OSError)
    attempt(box, lambda: commands.send_stdin(number, data), OSError)


@settings(FEW, max_examples=20)
@given(path=ODD.filter(lambda value: str(value) not in ("/", ".")), other=ODD, data=ODD | st.lists(ODD, max_size=2))
def test_any_arguments_of_files(box: Sandbox, path: Any, other: Any, data: Any) -> None:
    files = box.files
    for call in (
        lambda: files.read(path, format=other), lambda: files.read(path), lambda: files.exists(path),
        lambda: files.get_info(path), lambda: files.make_dir(path), lambda: files.list(path, depth=other),
        lambda: files.rename(path, other), lambda: files.remove(path), lambda: files.write_files([(path, data), other]),
    ):  # fmt: skip
        attempt(box, call, OSError)
    with contextlib.suppress(TypeError, ValueError, OSError):  # its pieces are looked at as they are sent
        files.write(path, data)
    assert box.run_code("1 + 1").text == "2"


@FEW
@given(
    values=st.dictionaries(TEXT | st.integers() | st.binary(), st.integers()) | ODD,
    given=some(context=ODD, max_size=ODD),
)
def test_any_names(box: Sandbox, values: Any, given: dict[str, Any]) -> None:
    attempt(box, lambda: box.push(values, **given), OSError, SandboxError)
    attempt(box, lambda: box.pull(values, **given), OSError, SandboxError)


@FEW
@given(given=some(cwd=ODD, language=ODD))
def test_any_context(box: Sandbox, given: dict[str, Any]) -> None:
    context = attempt(box, lambda: box.create_code_context(**given), OSError)
    if context is not None:
        box.remove_code_context(context)


@FEW
@given(value=ODD, ending=ODD.filter(lambda value: not is_within(value, 0, 3600)))
def test_any_other_argument(box: Sandbox, value: Any, ending: Any) -> None:
    attempt(box, lambda: box.set_timeout(ending))
    attempt(box, lambda: box.get_metrics(ending))
    if not isinstance(value, bool):
        attempt(box, lambda: box.kill(wait=value))
    attempt(box, lambda: box.forward(value).close(), OSError)
    attempt(box, lambda: Sandbox.list(metadata=value))


@settings(FEW, max_examples=15)
@given(env=ENVS)
def test_any_environment_of_a_reset(box: Sandbox, env: Any) -> None:
    attempt(box, lambda: box.reset(env=env))


@settings(FEW, max_examples=200)
@given(given=some(
    mem=ODD, cpus=ODD, pids=ODD, timeout=ODD, image=ODD, runtime=ODD, network=ODD, env=ENVS, packages=ODD, preload=ODD,
    cwd=ODD, pty=ODD, detach=ODD, lifetime=ODD, metadata=ENVS, use_pool=ODD, progress=ODD,
))  # fmt: skip
def test_any_arguments_of_create(given: dict[str, Any]) -> None:
    with contextlib.suppress(TypeError, ValueError):
        Sandbox.check(**given)


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
