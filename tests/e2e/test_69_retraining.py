"""Traffic that changes for good: the model is trained anew on what users send now, tested beside the old one and promoted."""

from __future__ import annotations

from collections.abc import Callable

from dev.common.kubectl import condition
from tests.e2e.scenarios.retraining import FOLDER, Retrained


def test_drift_trains_the_model_anew_and_what_it_leaves_is_tested_and_promoted(
    retrained: Retrained, words: Callable[[str], None]
) -> None:
    feature = retrained.started["inputs"]["drift"]["feature"]
    words(
        f"retraining: a run began {retrained.begun:.0f} s after the texts changed ({feature}), "
        f"its content served after {retrained.took:.0f} s"
    )
    free = condition({"status": retrained.drifted}, "DriftFree")
    assert (free["status"], free["reason"]) == ("False", "Drifted")
    assert retrained.started["trigger"] == "Drift"
    assert retrained.job["spec"]["template"]["spec"]["automountServiceAccountToken"] is False
    assert retrained.run["outcome"] == "Promoted", retrained.run
    before, after = retrained.flagged
    assert after < before / 2
    expected = "Drifted RetrainingStarted RetrainingContent CanaryStarting Promoted RetrainingPromoted"
    assert set(expected.split()) <= set(retrained.events)


def test_its_lineage_goes_from_the_data_to_the_revision(retrained: Retrained) -> None:
    """Data → run → digest → build → revision, each link as the cluster has it."""
    run, status = retrained.run, retrained.status
    assert run["inputs"]["revision"] == retrained.first["stable"]["revision"]
    assert run["inputs"]["driftDigest"].startswith("sha256:")
    assert [data["uri"] for data in run["data"]] == [f"pvc://models/{FOLDER}/{name}.csv" for name in ("new", "old")]
    assert run["figures"]["accuracy_new"] > run["figures"]["accuracy_new_before"]
    assert retrained.build["spec"]["model"]["digest"] == run["digest"] != run["inputs"]["content"]
    assert (status["stable"]["revision"], status["stable"]["build"]) == (run["revision"], run["build"])
    promoted = [entry for entry in status["history"] if entry["event"] == "Promoted"]
    assert promoted[-1]["revision"] == run["revision"]
