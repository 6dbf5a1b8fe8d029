"""Traffic that changes: requests like the first ones are no drift, other ones are, with the name of what moved."""

from __future__ import annotations

from collections.abc import Callable

from dev.common.kubectl import condition
from tests.e2e.scenarios.drift import Noticed


def test_texts_of_another_kind_are_noticed_and_named(noticed: Noticed, words: Callable[[str], None]) -> None:
    words(f"noticed {noticed.seconds:.0f} s after the texts changed: {noticed.drift['message']}")
    free = condition({"status": noticed.status}, "DriftFree")
    assert (free["status"], free["reason"]) == ("False", "Drifted")
    assert noticed.drift["reference"].startswith("the first ")
    assert noticed.drift["texts"] > 0
    assert len(noticed.events) == 1
