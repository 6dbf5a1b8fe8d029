"""Capture is off unless written, says what it does, and deletes in time what it has kept, also after it ended."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from pydantic import ValidationError

from tapchanger_operator.api.capture import CaptureSpec, CaptureStatus
from tapchanger_operator.apply.capture import retain
from tapchanger_operator.apply.collect import Collections
from tapchanger_operator.names import Owner, Ref
from tapchanger_operator.observe import capture as observe
from tapchanger_operator.plan import capture as plan
from tapchanger_operator.status import capture as status
from tapchanger_serving.contract.capture import ENV_ORDER, Order, Told, location
from tests.support.fake_kube import FakeKube
from tests.support.samples import IMAGES, SETTINGS
from tests.support.schemas import problems, schema_of
from tests.support.world import NAMESPACE, World
from tests.unit.operator.test_whole_rollout import FAST, A, ready, told

T0 = 1_700_000_000.0
DAY = 86400.0
OWNER = Owner("TransformerDeployment", "moderation", "team-a", "uid-1")
CAPTURES = replace(SETTINGS, images=replace(IMAGES, capture="registry.example/capture:1"))
S3 = {"uri": "s3://captures/texts", "secretName": "captures", "encryption": {"type": "SSE-S3"}}
RECIPIENT = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"


def capture(**fields: Any) -> CaptureSpec:
    return CaptureSpec.model_validate({"destination": S3, **fields})


def capturing_world(**spec: Any) -> World:
    world = World()
    world.tools = replace(world.tools, settings=CAPTURES)
    world.deploy(A, **FAST, capture={"destination": S3, **spec})
    assert world.run(40, lambda: ready(world)), world.status()
    return world


def sidecars(world: World) -> list[dict[str, Any]]:
    servers = [
        item for ref, item in world.kube.objects.items() if ref.kind == "Deployment" and "router" not in ref.name
    ]
    return [
        container
        for server in servers
        for container in server["spec"]["template"]["spec"]["initContainers"]
        if container["name"] == "capture"
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"uri": "s3://captures/../x"}, r"s3://BUCKET/PREFIX"),
        ({"uri": "s3://captures"}, r"s3://BUCKET/PREFIX"),
        ({"uri": "https://captures/x"}, r"s3://BUCKET/PREFIX"),
        ({"encryption": {"type": "SSE-KMS"}}, "kmsKey go together"),
        ({"encryption": {"type": "SSE-S3", "kmsKey": "k"}}, "kmsKey go together"),
        ({"encryption": {"type": "Age"}}, "recipients go together"),
        ({"encryption": {"type": "Age", "recipients": ["AGE-SECRET-KEY-1"]}}, "pattern"),
        ({"uri": "pvc://captures/texts", "secretName": None}, "only an S3 store encrypts by itself"),
        ({"uri": "pvc://captures/texts", "encryption": {"type": "None"}}, "belong to an s3:// destination"),
    ],
)
def test_a_destination_that_can_not_be_is_refused_with_what_to_write(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        capture(destination={**S3, **change})


def test_encryption_is_a_choice_that_must_be_made() -> None:
    with pytest.raises(ValidationError, match="encryption"):
        capture(destination={"uri": "s3://captures/texts"})


@pytest.mark.parametrize(
    "bad", [{"retention": "30s"}, {"retention": "0d"}, {"sample": 0}, {"sample": 1.5}, {"redact": {"kinds": ["shoe"]}}]
)
def test_other_fields_have_bounds(bad: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        capture(**bad)


def test_the_schema_has_what_the_models_have() -> None:
    schema = schema_of("TransformerDeployment", "spec")
    model = {"uri": "pvc://models/a", "task": "text-classification"}
    volume = {"uri": "pvc://c/texts", "encryption": {"type": "Age", "recipients": [RECIPIENT]}}
    for destination in (S3, volume):
        wire = capture(destination=destination).wire()
        assert problems({"model": model, "capture": wire}, schema) == []
    destination = schema["properties"]["capture"]["properties"]["destination"]
    assert destination["required"] == ["uri", "encryption"]


def test_retraining_is_told_where_texts_lie() -> None:
    assert location("team-a", "moderation", capture()) == "s3://captures/texts/team-a/moderation"


def test_without_it_nothing_of_a_pod_changes_and_with_it_the_secret_is_in_one_container_only() -> None:
    world = World()
    world.tools = replace(world.tools, settings=CAPTURES)
    world.deploy(A, **FAST)
    assert world.run(40, lambda: ready(world)), world.status()
    assert sidecars(world) == []
    assert "capture" not in world.status()
    world = capturing_world()
    (sidecar,) = sidecars(world)
    assert sidecar["restartPolicy"] == "Always"
    server = next(
        item for ref, item in world.kube.objects.items() if ref.kind == "Deployment" and "router" not in ref.name
    )
    pod = server["spec"]["template"]["spec"]
    holders = [
        container["name"]
        for container in [*pod["initContainers"], *pod["containers"]]
        if any(mount["name"] == "capture-credentials" for mount in container["volumeMounts"])
    ]
    assert holders == ["capture"]


def test_what_is_captured_is_said_in_an_event_and_in_status() -> None:
    world = capturing_world(sample=0.05, retention="7d")
    (said,) = told(world, "CaptureOn")
    assert "5 % of the texts of requests whose header x-capture-consent grants it" in said
    assert "s3://captures/texts/" in said
    assert "for 7d (encryption SSE-S3)" in said
    found = world.status()["capture"]
    assert found["message"] in said
    assert not problems(world.status(), schema_of("TransformerDeployment", "status"))


def test_without_an_image_the_model_serves_and_status_says_what_is_missing() -> None:
    world = World()
    world.deploy(A, **FAST, capture={"destination": S3})
    assert world.run(40, lambda: ready(world)), world.status()
    assert sidecars(world) == []
    assert "images.capture" in world.status()["capture"]["trouble"]
    assert len(told(world, "CaptureTrouble")) == 1
    assert told(world, "CaptureOn") == []


def test_old_texts_are_deleted_daily_and_after_capture_has_ended() -> None:
    world = capturing_world(retention="2d")
    prefix = f"s3://captures/texts/{NAMESPACE}/moderation"
    assert [place["prefix"] for place in world.status()["capture"]["places"]] == [prefix]
    (first,) = retentions(world)
    world.deploy(A, **FAST)
    world.run(60)
    assert sidecars(world) == []
    assert len(told(world, "CaptureOff")) == 1
    assert world.status()["capture"]["places"][0]["until"]
    world.now += DAY
    world.run(60)
    assert all(job["metadata"]["name"] != first["metadata"]["name"] for job in retentions(world))
    (order,) = {
        item["value"]
        for job in retentions(world)
        for item in job["spec"]["template"]["spec"]["containers"][0]["env"]
        if item["name"] == ENV_ORDER
    }
    assert Order.model_validate_json(order).retention_seconds == 2 * DAY
    world.now += 2 * DAY
    world.run(60)
    assert "capture" not in world.status()


def retentions(world: World) -> list[dict[str, Any]]:
    return [item for ref, item in world.kube.objects.items() if ref.kind == "Job" and "-retain-" in ref.name]


def test_a_job_for_each_place_and_day_and_no_more() -> None:
    now = T0
    kube = FakeKube(lambda: now)
    place = plan.place_of(OWNER, capture())
    other = place.model_copy(update={"prefix": "pvc://old/texts/team-a/moderation", "secret_name": ""})
    found, looked = CaptureStatus(places=[place, other]), Collections()
    for _ in range(2):
        retain(kube, looked, OWNER, found, CAPTURES, now)  # type: ignore[arg-type]
    assert len([ref for ref in kube.objects if ref.kind == "Job"]) == 2
    retain(kube, looked, OWNER, found, CAPTURES, now + DAY)  # type: ignore[arg-type]
    assert len([ref for ref in kube.objects if ref.kind == "Job"]) == 4
    retain(kube, looked, OWNER, found, SETTINGS, now + 2 * DAY)  # type: ignore[arg-type]
    assert len([ref for ref in kube.objects if ref.kind == "Job"]) == 4


def test_a_deployment_that_is_made_anew_on_the_same_day_has_its_job() -> None:
    kube = FakeKube(lambda: T0)
    found, looked = CaptureStatus(places=[plan.place_of(OWNER, capture())]), Collections()
    retain(kube, looked, OWNER, found, CAPTURES, T0)  # type: ignore[arg-type]
    kube.objects.clear()  # as its Jobs go with a deployment
    retain(kube, looked, replace(OWNER, uid="another"), found, CAPTURES, T0)  # type: ignore[arg-type]
    assert len([ref for ref in kube.objects if ref.kind == "Job"]) == 1


@pytest.fixture
def sidecar(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A sidecar of this machine that answers."""
    answer = (
        Told(captured=7, dropped={"noConsent": 3, "unclear": 5}, stored=1, last_written=T0, trouble="").dumps().encode()
    )

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    monkeypatch.setattr(observe, "METRICS_PORT", server.server_port)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield
    server.shutdown()
    server.server_close()


def pod(address: str = "127.0.0.1", **change: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "p", "labels": {"app.kubernetes.io/component": "server"}},
        "spec": {"initContainers": [{"name": "capture"}]},
        "status": {"phase": "Running", "podIP": address},
        **change,
    }


def test_sidecars_are_asked_once_a_minute_and_those_that_do_not_answer_are_passed_over(sidecar: None) -> None:
    pods = [pod(), pod(), pod("127.0.0.2", status={"phase": "Pending"}), pod(spec={"initContainers": []})]
    answers = observe.told(capture(), None, pods, T0)
    assert answers is not None
    assert [one.captured for one in answers] == [7, 7]
    asked = CaptureStatus(asked_at="2023-11-14T22:13:20.000Z")
    assert observe.told(capture(), asked, pods, T0 + 30) is None
    assert observe.told(None, None, pods, T0) is None
    assert observe.told(capture(), asked, [pod("127.0.0.1")], T0 + 61)


def test_status_adds_up_and_says_why_texts_were_dropped() -> None:
    world = capturing_world()
    from tapchanger_operator.observe.gather import gather

    body = {
        **world.kube.objects[Ref("TransformerDeployment", NAMESPACE, "moderation")],
        "kind": "TransformerDeployment",
    }
    snapshot = gather(world.kube, world, body, world.now)  # type: ignore[arg-type]
    heard = (
        Told(captured=7, dropped={"noConsent": 3, "unclear": 5}, last_written=T0),
        Told(captured=1, dropped={"noConsent": 4}, trouble="AccessDenied: no"),
    )
    found = status.record(replace(snapshot, captured=heard), "image")
    assert found is not None
    assert (found.captured, found.dropped, found.trouble) == (8, 12, "AccessDenied: no")
    assert found.reasons == ["without consent: 7", "names could not be told from other words: 5"]
    assert found.last_written == "2023-11-14T22:13:20.000Z"
    (change,) = status.changes(snapshot.status.capture, found)
    assert (change.kind, change.reason) == ("Warning", "CaptureTrouble")
