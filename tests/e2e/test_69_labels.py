"""An application asks and sends labels later: status says how often answers are right, and a wrong canary is taken back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dev.common.kubectl import Kubectl, condition
from dev.common.waiting import until
from tests.e2e.scenarios.labels import Told

LIMIT_SECONDS = 60.0


@pytest.fixture(scope="module")
def told(by_labels: Told, kubectl: Kubectl, space: str) -> Iterator[Told]:
    yield by_labels
    kubectl.delete("tdep", by_labels.deployment.name, space)


def test_quality_tells_accuracy_with_its_interval_and_slices(told: Told, words: Callable[[str], None]) -> None:
    quality = told.quality
    words(f"quality after {quality['labelled']} labels: {quality['message']}")
    assert quality["revision"] == told.old
    assert 0.88 <= quality["accuracy"] <= 1.0
    assert quality["low"] < quality["accuracy"] < quality["high"]
    assert quality["eceLow"] <= quality["ece"] <= quality["eceHigh"]
    assert quality["share"] > 0.3, "the servers' spans say what was answered"
    assert any(one["name"].startswith("length=") or one["name"].startswith("answer=") for one in quality["slices"])


def test_labels_by_trace_id_are_counted(told: Told) -> None:
    assert told.application.counted >= 100
    assert not told.application.failures
    assert len(told.application.refused) <= 0.05 * told.application.counted, told.application.refused[:3]


def test_a_canary_whose_answers_are_wrong_is_rolled_back_for_accuracy(told: Told, words: Callable[[str], None]) -> None:
    rejection = told.status["rejected"][-1]
    words(f"rollback for accuracy: {told.seconds:.0f} s after the canary's first request, {rejection['message']}")
    assert rejection["reason"] == "ObjectiveBreached"
    assert rejection["uri"] == "pvc://models/moderation-wrong"
    assert "labelled answers were wrong" in rejection["message"]
    assert told.status["stable"]["revision"] == told.old
    assert told.seconds <= LIMIT_SECONDS
    assert {revision for _, revision in told.application.revisions[-20:]} == {told.old}


def test_the_objective_stands_in_the_slo_and_the_stable_revision_keeps_it(told: Told) -> None:
    def kept() -> dict[str, Any] | None:
        status = told.deployment.status()
        lines = " ".join(status.get("slo", {}).get("objectives", []))
        return status if "85% right: 9" in lines else None

    status = until("the accuracy in status.slo", kept, 60, last=told.deployment.picture)
    assert condition({"status": status}, "SLOMet")["status"] == "True"
