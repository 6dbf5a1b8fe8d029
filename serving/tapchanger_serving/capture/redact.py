"""Takes personal data out of a text: every place that a recognizer found becomes a word such as `<EMAIL>`."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import regex

from tapchanger_serving.capture import proper
from tapchanger_serving.capture.recognizers import LEAST, recognizers
from tapchanger_serving.contract.capture import KINDS, Kind, Redaction

_PASSES = 3
_TELLING: tuple[Kind, ...] = (
    "email", "url", "iban", "card", "ip", "nationalId", "address", "handle", "phone", "number", "name",
)  # fmt: skip
"""Which kind says most of what was found, where several recognizers found it."""
_PLACEHOLDER = regex.compile(r"<(?:EMAIL|PHONE|CARD|IBAN|IP|URL|NATIONAL_ID|HANDLE|NUMBER|ADDRESS|NAME)>")
_PRESIDIO = logging.getLogger("presidio-analyzer")


class UnsafeError(Exception):
    """A text whose redaction can't be relied on; `reason` is a word for a counter. Nothing of the text is in the message."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Span:
    """Personal data at `text[start:end]`."""

    start: int
    end: int
    kind: Kind


@dataclass(frozen=True)
class Redacted:
    """A text without what was found, and how much that was, by kind."""

    text: str
    counts: Counter[str] = field(default_factory=Counter)


class _Trouble(logging.Handler):
    """Presidio only logs a pattern that took too long, and passes over it: what it did not look at must not be kept."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.seen = False

    def emit(self, record: logging.LogRecord) -> None:  # noqa: ARG002 - the library's signature
        self.seen = True


class Redactor:
    """Removes the kinds that `redaction` names. One thread at a time."""

    def __init__(self, redaction: Redaction) -> None:
        self._redaction = redaction
        self._recognizers = [
            (kind, recognizer)
            for kind in KINDS
            if kind in redaction.kinds
            for recognizer in recognizers(kind, redaction.regions)
        ]
        self._trouble = _Trouble()
        _PRESIDIO.handlers = [self._trouble]
        _PRESIDIO.propagate = False
        _PRESIDIO.setLevel(logging.WARNING)

    def redact(self, text: str) -> Redacted:
        """`text` without personal data, until nothing more is found in it. Raises :class:`UnsafeError`."""
        counts: Counter[str] = Counter()
        for number in range(_PASSES):
            found = self.spans(text, again=number > 0)
            if not found:
                return Redacted(text, counts)
            counts.update(span.kind for span in found)
            text = replaced(text, found)
        raise UnsafeError("restless")

    def spans(self, text: str, *, again: bool = False) -> list[Span]:
        """Where personal data is, in order and apart from each other. Raises :class:`UnsafeError`.

        `again`: names were taken out before, so that what capitals are left says nothing.
        """
        fixed = [hit.span() for hit in _PLACEHOLDER.finditer(text)]
        self._trouble.seen = False
        hits = [
            Span(hit.start, hit.end, kind)
            for kind, recognizer in self._recognizers
            for hit in recognizer.analyze(text, recognizer.supported_entities, None)
            if hit.score >= LEAST and hit.end > hit.start
        ]
        if self._trouble.seen:
            raise UnsafeError("slow")
        if "name" in self._redaction.kinds:
            found = proper.find(
                _blanked(text, [*fixed, *((hit.start, hit.end) for hit in hits)]), self._redaction.names
            )
            if found.unclear and self._redaction.unclear == "Drop" and not again:
                raise UnsafeError("unclear")
            hits += [Span(start, end, "name") for start, end in found.spans]
        return [
            span for span in merged(hits) if not any(start <= span.start and span.end <= end for start, end in fixed)
        ]


def merged(spans: Sequence[Span]) -> list[Span]:
    """Spans that overlap become one, so that nothing of either stays; its kind is the one that says most."""
    found: list[Span] = []
    for span in sorted(spans, key=lambda one: (one.start, -one.end)):
        if found and span.start < found[-1].end:
            kind = min(found[-1].kind, span.kind, key=_TELLING.index)
            found[-1] = Span(found[-1].start, max(found[-1].end, span.end), kind)
        else:
            found.append(span)
    return found


def replaced(text: str, spans: Sequence[Span]) -> str:
    """`text` with each of `spans`, which are in order and don't overlap, replaced by a word for its kind."""
    parts, end = [], 0
    for span in spans:
        parts += [text[end : span.start], placeholder(span.kind)]
        end = span.end
    return "".join([*parts, text[end:]])


def placeholder(kind: Kind) -> str:
    """What stands for personal data of a kind: `<EMAIL>`."""
    return f"<{'NATIONAL_ID' if kind == 'nationalId' else kind.upper()}>"


def _blanked(text: str, spans: Sequence[tuple[int, int]]) -> str:
    """The text with digits in these places, so that no word is found there and all offsets stay."""
    signs = list(text)
    for start, end in spans:
        signs[start:end] = "0" * (end - start)
    return "".join(signs)
