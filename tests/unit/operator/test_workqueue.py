"""The queue of object keys, in virtual time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest

from tapchanger_operator.workqueue import COALESCE_SECONDS, LONGEST_BACKOFF_SECONDS, WorkQueue, backoff
from tests.support import virtual_time

Handle = Callable[[str], Awaitable[float | None]]
Script = Callable[["WorkQueue[str]"], Awaitable[None]]


def played(handle: Handle, script: Script, workers: int = 4) -> None:
    """Runs a queue with `handle` while `script` plays."""

    async def main() -> None:
        queue = WorkQueue(handle, asyncio.get_running_loop().time)
        work = asyncio.create_task(queue.run(workers))
        await script(queue)
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)

    virtual_time.run(main())


class Passes:
    """Remembers when each key had its passes; `takes` is how long a pass lasts."""

    def __init__(self, takes: float = 0.0, again: float | None = None, failing: frozenset[str] = frozenset()) -> None:
        self.takes, self.again, self.failing = takes, again, failing
        self.at: dict[str, list[float]] = {}
        self.active: Counter[str] = Counter()
        self.most_at_once = 0

    async def __call__(self, key: str) -> float | None:
        self.at.setdefault(key, []).append(round(asyncio.get_running_loop().time(), 6))
        self.active[key] += 1
        assert self.active[key] == 1, f"two passes over {key} at once"
        self.most_at_once = max(self.most_at_once, self.active.total())
        await asyncio.sleep(self.takes)
        self.active[key] -= 1
        if key in self.failing:
            raise RuntimeError("no")
        return self.again


def test_events_in_quick_succession_cause_one_pass() -> None:
    passes = Passes()

    async def script(queue: WorkQueue[str]) -> None:
        for _ in range(10):
            await queue.add("a")
            await asyncio.sleep(COALESCE_SECONDS / 20)
        await asyncio.sleep(5)

    played(passes, script)
    assert passes.at == {"a": [COALESCE_SECONDS]}


def test_a_key_has_one_pass_at_a_time_and_another_after_a_change_meanwhile() -> None:
    passes = Passes(takes=1.0)

    async def script(queue: WorkQueue[str]) -> None:
        await queue.add("a", after=0)
        await asyncio.sleep(0.5)
        await queue.add("a", after=0)
        await asyncio.sleep(0.1)
        await queue.add("a", after=0)
        await asyncio.sleep(5)

    played(passes, script)
    assert len(passes.at["a"]) == 2
    assert passes.at["a"][1] == pytest.approx(1.0, abs=0.1)


def test_different_keys_are_worked_on_at_once_up_to_the_number_of_workers() -> None:
    passes = Passes(takes=1.0)

    async def script(queue: WorkQueue[str]) -> None:
        for key in "abcdefgh":
            await queue.add(key, after=0)
        await asyncio.sleep(10)

    played(passes, script, workers=4)
    assert passes.most_at_once == 4
    assert sorted(at for times in passes.at.values() for at in times) == [0.0] * 4 + [1.0] * 4


def test_the_handler_says_when_the_next_pass_is() -> None:
    passes = Passes(again=10.0)

    async def script(queue: WorkQueue[str]) -> None:
        await queue.add("a", after=0)
        await asyncio.sleep(35)

    played(passes, script)
    assert passes.at["a"] == [0, 10, 20, 30]


def test_a_handler_that_returns_none_is_not_called_again() -> None:
    passes = Passes(again=None)

    async def script(queue: WorkQueue[str]) -> None:
        await queue.add("a", after=0)
        await asyncio.sleep(1000)
        assert len(queue) == 0

    played(passes, script)
    assert passes.at["a"] == [0]


def test_adding_brings_a_pass_forward_and_never_back() -> None:
    passes = Passes(again=None)

    async def script(queue: WorkQueue[str]) -> None:
        await queue.add("a", after=100)
        await queue.add("a", after=5)
        await queue.add("a", after=50)
        await asyncio.sleep(200)

    played(passes, script)
    assert passes.at["a"] == [5]


def test_a_key_that_fails_backs_off_and_holds_nobody_up() -> None:
    passes = Passes(again=1.0, failing=frozenset({"bad"}))

    async def script(queue: WorkQueue[str]) -> None:
        await queue.add("bad", after=0)
        await queue.add("good", after=0)
        await asyncio.sleep(20.5)

    played(passes, script, workers=1)
    gaps = [later - earlier for earlier, later in zip(passes.at["bad"], passes.at["bad"][1:], strict=False)]
    assert gaps == [0.5, 1.0, 2.0, 4.0, 8.0]
    assert passes.at["good"] == [float(second) for second in range(21)]


def test_a_success_ends_the_backing_off() -> None:
    passes = Passes(again=None, failing=frozenset({"a"}))

    async def script(queue: WorkQueue[str]) -> None:
        await queue.add("a", after=0)
        await asyncio.sleep(4)
        passes.failing = frozenset()
        await asyncio.sleep(100)
        passes.failing = frozenset({"a"})
        await queue.add("a", after=0)
        await asyncio.sleep(0.6)

    played(passes, script)
    assert passes.at["a"][-2:] == [104, 104.5]


def test_back_off_is_bounded() -> None:
    assert [backoff(n) for n in (1, 2, 3)] == [0.5, 1.0, 2.0]
    assert backoff(10_000) == LONGEST_BACKOFF_SECONDS


def test_a_slow_key_that_is_wanted_again_does_not_keep_others_waiting() -> None:
    slow = Passes(takes=60.0)
    quick = Passes(again=1.0)

    async def handle(key: str) -> float | None:
        return await (slow if key == "slow" else quick)(key)

    async def script(queue: WorkQueue[str]) -> None:
        await queue.add("slow", after=0)
        await asyncio.sleep(0.5)
        await queue.add("slow", after=0)
        await queue.add("quick", after=0)
        await asyncio.sleep(10.2)

    played(handle, script, workers=2)
    assert quick.at["quick"] == [0.5 + second for second in range(11)]
    assert slow.at["slow"] == [0]
