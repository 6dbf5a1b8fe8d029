"""Retraining against a real API server: what it admits of the spec, and what it takes of a run's objects and of status."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tapchanger_operator.api import crd
from tapchanger_operator.api.base import API_VERSION
from tapchanger_operator.apply.retraining import launch
from tapchanger_operator.decide.retraining import moves
from tapchanger_operator.errors import Transient, UserError
from tapchanger_operator.kube import _PLURALS, Kube
from tapchanger_operator.names import Ref
from tapchanger_operator.snapshot import Snapshot
from tests.support import retraining_samples as samples
from tests.support.api_server import api_server, is_there
from tests.support.samples import IMAGES, MODEL, OWNER

pytestmark = pytest.mark.skipif(not is_there(), reason="the API server is not built; `make cluster-up` builds it")
NAMESPACE = OWNER.namespace


@pytest.fixture(scope="module")
def kube(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kube]:
    """An API server that knows the definitions."""
    _PLURALS["Namespace"] = ("v1", "namespaces")
    _PLURALS["CustomResourceDefinition"] = ("apiextensions.k8s.io/v1", "customresourcedefinitions")
    with api_server(Path(tmp_path_factory.mktemp("api"))) as found:
        found.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        for definition in crd.definitions().values():
            found.apply(definition)
        _until_served(found)
        yield found
    del _PLURALS["Namespace"], _PLURALS["CustomResourceDefinition"]


def _until_served(kube: Kube) -> None:
    for _ in range(100):
        try:
            kube.apply(deployment("first", {"job": samples.TRAINER}))
        except Transient:
            time.sleep(0.1)
        else:
            return
    raise TimeoutError("the definitions are not served")


def deployment(name: str, retraining: dict[str, Any] | None, **spec: Any) -> dict[str, Any]:
    body = {"model": MODEL, **({"retraining": retraining} if retraining is not None else {}), **spec}
    return {
        "apiVersion": API_VERSION,
        "kind": "TransformerDeployment",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": body,
    }


JOB: dict[str, Any] = {"job": samples.TRAINER}
HOOK: dict[str, Any] = {"url": "https://ci.example.com/retrain"}


@pytest.mark.parametrize(
    ("retraining", "spec", "words"),
    [
        ({}, {}, "write either job: {template: {spec: {containers: […]}}} or webhook: {url: …}"),
        ({**JOB, "webhook": HOOK}, {}, "one of them"),
        ({**JOB, "timeZone": "UTC"}, {}, "timeZone belongs to a schedule"),
        ({**JOB, "schedule": "daily"}, {}, "write a schedule of five fields"),
        ({**JOB, "schedule": "TZ=UTC 0 3 * * *"}, {}, "a time zone goes into timeZone"),
        ({**JOB, "schedule": "0 3 * * 0", "timeZone": "../etc"}, {}, "a name of the time zone database"),
        ({**JOB, "minInterval": "5ms"}, {}, "write seconds, minutes, hours or days"),
        ({"webhook": {"url": "http://ci.example.com/retrain"}}, {}, "write https://host/path"),
        ({"webhook": {"url": "https://user:secret@ci.example.com/"}}, {}, "the Secret's key authorization"),
        (None, {"drift": {"action": "Retrain"}}, "drift.action Retrain needs something that trains"),
        (JOB, {"model": {**MODEL, "uri": f"pvc://models/a@sha256:{'a' * 64}"}}, "write an address that may change"),
    ],
)
def test_bad_specs_are_refused_at_admission_with_what_to_write(
    kube: Kube, retraining: dict[str, Any] | None, spec: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError) as refusal:
        kube.apply(deployment("bad", retraining, **spec))
    assert words in refusal.value.message
    assert kube.get(Ref("TransformerDeployment", NAMESPACE, "bad")) is None


@pytest.mark.parametrize(
    "retraining",
    [
        {**JOB, "schedule": "*/15 3 1-7 * MON"},
        {**JOB, "schedule": "@weekly", "timeZone": "America/Argentina/Buenos_Aires"},
        {"job": samples.FULL_TRAINER},
        {"webhook": {"url": "http://webhook-eventsource-svc.argo-events.svc:12000/retrain"}},
        {"webhook": {"url": "https://api.github.com/repos/a/b/dispatches?x=1", "secretName": "hook"}},
    ],
)
def test_good_ones_are_taken(kube: Kube, retraining: dict[str, Any]) -> None:
    assert kube.apply(deployment("good", retraining, drift={"action": "Retrain"}))["spec"]["retraining"]


@pytest.mark.parametrize("name", samples.SNAPSHOTS)
def test_a_runs_objects_are_what_the_api_server_takes(kube: Kube, name: str) -> None:
    snapshot = named(samples.SNAPSHOTS[name], f"run{name.replace('.', '-')}")
    assert launch(kube, snapshot, IMAGES) is None
    ref = Ref("Job", NAMESPACE, f"run{name.replace('.', '-')}-retrain-r0123456ab")
    job = kube.get(ref)
    assert job is not None
    assert kube.get(Ref("ConfigMap", NAMESPACE, ref.name)) is not None
    assert launch(kube, replace(snapshot, live={ref: job}), IMAGES) is None


def named(snapshot: Snapshot, name: str) -> Snapshot:
    return replace(snapshot, owner=replace(snapshot.owner, name=name))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"imag": "trainer:1"}, "imag"),
        ({"image": 7}, "image"),
        ({"volumeMounts": [{"name": "nowhere", "mountPath": "/data"}]}, "nowhere"),
        ({"volumeMounts": [{"name": "tapchanger-run", "mountPath": "/tapchanger"}]}, "mountPath"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_bad_template_ends_the_run_with_the_servers_words(kube: Kube, change: dict[str, Any], words: str) -> None:
    trainer = copy.deepcopy(samples.TRAINER)
    trainer["template"]["spec"]["containers"][0] |= change
    refused = launch(kube, named(samples.snapshot({"job": trainer}), "bad-template"), IMAGES)
    assert isinstance(refused, UserError)
    assert words in refused.message


def test_the_whole_status_of_runs_is_stored_as_it_is(kube: Kube) -> None:
    kube.apply(deployment("told", JOB))
    run = samples.run(
        phase="RollingOut",
        digest=f"sha256:{'b' * 64}",
        figures={"accuracy@new": 0.95},
        data=[{"uri": "pvc://labels/new.csv", "digest": f"sha256:{'e' * 64}", "rows": 12}],
    )
    told = samples.RetrainingStatus(run=run, answered={"run": run.name, "feature": "tokens"})  # type: ignore[arg-type]
    told = moves.close(told, None, moves.ended(run, "SameContent", "the same"), 1_800_000_000.0)
    told = told.model_copy(update={"run": run})
    ref = Ref("TransformerDeployment", NAMESPACE, "told")
    wire = samples.TransformerDeploymentStatus(observed_generation=1, retraining=told).wire()
    kube.apply_status(ref, wire)
    stored = kube.get(ref)
    assert stored is not None
    assert samples.TransformerDeploymentStatus.model_validate(stored["status"]).retraining == told
