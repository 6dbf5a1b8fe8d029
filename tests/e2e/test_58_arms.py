"""Three arms under load: users keep theirs while the weights change, each arm has its figures, and the worse one never wins."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from dev.common.deployment import Deployment
from dev.common.follow import Follower
from dev.common.kubectl import Kubectl, condition
from dev.common.traffic import failed
from dev.common.waiting import until
from dev.load import Load, Plan, Records
from tests.e2e.support import ONE_CANDIDATE, described

pytestmark = pytest.mark.usefixtures("beside")

HEADER = "x-user-id"
RATE = 20.0
SETTLE_SECONDS = 5.0
"""How long after a change the routers may answer by the weights before."""
AUTO = {"name": "auto", "weight": 30, "engine": {"runtime": "auto", "precision": "auto"}}
SLOW = {"name": "slow", "weight": 20, "model": {"uri": "pvc://models/moderation-slow"}}
"""Both need engines that other tests have built: the first model's own, and the slow one's."""


@dataclass(frozen=True)
class Told:
    """What was seen of an experiment whose weights changed from 50/30/20 to 60/20/20 at `changed` (Unix seconds)."""

    deployment: Deployment
    answers: Records
    changed: float
    arms: dict[str, dict[str, Any]]
    status: dict[str, Any]
    messages: list[str]

    def users(self, since: float, until: float) -> dict[int, set[str | None]]:
        """The revisions that answered each user in that time."""
        found: dict[int, set[str | None]] = defaultdict(set)
        for answer in self.answers.between(since, until):
            found[answer.text].add(answer.revision)
        return found


def rows(status: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in status.get("arms", [])}


def counted(deployment: Deployment) -> dict[str, dict[str, Any]]:
    """The arms of which a hundred requests have been counted."""
    return {name: row for name, row in rows(deployment.status()).items() if row["requests"] >= 100}


@pytest.fixture(scope="module")
def told(kubectl: Kubectl, engines: dict[str, Deployment], space: str, long_texts: list[str]) -> Iterator[Told]:
    deployment = described(
        kubectl,
        space,
        "arms",
        "moderation-v1",
        engine=ONE_CANDIDATE,
        slo={"objectives": [{"latency": "50ms", "target": 0.95}]},
        variants=[AUTO, SLOW],
        experiment={"stickyBy": {"header": HEADER}, "minRequests": 100},
    )
    deployment.apply()
    status = deployment.wait_ready(300)
    arms = rows(status)
    assert {name: row["weight"] for name, row in arms.items()} == {"control": 50, "auto": 30, "slow": 20}
    address, _ = deployment.address()
    plan = Plan(
        address, "grpc", "arms", tuple(long_texts[:300]), RATE, seconds=900.0, allow_remote=True, user_header=HEADER
    )
    with Follower(kubectl, "arms", space) as follower, Load(plan) as load:
        figures = until(
            "a hundred requests of each arm",
            lambda: found if len(found := counted(deployment)) == 3 else None,
            200,
            last=deployment.picture,
        )
        changed = time.time()
        deployment.manifest["spec"]["variants"] = [{**AUTO, "weight": 20}, SLOW]
        deployment.apply()
        until(
            "the new weights",
            lambda: rows(deployment.status()).get("control", {}).get("weight") == 60,
            30,
            last=deployment.picture,
        )
        time.sleep(25.0)
    yield Told(deployment, load.records(), changed, figures, deployment.status(), follower.messages())
    kubectl.delete("tdep", "arms", space)


def test_three_arms_answer_and_no_request_fails(told: Told) -> None:
    assert not failed(told.answers), failed(told.answers)[:5]
    revisions = {row["revision"] for row in told.arms.values()}
    assert len(revisions) == 3
    assert set(told.answers.revisions()) == revisions


def test_a_user_keeps_the_arm_until_the_weights_force_another(told: Told, words: Callable[[str], None]) -> None:
    before = told.users(0.0, told.changed)
    after = told.users(told.changed + SETTLE_SECONDS, float("inf"))
    assert all(len(seen) == 1 for seen in before.values())
    assert all(len(seen) == 1 for seen in after.values())
    moved = {user for user in before.keys() & after.keys() if before[user] != after[user]}
    auto, control = told.arms["auto"]["revision"], told.arms["control"]["revision"]
    assert all((before[user], after[user]) == ({auto}, {control}) for user in moved)
    both = len(before.keys() & after.keys())
    words(f"users that changed arm when 10 points were forced to: {len(moved)} of {both}")
    # 300 users: the number in a tenth of the slots has a standard error of 1.7 %.
    assert 0.04 <= len(moved) / both <= 0.16


def test_each_arm_has_its_figures_in_status(told: Told) -> None:
    for name, row in told.arms.items():
        figures = {figure["metric"]: figure for figure in row["figures"]}
        assert row["requests"] == figures["latency"]["count"] == figures["availability"]["count"] >= 100, name
        assert figures["latency"]["low"] <= figures["latency"]["mean"] <= figures["latency"]["high"]
        assert figures["availability"]["mean"] == 1.0
        assert (row["ready"], row["uri"]) == (1, f"pvc://models/moderation-{'slow' if name == 'slow' else 'v1'}")
    seen = {answer.revision for answer in told.answers}
    assert {row["revision"] for row in told.arms.values()} == seen
    assert sum(row["best"] for row in told.arms.values()) == pytest.approx(1.0, abs=0.01)


def test_the_worse_arm_is_shown_to_be_worse_and_never_wins(told: Told) -> None:
    slow = told.arms["slow"]
    assert slow["difference"]["high"] < 0, slow
    assert slow["best"] < 0.01
    assert told.status["experiment"].get("winner") != "slow"
    assert not any("slow is better than every other arm" in message for message in told.messages)


def test_the_spec_is_as_its_owner_wrote_it_and_the_deployment_is_ready(told: Told) -> None:
    assert told.deployment.difference() == ""
    assert condition({"status": told.status}, "Ready")["status"] == "True"
    assert condition({"status": told.status}, "Experiment")["reason"] in ("ExperimentRunning", "ExperimentWinner")
    assert any("experiment (control 50 %, auto 30 %, slow 20 %)" in message for message in told.messages)


def test_without_variants_everyone_is_back_on_the_base_spec(told: Told, kubectl: Kubectl, space: str) -> None:
    manifest = told.deployment.manifest["spec"]
    del manifest["variants"], manifest["experiment"]
    told.deployment.apply()
    control = told.arms["control"]["revision"]
    status = until(
        "the end of the experiment",
        lambda: found if (found := told.deployment.status()) and not found.get("arms") else None,
        60,
        last=told.deployment.picture,
    )
    assert status["stable"]["revision"] == control
    wanted = {f"arms-{control}", "arms-router"}

    def left() -> bool:
        items = kubectl.items("deployment", space)
        return {i["metadata"]["name"] for i in items if i["metadata"]["name"].startswith("arms-")} == wanted

    until("the variants' servers to go", left, 90, last=told.deployment.picture)
