"""Ports of a box on this machine's loopback: what a TCP connection promises, over the pipe, and nothing left behind."""

from __future__ import annotations

import contextlib
import hashlib
import os
import queue
import selectors
import socket
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil
import pytest
from waiting import seconds_until

from agent_executor.forward import PIECE, WINDOW, Connections
from agent_executor.wire import Decoder, ProtocolError, encode
from agentbox_magic import Limits, Sandbox
from agentbox_magic.channel import PROTOCOL, Channel
from agentbox_magic.commands import CommandHandle
from agentbox_magic.forward import Forward
from agentbox_magic.link import Link
from agentbox_magic.relay import SocketPipe

SIZE = 50 * 2**20

SERVER = """
import hashlib, http.server, os

class Handler(http.server.SimpleHTTPRequestHandler):
    def do_POST(self):
        digest, left = hashlib.sha256(), int(self.headers["Content-Length"])
        while left:
            data = self.rfile.read(min(left, 65536))
            digest.update(data)
            left -= len(data)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(digest.hexdigest().encode())
    def log_message(self, *args):
        pass

http.server.ThreadingHTTPServer(("127.0.0.1", 8000), Handler).serve_forever()
"""

SOCKETS = """
import socket, struct, threading

def each(sock):
    with sock:
        word = sock.recv(5)
        if word == b"count":  # after the client's end of file
            total = 0
            while data := sock.recv(65536):
                total += len(data)
            sock.sendall(str(total).encode())
        elif word == b"flood":
            data = bytes(65536)
            while True:
                sock.sendall(data)
        elif word == b"reset":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            sock.sendall(word)

with socket.create_server(("127.0.0.1", 9000), backlog=64) as server:
    while True:
        threading.Thread(target=each, args=server.accept()[:1], daemon=True).start()
"""


def serve(box: Sandbox, name: str, code: str, port: int) -> CommandHandle:
    """A server in a box, from when it listens."""
    box.files.write(name, code)
    server = box.commands.run(f"python {name}", background=True, timeout=None)
    ports = f"any(line.split()[1].endswith(':{port:04X}') for line in open('/proc/net/tcp').readlines()[1:])"
    seconds_until(lambda: box.run_code(ports).text == "True", within=30)
    return server


@pytest.fixture(scope="module")
def web() -> Iterator[Sandbox]:
    """A box with a web server on port 8000, and one on 9000 that does what the first five bytes say."""
    with Sandbox.create(mem="1g", pids=150, timeout=60) as box:
        serve(box, "server.py", SERVER, 8000)
        serve(box, "sockets.py", SOCKETS, 9000)
        yield box


def dial(box: Sandbox, port: int = 9000) -> socket.socket:
    host, _, number = box.get_host(port).partition(":")
    return socket.create_connection((host, int(number)), timeout=60)


def echo(box: Sandbox, word: bytes) -> bytes:
    with dial(box) as sock:
        sock.sendall(word)
        return rest(sock)


def rest(sock: socket.socket) -> bytes:
    """All that comes, to the end of file."""
    return b"".join(iter(lambda: sock.recv(65536), b""))


def noted(box: Sandbox, port: int) -> queue.SimpleQueue[str]:
    """Forward a port anew; what is said of its connections."""
    if port in box._forwards:
        box._forwards.pop(port).close()
    notes: queue.SimpleQueue[str] = queue.SimpleQueue()
    box.forward(port, notes.put)
    return notes


def answers(box: Sandbox) -> bool:
    with contextlib.suppress(ConnectionResetError):
        return echo(box, b"again") == b"again"
    return False


def threads() -> int:
    return sum(thread.name.startswith("agentbox-forward") for thread in threading.enumerate())


def test_a_page(web: Sandbox) -> None:
    web.files.write("page.html", "<p>hello")
    with urllib.request.urlopen(f"http://{web.get_host(8000)}/page.html", timeout=30) as answer:
        assert answer.read() == b"<p>hello"


def test_the_same_port_is_the_same_address_and_only_loopback_has_it(web: Sandbox) -> None:
    assert web.get_host(8000) == web.get_host(8000) != web.get_host(9000)
    number = int(web.get_host(8000).partition(":")[2])
    listening = [one.laddr.ip for one in psutil.net_connections("inet")
                 if one.status == psutil.CONN_LISTEN and one.laddr.port == number]  # fmt: skip
    assert listening == ["127.0.0.1"]


def test_a_large_body_down_and_up(web: Sandbox) -> None:
    made = web.run_code(
        "import hashlib, os\nbody = os.urandom(50 * 2**20)\nopen('body', 'wb').write(body)\n"
        "digest = hashlib.sha256(body).hexdigest()\ndel body\ndigest"
    )
    with urllib.request.urlopen(f"http://{web.get_host(8000)}/body", timeout=60) as answer:
        body = answer.read()
    assert (len(body), hashlib.sha256(body).hexdigest()) == (SIZE, str(made.text).strip("'"))
    web.files.remove("body")
    body = os.urandom(SIZE)
    with urllib.request.urlopen(f"http://{web.get_host(8000)}/", data=body, timeout=60) as answer:
        assert answer.read().decode() == hashlib.sha256(body).hexdigest()


def test_many_at_once(web: Sandbox) -> None:
    words = [f"w{number:04}".encode() for number in range(20)]
    before = len(psutil.Process().threads())
    sockets = [dial(web) for _ in words]
    for sock, word in zip(reversed(sockets), words, strict=True):  # all are open before the first is used
        sock.sendall(word)
    assert len(psutil.Process().threads()) <= before + 1
    for sock, word in zip(reversed(sockets), words, strict=True):
        with sock:
            assert rest(sock) == word
    with ThreadPoolExecutor(20) as pool:
        assert list(pool.map(lambda word: echo(web, word), words * 5)) == words * 5


def test_more_than_may_be_open_are_closed(web: Sandbox) -> None:
    notes = noted(web, 9000)
    sockets = [dial(web) for _ in range(65)]
    assert sockets[-1].recv(1) == b""
    assert "more than 64 connections" in notes.get(timeout=30)
    for sock in sockets:
        sock.close()
    seconds_until(lambda: answers(web), within=30)


def test_a_client_that_says_no_more_still_hears(web: Sandbox) -> None:
    with dial(web) as sock:
        sock.sendall(b"count" + bytes(300_000))
        sock.shutdown(socket.SHUT_WR)
        assert rest(sock) == b"300000"


def test_a_slow_reader_holds_up_nobody_else(web: Sandbox) -> None:
    with dial(web) as slow:
        slow.sendall(b"flood")
        assert len(slow.recv(1000)) == 1000  # and no more
        memory = psutil.Process().memory_info().rss
        for _ in range(20):
            assert echo(web, b"quick") == b"quick"
        assert web.run_code("1 + 1").text == "2"
        assert psutil.Process().memory_info().rss - memory < 16 * 2**20
        while len(slow.recv(2**20)) < 2**16:  # it goes on where it was
            pass


def test_a_reset_arrives_as_one(web: Sandbox) -> None:
    with dial(web) as sock:
        sock.sendall(b"reset")
        with pytest.raises(ConnectionResetError):
            sock.recv(1)


def test_a_port_where_nothing_listens(web: Sandbox) -> None:
    notes = noted(web, 8001)
    with dial(web, 8001) as sock, pytest.raises(ConnectionResetError):
        sock.recv(1)
    assert notes.get(timeout=30) == "a connection to port 8001 of the box was closed: nothing listens there"
    assert web.forward(8001).is_open


def test_a_server_on_ipv6_loopback(web: Sandbox) -> None:
    server = "import socket\ns = socket.create_server(('::1', 7000), family=socket.AF_INET6)\ns.getsockname()[0]"
    run = web.run_code(server)
    if run.error is not None:
        pytest.skip("this engine's boxes have no IPv6 loopback")
    with dial(web, 7000) as sock:
        web.run_code("s.accept()[0].send(b'six')")
        assert sock.recv(10) == b"six"


def test_code_that_kills_what_serves_the_port(web: Sandbox) -> None:
    """It can: it is the same user. The next connection is served again."""
    notes = noted(web, 9000)
    with dial(web) as sock:
        sock.sendall(b"flood")
        assert sock.recv(1)
        web.run_code("""
import os, signal
for pid in os.listdir("/proc"):
    if pid.isdigit() and pid not in ("1", str(os.getpid())):
        name = open(f"/proc/{pid}/cmdline").read()
        if "agent_executor" in name and "server" not in name:
            os.kill(int(pid), signal.SIGKILL)
""")
        with pytest.raises(ConnectionResetError):
            rest(sock)
    assert "killed in the box" in notes.get(timeout=30)
    assert echo(web, b"again") == b"again"


@pytest.mark.parametrize("port", [0, -1, 2**16])
def test_a_port_that_cannot_be(web: Sandbox, port: int) -> None:
    with pytest.raises(ValueError, match="give a whole number from 1 to 65535"):
        web.get_host(port)


def test_nothing_is_left_when_the_box_ends() -> None:
    before, connections = threads(), len(psutil.Process().net_connections())
    with Sandbox.create(timeout=60) as box:
        serve(box, "sockets.py", SOCKETS, 9000)
        sock = dial(box)
        sock.sendall(b"count")
        address = sock.getpeername()
        assert threads() == before + 1
    with sock, pytest.raises(ConnectionResetError):
        sock.recv(1)
    seconds_until(lambda: threads() <= before, within=10)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
    seconds_until(lambda: len(psutil.Process().net_connections()) <= connections, within=10)


def test_an_abandoned_box_ends_with_its_ports() -> None:
    box = Sandbox.create(timeout=60)
    forward = box.forward(9000)
    del box
    assert forward.wait(30)


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(({"kind": "data", "connection": 2}, b"x"), id="a connection of its own"),
        pytest.param(({"kind": "open", "connection": 2}, b""), id="opening one"),
        pytest.param(({"kind": "data", "connection": True}, b"x"), id="no number"),
        pytest.param(({"kind": "data", "connection": 1}, bytes(PIECE + 1)), id="a piece too long"),
        pytest.param(({"kind": "grant", "connection": 1}, b""), id="a grant for nothing"),
        pytest.param(({"kind": "burn", "connection": 1}, b""), id="an unknown word"),
        pytest.param(({"connection": 1}, b""), id="no word"),
    ],
)
def test_a_hostile_box(message: tuple[dict[str, object], bytes]) -> None:
    ours, theirs = socket.socketpair()
    with selectors.DefaultSelector() as selector, ours, theirs:
        connections = Connections(selector, lambda header, body: None)
        connections.accept(ours)
        with pytest.raises(ProtocolError):
            connections.take(*message)


def test_a_hostile_box_that_sends_without_end() -> None:
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    with selectors.DefaultSelector() as selector, ours, theirs:
        connections = Connections(selector, lambda header, body: None)
        connections.accept(ours)
        pieces = [({"kind": "data", "connection": 1}, bytes(PIECE))] * (WINDOW + 8)  # and the socket holds some
        with pytest.raises(ProtocolError, match="more than was granted"):
            [connections.take(*piece) for piece in pieces]


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param([{"kind": "data", "connection": 9}], id="a connection that nobody opened"),
        pytest.param([{"kind": "data", "connection": 1}] * (WINDOW + 200), id="more than the window"),
        pytest.param([{"kind": "close", "connection": 2}], id="the next connection"),
    ],
)
def test_a_hostile_box_is_killed(answer: list[dict[str, object]]) -> None:
    """Through the host's whole reader: a channel whose other end is a liar."""
    ours, theirs = socket.socketpair()
    killed = threading.Event()
    channel = Channel(SocketPipe(ours))
    link = Link(channel, Limits(), killed.set)
    greeting = threading.Thread(target=channel.handshake, args=(30,))
    greeting.start()
    forward = Forward(link, 80)
    host, _, port = forward.host.partition(":")
    theirs.settimeout(30)
    decoder, heard = Decoder(), list[dict[str, Any]]()

    def said(kind: str) -> dict[str, Any]:
        while True:
            while heard:
                header = heard.pop(0)
                if header.get("kind", header["type"]) == kind:
                    return header
            heard.extend(header for header, _ in decoder.feed(theirs.recv(65536)))

    with theirs, socket.create_connection((host, int(port))):
        hello = said("hello")
        theirs.sendall(hello["nonce"].encode() + encode({"type": "ready", "protocol": PROTOCOL}))
        greeting.join()
        number = said("forward_request")["id"]
        said("open")
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may hang up in the middle
            for one in answer:
                theirs.sendall(encode({"type": "forward", "id": number, **one}, bytes(PIECE)))
        assert killed.wait(30)
        channel.close()
    assert forward.wait(30)
