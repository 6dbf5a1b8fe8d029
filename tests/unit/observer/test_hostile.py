"""No payload ends the observer, leaves it half counted or makes it grow without end. `make fuzz` tries a million."""

from __future__ import annotations

from hypothesis import given, settings

from tests.support import hostile_otlp
from tests.support.hostile_otlp import NOW
from tests.support.receiver import Receiver

EXAMPLES = 40
RECEIVER = Receiver(NOW)


@settings(max_examples=EXAMPLES, derandomize=True)
@given(hostile_otlp.as_json())
def test_json(body: bytes) -> None:
    RECEIVER.take_json(body)


@settings(max_examples=EXAMPLES, derandomize=True)
@given(hostile_otlp.as_protobuf())
def test_protobuf(body: bytes) -> None:
    RECEIVER.take_protobuf(body)


@settings(max_examples=EXAMPLES // 2, derandomize=True)
@given(hostile_otlp.packed())
def test_packed(packed: tuple[str, bytes]) -> None:
    RECEIVER.take_packed(*packed)


@settings(max_examples=EXAMPLES, derandomize=True)
@given(hostile_otlp.logs_as_json())
def test_json_logs(body: bytes) -> None:
    RECEIVER.take_json_logs(body)


@settings(max_examples=EXAMPLES, derandomize=True)
@given(hostile_otlp.logs_as_protobuf())
def test_protobuf_logs(body: bytes) -> None:
    RECEIVER.take_protobuf_logs(body)


def test_the_fuzzed_payloads_reach_all_that_is_behind_the_decoders() -> None:
    """Else the tests above prove nothing. Another process may have run them, so they run here too."""
    for fuzzed in (test_json, test_protobuf, test_packed, test_json_logs, test_protobuf_logs):
        fuzzed()
    account = RECEIVER.ingest.account
    assert account.refused
    assert account.ignored
    found = RECEIVER.windows.window("a", "b", 0, 2 * NOW)
    assert any(bucket.requests for bucket in found.values())
    assert any(bucket.parts is not None for bucket in found.values())
    assert RECEIVER.feedback["counted"]
    assert RECEIVER.feedback["fault"]
    RECEIVER.ask()
