"""What becomes of a decoded payload: each span is counted, ignored or refused, and every one is accounted for."""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from tapchanger_serving.contract import names
from tapchanger_serving.contract.outcome import judge
from tapchanger_serving.observer import labelling, mirror
from tapchanger_serving.observer.breakdown import Stage
from tapchanger_serving.observer.bucket import Request
from tapchanger_serving.observer.mirror import Meeting
from tapchanger_serving.observer.seen import Seen
from tapchanger_serving.observer.spans import (
    GRPC_PATH,
    GRPC_STATUS,
    HTTP_STATUS,
    KIND_CLIENT,
    REQUEST_ID,
    RESPONSE_FLAGS,
    TRITON_MODEL,
    Span,
)
from tapchanger_serving.observer.stages import Pairing
from tapchanger_serving.observer.trust import EVERYTHING, Grant
from tapchanger_serving.observer.windows import Key, Windows

FUTURE_SECONDS: Final = 5.0
"""A span that ended later than this from now comes from a clock that is ahead: it is counted as ending now."""
LONGEST_NAME: Final = 253
"""Kubernetes names are no longer."""
MOST_WAITING: Final = 10_000
"""Requests of which a server has told and no router yet; the oldest are forgotten."""
_NANO: Final = 1e9
_OURS: Final = frozenset({names.COMPONENT_ROUTER, names.COMPONENT_SERVER})


class RefusedError(Exception):
    """A span that the sender should hear about: `reason` for the metric, the message for the sender."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Result(NamedTuple):
    """What a payload came to: spans refused and, in words, why the first one was."""

    spans: int
    refused: int
    why: str


@dataclass
class Account:
    """Spans by transport and fate since the observer began."""

    received: Counter[str] = field(default_factory=Counter)
    ignored: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(transport, reason): `foreign` (no span of ours), `upstream` (not the edge), `no_revision` (the router had no
    route for it), `part` (one of a server's spans that carries no time of its own), `duplicate`."""
    refused: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(transport, reason): `late`, `malformed`, `forbidden` (a namespace that its sender may not tell of)."""
    payloads_refused: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(transport, reason): `malformed`, `too_large`, `media_type`, `encoding`, and what :mod:`intake` turns away."""
    clamped: int = 0
    """Spans from the future, counted as ending now."""


class Ingest:
    """Counts spans into windows. `clock` gives Unix seconds."""

    def __init__(self, windows: Windows, clock: Callable[[], float], *, remembered_spans: int = 131_072) -> None:
        self.account = Account()
        self._windows = windows
        self._clock = clock
        self._seen = Seen(remembered_spans)
        self._stages = Pairing()
        self._waiting: OrderedDict[bytes, tuple[Key, Stage, float]] = OrderedDict()
        self._copies = Meeting()

    def take(self, spans: Iterable[Span], transport: str, grant: Grant = EVERYTHING) -> Result:
        """Count all spans of one payload, of the namespaces that its sender may tell of."""
        now = self._clock()
        account = self.account
        total = refused = 0
        why = ""
        for span in spans:
            total += 1
            try:
                ignored = self._one(span, now, grant)
            except RefusedError as refusal:
                refused += 1
                why = why or str(refusal)
                account.refused[transport, refusal.reason] += 1
                continue
            if ignored:
                account.ignored[transport, ignored] += 1
        account.received[transport] += total
        return Result(total, refused, why)

    def _one(self, span: Span, now: float, grant: Grant) -> str | None:
        """Count one span; a reason comes back when it is ignored."""
        component = span.attributes.get(names.ATTR_COMPONENT)
        if grant.namespaces is not None and component in _OURS:
            _permit(grant.namespaces, span.attributes.get(names.ATTR_NAMESPACE, ""))
        if component == names.COMPONENT_ROUTER:
            return self._request(span, now)
        if component == names.COMPONENT_SERVER:
            return self._stage(span, now)
        return "foreign"

    def _request(self, span: Span, now: float) -> str | None:
        attributes = span.attributes
        if span.kind == KIND_CLIENT:
            return "upstream"
        if not attributes.get(names.ATTR_REVISION):
            return "no_revision"
        key = _key(attributes)
        end = self._end(span, now)
        try:
            outcome = judge(
                attributes.get(HTTP_STATUS, ""),
                attributes.get(GRPC_STATUS),
                attributes.get(RESPONSE_FLAGS, ""),
                grpc=GRPC_PATH in attributes,
            )
        except ValueError as error:
            raise RefusedError("malformed", str(error)) from None
        seconds = (span.end - span.start) / _NANO
        identity = span.trace_id + span.span_id
        if span.span_id and not self._seen.first_time(identity, -1 - seconds if outcome.failed else seconds):
            return "duplicate"
        self._windows.add(key, Request(end, seconds, outcome, span.trace_id))
        self._windows.memory.answers.asked(key, identity, end, attributes.get(REQUEST_ID, ""))
        if self._waiting:
            waiting = self._waiting.pop(identity, None)
            if waiting is not None:
                of, stage, ended = waiting
                self._windows.join(of, stage, seconds, failed=outcome.failed)
                if stage.node:
                    work = stage.pre + stage.compute + stage.post
                    router = (span.start / _NANO, span.end / _NANO)
                    self._windows.clocks.compare(stage.node, (ended - work, ended), router, now)
        return None

    def _stage(self, span: Span, now: float) -> str | None:
        key = _key(span.attributes)
        end = self._end(span, now)
        if span.span_id and not self._seen.first_time(span.trace_id + span.span_id):
            return "duplicate"
        try:
            stage = self._stages.offer(span)
        except ValueError as error:
            raise RefusedError("malformed", str(error)) from None
        if stage is None:
            return "part"
        ended = stage.end
        if stage.end > end:
            stage = stage._replace(end=end)
        copied_to = span.attributes.get(names.ATTR_MIRROR)
        if copied_to:
            self._copied(key, key._replace(revision=copied_to[:LONGEST_NAME]), span, stage)
        if copied_to == key.revision:
            return None  # no user waited for a copy
        sure = _share(span.attributes.get(names.ATTR_CONFIDENCE))
        self._windows.add_stage(key, stage)
        if sure is not None:
            self._windows.add_confidence(key, stage.end, sure)
        self._described(key, span, stage.end)
        if span.parent_id and TRITON_MODEL in span.attributes:
            self._meet(key, stage, ended, span.trace_id + span.parent_id)
        return None

    def _described(self, key: Key, span: Span, end: float) -> None:
        """Count what a server says of a text, and remember what it answered."""
        try:
            if names.ATTR_DRIFT in span.attributes:
                self._windows.of(key).drift.take(span.attributes, end)
            labelling.answered(self._windows, key, span, end)
        except ValueError as error:
            raise RefusedError("malformed", str(error)) from None

    def _meet(self, key: Key, stage: Stage, ended: float, request: bytes) -> None:
        """Join a server's span with its parent, the router's, or keep it until that comes.

        `ended` is when the server says that it was done, be its clock ahead or not.
        """
        told = self._seen.recall(request)
        if told is not None:
            self._windows.join(key, stage, -1 - told if told < 0 else told, failed=told < 0)
            return
        self._waiting[request] = (key, stage, ended)
        if len(self._waiting) > MOST_WAITING:
            self._waiting.popitem(last=False)

    def _copied(self, key: Key, canary: Key, span: Span, stage: Stage) -> None:
        """Keep what a server answered to a copied request until the other one has told too, then compare."""
        try:
            answers, labelled = mirror.read(span.attributes.get(names.ATTR_ANSWERS))
        except ValueError as error:
            raise RefusedError("malformed", str(error)) from None
        seconds = (span.end - span.start) / _NANO
        told = mirror.Told(key.revision, stage.end, seconds, stage.tokens, answers, labelled)
        pair = self._copies.offer(canary, span.trace_id, told)
        if pair is not None:
            self._windows.add_pair(canary, *pair, span.trace_id.hex())

    def _end(self, span: Span, now: float) -> float:
        if not 0 < span.start <= span.end:
            raise RefusedError(
                "malformed", f"a span starts at {span.start} and ends at {span.end} ns; the end comes later"
            )
        end = span.end / _NANO
        if end > now + FUTURE_SECONDS:
            self.account.clamped += 1
            return now
        if end < now - self._windows.limits.keep_seconds:
            raise RefusedError(
                "late",
                f"a span ended {now - end:.0f} s ago; they count up to {self._windows.limits.keep_seconds} s later",
            )
        return end


def _permit(namespaces: frozenset[str], namespace: str) -> None:
    if namespace not in namespaces:
        whose = ", ".join(sorted(namespaces))[:253]
        raise RefusedError("forbidden", f"a span of namespace {namespace[:64]!r}; this credential is for {whose}")


def _share(text: str | None) -> float | None:
    """A confidence as its span has it."""
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 <= value <= 1.0:
        raise RefusedError("malformed", f"{names.ATTR_CONFIDENCE}: found {text[:32]!r}, expected a number from 0 to 1")
    return value


def _key(attributes: dict[str, str]) -> Key:
    key = Key(
        attributes.get(names.ATTR_NAMESPACE, ""),
        attributes.get(names.ATTR_DEPLOYMENT, ""),
        attributes.get(names.ATTR_REVISION, ""),
    )
    if "" in key or max(map(len, key)) > LONGEST_NAME:
        wanted = ", ".join((names.ATTR_NAMESPACE, names.ATTR_DEPLOYMENT, names.ATTR_REVISION))
        raise RefusedError("malformed", f"a span needs the attributes {wanted}, each of 1 to {LONGEST_NAME} characters")
    return key
