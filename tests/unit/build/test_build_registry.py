"""Logins to registries and limits of downloads, where no server has to be real."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tapchanger_serving.build.failures import StepError, TransientStepError
from tapchanger_serving.build.limits import Budget, Patience
from tapchanger_serving.build.transport import layers
from tapchanger_serving.build.transport.clients import open_store, status_of
from tapchanger_serving.build.transport.http import RefusedError, download
from tapchanger_serving.build.transport.registry import Login, Registry, RegistryError, base_url, login_for

DIGEST = "sha256:" + "a" * 64


def budget(**limits: int) -> Budget:
    return Budget("oci://registry.test/model:1", "spec.model.uri", **limits)


def registry(handler: Any, login: Login, host: str = "registry.test") -> Registry:
    spent = budget()
    client = httpx.Client(transport=httpx.MockTransport(handler), follow_redirects=True)
    return Registry(base_url(host), "team/model", login, spent, Patience(spent, sleep=lambda _: None), client)


def asking(seen: list[httpx.Request], realm: str) -> Any:
    """A registry that sends everyone to `realm` for a token."""

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        if request.url.path == "/token":
            return httpx.Response(200, json={"token": "granted"})
        if request.headers.get("Authorization") != "Bearer granted":
            challenge = f'Bearer realm="{realm}",service="registry.test",scope="repository:team/model:pull"'
            return httpx.Response(401, headers={"WWW-Authenticate": challenge})
        return httpx.Response(200, json={"layers": []})

    return handler


def test_a_registry_that_asks_for_a_token_gets_one_for_the_password() -> None:
    seen: list[httpx.Request] = []
    found = registry(asking(seen, "https://auth.test/token"), Login("me", "hunter22"))
    assert found.manifest("v1")[1] == {"layers": []}
    token = next(request for request in seen if request.url.path == "/token")
    assert dict(token.url.params) == {"service": "registry.test", "scope": "repository:team/model:pull"}
    assert token.headers["Authorization"] == "Basic " + base64.b64encode(b"me:hunter22").decode()
    # A token stands for later requests as well.
    found.manifest("v2")
    assert sum(request.url.path == "/token" for request in seen) == 1


def test_a_password_goes_nowhere_in_plain_text() -> None:
    seen: list[httpx.Request] = []
    with pytest.raises(RegistryError, match="login of an unknown kind"):
        registry(asking(seen, "http://auth.test/token"), Login("me", "hunter22")).manifest("v1")
    assert not [request for request in seen if request.url.path == "/token"]


def test_a_manifest_that_is_not_the_one_of_its_digest_is_refused() -> None:
    found = registry(lambda request: httpx.Response(200, json={"layers": []}), Login())
    with pytest.raises(RegistryError, match=f"for the manifest {DIGEST}"):
        found.manifest(DIGEST)


@pytest.mark.parametrize(
    ("entry", "login"),
    [
        ({"auth": base64.b64encode(b"me:pass:word").decode()}, Login("me", "pass:word")),
        ({"username": "me", "password": "word"}, Login("me", "word")),
        ({"username": "me", "identitytoken": "long"}, Login("me", "", "long")),
    ],
)
def test_logins_are_those_that_docker_writes(tmp_path: Path, entry: dict[str, str], login: Login) -> None:
    config = tmp_path / ".dockerconfigjson"
    config.write_text(json.dumps({"auths": {"https://registry.test": entry}}))
    assert login_for("registry.test", config, {}) == login
    assert login_for("other.test", config, {}) == Login()


def test_a_broken_login_file_is_told_without_its_content(tmp_path: Path) -> None:
    config = tmp_path / ".dockerconfigjson"
    config.write_text('{"auths": {"registry.test": {"auth": "hunter22!"}}}')
    with pytest.raises(ValueError, match="Docker config") as caught:
        login_for("registry.test", config, {})
    assert "hunter22" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "plain", "url"),
    [
        ("registry.test", "", "https://registry.test"),
        ("localhost:5000", "", "http://localhost:5000"),
        ("registry.infra.svc:5000", "a,registry.infra.svc:5000", "http://registry.infra.svc:5000"),
        ("docker.io", "", "https://registry-1.docker.io"),
    ],
)
def test_only_this_machine_and_named_hosts_are_asked_in_plain_text(host: str, plain: str, url: str) -> None:
    assert base_url(host, plain) == url


def test_a_layer_may_not_be_named_out_of_its_folder() -> None:
    entry = {"digest": DIGEST, "size": 1, "annotations": {"org.opencontainers.image.title": "../config.json"}}
    with pytest.raises(RegistryError, match="leads out of the folder"):
        layers.layers_of({"layers": [entry]})


def answers(*given: httpx.Response) -> Any:
    rest = iter(given)
    client = httpx.Client(transport=httpx.MockTransport(lambda request: next(rest)))
    return lambda headers: client.stream("GET", "https://host.test/x", headers=headers)


def test_what_may_pass_is_tried_again_and_what_would_not_is_not(tmp_path: Path) -> None:
    waited: list[float] = []
    spent = budget()
    busy = httpx.Response(503, headers={"Retry-After": "7"})
    download(
        answers(busy, httpx.Response(200, stream=httpx.ByteStream(b"abc"))),
        tmp_path / "x",
        spent,
        Patience(spent, waited.append),
    )
    assert (tmp_path / "x").read_bytes() == b"abc"
    assert waited == [7.0]
    with pytest.raises(RefusedError, match="404"):
        download(answers(httpx.Response(404)), tmp_path / "y", spent, Patience(spent, waited.append))
    assert waited == [7.0]


def test_patience_ends_and_the_job_may_try_again(tmp_path: Path) -> None:
    waited: list[float] = []
    spent = budget()
    with pytest.raises(TransientStepError, match=r"503.*6 times in a row"):
        download(answers(*[httpx.Response(503)] * 6), tmp_path / "x", spent, Patience(spent, waited.append))
    assert waited == sorted(waited)
    assert 0.4 <= waited[0] <= 0.6
    assert len(waited) == 5


def test_size_number_and_time_are_bounded(tmp_path: Path) -> None:
    spent = budget(bytes=10)
    with pytest.raises(StepError, match="DownloadTooLarge"):
        download(answers(httpx.Response(200, content=b"x" * 11)), tmp_path / "x", spent, Patience(spent))
    with pytest.raises(StepError, match="more than 3 files"):
        budget(files=3).listed(4)
    with pytest.raises(StepError, match="DownloadTooSlow"):
        budget(seconds=0).in_time()


@pytest.mark.parametrize(
    ("environ", "fields"),
    [
        ({"AZURE_STORAGE_ACCOUNT": "a", "AZURE_STORAGE_KEY": "a2V5"}, {"account_key": "a2V5", "anon": False}),
        ({"AZURE_STORAGE_ACCOUNT_NAME": "a", "AZURE_STORAGE_SAS_TOKEN": "sv=1&sig=x"}, {"anon": False}),
        ({"AZURE_STORAGE_ACCOUNT_NAME": "a"}, {"account_name": "a", "anon": True}),
    ],
)  # fmt: skip
def test_azure_is_opened_with_what_its_own_tools_read(environ: dict[str, str], fields: dict[str, Any]) -> None:
    client = open_store("az", environ).client
    assert {name: getattr(client, name) for name in fields} == fields


def test_azure_without_an_account_is_refused() -> None:
    with pytest.raises(ValueError, match="account_name"):
        open_store("az", {})


def test_a_status_is_found_where_each_client_keeps_it() -> None:
    from azure.core.exceptions import HttpResponseError
    from botocore.exceptions import ClientError
    from gcsfs.retry import HttpError

    boto = ClientError({"Error": {"Code": "SlowDown"}, "ResponseMetadata": {"HTTPStatusCode": 503}}, "GetObject")
    wrapped = OSError("busy")
    wrapped.__cause__ = boto
    assert status_of(wrapped) == 503
    assert status_of(HttpError({"code": 401, "message": "no"})) == 401
    azure = HttpResponseError("no")
    azure.status_code = 403
    assert status_of(azure) == 403
    assert status_of(FileNotFoundError("x")) == 404
    assert status_of(PermissionError("x")) == 403
    assert status_of(OSError("Forbidden: https://storage.test/b")) == 403
    assert status_of(TimeoutError()) is None
