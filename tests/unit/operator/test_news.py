"""Which statuses are worth a write."""

from __future__ import annotations

from typing import Any

import pytest

from tapchanger_operator.api import reasons
from tapchanger_operator.api.drift import DriftAccuracy, DriftStatus
from tapchanger_operator.api.quality import QualityStatus, RevisionQuality
from tapchanger_operator.api.status import Condition, SloStatus, TransformerDeploymentStatus
from tapchanger_operator.status.news import settled

SLO = SloStatus(
    requests=1000, p50="4ms", p90="9.1ms", p99="12ms", objectives=["99% within 50ms: 99.9% of 1000 requests"]
)
DRIFT = DriftStatus(
    verdict="none", message="evidence 3", revision="r1", evidence=3, at="2026-01-01T00:00:00.000Z", state={"until": 1},
    accuracy=DriftAccuracy(estimate=0.9, low=0.8, high=1, reliable=True),
)  # fmt: skip


def status(slo: SloStatus | None = SLO, drift: DriftStatus | None = DRIFT, **words: str) -> TransformerDeploymentStatus:
    said = {reasons.SLO_MET: "kept (1000 requests)", reasons.DRIFT_FREE: "evidence 3", reasons.READY: "serves", **words}
    conditions = [
        Condition(
            type=kind, status="True", reason="Good", message=message, last_transition_time="", observed_generation=1
        )
        for kind, message in said.items()
    ]
    return TransformerDeploymentStatus(slo=slo, drift=drift, conditions=conditions)


@pytest.mark.parametrize(
    "figures",
    [
        {"slo": SLO.model_copy(update={"requests": 1099, "p99": "14ms"})},
        {"drift": DRIFT.model_copy(update={"message": "evidence 4", "evidence": 4, "state": {"until": 2}, "at": "x"})},
        {"slo": SLO, "SLOMet": "kept (1099 requests)", "DriftFree": "evidence 4"},
    ],
)
def test_figures_that_hardly_moved_are_no_news(figures: dict[str, Any]) -> None:
    assert settled(status(**figures), status()) == status()


@pytest.mark.parametrize(
    "news",
    [
        {"slo": SLO.model_copy(update={"requests": 1101})},
        {"slo": SLO.model_copy(update={"p99": "1.23e+03s"})},
        {"slo": SLO.model_copy(update={"p99": "16ms"})},
        {"slo": SLO.model_copy(update={"p99": None})},
        {"slo": None},
        {"drift": DRIFT.model_copy(update={"verdict": "tokens", "feature": "tokens"})},
        {"drift": DRIFT.model_copy(update={"revision": "r2"})},
        {"drift": DRIFT.model_copy(update={"accuracy": DriftAccuracy(estimate=0.9, low=0.8, high=1, reliable=False)})},
        {"drift": None},
        {"Ready": "rolls out"},
    ],
)
def test_what_a_person_would_act_on_is_news(news: dict[str, Any]) -> None:
    assert settled(status(**news), status()) != status()


QUALITY = QualityStatus(revision="r1", labelled=100, accuracy=0.9, at="2026-01-01T00:00:00.000Z")


@pytest.mark.parametrize(
    ("update", "told"),
    [
        ({"at": "2026-01-01T00:00:59.000Z", "labelled": 110, "accuracy": 0.91}, False),
        ({"at": "2026-01-01T00:01:00.000Z", "labelled": 101}, True),
        ({"at": "2026-01-01T09:00:00.000Z"}, False),
        ({"labelled": 111}, True),
        ({"warnings": ["labels came for unsafe answers only"]}, True),
        ({"others": [RevisionQuality(revision="r2", role="canary", labelled=1)]}, True),
        ({"revision": "r2"}, True),
    ],
)
def test_labels_are_told_when_a_tenth_more_has_come_or_they_say_something_else(
    update: dict[str, Any], told: bool
) -> None:
    before = status().model_copy(update={"quality": QUALITY})
    after = status().model_copy(update={"quality": QUALITY.model_copy(update=update)})
    assert (settled(after, before).quality != before.quality) is told
