"""Docker's own framing of a box's output: its pieces may be anything, and the pipe gives what stdout was."""

from __future__ import annotations

import socket
import threading

from fuzz import strategies as some
from fuzz.harness import PATIENCE, cut, peer
from hypothesis import given
from hypothesis import strategies as st

from agentbox_magic.engine import Pipe


def drain(pipe: Pipe) -> bytes:
    return b"".join(iter(pipe.recv, b""))


@given(st.data(), some.small, some.cuts)
def test_the_pipe_gives_stdout_however_docker_frames_it(data: st.DataObject, payload: bytes, places: list[int]) -> None:
    stream = data.draw(some.muxed(payload))
    with peer(cut(stream, places)) as ours:
        pipe = Pipe(ours)
        assert drain(pipe) == payload
        pipe.close()


@given(some.hostile_muxes, some.cuts)
def test_the_pipe_takes_any_framing(stream: bytes, places: list[int]) -> None:
    with peer(cut(stream, places)) as ours:
        pipe = Pipe(ours)
        assert len(drain(pipe)) <= len(stream)
        assert len(pipe.stderr) <= 4096
        pipe.close()


def test_closing_wakes_a_reader_and_frees_the_socket() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        pipe = Pipe(ours)
        reader = threading.Thread(target=pipe.recv)
        reader.start()
        pipe.close()
        reader.join(PATIENCE)
        assert not reader.is_alive()
        assert ours.fileno() == -1


def test_a_socket_is_closed_even_if_what_holds_it_fails_to() -> None:
    ours, theirs = socket.socketpair()

    class Raw:
        _sock = ours

        def close(self) -> None:
            raise OSError("gone")

    with theirs:
        Pipe(Raw()).close()
        assert ours.fileno() == -1
