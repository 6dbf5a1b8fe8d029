"""``status.capture``: what is captured, in words and numbers, and the places whose old texts must still be deleted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tapchanger_operator.api import reasons
from tapchanger_operator.api.base import seconds, timestamp, unix
from tapchanger_operator.api.capture import CapturePlace, CaptureSpec, CaptureStatus
from tapchanger_operator.decide.state import Change
from tapchanger_operator.plan.capture import place_of
from tapchanger_operator.snapshot import Snapshot

NO_IMAGE = "nothing is captured: the operator has no image for it; set the Helm value images.capture"
_LONGEST_LEFT = 86_400.0
"""A place is looked after for so many seconds more than its retention: the Job runs once a day."""
_REASONS = 5
_MEANING = {
    "noConsent": "without consent",
    "rate": "over maxPerMinute",
    "unclear": "names could not be told from other words",
    "tooLong": "too long",
    "spoolFull": "the store was away for too long",
}


def record(snapshot: Snapshot, image: str) -> CaptureStatus | None:
    """The status after this look; None where nothing is captured and nothing captured is left."""
    capture, before = snapshot.spec.capture, snapshot.status.capture or CaptureStatus()
    current = place_of(snapshot.owner, capture) if capture else None
    places = _places(before.places, current, snapshot.now)
    if capture is None or current is None:
        return CaptureStatus(places=places) if places else None
    if not image:
        return CaptureStatus(destination=current.prefix, message=NO_IMAGE, trouble=NO_IMAGE, places=places)
    fresh = before.model_copy(
        update={"destination": current.prefix, "message": sentence(capture, current), "places": places}
    )
    if snapshot.captured is None:
        return fresh
    dropped: Counter[str] = Counter()
    for told in snapshot.captured:
        dropped.update(told.dropped)
    written = [told.last_written for told in snapshot.captured if told.last_written]
    return fresh.model_copy(
        update={
            "captured": sum(told.captured for told in snapshot.captured),
            "dropped": sum(dropped.values()),
            "reasons": [f"{_MEANING.get(reason, reason)}: {count}" for reason, count in dropped.most_common(_REASONS)],
            "last_written": timestamp(max(written)) if written else before.last_written,
            "trouble": next((told.trouble for told in snapshot.captured if told.trouble), ""),
            "asked_at": timestamp(snapshot.now),
        }
    )


def sentence(capture: CaptureSpec, place: CapturePlace) -> str:
    """What is captured, for people and for their records."""
    whose = f"of requests whose header {capture.consent.header} grants it"
    if capture.consent.mode == "OptOut":
        whose = f"of all requests but those whose header {capture.consent.header} refuses it"
    return (
        f"{capture.sample * 100:g} % of the texts {whose}, at most {capture.max_per_minute} a minute and server, are kept at "
        f"{place.prefix} for {place.retention} (encryption {capture.destination.encryption.type}); taken out before: "
        f"{', '.join(capture.redact.kinds)}"
    )


def changes(before: CaptureStatus | None, after: CaptureStatus | None) -> tuple[Change, ...]:
    """Events where capture begins, becomes another, ends, or can't store."""
    old, new = before or CaptureStatus(), after or CaptureStatus()
    found = []
    if new.message != old.message and new.message != NO_IMAGE:
        if new.message:
            found.append(Change("Warning", reasons.CAPTURE_ON, f"texts of users are captured: {new.message}"))
        elif old.message != NO_IMAGE:
            found.append(Change("Normal", reasons.CAPTURE_OFF, "texts of users are no longer captured"))
    if new.trouble and new.trouble != old.trouble:
        found.append(Change("Warning", reasons.CAPTURE_TROUBLE, new.trouble))
    return tuple(found)


def _places(known: Sequence[CapturePlace], current: CapturePlace | None, now: float) -> list[CapturePlace]:
    """The present place, and earlier ones until all that was written there is too old."""
    kept = []
    for place in known:
        if current and (place.prefix, place.endpoint) == (current.prefix, current.endpoint):
            continue
        ended = place if place.until else place.model_copy(update={"until": timestamp(now)})
        if now - unix(str(ended.until)) < seconds(ended.retention) + _LONGEST_LEFT:
            kept.append(ended)
    return [*kept, *([current] if current else [])]
