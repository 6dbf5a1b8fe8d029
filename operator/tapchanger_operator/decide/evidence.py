"""What goes into a verdict on a canary and what comes out: frozen values, free of the API's and observer's types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from tapchanger_operator.decide.sequential import Portfolio

Result = Literal["Pass", "Fail", "Inconclusive", "Error"]

OBJECTIVES_MET: Final = "ObjectivesMet"
"""Pass: enough requests in this step, and they speak for the budget of each objective."""
OBJECTIVE_BREACHED: Final = "ObjectiveBreached"
"""Fail: the canary breaks an objective, and the stable revision at the same time doesn't do as badly."""
NOT_SHOWN_WORSE: Final = "NotShownWorse"
"""Inconclusive: an objective is broken, but it is not shown that the canary does worse than the stable revision."""
TOO_FEW_REQUESTS: Final = "TooFewRequests"
"""Inconclusive: the canary has answered fewer than `min_requests` in this step."""
TOO_FEW_LABELS: Final = "TooFewLabels"
"""Inconclusive: fewer of the canary's answers have been labelled than `min_labels`."""
UNDECIDED: Final = "Undecided"
"""Inconclusive: enough requests, but the bad rate is too close to the budget to pass or to fail."""
NO_REQUESTS: Final = "NoRequests"
"""Inconclusive: not one request of the canary has been seen."""
OBSERVER_SILENT: Final = "ObserverSilent"
"""Inconclusive: the observer gave no data, or its data is too old."""
TIMED_OUT: Final = "TimedOut"
"""Inconclusive: the step's time is over; `onInconclusive` says what comes next."""
INVALID_COUNTS: Final = "InvalidCounts"
"""Error: the figures can't be true, or there is no objective to judge by."""


@dataclass(frozen=True, slots=True)
class Objective:
    """A promise to users, with the share `target` (0 < target < 1) of requests that keep it.

    `latency`: answered within `threshold_seconds`; `availability`: answered without a server's error; `accuracy`: the answer
    was right, of the requests that have been labelled, in `slice` if there is one. `name` is unique.
    """

    name: str
    kind: Literal["latency", "availability", "accuracy"]
    target: float
    threshold_seconds: float | None = None
    slice: str | None = None
    min_labels: int = 0

    @property
    def budget(self) -> float:
        """The share of requests that may be bad."""
        return 1.0 - self.target

    @property
    def key(self) -> str:
        """What the evidence gathered so far is about; when it changes, evidence starts anew."""
        return f"{self.name}|{self.kind}|{self.threshold_seconds}|{self.target}"

    @property
    def labelled(self) -> bool:
        """Whether it counts labels that come later, rather than requests."""
        return self.kind == "accuracy"


@dataclass(frozen=True, slots=True)
class Counts:
    """Requests that ended, and the bad ones among them."""

    requests: int = 0
    bad: int = 0

    @property
    def rate(self) -> float:
        """The share of bad requests; 0 without requests."""
        return self.bad / self.requests if self.requests else 0.0


@dataclass(frozen=True, slots=True)
class ObjectiveCounts:
    """One objective's counts of canary and stable revision since the canary began to take traffic, and since its step
    did.
    """

    canary: Counts = Counts()
    stable: Counts = Counts()
    step_canary: Counts = Counts()
    step_stable: Counts = Counts()


@dataclass(frozen=True, slots=True)
class Settings:
    """How sure a verdict must be. `false_alarm` is a probability, times are in seconds.

    `min_requests` are expected within `timeout`. A step waits for `patience` before it is passed by no more than that.
    """

    false_alarm: float = 0.01
    min_requests: int = 100
    timeout: float = 900.0
    patience: float = 300.0
    stale_after: float = 30.0


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a canary.

    `weight`: percent of requests routed to the canary. `elapsed`: seconds in this step. `data_age`: seconds since the
    newest data, None when the observer gave none. `counts`: by name of the objective; a missing one counts as no
    requests.
    """

    counts: Mapping[str, ObjectiveCounts]
    weight: int
    elapsed: float
    data_age: float | None = 0.0


@dataclass(frozen=True, slots=True)
class Evidence:
    """One objective's figures since the canary began.

    `budget_e` speaks against "within budget", `stable_e` against "no worse than stable" (None where there is nothing
    to compare with); the canary fails when the sum over its objectives of the smaller of the two reaches `threshold`.
    `interval` holds the true bad rate with 95 % at all times.
    """

    objective: str
    canary: Counts
    stable: Counts
    budget_e: float
    stable_e: float | None
    threshold: float
    interval: tuple[float, float]

    @property
    def e_value(self) -> float:
        """The smaller of the e-values that apply: what speaks for "it breaks the objective and is worse than stable"."""
        return self.budget_e if self.stable_e is None else min(self.budget_e, self.stable_e)

    @property
    def over_budget(self) -> bool:
        """Whether it is shown that the canary breaks the objective."""
        return self.budget_e >= self.threshold


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the data say of a canary; `objective` names the one that decided, where one did."""

    result: Result
    reason: str
    message: str
    evidence: tuple[Evidence, ...] = ()
    objective: str | None = None


@dataclass(frozen=True, slots=True)
class ObjectiveState:
    """What must be remembered of an objective between two looks.

    `seen`: the canary's (requests, bad) whose evidence `budget` holds. `compared`: canary's and stable's (requests,
    bad, requests, bad) whose evidence `versus` holds, until the step was `compared_at` seconds old; those since then came at
    `weight` percent. `blocked`: the same of `blocks`, whose last block ended when the step was `block_ended` seconds old;
    until it is `troubled_until` seconds old a block in which the stable revision broke the budget is remembered.
    """

    key: str
    seen: tuple[int, int]
    compared: tuple[int, int, int, int]
    budget: Portfolio
    versus: Portfolio
    weight: int
    blocks: Portfolio
    blocked: tuple[int, int, int, int]
    compared_at: float = 0.0
    block_ended: float = 0.0
    troubled_until: float = 0.0


@dataclass(frozen=True, slots=True)
class AnalysisState:
    """The memory of a canary's analysis: it comes out of a look, lives in status, and goes into the next look."""

    objectives: tuple[ObjectiveState, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "objectives": [
                {
                    "key": state.key,
                    "seen": list(state.seen),
                    "compared": list(state.compared),
                    "budget": list(state.budget.log_wealth),
                    "versus": list(state.versus.log_wealth),
                    "weight": state.weight,
                    "blocks": list(state.blocks.log_wealth),
                    "blocked": list(state.blocked),
                    "comparedAt": state.compared_at,
                    "blockEnded": state.block_ended,
                    "troubledUntil": state.troubled_until,
                }
                for state in self.objectives
            ]
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any] | None) -> AnalysisState:
        """Reads what :meth:`to_dict` wrote; nothing is a fresh state. Raises ValueError when it can't be read."""
        if not value:
            return cls()
        try:
            return cls(tuple(_objective_state(entry) for entry in value["objectives"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"status.analysis.state can't be read ({error!r}); remove it, and the analysis starts anew"
            ) from error


def _objective_state(entry: Mapping[str, Any]) -> ObjectiveState:
    requests, bad = (int(count) for count in entry["seen"])
    return ObjectiveState(
        key=str(entry["key"]),
        seen=(requests, bad),
        compared=_four(entry["compared"]),
        budget=Portfolio(tuple(float(wealth) for wealth in entry["budget"])),
        versus=Portfolio(tuple(float(wealth) for wealth in entry["versus"])),
        weight=int(entry.get("weight", 0)),
        blocks=Portfolio(tuple(float(wealth) for wealth in entry.get("blocks", ()))),
        blocked=_four(entry.get("blocked", (0, 0, 0, 0))),
        compared_at=float(entry.get("comparedAt", 0.0)),
        block_ended=float(entry.get("blockEnded", 0.0)),
        troubled_until=float(entry.get("troubledUntil", 0.0)),
    )


def _four(counts: Sequence[Any]) -> tuple[int, int, int, int]:
    first, second, third, fourth = (int(count) for count in counts)
    return first, second, third, fourth


def added(now: tuple[int, ...], before: tuple[int, ...]) -> tuple[int, ...]:
    """What counts have grown by."""
    return tuple(new - old for new, old in zip(now, before, strict=True))


def lost(now: tuple[int, ...], before: tuple[int, ...]) -> bool:
    """Whether the observer has forgotten requests that it told of before."""
    return any(difference < 0 for difference in added(now, before))
