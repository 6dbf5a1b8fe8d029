"""Secure defaults of everything that runs, and nothing of what users send in any log."""

from __future__ import annotations

import re
import time
from typing import Any

import httpx
import pytest

from dev.common.inference import GrpcClient
from dev.common.kubectl import Kubectl, Object
from dev.common.stack import SYSTEM
from dev.common.waiting import until
from tapchanger_serving.contract.names import OBSERVER_API_PORT, OTLP_HTTP_PORT
from tapchanger_serving.contract.windows import Windows
from tests.e2e.support import First, credential

SECRET = "the quick brown canary sang of number 4711 in the tap changer's house"
COMPONENTS = {"operator", "observer", "router", "server", "build"}


@pytest.fixture(scope="module")
def pods(kubectl: Kubectl, moderation: First, space: str) -> list[Object]:
    """All pods of tapchanger, finished builds included, once those that earlier tests left have ended."""

    def settled() -> list[Object] | None:
        found = [*kubectl.items("pods", SYSTEM), *kubectl.items("pods", space)]
        return None if any("deletionTimestamp" in pod["metadata"] for pod in found) else found

    return until("the pods of earlier tests to be gone", settled, 120)


def containers(pod: Object) -> list[Object]:
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def component(pod: Object) -> str:
    return str(pod["metadata"]["labels"].get("app.kubernetes.io/component"))


def test_every_kind_of_pod_is_looked_at(pods: list[Object]) -> None:
    assert {component(pod) for pod in pods} >= COMPONENTS


def test_every_container_is_unprivileged_with_a_read_only_root(pods: list[Object]) -> None:
    for pod in pods:
        of_pod: dict[str, Any] = pod["spec"].get("securityContext", {})
        where = f"{pod['metadata']['name']}"
        assert of_pod.get("runAsNonRoot") is True, where
        assert of_pod.get("runAsUser") == 65532, where
        assert of_pod.get("seccompProfile") == {"type": "RuntimeDefault"}, where
        assert not any(pod["spec"].get(field) for field in ("hostNetwork", "hostPID", "hostIPC")), where
        assert not [v["name"] for v in pod["spec"]["volumes"] if "hostPath" in v], where
        for container in containers(pod):
            security = container.get("securityContext", {})
            inside = f"{where}/{container['name']}"
            assert security.get("readOnlyRootFilesystem") is True, inside
            assert security.get("allowPrivilegeEscalation") is False, inside
            assert security.get("capabilities") == {"drop": ["ALL"]}, inside
            assert not security.get("privileged"), inside
            assert security.get("runAsUser", 65532) == 65532, inside


def test_only_operator_and_observer_can_talk_to_the_api_server(pods: list[Object]) -> None:
    """The observer asks for the keys with which the tokens of pods are signed."""
    for pod in pods:
        if component(pod) not in ("operator", "observer"):
            assert pod["spec"].get("automountServiceAccountToken") is False, pod["metadata"]["name"]


def test_the_pods_of_a_model_meet_the_restricted_standard(kubectl: Kubectl, space: str) -> None:
    said = kubectl(
        "label",
        "namespace",
        space,
        SYSTEM,
        "--dry-run=server",
        "--overwrite",
        "pod-security.kubernetes.io/enforce=restricted",
    )
    assert "labeled" in said
    assert "violate" not in said


def test_no_log_holds_what_users_sent(
    kubectl: Kubectl, moderation: First, pods: list[Object], texts: list[str]
) -> None:
    deployment, _ = moderation
    with GrpcClient(deployment.address()[0]) as client:
        client.ask("moderation", [SECRET])
    looked_for = [SECRET, *[text for text in texts if len(text) > 40][:200]]
    for pod in pods:
        name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
        if pod["status"].get("phase") not in ("Running", "Succeeded"):
            continue
        log = kubectl("logs", name, "-n", namespace, "--all-containers")
        found = [text for text in looked_for if text in log]
        assert not found, f"{namespace}/{name} logged: {found[:3]}"


def test_forged_spans_are_refused_and_counted_and_the_routers_own_are_not(kubectl: Kubectl, moderation: First) -> None:
    deployment, _ = moderation
    service = kubectl.get("service", "tapchanger-observer", SYSTEM)
    assert service is not None
    host = f"http://{service['spec']['clusterIP']}"
    keys = {
        "component": "router",
        "namespace": deployment.namespace,
        "deployment": deployment.name,
        "revision": "forged",
    }
    tags = {**{f"tapchanger.{key}": value for key, value in keys.items()}, "http.status_code": "503"}
    now = time.time_ns()
    span = {
        "startTimeUnixNano": str(now - 5_000_000),
        "endTimeUnixNano": str(now),
        "attributes": [{"key": key, "value": {"stringValue": value}} for key, value in tags.items()],
    }
    export = {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}

    def send(token: str | None) -> httpx.Response:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return httpx.post(f"{host}:{OTLP_HTTP_PORT}/v1/traces", json=export, headers=headers, timeout=10)

    def refused() -> float:
        text = httpx.get(f"{host}:{OBSERVER_API_PORT}/metrics", timeout=10).text
        lines = re.findall(
            r"^tapchanger_observer_payloads_refused_total{.*unauthenticated.*} (.+)$", text, re.MULTILINE
        )
        return sum(map(float, lines))

    before = refused()
    assert send(None).status_code == 401
    assert send("made-up-by-a-stranger").status_code == 401
    assert refused() == before + 2
    other = send(credential(kubectl, SYSTEM))
    assert (other.status_code, other.json()["partialSuccess"]["rejectedSpans"]) == (200, "1")
    query = {"namespace": deployment.namespace, "deployment": deployment.name}
    answer = httpx.get(f"{host}:{OBSERVER_API_PORT}/v1/windows", params=query, timeout=10).raise_for_status()
    seen = {one.revision: one.requests for one in Windows.model_validate_json(answer.content).revisions}
    assert "forged" not in seen
    assert sum(seen.values()) > 0, "the routers' own spans count"
