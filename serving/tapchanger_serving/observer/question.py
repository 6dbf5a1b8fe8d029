"""A question to the API, read from its parameters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from multidict import MultiMapping

from tapchanger_serving.observer.windows import Key

DEFAULT_SECONDS: Final = 3_600.0
_KNOWN: Final = ("namespace", "deployment", "since", "until", "latency")
_KNOWN_OF_DRIFT: Final = ("namespace", "deployment", "revision", "since")


@dataclass(frozen=True)
class Question:
    """What happened to a deployment from `since` to `until` (Unix seconds), against `thresholds` of latency (seconds)."""

    namespace: str
    deployment: str
    since: float
    until: float
    thresholds: tuple[float, ...] = ()


class QueryError(ValueError):
    """A question that can't be answered. The message names the parameter, what was found and what to write."""


def read(query: MultiMapping[str], now: float, most_thresholds: int) -> Question:
    """The question in the parameters. Raises QueryError."""
    unknown = sorted(set(query) - set(_KNOWN))
    if unknown:
        raise QueryError(f"{unknown[0]}: no such parameter; there are {', '.join(_KNOWN)}")
    namespace, deployment = _name(query, "namespace"), _name(query, "deployment")
    since, until = _span(query, now)
    return Question(namespace, deployment, since, until, _thresholds(query, most_thresholds))


def read_drift(query: MultiMapping[str]) -> tuple[Key, float]:
    """Whose texts are asked about, and since when (Unix seconds). Raises QueryError."""
    unknown = sorted(set(query) - set(_KNOWN_OF_DRIFT))
    if unknown:
        raise QueryError(f"{unknown[0]}: no such parameter; there are {', '.join(_KNOWN_OF_DRIFT)}")
    key = Key(_name(query, "namespace"), _name(query, "deployment"), _name(query, "revision"))
    return key, _number(query, "since") or 0.0


def _span(query: MultiMapping[str], now: float) -> tuple[float, float]:
    """Since and until. A caller whose clock is ahead may ask since a time that is yet to come: nothing ended then."""
    asked = _number(query, "since")
    until = _number(query, "until") or max(now, asked or 0.0)
    since = until - DEFAULT_SECONDS if asked is None else asked
    if since > until:
        raise QueryError(f"since: found {since}, which is after until ({until}); write an earlier Unix time in seconds")
    return since, until


def _name(query: MultiMapping[str], parameter: str) -> str:
    found = query.get(parameter, "")
    if not found or len(found) > 253:
        raise QueryError(f"{parameter}: found {found[:64]!r}; write the name, as in {parameter}=moderation")
    return found


def _number(query: MultiMapping[str], parameter: str) -> float | None:
    found = query.get(parameter)
    if found is None:
        return None
    value = _float(found)
    if value is None or value < 0:
        raise QueryError(f"{parameter}: found {found[:64]!r}; write Unix time in seconds, as in {parameter}=1767225600")
    return value


def _thresholds(query: MultiMapping[str], most: int) -> tuple[float, ...]:
    found = query.getall("latency", [])
    if len(found) > most:
        raise QueryError(f"latency: found {len(found)} of them; ask for at most {most} at a time")
    values = []
    for text in found:
        value = _float(text)
        if value is None or value <= 0:
            raise QueryError(f"latency: found {text[:64]!r}; write seconds, as in latency=0.05")
        values.append(value)
    return tuple(dict.fromkeys(values))


def _float(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
