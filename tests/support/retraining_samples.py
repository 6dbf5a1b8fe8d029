"""Runs that train a model anew, as the operator's tests share them."""

from __future__ import annotations

from typing import Any

from tapchanger_operator.api.retraining import RetrainingStatus, RunFrom, RunStatus
from tapchanger_operator.api.status import TransformerDeploymentStatus
from tapchanger_operator.snapshot import RouterSeen, Snapshot
from tapchanger_serving.contract.retraining import DriftBucketReport, DriftFigureReport, DriftReport
from tests.support.samples import OWNER, spec

REPORT = DriftReport(
    revision="3f9d0c81aa",
    feature="vocabulary",
    signal="rare",
    since="2026-11-24T09:12:40.000Z",
    reference="2101 texts",
    evidence=310000.0,
    threshold=259200.0,
    texts=1840,
    mmd=0.07,
    figures=(
        DriftFigureReport(feature="vocabulary", signal="rare", psi=0.81, ks=0.3, chi_square=412.1, p_value=1e-80),
    ),
    buckets=(DriftBucketReport(name="14 % to 20 %", reference=0.079, now=0.25),),
)
TRAINER: dict[str, Any] = {"template": {"spec": {"containers": [{"name": "train", "image": "trainer:1"}]}}}
FULL_TRAINER: dict[str, Any] = {
    "backoffLimit": 2,
    "metadata": {"labels": {"kueue.x-k8s.io/queue-name": "training"}},
    "template": {
        "metadata": {"labels": {"team": "a", "tapchanger.dev/revision": "mine"}, "annotations": {"note": "for people"}},
        "spec": {
            "serviceAccountName": "trainer",
            "securityContext": {"runAsUser": 1000, "fsGroup": 1000},
            "initContainers": [{"name": "fetch", "image": "fetcher:1"}],
            "containers": [
                {
                    "name": "train",
                    "image": "trainer:1",
                    "env": [
                        {"name": "EPOCHS", "value": "3"},
                        {"name": "TAPCHANGER_RESULT", "value": "/results/run.json"},
                    ],
                    "terminationMessagePath": "/results/run.json",
                    "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                    "securityContext": {"readOnlyRootFilesystem": True},
                }
            ],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "labels"}}],
        },
    },
}


def run(**changes: Any) -> RunStatus:
    """A run that starts."""
    given = RunFrom(
        model=f"sha256:{'a' * 64}",
        uri="pvc://models/moderation",
        content=f"sha256:{'a' * 64}",
        revision="3f9d0c81aa",
        build="eb-4f6c0a1b2c3d",
        reference="pvc://models/data/moderation/evaluation.csv",
        artifact=f"sha256:{'c' * 64}",
        drift=REPORT,
        drift_digest=f"sha256:{'d' * 64}",
    )
    known: dict[str, Any] = {"name": "r0123456ab", "trigger": "Drift", "phase": "Starting", "inputs": given}
    return RunStatus(started="2026-11-24T10:00:00.000Z", **{**known, **changes})


def snapshot(retraining: dict[str, Any], **changes: Any) -> Snapshot:
    """A deployment with that `spec.retraining` whose status tells of one run."""
    return Snapshot(
        now=1_700_000_000.0,
        owner=OWNER,
        generation=1,
        spec=spec(retraining=retraining),
        status=TransformerDeploymentStatus(retraining=RetrainingStatus(run=run(**changes))),
        live={},
        contents={},
        builds={},
        servers={},
        router=RouterSeen(),
        inspection=None,
        missing_claims=(),
        canary_windows=None,
        step_windows=None,
        watch_windows=None,
        slo_windows=None,
    )


WEBHOOK: dict[str, Any] = {"url": "https://ci.example.com/retrain", "secretName": "retrain-hook", "timeout": "10s"}
SNAPSHOTS = {
    "": snapshot({"job": TRAINER}),
    ".full": snapshot({"job": FULL_TRAINER, "timeout": "45m"}),
    ".webhook": snapshot({"webhook": WEBHOOK}),
}
