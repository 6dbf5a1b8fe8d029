"""What a rollout does next, case by case."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from tapchanger_operator.api import reasons
from tapchanger_operator.api.base import timestamp, unix
from tapchanger_operator.api.rollout import RolloutSpec
from tapchanger_operator.decide import moves, rollout
from tapchanger_operator.decide.rollout import Seen, advance
from tapchanger_operator.decide.state import Change, Judgement, State, Target
from tapchanger_operator.snapshot import Servers, Steering

T0 = 1_700_000_000.0
A, B, C = (Target(letter * 10, f"eb-{letter * 12}", f"pvc://models/{letter}") for letter in "abc")
UP, DOWN = Servers(2, 2, available=True), Servers(2, 0, available=False)
PASS, FAIL = Judgement("Pass", "ObjectivesMet", "all is well"), Judgement("Fail", "ObjectiveBreached", "too slow", T0)
UNSURE = Judgement("Inconclusive", "TooFewRequests", "3 of 100 requests")


def policy(steps: Any = (5, 25, 50), watch: str = "30m", hold: str = "0s", **analysis: Any) -> RolloutSpec:
    return RolloutSpec.model_validate(
        {"steps": [{"weight": weight, "hold": hold} for weight in steps], "analysis": analysis, "watch": watch}
    )


@dataclass
class Story:
    """A rollout told pass by pass; every revision's servers are up unless `down` says otherwise."""

    policy: RolloutSpec = field(default_factory=policy)
    state: State = field(default_factory=State)
    now: float = T0
    down: set[str] = field(default_factory=set)
    told: list[Change] = field(default_factory=list)
    steering: Steering = field(default_factory=Steering)

    def go(
        self,
        target: Target | None,
        judgement: Judgement | None = None,
        after: float = 1.0,
        watch: Judgement | None = None,
    ) -> State:
        """One pass, `after` seconds later."""
        self.now += after
        servers = {r: DOWN if r in self.down else UP for r in self.state.revisions()}
        seen = Seen(target, servers, judgement, watch, self.steering)
        outcome = advance(self.policy, self.state, seen, self.now)
        self.state = outcome.state
        self.told += outcome.changes
        return self.state

    def serving(self, target: Target) -> Story:
        """`target` becomes the first revision."""
        self.go(target)
        self.go(target)
        assert self.state.weights() == {target.revision: 100}
        return self

    def canary(self, target: Target) -> Story:
        """`target` becomes a canary at the first step."""
        self.go(target)
        self.go(target)
        self.go(target, after=rollout.SETTLE_SECONDS)
        return self

    def promoted(self, target: Target) -> Story:
        """`target` passes every step."""
        self.canary(target)
        for _ in self.policy.steps:
            self.go(target, PASS)
        assert self.state.stable is not None
        assert self.state.stable.revision == target.revision
        return self

    @property
    def reasons(self) -> list[str]:
        return [change.reason for change in self.told]


def test_first_revision_gets_all_traffic_once_its_servers_are_available() -> None:
    story = Story(down={A.revision})
    story.go(A)
    story.go(A)
    assert story.state.weights() == {}
    assert story.state.stable is not None
    assert story.state.stable.since is None
    story.down.clear()
    story.go(A)
    assert story.state.weights() == {A.revision: 100}
    assert story.state.stable.since == timestamp(story.now)


def test_first_revision_that_never_served_is_replaced_without_a_canary() -> None:
    story = Story(down={A.revision})
    story.go(A)
    story.go(B)
    assert story.state.canary is None
    assert story.state.stable is not None
    assert story.state.stable.revision == B.revision
    assert [other.revision for other in story.state.retiring] == [A.revision]


def test_nothing_is_done_before_it_is_known_what_the_spec_asks_for() -> None:
    assert Story().go(None) == State()


def test_stable_goes_on_while_a_new_spec_is_being_understood() -> None:
    story = Story().serving(A)
    before = story.state
    assert story.go(None) == before


def test_canary_starts_without_traffic_and_stable_keeps_all() -> None:
    story = Story().serving(A)
    story.go(B)
    assert story.state.weights() == {A.revision: 100, B.revision: 0}
    assert story.reasons == [reasons.CANARY_STARTING]


def test_canary_waits_until_its_servers_are_available_and_routers_know_them() -> None:
    story = Story(down={B.revision}).serving(A)
    story.go(B)
    story.go(B, after=60)
    assert story.state.weights()[B.revision] == 0
    story.down.clear()
    story.go(B)
    story.go(B, after=rollout.SETTLE_SECONDS - 0.5)
    assert story.state.weights()[B.revision] == 0
    story.go(B, after=0.6)
    assert story.state.weights() == {A.revision: 95, B.revision: 5}


def test_canary_whose_servers_flap_waits_anew() -> None:
    story = Story().serving(A)
    story.go(B)
    story.go(B)
    story.down = {B.revision}
    story.go(B, after=2)
    story.down = set()
    story.go(B, after=2)
    assert story.state.weights()[B.revision] == 0


def test_canary_that_is_never_ready_is_rolled_back_with_what_the_cluster_says() -> None:
    story = Story().serving(A)
    story.go(B)
    trouble = Servers(2, 0, available=False, trouble="NoNodeFits: 0/3 nodes are available")
    outcome = advance(
        story.policy,
        story.state,
        Seen(B, {A.revision: UP, B.revision: trouble}),
        story.now + rollout.READY_DEADLINE_SECONDS + 1,
    )
    assert outcome.state.canary is None
    assert outcome.state.rejected[0].reason == reasons.CANARY_NOT_READY
    assert "0/3 nodes are available" in outcome.state.rejected[0].message


UNFIT = Servers(2, 0, trouble="EngineIncompatible: node n1: it needs amx_int8", reason=reasons.ENGINE_INCOMPATIBLE)


def test_a_canary_that_runs_on_no_node_is_rolled_back_for_that_and_not_for_its_answers() -> None:
    story = Story().serving(A).canary(B)
    outcome = advance(story.policy, story.state, Seen(B, {A.revision: UP, B.revision: UNFIT}, FAIL), story.now + 1)
    assert outcome.state.canary is None
    assert outcome.state.rejected[0].reason == reasons.ENGINE_INCOMPATIBLE
    assert "node n1: it needs amx_int8" in outcome.state.rejected[0].message


def test_a_canary_that_never_ran_on_any_node_gets_the_usual_time() -> None:
    story = Story().serving(A)
    story.go(B)
    seen = Seen(B, {A.revision: UP, B.revision: UNFIT})
    assert advance(story.policy, story.state, seen, story.now + 60).state.canary is not None
    outcome = advance(story.policy, story.state, seen, story.now + rollout.READY_DEADLINE_SECONDS + 1)
    assert outcome.state.rejected[0].reason == reasons.ENGINE_INCOMPATIBLE


def test_canary_goes_through_its_steps_to_promotion() -> None:
    story = Story().serving(A).canary(B)
    weights = [story.state.weights()[B.revision]]
    for _ in range(3):
        story.go(B, PASS)
        weights.append(story.state.weights()[B.revision])
    assert weights == [5, 25, 50, 100]
    assert story.state.weights() == {A.revision: 0, B.revision: 100}
    assert story.state.canary is None
    assert story.reasons == [reasons.CANARY_STARTING, *[reasons.CANARY_STEP] * 3, reasons.PROMOTED]


def test_an_undecided_step_stays_where_it_is() -> None:
    story = Story().serving(A).canary(B)
    before = story.state
    assert story.go(B, UNSURE) == before
    assert story.go(B, Judgement("Error", "InvalidCounts", "can't be"), after=10) == before


def test_a_step_is_held_for_its_time_however_good_the_verdict() -> None:
    story = Story(policy=policy(hold="30s")).serving(A).canary(B)
    story.go(B, PASS, after=29)
    assert story.state.weights()[B.revision] == 5
    story.go(B, PASS, after=1.5)
    assert story.state.weights()[B.revision] == 25


def test_a_rollout_without_steps_promotes_once_the_servers_are_known() -> None:
    story = Story(policy=policy(steps=())).serving(A).canary(B)
    assert story.state.weights() == {A.revision: 0, B.revision: 100}


def test_a_failing_canary_loses_all_traffic_at_once_and_is_recorded() -> None:
    story = Story().serving(A).canary(B)
    story.go(B, FAIL)
    assert story.state.weights() == {A.revision: 100, B.revision: 0}
    rejection = story.state.rejected[0]
    assert (rejection.revision, rejection.build, rejection.uri) == (B.revision, B.build, B.uri)
    assert (rejection.reason, rejection.message) == ("ObjectiveBreached", "too slow")
    assert rejection.first_bad_at == timestamp(T0)
    assert (story.told[-1].kind, story.told[-1].reason) == ("Warning", reasons.ROLLED_BACK)
    assert A.revision in story.told[-1].message


@pytest.mark.parametrize("target", [None, C])
def test_a_failing_canary_is_rolled_back_whatever_the_spec_asks_for_by_now(target: Target | None) -> None:
    story = Story().serving(A).canary(B)
    story.go(target, FAIL)
    assert story.state.is_rejected(B.revision)
    assert story.state.weights()[A.revision] == 100


def test_a_canary_is_not_moved_on_while_the_spec_is_not_understood() -> None:
    story = Story().serving(A).canary(B)
    before = story.state
    assert story.go(None, PASS) == before


def test_rejected_content_is_not_tried_again() -> None:
    story = Story().serving(A).canary(B)
    story.go(B, FAIL)
    for _ in range(5):
        story.go(B, after=3600)
    assert story.state.canary is None
    assert story.state.weights() == {A.revision: 100}
    assert story.reasons.count(reasons.ROLLED_BACK) == 1


def test_a_further_change_after_a_rollback_is_tried() -> None:
    story = Story().serving(A).canary(B)
    story.go(B, FAIL)
    story.canary(C)
    assert story.state.weights()[C.revision] == 5
    assert story.state.is_rejected(B.revision)


def test_content_that_was_promoted_is_tried_though_other_content_was_rejected() -> None:
    story = Story().serving(A).canary(B)
    story.go(B, FAIL)
    story.promoted(C)
    assert story.state.weights()[C.revision] == 100


def test_going_back_to_what_serves_withdraws_the_canary_without_blame() -> None:
    story = Story().serving(A).canary(B)
    story.go(A)
    assert story.state.weights() == {A.revision: 100, B.revision: 0}
    assert story.state.canary is None
    assert story.state.rejected == ()
    assert story.reasons[-1] == reasons.SUPERSEDED


def test_a_new_change_replaces_an_undecided_canary() -> None:
    story = Story().serving(A).canary(B)
    story.go(C, PASS)
    assert story.state.canary is None
    story.canary(C)
    assert story.state.weights()[C.revision] == 5
    assert B.revision not in {r.revision for r in story.state.rejected}


def test_a_withdrawn_canary_that_is_wanted_again_starts_from_the_beginning() -> None:
    story = Story().serving(A).canary(B)
    story.go(B, PASS)
    story.go(A)
    story.go(B)
    assert story.state.canary is not None
    assert (story.state.canary.step, story.state.canary.weight) == (-1, 0)
    assert story.state.retiring == ()


def test_previous_stays_warm_for_the_watch_and_then_retires() -> None:
    story = Story(policy=policy(watch="10m")).serving(A).promoted(B)
    assert story.state.previous is not None
    assert story.state.previous.revision == A.revision
    story.go(B, after=599)
    assert A.revision in story.state.revisions()
    story.go(B, after=2)
    assert story.state.previous is None
    assert [other.revision for other in story.state.retiring] == [A.revision]
    story.go(B, after=moves.RETIRE_SECONDS + 1)
    assert story.state.revisions() == (B.revision,)


def test_previous_stays_as_long_as_routers_need_even_without_a_watch() -> None:
    story = Story(policy=policy(watch="0s")).serving(A).promoted(B)
    story.go(B, after=moves.RETIRE_SECONDS - 1)
    assert story.state.weights() == {A.revision: 0, B.revision: 100}


def test_a_return_to_the_warm_previous_revision_needs_no_canary() -> None:
    story = Story().serving(A).promoted(B)
    story.go(A)
    assert story.state.weights() == {A.revision: 100, B.revision: 0}
    assert story.state.previous is not None
    assert story.state.previous.revision == B.revision
    assert story.reasons[-1] == reasons.PROMOTED


def test_a_return_to_a_previous_revision_whose_servers_are_gone_goes_through_a_canary() -> None:
    story = Story().serving(A).promoted(B)
    story.down = {A.revision}
    story.go(A)
    assert story.state.weights() == {A.revision: 0, B.revision: 100}
    assert story.state.canary is not None
    story.down = set()
    story.go(A)
    assert story.state.weights() == {A.revision: 100, B.revision: 0}


def test_a_return_in_the_middle_of_a_canary_withdraws_it_first() -> None:
    story = Story().serving(A).promoted(B).canary(C)
    story.go(A)
    story.go(A)
    assert story.state.weights() == {A.revision: 100, B.revision: 0, C.revision: 0}


def test_the_revision_before_the_previous_retires_at_a_promotion() -> None:
    story = Story().serving(A).promoted(B).promoted(C)
    assert story.state.previous is not None
    assert story.state.previous.revision == B.revision
    assert [other.revision for other in story.state.retiring] == [A.revision]


def test_a_retired_revision_keeps_its_servers_until_every_router_knows() -> None:
    story = Story().serving(A).canary(B)
    story.go(B, FAIL)
    story.go(B, after=moves.RETIRE_SECONDS - 1)
    assert B.revision in story.state.revisions()
    story.go(B, after=2)
    assert story.state.revisions() == (A.revision,)


def test_a_step_undecided_in_time_pauses_once_and_says_so() -> None:
    story = Story(policy=policy(timeout="5m")).serving(A).canary(B)
    story.go(B, UNSURE, after=299)
    assert story.state.canary is not None
    assert not story.state.canary.paused
    story.go(B, UNSURE, after=2)
    assert story.state.canary.paused
    story.go(B, UNSURE)
    assert story.reasons.count(reasons.CANARY_PAUSED) == 1
    assert story.state.weights()[B.revision] == 5
    assert "3 of 100 requests" in story.told[-1].message


def test_a_paused_canary_goes_on_when_the_verdict_comes() -> None:
    story = Story(policy=policy(timeout="5m")).serving(A).canary(B)
    story.go(B, UNSURE, after=301)
    story.go(B, PASS)
    assert story.state.canary is not None
    assert (story.state.canary.weight, story.state.canary.paused) == (25, False)


def test_a_paused_canary_is_still_rolled_back() -> None:
    story = Story(policy=policy(timeout="5m")).serving(A).canary(B)
    story.go(B, UNSURE, after=301)
    story.go(B, FAIL)
    assert story.state.weights()[A.revision] == 100


def test_inconclusive_promote_goes_on_to_the_next_step() -> None:
    story = Story(policy=policy(timeout="5m", onInconclusive="Promote")).serving(A).canary(B)
    story.go(B, UNSURE, after=301)
    assert story.state.weights()[B.revision] == 25
    story.go(B, UNSURE)
    assert story.state.weights()[B.revision] == 25


def test_inconclusive_rollback_rejects() -> None:
    story = Story(policy=policy(timeout="5m", onInconclusive="Rollback")).serving(A).canary(B)
    story.go(B, UNSURE, after=301)
    assert story.state.is_rejected(B.revision)
    assert story.state.rejected[0].reason == "TooFewRequests"


def test_steps_that_are_edited_during_a_canary_apply_to_its_present_step() -> None:
    story = Story().serving(A).canary(B)
    story.policy = policy(steps=(10, 60))
    story.go(B, UNSURE)
    assert story.state.weights()[B.revision] == 10
    story.go(B, PASS)
    assert story.state.weights()[B.revision] == 60


def test_only_the_last_rejections_are_kept() -> None:
    story = Story().serving(A)
    for number in range(moves.REJECTED_KEPT + 2):
        other = Target(f"{number:010d}", f"eb-{number:012d}", f"pvc://models/{number}")
        story.canary(other)
        story.go(other, FAIL)
    assert len(story.state.rejected) == moves.REJECTED_KEPT
    assert story.state.rejected[-1].revision == f"{moves.REJECTED_KEPT + 1:010d}"


def test_replicas_and_readiness_are_counted_into_the_state() -> None:
    story = Story().serving(A).canary(B)
    assert story.state.stable is not None
    assert story.state.canary is not None
    assert (story.state.stable.replicas, story.state.stable.ready, story.state.stable.weight) == (2, 2, 95)
    assert (story.state.canary.replicas, story.state.canary.ready, story.state.canary.weight) == (2, 2, 5)


def test_stable_stays_stable_when_its_servers_go() -> None:
    story = Story().serving(A)
    since = story.state.stable and story.state.stable.since
    story.down = {A.revision}
    story.go(A)
    assert story.state.weights() == {A.revision: 100}
    assert story.state.stable is not None
    assert story.state.stable.since == since
    assert unix(story.state.stable.since or "") <= story.now
