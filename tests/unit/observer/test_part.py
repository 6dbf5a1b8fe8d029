"""Several observers answer as one."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest
from aiohttp import ClientSession
from hypothesis import given
from hypothesis import strategies as st

from tapchanger_serving.contract.outcome import Outcome
from tapchanger_serving.contract.windows import Windows
from tapchanger_serving.observer import part
from tapchanger_serving.observer.breakdown import Stage
from tapchanger_serving.observer.bucket import Request
from tapchanger_serving.observer.main import Observer
from tapchanger_serving.observer.mirror import Told
from tapchanger_serving.observer.part import PartError
from tapchanger_serving.observer.question import Question
from tapchanger_serving.observer.settings import Settings
from tapchanger_serving.observer.windows import Key
from tapchanger_serving.observer.windows import Windows as Store
from tests.support.ports import free_ports

NOW = 1_800_000_000.0
ASKED = Question("default", "moderation", NOW - 100, NOW, (0.05, 0.2))
GOOD, BAD = Outcome("grpc/0", failed=False), Outcome("grpc/13", failed=True)
REQUESTS = st.lists(
    st.tuples(st.integers(0, 99), st.integers(1, 500), st.sampled_from(("r0", "r1")), st.booleans(), st.integers(0, 2)),
    max_size=40,
)


def store_of(requests: list[tuple[int, int, str, bool, int]]) -> Store:
    made = Store()
    made.watch(ASKED.namespace, ASKED.deployment, ASKED.thresholds)
    for ago, milliseconds, revision, failed, _ in requests:
        key, end, seconds = Key(ASKED.namespace, ASKED.deployment, revision), NOW - ago, milliseconds / 1024
        made.add(key, Request(end, seconds, BAD if failed else GOOD, bytes([ago] * 16)))
        stage = Stage(end, seconds / 4, seconds / 2, tokens=ago, rows=1, node="n1")
        made.add_stage(key, stage)
        made.join(key, stage, seconds, failed=failed)
        made.add_confidence(key, end, 0.5)
        made.add_score(key, end, 1.0)
        told = [Told(name, end, seconds, 3, ("a",), True) for name in ("r0", "r1")]
        made.add_pair(Key(*key[:2], "r1"), told[0], told[1], f"{ago:032x}")
    return made


@given(REQUESTS)
def test_parts_together_say_what_one_observer_would(requests: list[tuple[int, int, str, bool, int]]) -> None:
    parts = [part.of(store_of([one for one in requests if one[4] == place]), ASKED) for place in range(3)]
    merged = part.tell(ASKED, part.merge(part.decode(part.encode(one)) for one in parts), NOW)
    whole = part.tell(ASKED, part.of(store_of(requests), ASKED), NOW)
    assert _but_exemplars(merged) == _but_exemplars(whole)


def _but_exemplars(answer: Windows) -> Windows:
    """Which of many is kept as an example may differ, and sums of fractions in their last digit don't: these are exact."""
    return answer.model_copy(
        update={
            "revisions": tuple(one.model_copy(update={"exemplars": ()}) for one in answer.revisions),
            "mirrors": tuple(one.model_copy(update={"exemplars": ()}) for one in answer.mirrors),
        }
    )


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 2}', '{"version": 1, "revisions": {"a": [1]}}'])
def test_what_is_no_part_is_refused(text: str) -> None:
    with pytest.raises(PartError):
        part.decode(text)


async def test_observers_answer_together_or_not_at_all() -> None:
    ports = free_ports(2)
    together = Settings(
        auth="open", host="127.0.0.1", grpc_port=0, http_port=0, replicas=2,
        peers=",".join(f"127.0.0.1:{port}" for port in ports),
    )  # fmt: skip
    query = {"namespace": "default", "deployment": "moderation", "since": str(NOW - 100), "until": str(NOW)}
    asked = [*query.items(), ("latency", "0.05")]
    score = {"namespace": "default", "deployment": "moderation", "revision": "r1", "id": "7", "score": 1}
    async with AsyncExitStack() as stack, ClientSession() as http:
        observers = [Observer(together.model_copy(update={"api_port": port})) for port in ports]
        first, second = observers
        await first.start()
        stack.push_async_callback(first.stop)
        url = f"http://127.0.0.1:{ports[0]}"
        async with http.get(f"{url}/v1/windows", params=asked) as answer:
            assert answer.status == 503
            assert str(ports[1]) in await answer.text()
        await second.start()
        stack.push_async_callback(second.stop)
        good = Request(NOW - 5, 0.1, GOOD, b"a" * 16)
        first.windows.add(Key("default", "moderation", "r0"), good)
        second.windows.add(Key("default", "moderation", "r0"), good)
        second.windows.add(Key("default", "moderation", "r1"), good)
        async with http.get(f"{url}/v1/windows", params=asked) as answer:
            found = Windows.model_validate_json(await answer.text())
        assert {one.revision: one.requests for one in found.revisions} == {"r0": 2, "r1": 1}
        assert [one.windows.deployments["default", "moderation"].thresholds for one in observers] == [(0.05,)] * 2
        async with http.post(f"{url}/v1/feedback", json=score) as answer:
            assert await answer.json() == {"counted": 1, "duplicates": 0}
        async with http.post(f"{url}/v1/feedback", json={**score, "revision": "r2"}) as answer:
            assert answer.status == 404
        async with http.get(f"http://127.0.0.1:{ports[1]}/v1/part", params=query) as answer:
            assert set(part.decode(await answer.text()).revisions) == {"r0", "r1"}
    assert second.windows.scores("default", "moderation", 0, 2 * NOW)["r1"].number == 1
