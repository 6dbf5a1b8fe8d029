"""Orders that people give by annotations: what each does, once, and what is answered where it can't be done."""

from __future__ import annotations

import pytest

from tapchanger_operator.api import reasons
from tapchanger_operator.api.base import unix
from tapchanger_operator.api.controls import Order
from tapchanger_operator.api.status import ControlStatus
from tapchanger_operator.snapshot import Given, Steering
from tests.unit.operator.test_rollout import FAIL, PASS, UNSURE, A, B, C, Story, policy


def order(story: Story, name: Order, value: str, by: str = "kim") -> None:
    story.steering = Steering(story.steering.pause, {name: Given(value, by)})


def answer(story: Story) -> ControlStatus:
    (found,) = story.state.controls
    return found


def test_promote_gives_the_canary_all_requests_at_once() -> None:
    story = Story().serving(A).canary(B)
    order(story, "promote", f"{B.revision} seen in staging")
    state = story.go(B, UNSURE)
    assert state.weights() == {A.revision: 0, B.revision: 100}
    assert state.canary is None
    assert (answer(story).done, answer(story).by) == (True, "kim")
    entry = state.history[-1]
    assert (entry.event, entry.revision, entry.by) == ("Promoted", B.revision, "kim")
    assert "ordered by kim: seen in staging" in entry.message


def test_promote_waits_for_no_verdict_but_for_servers() -> None:
    story = Story(down={B.revision}).serving(A)
    story.go(B)
    order(story, "promote", B.revision)
    story.go(B)
    assert not answer(story).done
    assert answer(story).message == f"the servers of {B.revision} are not ready yet"
    assert story.state.weights() == {A.revision: 100, B.revision: 0}


def test_an_order_for_another_revision_hits_nobody_and_is_told_once() -> None:
    story = Story().serving(A).canary(B)
    order(story, "promote", C.revision)
    for _ in range(3):
        story.go(B, UNSURE)
    assert story.state.canary is not None
    assert answer(story).message == f"{C.revision} is not the canary: the canary is {B.revision}"
    assert story.reasons.count(reasons.ORDER_REFUSED) == 1


def test_an_order_that_is_not_understood_is_answered_with_what_to_write() -> None:
    story = Story().serving(A).canary(B)
    order(story, "skip", B.revision)
    story.go(B, UNSURE)
    assert not answer(story).done
    assert answer(story).message.endswith("write REVISION/STEP reason")


def test_skip_passes_one_step_and_not_the_next() -> None:
    story = Story().serving(A).canary(B)
    order(story, "skip", f"{B.revision}/1 no traffic at night")
    for _ in range(3):
        story.go(B, UNSURE)
    assert story.state.canary is not None
    assert (story.state.canary.step, story.state.canary.weight) == (1, 25)
    assert answer(story).done


def test_skip_of_the_last_step_promotes() -> None:
    story = Story(policy((5,))).serving(A).canary(B)
    order(story, "skip", f"{B.revision}/1 seen in staging")
    story.go(B, UNSURE)
    assert story.state.weights()[B.revision] == 100
    assert "step skipped, ordered by kim: seen in staging" in story.told[-1].message


def test_skip_of_a_step_that_is_over_is_refused() -> None:
    story = Story().serving(A).canary(B)
    story.go(B, PASS)
    order(story, "skip", f"{B.revision}/1 too late")
    story.go(B, UNSURE)
    assert answer(story).message == f"{B.revision} is not at step 1 but at step 2"


def test_a_verdict_on_the_step_before_does_not_move_the_next() -> None:
    story = Story().serving(A).canary(B)
    order(story, "skip", f"{B.revision}/1 because")
    story.go(B, PASS)
    assert story.state.canary is not None
    assert story.state.canary.step == 1


def test_resume_gives_a_step_that_waits_its_time_again() -> None:
    story = Story(policy(timeout="1m")).serving(A).canary(B)
    story.go(B, UNSURE, after=61)
    assert story.state.canary is not None
    assert story.state.canary.paused
    order(story, "resume", f"{B.revision}/1 traffic is back")
    state = story.go(B, UNSURE)
    assert state.canary is not None
    assert not state.canary.paused
    assert state.canary.elapsed(story.now) == 0
    story.go(B, UNSURE, after=50)
    assert story.state.canary is not None
    assert not story.state.canary.paused


def test_abort_rolls_the_canary_back() -> None:
    story = Story().serving(A).canary(B)
    order(story, "abort", f"{B.revision} wrong labels")
    state = story.go(B, PASS)
    assert state.canary is None
    assert state.weights() == {A.revision: 100, B.revision: 0}
    assert (state.rejected[0].reason, state.rejected[0].message) == (reasons.ABORTED, "ordered by kim: wrong labels")
    assert (state.history[-1].event, state.history[-1].by) == ("RolledBack", "kim")


def test_abort_after_the_promotion_returns_to_the_warm_predecessor() -> None:
    story = Story().serving(A).promoted(B)
    order(story, "abort", B.revision)
    state = story.go(B)
    assert state.weights() == {A.revision: 100, B.revision: 0}
    assert state.is_rejected(B.revision)
    assert state.previous is None
    assert answer(story).done


def test_abort_of_what_serves_starts_the_canary_beside_it_anew() -> None:
    story = Story().serving(A).promoted(B).canary(C)
    order(story, "abort", B.revision)
    state = story.go(C, UNSURE)
    assert state.weights() == {A.revision: 100, B.revision: 0, C.revision: 0}
    assert [other.revision for other in state.retiring] == [B.revision]
    assert state.canary is not None
    assert (state.canary.revision, state.canary.step) == (C.revision, -1)


def test_abort_without_a_predecessor_to_return_to_is_refused() -> None:
    story = Story().serving(A)
    order(story, "abort", A.revision)
    story.go(A)
    assert answer(story).message == f"{A.revision} is not the canary: there is no canary"
    assert story.state.weights() == {A.revision: 100}


def test_abort_is_refused_where_the_predecessor_is_not_up() -> None:
    story = Story().serving(A).promoted(B)
    story.down.add(A.revision)
    order(story, "abort", B.revision)
    state = story.go(B)
    assert state.weights()[B.revision] == 100
    assert "nothing could take over" in answer(story).message


def test_retry_tries_rejected_content_again() -> None:
    story = Story().serving(A).canary(B)
    story.go(B, FAIL)
    order(story, "retry", f"{B.revision} the database is back")
    state = story.go(B)
    assert not state.rejected
    assert state.canary is not None
    assert state.canary.revision == B.revision
    assert [entry.event for entry in state.history] == ["Started", "RolledBack", "Retried", "Started"]


def test_retry_of_what_was_not_rolled_back_is_refused() -> None:
    story = Story().serving(A)
    order(story, "retry", B.revision)
    story.go(A)
    assert answer(story).message == f"{B.revision} was not rolled back; rolled back were: none"


def test_an_order_is_carried_out_once_and_again_only_when_given_anew() -> None:
    story = Story().serving(A).canary(B)
    order(story, "abort", B.revision)
    story.go(B, UNSURE)
    story.steering = Steering(None, {**story.steering.orders, "retry": Given(f"{B.revision} again")})
    for _ in range(6):
        story.go(B, UNSURE)
    assert story.state.canary is not None, "the abort that stands there still was for the canary before"
    story.steering = Steering()
    story.go(B, UNSURE)
    assert story.state.controls == ()
    order(story, "abort", B.revision)
    story.go(B, UNSURE)
    assert story.state.canary is None


@pytest.mark.parametrize("judgement", [PASS, UNSURE], ids=["pass", "undecided"])
def test_a_held_canary_stays_where_it_is_and_its_clock_stands_still(judgement: object) -> None:
    story = Story(policy(timeout="1m")).serving(A).canary(B)
    story.steering = Steering(Given("release freeze", "kim"))
    for _ in range(5):
        story.go(B, judgement, after=100)  # type: ignore[arg-type]
    assert story.state.canary is not None
    assert (story.state.canary.step, story.state.canary.paused) == (0, False)
    story.steering = Steering()
    story.go(B, UNSURE)
    assert story.state.canary.elapsed(story.now) < 120
    assert unix(story.state.canary.step_started_at or "") < story.now - 500


def test_a_held_canary_is_rolled_back_all_the_same() -> None:
    story = Story().serving(A).canary(B)
    story.steering = Steering(Given("release freeze"))
    story.go(B, FAIL)
    assert story.state.is_rejected(B.revision)


def test_nothing_starts_while_it_is_held() -> None:
    story = Story().serving(A)
    story.steering = Steering(Given(""))
    story.go(B, after=100)
    assert story.state.canary is None
    story.steering = Steering()
    story.go(B)
    assert story.state.canary is not None
