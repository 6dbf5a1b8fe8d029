"""A namespace's store is collected once a day, and the order names everything that any object refers to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tapchanger_operator import names
from tapchanger_operator.apply.collect import PERIOD_SECONDS, Collections, collect_store
from tapchanger_operator.errors import UserError
from tapchanger_operator.names import Owner
from tapchanger_operator.settings import Settings
from tapchanger_serving.contract.messages import Collection
from tapchanger_serving.contract.names import ENV_COLLECTION
from tests.support.fake_kube import Call, FakeKube
from tests.support.samples import SETTINGS

T0 = 1_700_000_000.0
DAY = PERIOD_SECONDS
OWNER = Owner("TransformerDeployment", "moderation", "team-a", "uid-1")
ARTIFACTS = ("sha256:" + "a" * 64, "sha256:" + "b" * 64)
MODEL = "sha256:" + "c" * 64


class Namespace:
    """A namespace with a store, a build that can be read, one of a later version, and a revision of a build that is gone."""

    def __init__(self) -> None:
        self.now = T0
        self.kube = FakeKube(lambda: self.now)
        self.put("PersistentVolumeClaim", names.STORE_CLAIM)
        self.put(
            "EngineBuild", "eb-1", spec={"model": {"digest": MODEL}}, status={"report": {"artifact": ARTIFACTS[0]}}
        )
        self.put("EngineBuild", "eb-later", spec={"form": "unknown"}, status={"report": None})
        self.put("ControllerRevision", "moderation-1", data={"artifact": ARTIFACTS[1], "build": "eb-gone"})
        self.collections = Collections()

    def put(self, kind: str, name: str, **content: Any) -> None:
        labels = {names.LABEL_MANAGED_BY: names.MANAGER}
        self.kube.put({"kind": kind, "metadata": {"name": name, "namespace": "team-a", "labels": labels}, **content})

    def collect(self, settings: Settings = SETTINGS) -> None:
        collect_store(self.kube, self.collections, OWNER, settings, self.now)  # type: ignore[arg-type]

    def jobs(self) -> list[dict[str, Any]]:
        return [item for ref, item in self.kube.objects.items() if ref.kind == "Job"]


def order_of(job: dict[str, Any]) -> Collection:
    environment = job["spec"]["template"]["spec"]["containers"][0]["env"]
    return Collection.model_validate_json(next(e["value"] for e in environment if e["name"] == ENV_COLLECTION))


def test_the_order_keeps_what_any_object_refers_to() -> None:
    space = Namespace()
    space.now += 8 * DAY
    space.collect()
    (job,) = space.jobs()
    assert order_of(job) == Collection(
        builds=("eb-1", "eb-later"), artifacts=ARTIFACTS, models=(MODEL,), older_than_seconds=7 * DAY
    )
    assert names.LABEL_DEPLOYMENT not in job["metadata"]["labels"]


def test_a_young_store_is_left_alone() -> None:
    space = Namespace()
    space.now += 6.9 * DAY
    space.collect()
    assert not space.jobs()


def test_there_is_one_job_a_day_also_after_a_restart() -> None:
    space = Namespace()
    space.now += 8 * DAY
    space.collect()
    calls = len(space.kube.calls)
    space.collect()
    assert len(space.kube.calls) == calls
    space.collections = Collections()
    space.collect()
    assert len(space.jobs()) == 1
    space.now += DAY
    space.collect()
    assert len(space.jobs()) == 2


def test_it_can_be_turned_off_or_only_list() -> None:
    space = Namespace()
    space.now += 8 * DAY
    space.collect(replace(SETTINGS, store=replace(SETTINGS.store, collects=False)))
    assert not space.jobs()
    space.collect(replace(SETTINGS, store=replace(SETTINGS.store, dry_run=True, keep_seconds=DAY)))
    (job,) = space.jobs()
    assert order_of(job).dry_run
    assert order_of(job).older_than_seconds == DAY


def test_a_store_elsewhere_is_collected_without_a_claim() -> None:
    space = Namespace()
    space.kube.objects = {ref: item for ref, item in space.kube.objects.items() if ref.kind != "PersistentVolumeClaim"}
    store = replace(SETTINGS.store, uri="s3://engines/production", secret="engine-store")
    space.collect(replace(SETTINGS, store=store))
    (job,) = space.jobs()
    pod = job["spec"]["template"]["spec"]
    assert {"name": "TAPCHANGER_STORE_URI", "value": "s3://engines/production/team-a"} in pod["containers"][0]["env"]
    assert not any("persistentVolumeClaim" in volume for volume in pod["volumes"])


def test_a_quota_that_refuses_the_job_does_not_end_the_pass(caplog: pytest.LogCaptureFixture) -> None:
    space = Namespace()
    space.now += 8 * DAY

    def refuse(_number: int, call: Call) -> None:
        if call.verb == "create":
            raise UserError("RefusedByCluster", "exceeded quota")

    space.kube.fault = refuse
    space.collect()
    assert not space.jobs()
    assert "exceeded quota" in caplog.text
