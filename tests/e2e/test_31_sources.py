"""Models in a store and in a registry: what opens these reaches the steps that fetch, and nobody else."""

from __future__ import annotations

from typing import Any

from dev.common.deployment import Deployment
from dev.common.kubectl import Kubectl, Object
from dev.common.waiting import until
from tests.e2e.stores import MODEL_SECRET


def pods(deployment: Deployment, component: str) -> list[Object]:
    labels = f"tapchanger.dev/deployment={deployment.name},app.kubernetes.io/component={component}"
    return deployment.kubectl.items("pods", deployment.namespace, labels)


def given_secret(pod: Object, name: str) -> set[str]:
    """Names of the containers of a pod that a Secret reaches, by a mount or a variable."""
    spec: dict[str, Any] = pod["spec"]
    volumes = {v["name"] for v in spec["volumes"] if v.get("secret", {}).get("secretName") == name}
    found = set()
    for container in [*spec.get("initContainers", []), *spec["containers"]]:
        mounted = {mount["name"] for mount in container["volumeMounts"]} & volumes
        variables = [v for v in container.get("env", []) if "secretKeyRef" in v.get("valueFrom", {})]
        if mounted or variables or container.get("envFrom"):
            found.add(container["name"])
    return found


def test_what_is_in_stores_is_inspected_with_its_secret(moving: Deployment) -> None:
    def both() -> list[Object] | None:
        found = pods(moving, "inspect")
        return found if len(found) == 2 else None

    found = until("the inspections of the model and the variant's", both, 30, last=moving.picture)
    assert [given_secret(pod, MODEL_SECRET) for pod in found] == [{"inspect"}] * 2


def test_the_secret_reaches_what_fetches_and_nobody_else(
    begun: dict[str, Deployment], kubectl: Kubectl, space: str
) -> None:
    flaky = begun["flaky"]
    build = flaky.wait_ready(600)["target"]["build"]
    found = kubectl.items("pods", space, f"tapchanger.dev/build={build},app.kubernetes.io/component=build")
    assert [given_secret(pod, MODEL_SECRET) for pod in found] == [{"fetch"}]
    served = [*pods(flaky, "server"), *pods(flaky, "router")]
    assert len(served) == 2
    assert not [name for pod in served for name in given_secret(pod, MODEL_SECRET)]
    built = kubectl.get("eb", build, space)
    assert built is not None
    assert built["spec"]["model"]["uri"] == flaky.manifest["spec"]["model"]["uri"]


def test_addresses_move(moved: dict[str, Any]) -> None:
    """What follows is tested in test_37_polls: polls come once a minute, and other tests go on meanwhile."""
    assert [arm["name"] for arm in moved["arms"]] == ["control", "b"]
