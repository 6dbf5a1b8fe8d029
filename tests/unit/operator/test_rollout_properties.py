"""A rollout under any sequence of specs, verdicts, failures and restarts."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tapchanger_operator.api import controls, reasons
from tapchanger_operator.api.base import unix
from tapchanger_operator.api.controls import Order
from tapchanger_operator.api.rollout import RolloutSpec
from tapchanger_operator.decide import moves
from tapchanger_operator.decide.rollout import Seen, advance, watched
from tapchanger_operator.decide.state import Judgement, Outcome, State, Target
from tapchanger_operator.snapshot import Given, Servers, Steering

TARGETS = [Target(letter * 10, f"eb-{letter * 12}", f"pvc://models/{letter}") for letter in "abcd"]
UNSURE = Judgement("Inconclusive", "TooFewRequests", "nothing new since")
RESTART_SECONDS = 0.2
TOLERANCE = 0.002
"""Times are stored in milliseconds."""

policies = st.builds(
    lambda weights, hold, timeout, inconclusive, watch: RolloutSpec.model_validate(
        {
            "steps": [{"weight": weight, "hold": hold} for weight in sorted(weights)],
            "analysis": {"timeout": timeout, "onInconclusive": inconclusive},
            "watch": watch,
        }
    ),
    st.sets(st.integers(1, 99), max_size=4),
    st.sampled_from(["0s", "5s"]),
    st.sampled_from(["10s", "5m"]),
    st.sampled_from(["Pause", "Promote", "Rollback"]),
    st.sampled_from(["0s", "20s", "30m"]),
)
judgements = st.sampled_from(
    [Judgement(result, f"{result}Reason", f"it is {result}") for result in ("Pass", "Fail", "Inconclusive", "Error")]
)


def place(state: State) -> Any:
    """Where a rollout stands, without its times."""
    canary = state.canary and (state.canary.revision, state.canary.step, state.canary.weight, state.canary.paused)
    return (
        state.stable and (state.stable.revision, state.stable.weight, state.stable.since is None),
        canary,
        state.previous and state.previous.revision,
        {other.revision for other in state.retiring},
        [(rejection.revision, rejection.reason) for rejection in state.rejected],
    )


class Rollout(RuleBasedStateMachine):
    """Passes over one deployment whose world changes between them."""

    @initialize(policy=policies, first=st.sampled_from(TARGETS))
    def start(self, policy: RolloutSpec, first: Target) -> None:
        self.policy = policy
        self.target: Target | None = first
        self.state = State()
        self.before = State()
        self.now = 1_700_000_000.0
        self.up = {t.revision: True for t in TARGETS}
        self.seen_available: set[str] = set()
        self.last_traffic: dict[str, float] = {}
        self.served = False
        self.steering = Steering()

    def _servers(self, state: State) -> dict[str, Servers]:
        return {r: Servers(1, int(self.up[r]), available=self.up[r]) for r in state.revisions()}

    def _advance(self, state: State, judgement: Judgement | None, now: float) -> Outcome:
        judged = judgement if state.canary and state.canary.step_started_at else None
        watch = judgement if watched(self.policy, state) else None
        return advance(self.policy, state, Seen(self.target, self._servers(state), judged, watch, self.steering), now)

    def _settled(self, state: State, now: float) -> State:
        """Passes without new facts until nothing changes, which must be soon and silent in the end."""
        for _ in range(6):
            outcome = self._advance(state, UNSURE, now)
            if outcome.state == state:
                assert outcome.changes == ()
                return state
            state = outcome.state
        raise AssertionError(f"a rollout does not come to rest: {state}")

    @rule(wanted=st.sampled_from([None, *TARGETS]))
    def spec_changes(self, wanted: Target | None) -> None:
        self.target = wanted

    @rule(pause=st.sampled_from([None, Given(""), Given("not at night", "kim")]))
    def someone_pauses_or_goes_on(self, pause: Given | None) -> None:
        self.steering = replace(self.steering, pause=pause)

    @rule(
        order=st.sampled_from(controls.ORDERS), of=st.sampled_from(TARGETS), step=st.integers(1, 4), given=st.booleans()
    )
    def someone_orders(self, order: Order, of: Target, step: int, given: bool) -> None:
        where = f"/{step}" if order in controls.NEEDS_STEP else ""
        value = Given(f"{of.revision}{where} because", "kim")
        others = {known: what for known, what in self.steering.orders.items() if known != order}
        self.steering = replace(self.steering, orders={**others, order: value} if given else others)

    @rule(policy=policies)
    def policy_changes(self, policy: RolloutSpec) -> None:
        self.policy = policy

    @rule(of=st.sampled_from(TARGETS), up=st.booleans())
    def servers_change(self, of: Target, up: bool) -> None:
        self.up[of.revision] = up

    @rule(seconds=st.sampled_from([0.5, 3.0, 4.0, 11.0, 30.0, 400.0, 2000.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(judgement=judgements, count=st.integers(1, 5), gap=st.sampled_from([1.0, 3.5]))
    def passes(self, judgement: Judgement, count: int, gap: float) -> None:
        for _ in range(count):
            self.now += gap
            self._pass(judgement)

    def _pass(self, judgement: Judgement) -> None:
        old, policy = self.state, copy.deepcopy(self.policy)
        servers = self._servers(old)
        self.seen_available |= {revision for revision, seen in servers.items() if seen.available}
        outcome = self._advance(old, judgement, self.now)
        assert self.policy == policy
        self._stable_is_never_lost(old, outcome)
        self._a_restart_leads_to_the_same_place(old, outcome.state, judgement)
        self._settled(outcome.state, self.now)
        self.before, self.state = old, outcome.state
        self.served = self.served or bool(self.state.weights())
        self.last_traffic |= {revision: self.now for revision, weight in old.weights().items() if weight}
        self._servers_outlive_their_traffic()

    def _stable_is_never_lost(self, old: State, outcome: Outcome) -> None:
        if old.stable is None or old.stable.since is None:
            return
        new = outcome.state.stable
        assert new is not None
        assert new.since is not None
        if new.revision != old.stable.revision:
            told = {change.reason for change in outcome.changes}
            if reasons.PROMOTED in told:
                assert outcome.state.previous is not None
                assert outcome.state.previous.revision == old.stable.revision
            else:
                assert told & {reasons.SUSPECTED, reasons.ROLLED_BACK}
                assert old.previous is not None
                assert new.revision == old.previous.revision

    def _a_restart_leads_to_the_same_place(self, old: State, new: State, judgement: Judgement) -> None:
        """The status of the pass was not written: the next pass starts from the old one, a little later."""
        later = self.now + RESTART_SECONDS
        repeated = self._advance(old, judgement, later).state
        assert place(self._settled(repeated, later)) == place(self._settled(new, later))

    @invariant()
    def weights_add_up(self) -> None:
        weights = self.state.weights()
        assert not weights or sum(weights.values()) == 100
        assert all(0 <= weight <= 100 for weight in weights.values())
        assert set(weights) <= set(self.state.revisions())
        assert bool(weights) == self.served

    @invariant()
    def weights_in_status_are_the_routers(self) -> None:
        weights = self.state.weights()
        for known in (self.state.stable, self.state.canary):
            if known and weights:
                assert weights[known.revision] == known.weight

    @invariant()
    def only_proven_revisions_get_traffic(self) -> None:
        for revision, weight in self.state.weights().items():
            if weight:
                assert revision in self.seen_available
                assert not self.state.is_rejected(revision)

    def _servers_outlive_their_traffic(self) -> None:
        for revision, last in self.last_traffic.items():
            if revision not in self.state.revisions():
                assert self.now - last >= moves.RETIRE_SECONDS - TOLERANCE

    @invariant()
    def retiring_always_ends(self) -> None:
        for other in self.state.retiring:
            assert unix(other.until) <= self.now + moves.RETIRE_SECONDS + TOLERANCE
        later = replace(self.state, canary=None)
        rested = advance(self.policy, later, Seen(None, {}), self.now + 2 * moves.RETIRE_SECONDS)
        assert {r.revision for r in rested.state.retiring} <= {
            self.state.previous.revision if self.state.previous else ""
        }

    @invariant()
    def a_paused_canary_has_traffic(self) -> None:
        if self.state.canary and self.state.canary.paused:
            assert self.state.canary.weight > 0


TestRollout = Rollout.TestCase
TestRollout.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None, phases=set(Phase) - {Phase.explain}
)
