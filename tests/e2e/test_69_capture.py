"""Texts for retraining: only those whose senders agreed, without personal data, in an object that the sidecar alone can write."""

from __future__ import annotations

import time
from collections.abc import Callable

from dev.common.kubectl import Kubectl
from tests.e2e.scenarios.capture import DESTINATION, NAME, Captured, ask
from tests.e2e.support import ONE_CANDIDATE, Make


def test_consented_texts_are_kept_without_personal_data_and_others_are_not(
    captured: Captured, words: Callable[[str], None]
) -> None:
    told = captured.capture
    words(f"status.capture: {told['message']}; {told['captured']} captured, {told['reasons']}")
    assert {record["text"] for record in captured.records} == {"Please write to <EMAIL>, you are wonderful."}
    assert len({record["id"] for record in captured.records}) == 3
    assert all(record["label"] and 0 < record["confidence"] <= 1 for record in captured.records)
    assert {record["revision"] for record in captured.records} == {captured.status["stable"]["revision"]}
    assert any(reason.startswith("without consent") for reason in told["reasons"])
    assert told["trouble"] == ""
    assert [one["reason"] for one in captured.events].count("CaptureOn") == 1
    assert any(name.startswith(f"{NAME}-retain-") for name in captured.jobs)
    assert captured.logs
    assert "jane" not in captured.logs


def test_turning_it_off_takes_the_sidecar_away_and_no_request_fails(
    kubectl: Kubectl, captured: Captured, make: Make, space: str
) -> None:
    deployment = make("capturing-off", "moderation-v1", engine=ONE_CANDIDATE, capture={"destination": DESTINATION})
    deployment.apply()
    deployment.wait_ready(240)
    deployment.manifest["spec"].pop("capture")
    deployment.apply()
    end = time.monotonic() + 120
    while any(
        container["name"] == "capture"
        for pod in kubectl.items("pods", space)
        if pod["metadata"].get("labels", {}).get("tapchanger.dev/deployment") == deployment.name
        for container in pod["spec"].get("initContainers", [])
    ):
        assert time.monotonic() < end, deployment.picture()
        ask(deployment, "Still there, I hope.")
        time.sleep(0.2)
    assert deployment.status()["capture"]["places"][0]["until"]
