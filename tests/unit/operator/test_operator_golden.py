"""What `plan` renders against tests/golden/operator. `UPDATE_GOLDEN=1 pytest tests/unit/operator` rewrites it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tapchanger_operator.api.capture import CaptureSpec
from tapchanger_operator.api.spec import RouterSpec
from tapchanger_operator.decide.state import Change
from tapchanger_operator.events import event
from tapchanger_operator.names import Owner
from tapchanger_operator.plan import capture, envoy, gateway, jobs, network, objects, retraining, router, server, store
from tapchanger_operator.plan.split import Mirror, Split
from tapchanger_operator.resolve.identity import RevisionContent, build_name, engine_build, revision
from tapchanger_operator.settings import Store
from tapchanger_serving.contract.messages import Collection, Gpu
from tests.support import golden, retraining_samples
from tests.support.gateways import GATEWAY
from tests.support.samples import HARDWARE, IMAGES, OWNER, SETTINGS, full_spec, inspection, spec

FOLDER = golden.GOLDEN / "operator"

SPEC, FULL = spec(), full_spec()
BUILD, FULL_BUILD = (engine_build(s, inspection(), IMAGES.builder) for s in (SPEC, FULL))
SECRET = spec(
    model={"uri": "s3://models/moderation", "task": "text-classification", "credentials": {"secretName": "store"}}
)
SECRET_BUILD = engine_build(SECRET, inspection(), IMAGES.builder)
STUDENT = spec(
    engine={
        "distill": {"dataset": {"uri": "pvc://texts/all.csv", "text": "body"}, "layers": 3, "maxDuration": "1h30m"},
    }
)
STUDENT_BUILD = engine_build(STUDENT, inspection(), IMAGES.builder)
BUILDER = Owner("EngineBuild", build_name(BUILD), OWNER.namespace, "99999999-2222-3333-4444-555555555555")
FULL_BUILDER = Owner("EngineBuild", build_name(FULL_BUILD), OWNER.namespace, BUILDER.uid)
ARTIFACT = "sha256:" + "c" * 64
COLLECTION = Collection(builds=("eb-1",), artifacts=(ARTIFACT,), older_than_seconds=604800)
SPLIT = Split({"aaaaaaaaaa": 75, "bbbbbbbbbb": 25, "cccccccccc": 0})
COPYING = Split({"aaaaaaaaaa": 100, "bbbbbbbbbb": 0}, mirror=Mirror("bbbbbbbbbb", 20))
STICKY = Split.of_slots(
    [("aaaaaaaaaa", 500), ("bbbbbbbbbb", 200), ("aaaaaaaaaa", 100), ("cccccccccc", 200)], ["dddddddddd"], "x-user-id"
)

HOSTS = gateway.Attachment.of(RouterSpec.model_validate(GATEWAY))
PATHS = gateway.Attachment.of(
    RouterSpec.model_validate({"type": "GatewayAPI", "parentRefs": [{"name": "shared", "port": 443}]})
)


def _content(of: Any, build: Any) -> RevisionContent:
    return revision(of, build, build_name(build), ARTIFACT, "openvino", IMAGES.server)


S3 = Store(
    uri="s3://engines/production", endpoint="https://minio.example:9000", secret="engine-store",
    peers=({"ipBlock": {"cidr": "10.20.0.0/16"}},),
)  # fmt: skip
OCI = Store(uri="oci://registry.example:5000/engines", secret="engine-registry")
AT_S3, AT_OCI = (replace(SETTINGS, store=store) for store in (S3, OCI))
CONTENT, FULL_CONTENT = _content(SPEC, BUILD), _content(FULL, FULL_BUILD)
STORED = CONTENT.model_copy(update={"hardware": None})
"""As an operator stored it that placed pods by the architecture alone."""

CAPTURES = replace(SETTINGS, images=replace(IMAGES, capture="registry.example/tapchanger/capture:0.1.0"))
CAPTURE = CaptureSpec.model_validate(
    {
        "sample": 0.05,
        "destination": {
            "uri": "s3://captures/texts", "endpoint": "https://minio.example:9000", "secretName": "captures",
            "encryption": {"type": "SSE-KMS", "kmsKey": "alias/captures"},
        },
        "consent": {"header": "x-may-learn", "mode": "OptOut"},
        "redact": {"regions": ["DE"]},
    }
)  # fmt: skip
CAPTURE_VOLUME = CaptureSpec.model_validate(
    {"destination": {"uri": "pvc://captures/texts", "encryption": {"type": "Age", "recipients": ["age1" + "q" * 58]}}}
)
GPU = Gpu(product="NVIDIA L4", compute_capability="8.9", driver="580.95.05")
GPU_SPEC = spec(serving={"template": {"resources": {"limits": {"cpu": "4", "nvidia.com/gpu": 1}}}})
GPU_INSPECTION = inspection().model_copy(update={"hardware": HARDWARE.model_copy(update={"gpu": GPU})})
GPU_BUILD = engine_build(GPU_SPEC, GPU_INSPECTION, IMAGES.builder)
GPU_CONTENT = revision(GPU_SPEC, GPU_BUILD, build_name(GPU_BUILD), ARTIFACT, "tensorrt", IMAGES.server)


def _file(name: str, split: Split = SPLIT) -> str:
    text = envoy.files(OWNER, split, SETTINGS)[name]
    return json.dumps(json.loads(text), indent=1, sort_keys=True) + "\n"


CASES: dict[str, Callable[[], str]] = {
    "inspect-job.yaml": lambda: golden.dumped(jobs.inspect_job(OWNER, SPEC, IMAGES)),
    "inspect-job.full.yaml": lambda: golden.dumped(jobs.inspect_job(OWNER, FULL, IMAGES)),
    "build-job.yaml": lambda: golden.dumped(jobs.build_job(BUILDER, BUILD, IMAGES)),
    "build-job.full.yaml": lambda: golden.dumped(jobs.build_job(FULL_BUILDER, FULL_BUILD, IMAGES)),
    "build-job.distill.yaml": lambda: golden.dumped(jobs.build_job(BUILDER, STUDENT_BUILD, IMAGES)),
    "inspect-job.secret.yaml": lambda: golden.dumped(jobs.inspect_job(OWNER, SECRET, IMAGES)),
    "build-job.secret.yaml": lambda: golden.dumped(jobs.build_job(BUILDER, SECRET_BUILD, IMAGES)),
    "inspect-job.s3.yaml": lambda: golden.dumped(jobs.inspect_job(OWNER, SECRET, IMAGES, S3)),
    "build-job.s3.yaml": lambda: golden.dumped(jobs.build_job(BUILDER, SECRET_BUILD, IMAGES, S3)),
    "build-job.oci.yaml": lambda: golden.dumped(jobs.build_job(BUILDER, BUILD, IMAGES, OCI)),
    "poll-job.yaml": lambda: golden.dumped(jobs.poll_job(OWNER, SECRET, inspection(), "moderation-poll-0", IMAGES)),
    "probe-job.yaml": lambda: golden.dumped(jobs.probe_job(OWNER, FULL, "moderation-probe-0", IMAGES)),
    "build-job.gpu.yaml": lambda: golden.dumped(jobs.build_job(BUILDER, GPU_BUILD, IMAGES)),
    "server-deployment.gpu.yaml": lambda: golden.dumped(server.deployment(OWNER, GPU_CONTENT, 1, SETTINGS)),
    "server-deployment.stored.yaml": lambda: golden.dumped(server.deployment(OWNER, STORED, 1, SETTINGS)),
    "engine-build.yaml": lambda: golden.dumped(objects.engine_build(OWNER, build_name(BUILD), BUILD)),
    "engine-build.full.yaml": lambda: golden.dumped(objects.engine_build(OWNER, build_name(FULL_BUILD), FULL_BUILD)),
    "engine-build.distill.yaml": lambda: golden.dumped(
        objects.engine_build(OWNER, build_name(STUDENT_BUILD), STUDENT_BUILD)
    ),
    "server-revision.yaml": lambda: golden.dumped(server.revision_object(OWNER, CONTENT)),
    "server-revision.full.yaml": lambda: golden.dumped(server.revision_object(OWNER, FULL_CONTENT)),
    "server-service.yaml": lambda: golden.dumped(server.service(OWNER, CONTENT.revision)),
    "server-deployment.yaml": lambda: golden.dumped(server.deployment(OWNER, CONTENT, 1, SETTINGS)),
    "server-deployment.full.yaml": lambda: golden.dumped(server.deployment(OWNER, FULL_CONTENT, 3, SETTINGS)),
    "server-deployment.s3.yaml": lambda: golden.dumped(server.deployment(OWNER, CONTENT, 1, AT_S3)),
    "server-deployment.oci.yaml": lambda: golden.dumped(server.deployment(OWNER, CONTENT, 1, AT_OCI)),
    "server-deployment.capture.yaml": lambda: golden.dumped(server.deployment(OWNER, CONTENT, 1, CAPTURES, CAPTURE)),
    "server-deployment.capture-volume.yaml": lambda: golden.dumped(
        server.deployment(OWNER, CONTENT, 1, CAPTURES, CAPTURE_VOLUME)
    ),
    "server-policy.capture.yaml": lambda: golden.dumped(network.server_policy(OWNER, capture=CAPTURE)),
    "retention-job.yaml": lambda: golden.dumped(
        capture.retention_job(OWNER, capture.place_of(OWNER, CAPTURE), 19675, CAPTURES)
    ),
    "retention-job.volume.yaml": lambda: golden.dumped(
        capture.retention_job(OWNER, capture.place_of(OWNER, CAPTURE_VOLUME), 19675, CAPTURES)
    ),
    "router-configmap.yaml": lambda: golden.dumped(router.config_map(OWNER, {"routes-http.json": "{}\n"})),
    "router-service.yaml": lambda: golden.dumped(router.service(OWNER)),
    "router-deployment.yaml": lambda: golden.dumped(router.deployment(OWNER, SPEC.router, "{}\n", IMAGES)),
    "router-deployment.full.yaml": lambda: golden.dumped(router.deployment(OWNER, FULL.router, "{}\n", IMAGES)),
    "router-disruption-budget.yaml": lambda: golden.dumped(router.disruption_budget(OWNER)),
    "router-service.gateway.yaml": lambda: golden.dumped(router.service(OWNER, "aaaaaaaaaa", marked=True)),
    "gateway-backend.yaml": lambda: golden.dumped(gateway.backend(OWNER, "aaaaaaaaaa")),
    "gateway-routes.yaml": lambda: golden.dumped(*gateway.routes(OWNER, HOSTS, SPLIT)),
    "gateway-routes.paths.yaml": lambda: golden.dumped(*gateway.routes(OWNER, PATHS, SPLIT)),
    "gateway-routes.nobody.yaml": lambda: golden.dumped(*gateway.routes(OWNER, HOSTS, Split({}))),
    "server-policy.gateway.yaml": lambda: golden.dumped(network.server_policy(OWNER, gateway=True)),
    "router-policy.yaml": lambda: golden.dumped(network.router_policy(OWNER)),
    "server-policy.yaml": lambda: golden.dumped(network.server_policy(OWNER)),
    "server-policy.s3.yaml": lambda: golden.dumped(network.server_policy(OWNER, store=S3)),
    "server-policy.oci.yaml": lambda: golden.dumped(network.server_policy(OWNER, store=OCI)),
    "collect-job.s3.yaml": lambda: golden.dumped(jobs.collect_job(OWNER, 19675, COLLECTION, IMAGES, S3)),
    "collect-job.yaml": lambda: golden.dumped(jobs.collect_job(OWNER, 19675, COLLECTION, IMAGES)),
    "store-claim.yaml": lambda: golden.dumped(store.claim(OWNER, Store())),
    "store-claim.class.yaml": lambda: golden.dumped(store.claim(OWNER, Store("fast", "1Ti", "ReadWriteMany"))),
    "event.yaml": lambda: golden.dumped(
        event(OWNER, Change("Warning", "RolledBack", "canary was rolled back"), 1_700_000_000.25, "operator-0")
    ),
    "envoy/bootstrap.json": lambda: _file("bootstrap.json"),
    "envoy/credential.json": lambda: _file("credential.json"),
    "envoy/listeners.json": lambda: _file("listeners.json"),
    "envoy/clusters.json": lambda: _file("clusters.json"),
    "envoy/routes-http.json": lambda: _file("routes-http.json"),
    "envoy/routes-grpc.json": lambda: _file("routes-grpc.json"),
    "envoy/routes-grpc.sticky.json": lambda: _file("routes-grpc.json", STICKY),
    "envoy/routes-http.copying.json": lambda: _file("routes-http.json", COPYING),
    "envoy/routes-grpc.copying.json": lambda: _file("routes-grpc.json", COPYING),
    "envoy/routes-http.nobody.json": lambda: _file("routes-http.json", Split({})),
}

for _name, _world in retraining_samples.SNAPSHOTS.items():
    CASES[f"retraining{_name}.yaml"] = lambda seen=_world: golden.dumped(*retraining.objects(seen, IMAGES))


@pytest.mark.parametrize("case", CASES)
def test_rendered_objects_are_the_golden_ones(case: str) -> None:
    golden.compare(FOLDER / case, CASES[case]())


def test_no_golden_file_is_left_that_nothing_renders() -> None:
    golden.no_stale(FOLDER, CASES)


def test_every_envoy_file_has_a_golden_one() -> None:
    assert {f"envoy/{name}" for name in envoy.files(OWNER, SPLIT, SETTINGS)} <= set(CASES)


def test_weights_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(ValueError, match="add up to 100, not 90"):
        Split({"aaaaaaaaaa": 60, "bbbbbbbbbb": 30})
    with pytest.raises(ValueError, match="add up to 1000, not 900"):
        Split({"aaaaaaaaaa": 900}, (("aaaaaaaaaa", 1000),))


def test_a_change_of_weights_changes_the_routes_file_only() -> None:
    before = envoy.files(OWNER, Split({"a": 95, "b": 5}), SETTINGS)
    after = envoy.files(OWNER, Split({"a": 75, "b": 25}), SETTINGS)
    assert {name for name in before if before[name] != after[name]} == {"routes-grpc.json", "routes-http.json"}


def test_a_new_revision_changes_clusters_but_no_route_while_it_has_no_weight() -> None:
    before = envoy.files(OWNER, Split({"a": 100}), SETTINGS)
    after = envoy.files(OWNER, Split({"a": 100, "b": 0}), SETTINGS)
    assert {name for name in before if before[name] != after[name]} == {"clusters.json"}


PODS = {
    "inspect": jobs.inspect_job(OWNER, FULL, IMAGES),
    "build": jobs.build_job(FULL_BUILDER, FULL_BUILD, IMAGES),
    "server": server.deployment(OWNER, FULL_CONTENT, 3, SETTINGS),
    "build at S3": jobs.build_job(FULL_BUILDER, FULL_BUILD, IMAGES, S3),
    "server at S3": server.deployment(OWNER, FULL_CONTENT, 3, AT_S3),
    "router": router.deployment(OWNER, FULL.router, "{}", IMAGES),
    "webhook": retraining.objects(retraining_samples.SNAPSHOTS[".webhook"], IMAGES)[1],
}


@pytest.mark.parametrize("name", PODS)
def test_every_pod_keeps_the_restricted_pod_security_standard(name: str) -> None:
    pod = PODS[name]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 65532
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["readOnlyRootFilesystem"] is True
        assert security["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize("name", PODS)
def test_every_mount_has_its_volume_and_every_volume_name_is_a_dns_label(name: str) -> None:
    pod = PODS[name]["spec"]["template"]["spec"]
    volumes = [volume["name"] for volume in pod["volumes"]]
    assert len(set(volumes)) == len(volumes)
    assert all("." not in volume and len(volume) <= 63 for volume in volumes)
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        assert {mount["name"] for mount in container["volumeMounts"]} <= set(volumes)


@pytest.mark.parametrize("name", PODS)
def test_the_users_labels_never_replace_the_ones_that_select_pods(name: str) -> None:
    template, controller = PODS[name]["spec"]["template"], PODS[name]["spec"]
    selector = controller.get("selector", {"matchLabels": PODS[name]["metadata"]["labels"]})["matchLabels"]
    assert selector.items() <= template["metadata"]["labels"].items()


def test_a_user_cannot_steal_pods_by_labelling_them() -> None:
    wanted = spec(serving={"template": {"labels": {"tapchanger.dev/revision": "mine", "team": "a"}}})
    content = _content(wanted, BUILD)
    labels = server.deployment(OWNER, content, 1, SETTINGS)["spec"]["template"]["metadata"]["labels"]
    assert labels["tapchanger.dev/revision"] == content.revision
    assert labels["team"] == "a"
