"""One engine for one content: shared by those who need it, and never built twice."""

from __future__ import annotations

from dev.common.deployment import Deployment
from dev.common.kubectl import Kubectl
from dev.common.waiting import until
from tests.e2e.support import First, Make, report


def build_of(deployment: Deployment) -> str:
    return str(deployment.status()["target"]["build"])


def jobs(kubectl: Kubectl, namespace: str, build: str) -> set[str]:
    """The uids of a build's Jobs and of their pods."""
    items = kubectl.items("jobs,pods", namespace, f"tapchanger.dev/build={build},app.kubernetes.io/component=build")
    return {item["metadata"]["uid"] for item in items}


def owners(kubectl: Kubectl, namespace: str, build: str) -> set[str]:
    found = kubectl.get("eb", build, namespace)
    assert found is not None
    return {reference["name"] for reference in found["metadata"]["ownerReferences"]}


def test_the_report_says_what_was_tried_and_why_it_chose(kubectl: Kubectl, moderation: First) -> None:
    deployment, _ = moderation
    found = report(kubectl, deployment)
    tried = {(c["runtime"], c["precision"]) for c in found["candidates"]}
    assert {("onnxruntime", "fp32"), ("onnxruntime", "int8"), ("openvino", "fp32"), ("openvino", "int8")} <= tried
    passed = [c for c in found["candidates"] if c["passed"]]
    assert found["chosen"]["textsPerSecond"] == max(c["textsPerSecond"] for c in passed)
    assert all(gate["passed"] for gate in found["gates"])
    assert found["why"]
    assert len({t["batch"] for t in found["surface"]}) >= 2
    assert len({t["tokens"] for t in found["surface"]}) >= 2


def test_the_same_content_is_built_once(kubectl: Kubectl, moderation: First, make: Make, space: str) -> None:
    first, _ = moderation
    build = build_of(first)
    before = jobs(kubectl, space, build)
    assert len(before) == 2
    twin = make("twin", "moderation-v1")
    twin.apply()
    twin.wait_ready(120)
    assert build_of(twin) == build
    assert owners(kubectl, space, build) == {"moderation", "twin"}

    kubectl.delete("tdep", "twin", space)
    until("the twin's part of the build to end", lambda: owners(kubectl, space, build) == {"moderation"}, 60)
    twin.apply()
    twin.wait_ready(120)
    assert build_of(twin) == build
    assert jobs(kubectl, space, build) == before


def test_what_does_not_change_the_engine_does_not_build(
    kubectl: Kubectl, moderation: First, make: Make, space: str
) -> None:
    build = build_of(moderation[0])
    before = jobs(kubectl, space, build)
    other = make("touched", "moderation-v1")
    other.apply()
    other.wait_ready(120)
    revision = other.status()["stable"]["revision"]
    other.manifest["metadata"]["annotations"] = {"team": "trust"}
    other.manifest["spec"]["slo"] = {"objectives": [{"availability": 0.99}]}
    other.apply()
    other.wait_ready(60)
    assert other.status()["stable"]["revision"] == revision
    assert build_of(other) == build
    assert jobs(kubectl, space, build) == before


def test_a_build_never_changes(kubectl: Kubectl, moderation: First, space: str) -> None:
    build = build_of(moderation[0])
    said = kubectl.attempt("patch", "eb", build, "-n", space, "--type=merge", "-p", '{"spec":{"precision":"fp32"}}')
    assert "an EngineBuild never changes; change the TransformerDeployment" in said
