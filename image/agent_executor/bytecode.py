"""Compiles sources for the Python of an image: run there as ``python -c TEXT``, a tar of sources in, bytecode out.

Nothing needs a disk, so the image's Python can run behind a box's walls. The answer is the tag of this Python, a
newline, and for each source in turn a ``u32`` length and the content of its ``.pyc``: 0 if it does not compile.
"""

from __future__ import annotations

import importlib.util
import struct
import sys
import tarfile
import warnings
from importlib._bootstrap_external import _code_to_hash_pyc  # type: ignore[attr-defined]  # what py_compile calls


def main() -> None:
    """Answer stdin on stdout. The ``.pyc`` are hash-based and never checked again, so their dates do not matter."""
    warnings.simplefilter("ignore")
    answer = [sys.implementation.cache_tag.encode() + b"\n"]
    # A stream ends with the archive, for the pipe stays open. The answer waits until all is read, or both ends block.
    with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as sources:
        for member in sources:
            file = sources.extractfile(member)
            assert file is not None
            source = file.read()
            try:
                code = compile(source, "/" + member.name, "exec", dont_inherit=True)
                data = bytes(_code_to_hash_pyc(code, importlib.util.source_hash(source), False))
            except Exception:  # a template, or for another Python: importing it will tell
                data = b""
            answer += struct.pack("!I", len(data)), data
    sys.stdout.buffer.write(b"".join(answer))


if __name__ == "__main__":
    main()
