"""The host's reader under a fuzzer that is guided by coverage (atheris, libFuzzer): ``make fuzz``, or with its options
``python tests/fuzz/fuzz_reader.py -runs=20000 -seed=1 CORPUS``.

An input is a script. Its first byte says how the stream is cut; then each line of it is a step, whose first byte says
what the rest becomes. Lengths and the JSON around a field are written here, so that what the fuzzer changes is mostly
what the reader looks at, and not what it refuses at once; steps without them let it try those too.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import atheris

sys.path[:0] = [str(Path(__file__).parents[1])]

with atheris.instrument_imports(include=["agent_executor", "agentbox_magic", "json"], enable_loader_override=False):
    from fuzz.harness import mux, read

    from agent_executor.wire import MAX_BODY, MAX_HEADER, encode
    from agentbox_magic.text import Cleaner, clean, clean_traceback


def frame(head: bytes, body: bytes = b"") -> bytes:
    return struct.pack("!II", len(head), len(body)) + head + body


def _message(rest: bytes) -> bytes:
    head, _, body = rest.partition(b"\t")
    return frame(head[:MAX_HEADER], body[:MAX_BODY])


def _typed(start: bytes) -> Callable[[bytes], bytes]:
    return lambda rest: _message(start + rest)


STEPS: list[Callable[[bytes], bytes]] = [
    bytes,  # as it is
    _message,
    _typed(b'{"type":"stream","id":1,"name":'),
    _typed(b'{"type":"display_data","id":1,"parts":'),
    _typed(b'{"type":"execute_reply","id":3,"status":'),
    _typed(b'{"type":"more","id":'),
    _typed(b'{"type":"ready","protocol":'),
    lambda rest: frame(b'{"type":"error","id":1}', rest),
    lambda rest: frame(b'{"type":"stream","id":1,"name":"stdout"}', rest),
    lambda rest: frame(b'{"type":"display_data","id":3,"parts":[["a/json",%d]]}' % len(rest), rest),
    lambda rest: frame(b'{"type":"display_data","id":3,"parts":[["text/plain",%d]]}' % len(rest), rest),
]

SEEDS = [
    b'\x00\x06 1}\n\x02 "stdout"}\thello\n\x02"stderr","dropped":7}\t\xc3\n\x04"ok","usage":{"duration":1}}',
    b'\x21\x06 1}\n\x03[["text/plain",2],["a/b",2]]}\tabcd\n\x04"killed","signal":9,"usage":{"memory_peak":5}}',
    b'\x07\x06 1}\n\x03[["image/svg+xml",1]],"more":true}\ta\n\x05 1}\t\n\x07{"ename":"a","evalue":"b","traceback":""}',
    b'\x10\x01{"type":"execute_reply","id":1,"status":"error","usage":{},"exit_code":3,"execution_count":1}',
    b"\x03\x08\x1b[31mred\x1b[0m\x1b]0;t\x07\n\x0a[1,2.5,null,{}]\n\x09{}\n\x0a\x1bPq\x1b\\",
    b"\x85\x00\x00\x00\x00\x10\x00\x00\x00\x00{}\x00",
]


def stream(script: bytes) -> bytes:
    """What the box of a script sends."""
    return b"".join(STEPS[step[0] % len(STEPS)](step[1:]) for step in script.split(b"\n") if step)


def pieces(data: bytes, how: int) -> Iterator[bytes]:
    """The data in Docker's frames, or, for the highest bit, as if it were made of those already."""
    size = (how & 0x7F) * 8 or len(data) or 1
    parts = (data[start : start + size] for start in range(0, len(data), size))
    return parts if how & 0x80 else map(mux, parts)


def one(script: bytes) -> None:
    """One input. Anything raised is a finding."""
    if not script:
        return
    data = stream(script[1:])
    greeting = encode({"type": "ready", "protocol": 1}) if script[0] & 1 else b""
    reading = read(pieces(greeting + data, script[0]))
    if reading.execution and reading.execution.error:
        str(reading.execution.error).encode()
    text = script.decode("utf-8", "surrogateescape")
    cleaned = clean(text)
    assert clean(cleaned) == cleaned
    assert "\x9b" not in cleaned
    clean_traceback(text).encode()
    cleaner, middle = Cleaner(), len(text) // 2
    halves = cleaner.feed(text[:middle]) + cleaner.feed(text[middle:]) + cleaner.feed("\x07\x1b\\é")
    assert len(text) > 4096 or halves == clean(text + "\x07\x1b\\é")


def main() -> None:
    """Fuzz as the command line says; an empty corpus begins with the seeds."""
    for name in sys.argv[1:]:
        corpus = Path(name)
        if not name.startswith("-") and corpus.is_dir() and not any(corpus.iterdir()):
            for number, seed in enumerate(SEEDS):
                (corpus / f"seed{number}").write_bytes(seed)
    atheris.Setup([*sys.argv, f"-dict={Path(__file__).with_name('reader.dict')}"], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
