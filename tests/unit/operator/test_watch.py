"""After a promotion: a breach puts the revision beside its predecessor again, and the comparison decides."""

from __future__ import annotations

from tapchanger_operator.api import reasons
from tapchanger_operator.decide.rollout import MOST_SUSPICIONS, watched
from tapchanger_operator.snapshot import Given, Steering
from tests.unit.operator.test_rollout import FAIL, PASS, UNSURE, A, B, Story, policy


def suspected(story: Story) -> Story:
    story.go(B, watch=FAIL)
    assert story.state.canary is not None
    return story


def test_a_breach_gives_the_predecessor_half_of_the_requests_at_once() -> None:
    story = suspected(Story().serving(A).promoted(B))
    assert story.state.weights() == {A.revision: 50, B.revision: 50}
    assert story.state.previous is None
    assert story.told[-1].reason == reasons.SUSPECTED


def test_shown_worse_it_is_rolled_back_in_one_step() -> None:
    story = suspected(Story().serving(A).promoted(B))
    story.go(B, FAIL)
    assert story.state.weights() == {A.revision: 100, B.revision: 0}
    assert story.state.is_rejected(B.revision)
    assert [entry.event for entry in story.state.history] == ["Started", "Promoted", "Suspected", "RolledBack"]


def test_no_worse_than_its_predecessor_it_takes_over_again() -> None:
    story = suspected(Story().serving(A).promoted(B))
    story.go(B, UNSURE, after=60)
    assert story.state.weights() == {A.revision: 50, B.revision: 50}
    story.go(B, PASS)
    assert story.state.weights() == {A.revision: 0, B.revision: 100}
    assert story.state.previous is not None
    assert story.state.previous.revision == A.revision


def test_suspicion_ends_after_a_few_times() -> None:
    story = Story().serving(A).promoted(B)
    for _ in range(MOST_SUSPICIONS):
        assert watched(story.policy, story.state)
        suspected(story).go(B, PASS)
    assert not watched(story.policy, story.state)
    story.go(B, watch=FAIL)
    assert story.state.weights()[B.revision] == 100


def test_what_is_not_clear_in_time_is_decided_as_the_policy_says() -> None:
    story = suspected(Story(policy(timeout="1m", onInconclusive="Rollback")).serving(A).promoted(B))
    story.go(B, UNSURE, after=61)
    assert story.state.is_rejected(B.revision)


def test_not_shown_worse_in_time_it_takes_over_again() -> None:
    story = suspected(Story(policy(timeout="5m")).serving(A).promoted(B))
    for _ in range(4):
        story.go(B, UNSURE, after=61)
        assert story.state.canary is not None
        assert story.state.canary.elapsed(story.now) == 0, "only what it did lately counts"
    story.go(B, UNSURE, after=61)
    assert story.state.weights()[B.revision] == 100
    assert f"not shown worse than {A.revision} in 5m" in story.told[-1].message


def test_a_predecessor_that_is_not_up_is_no_help() -> None:
    story = Story().serving(A).promoted(B)
    story.down.add(A.revision)
    story.go(B, watch=FAIL)
    assert story.state.weights() == {A.revision: 0, B.revision: 100}
    assert story.state.canary is None


def test_the_last_weight_is_a_limit_to_what_a_suspect_gets() -> None:
    story = suspected(Story(policy((5, 20))).serving(A).promoted(B))
    assert story.state.weights() == {A.revision: 80, B.revision: 20}
    story = suspected(Story(policy((5, 90))).serving(A).promoted(B))
    assert story.state.weights() == {A.revision: 50, B.revision: 50}


def test_without_steps_a_suspect_is_compared_all_the_same() -> None:
    story = Story(policy(())).serving(A)
    story.canary(B)
    assert story.state.weights()[B.revision] == 100
    suspected(story).go(B, PASS)
    assert story.state.weights()[B.revision] == 100


def test_without_a_watch_there_is_no_suspicion() -> None:
    story = Story(policy(watch="0s")).serving(A).promoted(B)
    story.go(B, watch=FAIL)
    assert story.state.weights()[B.revision] == 100


def test_a_watch_ends_with_its_time() -> None:
    story = Story(policy(watch="10m")).serving(A).promoted(B)
    story.go(B, after=601)
    assert not watched(story.policy, story.state)
    assert story.state.previous is None


def test_holding_a_rollout_does_not_hold_up_the_rescue() -> None:
    story = Story().serving(A).promoted(B)
    story.steering = Steering(Given("night"))
    suspected(story).go(B, FAIL)
    assert story.state.weights() == {A.revision: 100, B.revision: 0}


def test_going_back_by_the_spec_ends_a_suspicion_at_once() -> None:
    story = suspected(Story().serving(A).promoted(B))
    story.go(A)
    assert story.state.weights() == {A.revision: 100, B.revision: 0}
    assert not story.state.rejected
