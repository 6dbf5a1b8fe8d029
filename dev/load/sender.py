"""Sends a plan's requests on time and hands each record on as soon as its answer has come."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable

from dev.load.clients import Client
from dev.load.plan import Plan
from dev.load.records import Record


async def send(plan: Plan, client: Client, stop: asyncio.Event, note: Callable[[Record], None]) -> None:
    """Returns when the plan is at its end, or `stop` is set, and every request that was sent has ended."""
    begin, wall = time.monotonic(), time.time()
    texts = itertools.cycle(range(len(plan.texts)))

    async def one(due: float, text: int) -> None:
        sent = time.monotonic()
        code, revision = await client.send(text)
        ended = time.monotonic()
        note(Record(wall + sent - begin, wall + ended - begin, revision, code, text, wall + due))

    async with asyncio.TaskGroup() as requests:
        for due, text in zip(plan.due(), texts, strict=False):
            if await _is_set(stop, begin + due):
                return
            requests.create_task(one(due, text))


async def _is_set(stop: asyncio.Event, until: float) -> bool:
    """Waits for the event until a time of the monotonic clock."""
    try:
        async with asyncio.timeout(max(until - time.monotonic(), 0.0)):
            await stop.wait()
    except TimeoutError:
        return False
    return True
