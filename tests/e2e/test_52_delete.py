"""A TransformerDeployment takes along all that it made, and leaves what others use."""

from __future__ import annotations

import pytest

from dev.common import stack as stacks
from dev.common.deployment import Deployment
from dev.common.kubectl import Kubectl, listed_kinds
from dev.common.waiting import until
from tests.e2e.support import First, Make

pytestmark = pytest.mark.usefixtures("beside")


def objects(kubectl: Kubectl, namespace: str) -> set[str]:
    """Everything in a namespace, as KIND/NAME; what every namespace has is left out."""
    kinds = ",".join(listed_kinds(kubectl))
    items = kubectl.items(kinds, namespace)
    everywhere = {"ConfigMap/kube-root-ca.crt", "ServiceAccount/default", f"PersistentVolumeClaim/{stacks.CLAIM}"}
    return {f"{item['kind']}/{item['metadata']['name']}" for item in items} - everywhere


def test_the_last_deployment_of_a_namespace_leaves_nothing(kubectl: Kubectl, leaving: Deployment) -> None:
    place = leaving.namespace
    leaving.wait_ready(300)
    made = {entry.split("/")[0] for entry in objects(kubectl, place)}
    kinds = {"Deployment", "Service", "ConfigMap", "ControllerRevision", "EngineBuild", "PersistentVolumeClaim", "Pod"}
    assert kinds <= made, made
    kubectl.delete("tdep", leaving.name, place)
    left: set[str] = set()

    def empty() -> bool:
        left.clear()
        left.update(objects(kubectl, place))
        return not left

    until("everything to be gone", empty, 120, every=2.0, last=lambda: f"left: {sorted(left)}")


def test_a_build_that_another_needs_stays(kubectl: Kubectl, moderation: First, make: Make, space: str) -> None:
    first, _ = moderation
    build = first.status()["target"]["build"]
    other = make("leaving", "moderation-v1")
    other.apply()
    other.wait_ready(180)
    uid = kubectl("get", "eb", build, "-n", space, "-o", "jsonpath={.metadata.uid}")
    kubectl.delete("tdep", "leaving", space)

    def of_the_leaver() -> set[str]:
        items = kubectl.items(",".join(listed_kinds(kubectl)), space, "tapchanger.dev/deployment=leaving")
        return {f"{item['kind']}/{item['metadata']['name']}" for item in items}

    until("its own objects to be gone", lambda: not of_the_leaver(), 120, every=2.0, last=lambda: str(of_the_leaver()))
    assert kubectl("get", "eb", build, "-n", space, "-o", "jsonpath={.metadata.uid}") == uid
    assert kubectl.get("persistentvolumeclaim", "tapchanger-artifacts", space) is not None
    assert first.wait_ready(10)["stable"]["ready"] == 1
