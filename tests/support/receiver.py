"""An observer without its servers, that checks after each payload that all of it was accounted for."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator

from tapchanger_serving.observer import api, events, otlp_json, otlp_logs, part, wire
from tapchanger_serving.observer.events import LogRecord
from tapchanger_serving.observer.feedback import Desk
from tapchanger_serving.observer.ingest import Ingest
from tapchanger_serving.observer.otlp_http import UnacceptableError, unpack
from tapchanger_serving.observer.question import Question
from tapchanger_serving.observer.spans import PayloadError, Span
from tapchanger_serving.observer.trust import EVERYTHING
from tapchanger_serving.observer.windows import Limits, Windows

LIMIT = 256 << 10
LIMITS = Limits(max_deployments=50, max_revisions=4, max_buckets=5_000)


class Receiver:
    """Takes payloads as at the time `now` (Unix seconds). Whatever is no refusal, but an error, goes through."""

    def __init__(self, now: float) -> None:
        self.now = now
        self.refused = 0
        self.windows = Windows(LIMITS)
        self.ingest = Ingest(self.windows, lambda: now, remembered_spans=1_000)
        self.desk = Desk(self.windows)
        self.feedback: Counter[str] = Counter()

    def take_json(self, body: bytes) -> None:
        """A JSON body."""
        try:
            spans = list(otlp_json.decode(body))
        except PayloadError as refusal:
            self._said(str(refusal))
            return
        self._count(spans, "http_json")

    def take_protobuf(self, body: bytes) -> None:
        """A protobuf body."""
        try:
            spans = list(wire.decode(body))
        except PayloadError as refusal:
            self._said(str(refusal))
            return
        self._count(spans, "grpc")

    def take_packed(self, encoding: str, body: bytes) -> None:
        """A body with a content encoding."""
        try:
            payload = unpack(body, encoding, LIMIT)
        except UnacceptableError as refusal:
            self._said(str(refusal))
            return
        assert len(payload) <= max(LIMIT, len(body))
        self.take_json(payload)

    def take_json_logs(self, body: bytes) -> None:
        """A JSON body with logs."""
        self._take_logs(otlp_json.decode_logs, body)

    def take_protobuf_logs(self, body: bytes) -> None:
        """A protobuf body with logs."""
        self._take_logs(otlp_logs.decode, body)

    def _take_logs(self, decode: Callable[[bytes], Iterator[LogRecord]], body: bytes) -> None:
        try:
            records, items, faults = events.told(decode(body), EVERYTHING)
        except PayloadError as refusal:
            self._said(str(refusal))
            return
        assert len(items) + len(faults) <= records
        assert all(len(fault) < 500 for fault in faults)
        taken = self.desk.take(items, self.now)
        answer = taken.answer(items)
        assert answer.counted + answer.duplicates + len(answer.refused or ()) == len(items)
        self.desk.give_up(taken)
        self.feedback.update(taken.fates.values())
        self.feedback.update(type(why).__name__ for why in taken.refused.values())
        self.feedback["fault"] += len(faults)

    def _said(self, why: str) -> None:
        self.refused += 1
        assert len(why) < 500, "a refusal is a sentence, and holds little of what it refuses"

    def _count(self, spans: list[Span], transport: str) -> None:
        result = self.ingest.take(spans, transport)
        assert result.spans == len(spans)
        assert len(result.why) < 500
        account = self.ingest.account
        assert sum(account.refused.values()) + sum(account.ignored.values()) <= sum(account.received.values())
        assert len(self.windows.deployments) <= LIMITS.max_deployments
        assert all(len(one.revisions) <= LIMITS.max_revisions for one in self.windows.deployments.values())

    def ask(self) -> None:
        """Whatever was counted can be told, kept and read back."""
        self.windows.tidy(self.now)
        assert self.windows.bucket_count() <= LIMITS.max_buckets + 60 * LIMITS.max_deployments * LIMITS.max_revisions
        for namespace, deployment in list(self.windows.deployments):
            asked = Question(namespace, deployment, 0.0, 2 * self.now, (0.05,))
            own = api.own_part(self.windows, asked, watch=True)
            told = part.tell(asked, part.decode(part.encode(own)), self.now)
            for one in told.revisions:
                assert 0 <= one.unavailable <= one.requests
                assert one.latency.p99 is None or math.isfinite(one.latency.p99)
