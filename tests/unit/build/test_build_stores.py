"""Stores elsewhere: their addresses, their login, and what a registry may answer to a push."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from tapchanger_serving.build import credentials, stores
from tapchanger_serving.build.failures import StepError, TransientStepError
from tapchanger_serving.build.limits import Budget, Patience
from tapchanger_serving.build.places import Places
from tapchanger_serving.build.redaction import redacted
from tapchanger_serving.build.stores import push
from tapchanger_serving.build.stores.base import KeepsAllError, digest_of
from tapchanger_serving.build.stores.location import remote
from tapchanger_serving.build.stores.push import Blob
from tapchanger_serving.build.stores.volume import Volume
from tapchanger_serving.build.stores.words import patience
from tapchanger_serving.build.transport.http import RefusedError
from tapchanger_serving.build.transport.registry import Login, Registry
from tapchanger_serving.contract.names import ENV_STORE_CREDENTIALS, ENV_STORE_ENDPOINT
from tapchanger_serving.repository.fetch import at_hand
from tapchanger_serving.repository.verify import ArtifactError

Handler = Callable[[httpx.Request], httpx.Response]


def registry(handler: Handler) -> Registry:
    spent = Budget("oci://host.test/engines", "store.uri")
    client = httpx.Client(transport=httpx.MockTransport(handler))
    return Registry("https://host.test", "engines", Login(), spent, Patience(spent, lambda _: None), client)


def test_without_an_address_the_store_is_the_volume(places: Places) -> None:
    with stores.opened(places) as store:
        assert store == Volume(places)


@pytest.mark.parametrize(
    "uri",
    ["s3://engines", "s3://engines/../other", "https://host/engines", "oci://host", "oci://host/Engines", "gs://engines/a"],
)  # fmt: skip
def test_an_address_that_names_no_store_is_explained(places: Places, uri: str) -> None:
    with pytest.raises(StepError) as caught, remote(replace(places, store_uri=uri)):
        pass
    failure = caught.value.failure
    assert (failure.reason, failure.field) == ("StoreInvalid", "Helm value store.uri")
    assert uri in failure.message
    assert "write s3://BUCKET/PREFIX" in (failure.remedy or "")


def test_a_servers_wrong_address_is_an_error_and_no_damage() -> None:
    words = "StoreInvalid: 's3://engines' names no store"
    with pytest.raises(ArtifactError, match=words) as caught, at_hand("s3://engines", "sha256:" + "0" * 64):
        pass
    assert type(caught.value) is ArtifactError


def test_the_stores_login_is_there_only_as_long_as_it_is_needed(tmp_path: Path) -> None:
    keys = {
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "of-the-store",
        "AWS_ENDPOINT_URL": "https://secret.test",
    }
    for name, value in keys.items():
        (tmp_path / name).write_text(value)
    environ = {
        ENV_STORE_CREDENTIALS: "engine-store",
        ENV_STORE_ENDPOINT: "https://minio.test:9000",
        "AWS_SECRET_ACCESS_KEY": "of-the-model",
    }
    before = dict(environ)
    with credentials.lent(tmp_path, environ):
        assert environ["AWS_SECRET_ACCESS_KEY"] == "of-the-store"
        assert environ["AWS_ENDPOINT_URL"] == "https://minio.test:9000"
    assert environ == before
    assert redacted("the key of-the-store is wrong", {}) == "the key *** is wrong"
    with pytest.raises(StepError) as caught, credentials.lent(tmp_path / "none", environ):
        pass
    assert caught.value.failure.field == "Helm value store.credentials.secretName"


def test_a_store_that_stays_silent_is_tried_again_by_the_job(places: Places) -> None:
    waits = patience(Budget("s3://engines/a", "store.uri"))
    waits.sleep = lambda _: None
    for _ in range(5):
        waits.failed("connection refused")
    with pytest.raises(TransientStepError, match="StoreUnreachable"):
        waits.failed("connection refused")


def test_the_same_files_make_the_same_manifest() -> None:
    blob = Blob("model.onnx", digest_of(b"x"), 1, b"x")
    text = push.manifest("application/vnd.test", [blob])
    assert text == push.manifest("application/vnd.test", [blob])
    layer = json.loads(text)["layers"][0]
    assert layer["annotations"] == {"org.opencontainers.image.title": "model.onnx"}
    assert json.loads(push.manifest("application/vnd.test", []))["layers"][0]["size"] == 2


def test_a_chunk_whose_answer_got_lost_is_not_sent_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push, "CHUNK", 4)
    (tmp_path / "engine").write_bytes(b"0123456789")
    held, lost = bytearray(), [True]

    def answer(request: httpx.Request) -> httpx.Response:
        place = {"Location": f"/v2/engines/blobs/uploads/1?at={len(held)}"}
        if request.method == "POST":
            return httpx.Response(202, headers=place)
        if request.method == "PATCH":
            if not request.headers["Content-Range"].startswith(f"{len(held)}-"):
                return httpx.Response(416)
            held.extend(request.content)
            if lost:
                lost.clear()
                raise httpx.ReadError("lost", request=request)
        if request.method == "PUT":
            return httpx.Response(201 if request.url.params["digest"] == digest_of(bytes(held)) else 400)
        place = {"Location": f"/v2/engines/blobs/uploads/1?at={len(held)}", "Range": f"0-{len(held) - 1}"}
        return httpx.Response(202 if request.method == "PATCH" else 204, headers=place)

    push.push_blob(registry(answer), Blob("engine", digest_of(b"0123456789"), 10, tmp_path / "engine"))
    assert bytes(held) == b"0123456789"


def test_an_upload_that_the_registry_has_lost_begins_anew_but_not_for_ever() -> None:
    begun = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            begun.append(request)
            return httpx.Response(202, headers={"Location": "/v2/engines/blobs/uploads/1"})
        return httpx.Response(201 if len(begun) == 2 else 404)

    push.push_blob(registry(answer), Blob("x", digest_of(b"x"), 1, b"x"))
    begun += begun
    with pytest.raises(RefusedError, match="404"):
        push.push_blob(registry(answer), Blob("x", digest_of(b"x"), 1, b"x"))
    assert len(begun) == 7


def test_a_login_does_not_follow_an_upload_to_another_server() -> None:
    seen: dict[str, str] = {}

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.host == "host.test" and "Authorization" not in request.headers:
            return httpx.Response(401, headers={"WWW-Authenticate": 'Basic realm="test"'})
        seen[request.url.host] = request.headers.get("Authorization", "")
        place = {"Location": "https://blobs.test/upload?sig=0123456789"}
        return httpx.Response(202 if request.method == "POST" else 201, headers=place)

    found = replace(registry(answer), login=Login("me", "secret-word"))
    push.push_blob(found, Blob("x", digest_of(b"x"), 1, b"x"))
    assert seen["host.test"].startswith("Basic ")
    assert seen["blobs.test"] == ""


def test_all_pages_of_tags_are_read_and_no_repository_is_an_empty_one() -> None:
    def pages(request: httpx.Request) -> httpx.Response:
        if request.url.params.get("last") is None:
            more = {"Link": '</v2/engines/tags/list?n=1000&last=a>; rel="next"'}
            return httpx.Response(200, json={"name": "engines", "tags": ["a"]}, headers=more)
        return httpx.Response(200, json={"name": "engines", "tags": ["b"]})

    assert list(push.tags(registry(pages))) == ["a", "b"]
    assert list(push.tags(registry(lambda request: httpx.Response(404)))) == []


@pytest.mark.parametrize("status", [405, 403, 400])
def test_a_registry_that_keeps_all_is_known_by_its_answer(status: int) -> None:
    with pytest.raises(KeepsAllError, match=str(status)):
        push.delete_manifest(registry(lambda request: httpx.Response(status)), "sha256:0")
    push.delete_manifest(registry(lambda request: httpx.Response(404)), "sha256:0")


def test_nothing_of_a_volume_needs_a_client_of_a_store(places: Places, tmp_path: Path) -> None:
    with at_hand(str(places.store), "sha256:0") as folder:
        assert folder == places.store
    assert "AWS_ENDPOINT_URL" not in os.environ
