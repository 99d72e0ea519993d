"""A box knows its own names: who runs its code, and what its host is called."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from agentbox_magic import Sandbox

WHO = """
import getpass, grp, os, pwd
getpass.getuser(), pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name
"""
WHERE = """
import socket
with socket.create_server(("localhost", 0)) as server:
    with socket.create_connection((socket.gethostname(), server.getsockname()[1])) as client:
        where = client.getpeername()[0]
found = socket.gethostbyname("localhost"), socket.getaddrinfo("api.localhost", 80)[0][4]
(*found, where, socket.gethostbyaddr("127.0.0.1")[0])
"""
THERE = "('127.0.0.1', ('127.0.0.1', 80), '127.0.0.1', 'localhost')"


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    with Sandbox.create(timeout=60) as box:
        yield box


def assert_named(box: Sandbox) -> None:
    assert box.run_code(WHO).raise_for_status().text == "('sandbox', 'sandbox', 'sandbox')"
    assert box.commands.run("whoami; id -un; id -gn; hostname").stdout == "sandbox\n" * 4
    assert box.run_code(WHERE).raise_for_status().text == THERE


def test_a_box_knows_its_user_and_its_host(box: Sandbox) -> None:
    assert_named(box)
    assert "root:x:0:0" in box.files.read("/etc/passwd")


def test_a_reset_gives_the_names_back(box: Sandbox) -> None:
    box.run_code("import os\nfor name in 'passwd', 'group': os.remove(f'/tmp/.etc/{name}')")
    assert "cannot find name" in box.commands.run("whoami 2>&1 || true").stdout
    box.reset()
    assert_named(box)


def test_no_other_name_is_told(box: Sandbox) -> None:
    run = box.run_code("import socket\nsocket.gethostbyname('example.com')")
    assert str(run.error) == "gaierror: [Errno -3] Temporary failure in name resolution"


def test_whatever_comes_to_the_port_it_goes_on_answering(box: Sandbox) -> None:
    code = """
import os, socket
head = b"\\x00\\x07\\x01\\x00\\x00\\x01" + bytes(6)
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as hostile:
    for size in (0, 1, 11, 12, 13, 17, 100, 511, 512, 513, 9000):
        for start in (b"", head, head + b"\\xc0"):
            hostile.sendto((start + os.urandom(size))[:max(size, len(start))], ("127.0.0.1", 53))
"""
    box.run_code(code).raise_for_status()
    assert box.run_code(WHERE).raise_for_status().text == THERE


def test_another_image_has_what_needs_none_of_ours(base: str) -> None:
    with Sandbox.create(image=base, timeout=60) as box:
        assert box.run_code("import getpass\ngetpass.getuser()").raise_for_status().text == "'sandbox'"
        assert box.run_code(WHERE).raise_for_status().text == THERE
