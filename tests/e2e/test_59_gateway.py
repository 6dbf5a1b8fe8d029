"""A gateway that somebody runs: the official definitions judge the routes, the test plays controller and data plane."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from dev.cluster import gateway_api
from dev.cluster.report import Report
from dev.common.deployment import Deployment
from dev.common.inference import GrpcClient
from dev.common.kubectl import Kubectl, Object, condition
from dev.common.shell import CommandError
from dev.common.stack import SYSTEM, Stack
from dev.common.traffic import failed
from dev.common.waiting import until
from tapchanger_serving.contract.names import OTLP_HTTP_PORT
from tests.e2e.support import Make, credential, load_on
from tests.support.golden import GOLDEN

pytestmark = pytest.mark.usefixtures("beside")

ROUTER = {
    "type": "GatewayAPI",
    "parentRefs": [{"name": "shared", "sectionName": "web"}],
    "hostnames": ["routed.example.com"],
    "grpcHostnames": ["routed-grpc.example.com"],
}
KINDS = ("httproute", "grpcroute")
STEPS = [{"weight": 20}, {"weight": 50}]


@pytest.fixture(scope="module")
def definitions(stack: Stack) -> Iterator[tuple[Path, ...]]:
    """The Gateway API's definitions as files. The cluster has none of them before and after this module."""
    files = gateway_api.definitions(stack.home, Report())
    gateway_api.remove(stack.kubectl)
    yield files
    gateway_api.remove(stack.kubectl)


@pytest.fixture
def gateway(kubectl: Kubectl, definitions: tuple[Path, ...]) -> None:
    """The definitions are installed."""
    gateway_api.install(kubectl, definitions)


def route(kubectl: Kubectl, kind: str, deployment: Deployment) -> Object | None:
    return kubectl.get(kind, deployment.name, deployment.namespace)


def weights(kubectl: Kubectl, kind: str, deployment: Deployment) -> dict[str, int]:
    """Revision → weight of a route; empty where there is none."""
    found = route(kubectl, kind, deployment)
    references = found["spec"]["rules"][0].get("backendRefs", []) if found else []
    prefix, suffix = f"{deployment.name}-", "-gateway"
    return {ref["name"].removeprefix(prefix).removesuffix(suffix): ref["weight"] for ref in references if ref["weight"]}


def answer(kubectl: Kubectl, deployment: Deployment, accepted: str = "True", reason: str = "Accepted") -> None:
    """What a controller writes into both routes, for the generation that they have now."""
    for kind in KINDS:
        found = route(kubectl, kind, deployment)
        if found is None:
            continue
        common = {"lastTransitionTime": "2026-11-24T06:00:00Z", "observedGeneration": found["metadata"]["generation"]}
        conditions = [
            {"type": "Accepted", "status": accepted, "reason": reason, "message": "by the test", **common},
            {"type": "ResolvedRefs", "status": "True", "reason": "ResolvedRefs", "message": "", **common},
        ]
        parent = {"controllerName": "example.com/e2e", "conditions": conditions}
        parents = [{"parentRef": reference, **parent} for reference in found["spec"]["parentRefs"]]
        change = json.dumps({"status": {"parents": parents}})
        where = ("-n", deployment.namespace, "--subresource=status", "--type=merge")
        kubectl("patch", kind, deployment.name, *where, "--patch", change)


def controlled(kubectl: Kubectl, deployment: Deployment, kind: str, value: str, seconds: float) -> dict[str, Any]:
    """The status once a condition has `value`, with a controller that accepts every route meanwhile."""

    def look() -> dict[str, Any] | None:
        answer(kubectl, deployment)
        status = deployment.status()
        return status if condition({"status": status}, kind).get("status") == value else None

    return until(f"{kind}={value} of {deployment.name}", look, seconds, last=deployment.picture)


def tell_observer(kubectl: Kubectl, deployment: Deployment, requests: dict[str, int]) -> None:
    """Good requests, as a gateway's spans with the headers that the routes set on requests."""
    service = kubectl.get("service", "tapchanger-observer", SYSTEM)
    assert service is not None
    spans = []
    for revision, count in requests.items():
        keys = {"component": "router", "namespace": deployment.namespace, "deployment": deployment.name}
        tags = {**{f"tapchanger.{k}": v for k, v in keys.items()}, "tapchanger.revision": revision}
        attributes = [{"key": k, "value": {"stringValue": v}} for k, v in {**tags, "http.status_code": "200"}.items()]
        now = time.time_ns()
        span = {"startTimeUnixNano": str(now - 5_000_000), "endTimeUnixNano": str(now), "attributes": attributes}
        for _ in range(count):
            ids = {"traceId": f"{time.perf_counter_ns():032x}", "spanId": f"{time.perf_counter_ns():016x}"}
            spans.append({**span, **ids, "name": "ingress", "kind": 2})
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}).encode()
    url = f"http://{service['spec']['clusterIP']}:{OTLP_HTTP_PORT}/v1/traces"
    headers = {
        "content-type": "application/json",
        "authorization": f"Bearer {credential(kubectl, deployment.namespace)}",
    }
    sent = urllib.request.Request(url, data=body, headers=headers)
    with urllib.request.urlopen(sent, timeout=10) as reply:
        assert reply.status == 200


def small(make: Make, name: str, **spec: Any) -> Deployment:
    """A deployment of an engine that is there already, whose canaries are judged quickly."""
    return make(
        name,
        "moderation-v1",
        slo={"objectives": [{"availability": 0.9}]},
        rollout={"steps": STEPS, "analysis": {"minRequests": 100, "timeout": "1m"}, "watch": "30s"},
        **spec,
    )


def test_without_the_gateway_api_the_status_says_what_to_install(
    kubectl: Kubectl, definitions: tuple[Path, ...], engines: dict[str, Deployment], make: Make
) -> None:
    deployment = small(make, "routed", router=ROUTER)
    deployment.apply()
    status = deployment.wait_condition("Stalled", "True", 120)
    stalled = condition({"status": status}, "Stalled")
    assert stalled["reason"] == "GatewayApiMissing"
    assert "gateway-api.sigs.k8s.io" in stalled["message"]
    gateway_api.install(kubectl, definitions)
    until("the routes", lambda: route(kubectl, "httproute", deployment), 60, last=deployment.picture)
    controlled(kubectl, deployment, "Ready", "True", 180)
    log = kubectl("logs", "-n", SYSTEM, "-l", "app.kubernetes.io/component=operator", "--tail=-1")
    assert not [line for line in log.splitlines() if '"routed"' in line and "a pass failed" in line]


@pytest.mark.parametrize("name", ["gateway-routes.yaml", "gateway-routes.paths.yaml", "gateway-routes.nobody.yaml"])
def test_the_golden_routes_meet_the_official_definitions(
    kubectl: Kubectl, gateway: None, space: str, name: str
) -> None:
    for manifest in yaml.safe_load_all((GOLDEN / "operator" / name).read_text()):
        manifest["metadata"] = {"name": "golden", "namespace": space}
        text = json.dumps(manifest)
        kubectl("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-", text=text)
        broken = json.dumps({**manifest, "spec": {**manifest["spec"], "parentRefs": [{"name": ""}]}})
        with pytest.raises(CommandError, match="parentRefs"):
            kubectl("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-", text=broken)


def test_weights_move_by_the_routes_and_a_silent_gateway_promotes_nobody(
    kubectl: Kubectl, gateway: None, engines: dict[str, Deployment], make: Make, space: str
) -> None:
    deployment = small(make, "weighted", router=ROUTER)
    deployment.apply()
    until("the routes", lambda: route(kubectl, "grpcroute", deployment), 120, last=deployment.picture)
    answer(kubectl, deployment, "False", "NotAllowedByListeners")
    status = deployment.wait_condition("Stalled", "True", 120)
    assert condition({"status": status}, "Stalled")["reason"] == "RouteNotAccepted"
    assert "NotAllowedByListeners: by the test" in status["message"]
    old = controlled(kubectl, deployment, "Ready", "True", 180)["stable"]["revision"]
    assert kubectl.get("deployment", "weighted-router", space) is None
    assert [weights(kubectl, kind, deployment) for kind in KINDS] == [{old: 100}, {old: 100}]
    assert deployment.status()["endpoints"]["http"] == "routed.example.com"
    with GrpcClient(deployment.address()[0]) as client:
        client.ask("weighted", ["through the Service, past the gateway"])

    deployment.change_uri("pvc://models/moderation-v2")

    def stepped() -> bool:
        answer(kubectl, deployment)
        return 20 in weights(kubectl, "httproute", deployment).values()

    until("the first step", stepped, 180, last=deployment.picture)
    time.sleep(10.0)
    silent = condition(deployment.body(), "Analysis")
    assert (silent["status"], silent["reason"]) == ("Unknown", "ObserverSilent")
    assert weights(kubectl, "grpcroute", deployment) == weights(kubectl, "httproute", deployment)

    seen: list[dict[str, int]] = []

    def promoted() -> bool:
        answer(kubectl, deployment)
        split = weights(kubectl, "httproute", deployment)
        if seen[-1:] != [split]:
            seen.append(split)
        tell_observer(kubectl, deployment, {revision: 2 * weight for revision, weight in split.items()})
        status = deployment.status()
        return bool(status) and status["stable"]["revision"] != old

    until("the promotion", promoted, 120, last=deployment.picture)
    new = deployment.status()["stable"]["revision"]
    until("all requests", lambda: weights(kubectl, "httproute", deployment) == {new: 100}, 30, last=deployment.picture)
    assert seen[0] == {old: 80, new: 20}
    assert {old: 50, new: 50} in seen
    assert deployment.difference() == ""


def test_a_deployment_changes_to_a_gateway_and_back_under_load(
    kubectl: Kubectl, gateway: None, engines: dict[str, Deployment], make: Make, space: str, texts: list[str]
) -> None:
    deployment = small(make, "switched", router={"replicas": 2})
    deployment.apply()
    deployment.wait_ready(180)
    with load_on(deployment, texts, 20.0) as load:
        deployment.manifest["spec"]["router"] = ROUTER
        deployment.apply()
        until("the routes", lambda: route(kubectl, "httproute", deployment), 60, last=deployment.picture)
        assert kubectl.get("deployment", "switched-router", space), "Envoy goes when the gateway serves, not before"
        controlled(kubectl, deployment, "Ready", "True", 60)
        until("the end of Envoy", lambda: not kubectl.get("deployment", "switched-router", space), 30)
        time.sleep(30.0)
        deployment.manifest["spec"]["router"] = {"replicas": 2}
        deployment.apply()
        deployment.wait_ready(120)
        time.sleep(10.0)
        assert route(kubectl, "httproute", deployment), "the routes linger for clients that have not heard of it"
    answers = load.records()
    assert len(answers) > 600
    assert not failed(answers), failed(answers)[:5]


@pytest.mark.parametrize(
    ("router", "expected"),
    [
        ({"type": "GatewayAPI"}, "needs the Gateway that routes: parentRefs: [{name: GATEWAY"),
        ({"type": "Envoy", "parentRefs": [{"name": "shared"}]}, "write type: GatewayAPI, or leave them out"),
        ({"hostnames": ["a.example.com"]}, "write type: GatewayAPI, or leave them out"),
        ({**ROUTER, "hostnames": []}, "grpcHostnames needs hostnames for HTTP"),
        ({**ROUTER, "grpcHostnames": ROUTER["hostnames"]}, "write another name into grpcHostnames"),
        ({**ROUTER, "hostnames": ["*.example.com"]}, "spec.router.hostnames[0]"),
    ],
)
def test_a_router_that_cannot_be_is_refused_with_a_remedy(
    kubectl: Kubectl, stack: Stack, router: dict[str, Any], expected: str
) -> None:
    manifest = {
        "apiVersion": "tapchanger.dev/v1alpha1",
        "kind": "TransformerDeployment",
        "metadata": {"name": "refused", "namespace": "default"},
        "spec": {"model": {"uri": "pvc://models/a", "task": "text-classification"}, "router": router},
    }
    with pytest.raises(CommandError) as refusal:
        kubectl("apply", "--dry-run=server", "-f", "-", text=json.dumps(manifest))
    assert expected in refusal.value.said
