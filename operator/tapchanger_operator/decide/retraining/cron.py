"""Schedules as a CronJob has them. The times are those of Debian's cron, also where clocks are put forward or back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

_MACROS: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}


def check(schedule: str, time_zone: str | None) -> None:
    """Raises ValueError with the field, what is wrong and what to write, where they are no schedule."""
    try:
        zone = _zone(time_zone)
    except (ZoneInfoNotFoundError, ValueError) as problem:
        found = f"spec.retraining.timeZone: there is no time zone {time_zone!r}"
        raise ValueError(f"{found}; write a name such as Europe/Berlin or UTC") from problem
    try:
        next(CronSim(_MACROS.get(schedule, schedule), datetime(2024, 1, 1, tzinfo=zone)))
    except (CronSimError, StopIteration) as problem:
        why = f"{problem}" or "no day fits it"
        wanted = "write minute, hour, day of the month, month and day of the week, for example 0 3 * * 0"
        raise ValueError(f"spec.retraining.schedule: {schedule!r}: {why}; {wanted}") from problem


def latest(schedule: str, time_zone: str | None, now: float) -> float | None:
    """The last time (Unix seconds) of the schedule that is not after `now`; however many passed since, there is one."""
    return _step(schedule, time_zone, int(now), back=True)


def upcoming(schedule: str, time_zone: str | None, now: float) -> float | None:
    """The next time (Unix seconds) of the schedule."""
    return _step(schedule, time_zone, int(now), back=False)


def _step(schedule: str, time_zone: str | None, now: int, *, back: bool) -> float | None:
    # Within a minute there is no other answer, and passes come every second.
    return _found(schedule, time_zone, now // 60, back)


@lru_cache(maxsize=4096)
def _found(schedule: str, time_zone: str | None, minute: int, back: bool) -> float | None:
    at = datetime.fromtimestamp(minute * 60, _zone(time_zone))
    if back:
        at = (at.astimezone(UTC) + timedelta(seconds=1)).astimezone(_zone(time_zone))
    try:
        return next(CronSim(_MACROS.get(schedule, schedule), at, reverse=back)).timestamp()
    except StopIteration:
        return None


def _zone(name: str | None) -> tzinfo:
    return ZoneInfo(name) if name else UTC
