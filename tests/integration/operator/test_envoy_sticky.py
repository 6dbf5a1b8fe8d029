"""Users keep their arm in a real Envoy: 10,000 of them, before and after the weights change."""

from __future__ import annotations

import asyncio
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from pathlib import Path

import aiohttp
import grpc.aio
import pytest

from tapchanger_operator.decide import slots
from tapchanger_operator.plan import envoy
from tapchanger_operator.plan.split import Split
from tapchanger_serving.contract import names as contract
from tests.integration.operator import test_envoy_config as real
from tests.support.patience import PATIENCE
from tests.support.ports import free_ports
from tests.support.samples import OWNER, SETTINGS

binary = real.binary
HEADER = "x-user-id"
CONTROL, SMALL, TINY, CANARY = "aaaaaaaaaa", "bbbbbbbbbb", "cccccccccc", "dddddddddd"
ARMS = {"control": CONTROL, "small": SMALL, "tiny": TINY, "canary": CANARY}
USERS = [f"user-{number}@example.org" for number in range(10_000)]
BEFORE = {"control": 50, "small": 30, "tiny": 20}
AFTER = {"control": 60, "small": 20, "tiny": 20}


def split(assigned: Sequence[slots.Run]) -> Split:
    """The split for an assignment of the arms."""
    return Split.of_slots([(ARMS[run.arm], run.size) for run in assigned], ARMS.values(), HEADER)


class Sticky(real.Router):
    """A router that is configured by slots."""

    async def follow(self, assigned: Sequence[slots.Run]) -> None:
        """Writes the split and waits until both route files were read again."""
        names = [f"http.{protocol}.rds.{protocol}.update_success" for protocol in ("http", "grpc")]
        before = await self.stats()
        self.write(split(assigned))
        await self.until(lambda now: all(int(now[name]) > int(before[name]) for name in names))

    def write(self, wanted: Split) -> None:
        """The configuration as files."""
        self.volume.write(real._local(envoy.files(OWNER, wanted, SETTINGS), self))

    async def arms(self, users: Iterable[str | None]) -> list[str]:
        """Which revision answers each user over HTTP, asked 32 at a time. None sends no header."""
        waiting = iter(list(enumerate(users)))
        found: dict[int, str] = {}

        async def ask() -> None:
            for number, user in waiting:
                headers = {HEADER: user} if user is not None else {}
                async with self.session.get(self.http, headers=headers) as answer:
                    assert answer.status == 200
                    found[number] = answer.headers[contract.REVISION_HEADER]

        async with asyncio.TaskGroup() as group:
            for _ in range(32):
                group.create_task(ask())
        return [found[number] for number in sorted(found)]


@pytest.fixture
async def router(tmp_path: Path, binary: str) -> AsyncIterator[Sticky]:
    """Envoy before four revisions' servers, with the first weights."""
    numbers = free_ports(5 + 2 * len(ARMS))
    cluster = (
        contract.HTTP_PORT, contract.GRPC_PORT, contract.ROUTER_HEALTH_PORT, envoy.ADMIN_PORT, contract.OTLP_GRPC_PORT,
    )  # fmt: skip
    pairs = zip(numbers[5::2], numbers[6::2], strict=True)
    upstreams: Mapping[str, real.Upstream] = {
        revision: real.Upstream(revision, *ports) for revision, ports in zip(ARMS.values(), pairs, strict=True)
    }
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE)) as session:
        made = Sticky(
            dict(zip(cluster, numbers, strict=False)), real.ConfigVolume(tmp_path / "envoy"), upstreams, session
        )
        made.write(split(slots.assign((), BEFORE)))
        running = [upstream.running() for upstream in upstreams.values()]
        for one in running:
            await one.__aenter__()
        arguments = ["-c", str(made.volume.folder / "bootstrap.json"), "--disable-hot-restart", "--concurrency", "2"]
        process = await asyncio.create_subprocess_exec(
            binary, *arguments, "--log-level", "warning", stderr=subprocess.DEVNULL
        )
        try:
            async with asyncio.timeout(PATIENCE):
                while not await real._ready(made):
                    assert process.returncode is None, "Envoy ended"
                    await asyncio.sleep(0.1)
            yield made
        finally:
            process.terminate()
            await process.wait()
            for one in running:
                await one.__aexit__(None, None, None)


def shares(answers: Sequence[str]) -> dict[str, float]:
    """Percent by arm."""
    counted = Counter(answers)
    return {arm: 100 * counted[revision] / len(answers) for arm, revision in ARMS.items()}


async def test_ten_thousand_users_keep_their_arm_unless_the_weights_force_them(router: Sticky) -> None:
    first = slots.assign((), BEFORE)
    before = await router.arms(USERS)
    for arm, weight in BEFORE.items():
        assert shares(before)[arm] == pytest.approx(weight, abs=1.5)
    assert await router.arms(USERS[:500]) == before[:500], "the same users again"
    second = slots.assign(first, AFTER)
    await router.follow(second)
    after = await router.arms(USERS)
    for arm, weight in AFTER.items():
        assert shares(after)[arm] == pytest.approx(weight, abs=1.5)
    changes = Counter((old, new) for old, new in zip(before, after, strict=True) if old != new)
    assert set(changes) == {(SMALL, CONTROL)}, "nobody moves but from the arm that shrinks to the arm that grows"
    # 10 % of the slots move; the users in them are a binomial number around 10 % (standard error 0.3 points).
    moved = 100 * changes.total() / len(USERS)
    print(
        f"shares {shares(before)} then {shares(after)}; moved {moved:.2f} % where {slots.moved(first, second) / 10} % must"
    )
    assert moved == pytest.approx(10, abs=1.0)
    await router.follow(slots.assign(second, AFTER))
    assert await router.arms(USERS[:1000]) == after[:1000]


async def test_a_canary_takes_from_control_alone_and_the_same_users_while_it_grows(router: Sticky) -> None:
    users, assigned = USERS[:3000], slots.assign((), BEFORE)
    before = await router.arms(users)
    earlier: set[str] = set()
    for percent in (10, 40):
        await router.follow(slots.lend(assigned, "control", "canary", percent))
        now = await router.arms(users)
        changed = {(old, new) for old, new in zip(before, now, strict=True) if old != new}
        assert changed == {(CONTROL, CANARY)}
        tried = {user for user, revision in zip(users, now, strict=True) if revision == CANARY}
        assert 100 * len(tried) / len(users) == pytest.approx(50 * percent / 100, abs=2.0)
        assert earlier < tried
        earlier = tried


async def test_grpc_metadata_chooses_the_same_arm_as_the_http_header(router: Sticky) -> None:
    users = USERS[:200]
    expected = await router.arms(users)
    async with grpc.aio.insecure_channel(router.grpc) as channel:
        infer = channel.unary_unary(real._METHOD)
        answers = [(await infer(b"text", metadata=((HEADER, user),))).decode() for user in users]
    assert answers == expected
    assert set(answers) == {CONTROL, SMALL, TINY}


async def test_requests_without_the_header_are_spread_by_chance(router: Sticky) -> None:
    answers = await router.arms([None] * 4000)
    for arm, weight in BEFORE.items():
        assert shares(answers)[arm] == pytest.approx(weight, abs=3.5)
