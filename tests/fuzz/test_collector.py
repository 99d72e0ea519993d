"""Single messages of a run, and the bundles in them: each is taken or refused, and what is taken can be shown."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from fuzz import strategies as some
from fuzz.harness import Message
from hypothesis import example, given

from agent_executor.wire import Header, ProtocolError
from agentbox_magic import Result
from agentbox_magic.collector import Collector, decode_bundle
from agentbox_magic.display import safe_bundle
from agentbox_magic.limits import Limits


@given(some.forged_headers(), some.small | some.error_payloads)
@example({"type": "stream", "name": {}}, b"")
@example(some.reply(1, usage={"duration": 10**400, "cpu_seconds": -(10**400)}), b"")
def test_the_collector_takes_or_refuses_any_message(header: Header, payload: bytes) -> None:
    collector = Collector(Limits(), 1.0, str.encode, None, safe_bundle)
    with contextlib.suppress(ProtocolError):
        collector.add(header, payload)
    collector.end(None)
    if collector.execution.error:
        str(collector.execution.error).encode()  # what cannot be encoded cannot be shown


def test_an_error_that_no_utf8_can_carry_is_still_shown() -> None:
    collector = Collector(Limits(), 1.0, None, None, None)
    collector.add({"type": "error"}, json.dumps(dict.fromkeys(("ename", "evalue", "traceback"), "a\ud800b")).encode())
    collector.add(some.reply(1, "error"), b"")
    assert str(collector.execution.error) == "a\ufffdb: a\ufffdb"


@given(some.values, some.small)
def test_a_bundle_is_decoded_or_refused(parts: Any, payload: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        assert isinstance(decode_bundle({"parts": parts}, payload), dict)


@given(some.bundles())
def test_a_bundle_arrives(bundle: Message) -> None:
    header, payload = bundle
    data = decode_bundle(header, payload)
    assert set(data) == {mime for mime, _ in header["parts"]}
    safe_bundle(Result(data))
