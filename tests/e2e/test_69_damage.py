"""What is damaged in the store is built again while others serve, and what nobody refers to is collected from it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from dev.common.deployment import Deployment
from dev.common.kubectl import Kubectl
from dev.common.stack import SYSTEM
from dev.common.traffic import failed
from dev.common.waiting import until
from tapchanger_serving.contract.stored import artifact_path
from tests.e2e.scenarios.damage import Lost

OPERATOR = "tapchanger-operator"
KEEP = "TAPCHANGER_STORE_KEEP"


def test_a_damaged_artifact_is_never_served_and_built_again(lost: Lost) -> None:
    expected, meanwhile, again = lost.labels
    assert meanwhile == expected
    assert not failed(lost.answers), failed(lost.answers)[:5]
    assert sum(a == b for a, b in zip(expected, again, strict=True)) >= 0.8 * len(expected)
    build = lost.before["target"]["build"]
    assert lost.after["target"]["build"] == build
    since = lost.after["history"][len(lost.before.get("history", [])) :]
    assert [entry["event"] for entry in since] == ["Started", "Promoted"]
    assert lost.replacement != lost.artifact
    assert lost.told == {build}
    assert (lost.volume / artifact_path(lost.artifact)).exists()


@pytest.fixture
def impatient(kubectl: Kubectl, lost: Lost, ended: None, space: str) -> Iterator[None]:
    """An operator that keeps nothing that is not in use. It collects once a day, so that the revision before must be gone."""

    def unused() -> bool:
        return all(one["data"].get("artifact") != lost.artifact for one in kubectl.items("controllerrevisions", space))

    until("nobody to refer to what was lost", unused, 180)
    kubectl("set", "env", f"deployment/{OPERATOR}", f"{KEEP}=1s", "-n", SYSTEM)
    yield
    kubectl("set", "env", f"deployment/{OPERATOR}", f"{KEEP}=7d", "-n", SYSTEM)
    kubectl("rollout", "status", f"deployment/{OPERATOR}", "-n", SYSTEM, "--timeout=120s", seconds=130)


def test_only_what_nobody_refers_to_is_collected(
    kubectl: Kubectl, engines: dict[str, Deployment], lost: Lost, impatient: None, space: str
) -> None:
    day = int(time.time() // 86400)
    name = f"tapchanger-collect-{day}"

    def collected() -> bool:
        job = kubectl.get("job", name, space)
        return bool(job and job["status"].get("succeeded"))

    until("the day's collection", collected, 120, last=engines["student"].picture)
    log = kubectl("logs", f"job/{name}", "-n", space)
    assert artifact_path(lost.artifact) in log
    assert not (lost.volume / artifact_path(lost.artifact)).exists()
    builds = kubectl.items("eb", space)
    kept = {build["status"]["report"]["artifact"] for build in builds if "report" in build["status"]}
    assert len(kept) >= len(engines)
    assert not [digest for digest in kept if not (lost.volume / artifact_path(digest) / "artifact.json").exists()]
