"""Calls to the API server, and its answers in the operator's terms."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from kubernetes import client
from urllib3.exceptions import MaxRetryError

from tapchanger_operator.api import reasons
from tapchanger_operator.errors import OperatorError, Transient, UserError
from tapchanger_operator.kube import Kube
from tapchanger_operator.names import Ref

REF = Ref("EngineBuild", "team-a", "eb-1")
MANIFEST = {
    "apiVersion": "tapchanger.dev/v1alpha1",
    "kind": "EngineBuild",
    "metadata": {"name": "eb-1", "namespace": "team-a"},
}


@dataclass
class Server:
    """Answers every request with one status and body."""

    status: int = 200
    body: Any = field(default_factory=dict)
    error: Exception | None = None
    requests: list[tuple[str, str, dict[str, list[str]], dict[str, str], Any]] = field(default_factory=list)

    def kube(self) -> Kube:
        """A client of this server."""
        api = client.ApiClient(client.Configuration(host="https://api.test"))
        server = self

        class Answer:
            status = server.status
            reason = "as it is"

            def read(self) -> bytes:
                return json.dumps(server.body).encode()

        def call_api(method: str, url: str, headers: dict[str, str], body: Any = None, *_: Any, **__: Any) -> Answer:
            parts = urlsplit(url)
            self.requests.append((method, parts.path, parse_qs(parts.query), headers, body))
            if self.error:
                raise self.error
            return Answer()

        api.call_api = call_api
        return Kube(api)


CALLS: dict[str, Callable[[Kube], Any]] = {
    "get": lambda kube: kube.get(REF),
    "items": lambda kube: kube.items("EngineBuild", "team-a", "a=b"),
    "apply": lambda kube: kube.apply(MANIFEST),
    "apply_status": lambda kube: kube.apply_status(REF, {"phase": "Ready"}),
    "annotate": lambda kube: kube.annotate(REF, {"a": "b"}),
    "patch": lambda kube: kube.patch(REF, [{"op": "remove", "path": "/metadata/ownerReferences/0"}]),
    "delete": lambda kube: kube.delete(REF, "uid-1"),
    "create": lambda kube: kube.create(MANIFEST),
}


def failure(status: int, call: str) -> OperatorError | Any:
    """What a call gives where the server answers `status`."""
    try:
        return CALLS[call](Server(status, {"message": f"it is {status}"}).kube())
    except OperatorError as problem:
        return problem


@pytest.mark.parametrize("call", ["get", "apply_status", "annotate", "patch", "delete"])
def test_an_object_that_is_gone_is_no_failure(call: str) -> None:
    assert failure(404, call) in (None, {})


@pytest.mark.parametrize("call", ["apply", "items", "create"])
def test_where_something_must_exist_its_absence_is_tried_again(call: str) -> None:
    assert isinstance(failure(404, call), Transient)


def test_a_kind_that_the_cluster_does_not_have_is_no_failure_where_it_may_be_missing() -> None:
    assert Server(404, "404 page not found").kube().items_if_known("HTTPRoute", "team-a") is None
    server = Server(body={"items": [{"metadata": {"name": "moderation"}}]})
    found = server.kube().items_if_known("HTTPRoute", "team-a")
    assert found is not None
    assert found[0]["kind"] == "HTTPRoute"
    assert server.requests[0][1] == "/apis/gateway.networking.k8s.io/v1/namespaces/team-a/httproutes"
    with pytest.raises(Transient):
        Server(500).kube().items_if_known("HTTPRoute", "team-a")


@pytest.mark.parametrize("call", ["delete", "create"])
def test_someone_faster_is_no_failure(call: str) -> None:
    assert failure(409, call) is None


@pytest.mark.parametrize("call", ["apply", "patch", "annotate", "apply_status"])
def test_a_conflict_is_tried_again(call: str) -> None:
    assert isinstance(failure(409, call), Transient)


@pytest.mark.parametrize("status", [400, 403, 422])
@pytest.mark.parametrize("call", ["apply", "create", "patch"])
def test_what_the_cluster_refuses_is_for_the_user_in_the_clusters_words(status: int, call: str) -> None:
    problem = failure(status, call)
    assert isinstance(problem, UserError)
    assert (problem.reason, problem.message) == (reasons.REFUSED, f"it is {status}")


def test_a_manifest_that_cannot_be_applied_is_for_the_user_whatever_the_status() -> None:
    said = (
        "failed to create typed patch object (team-a/x; batch/v1, Kind=Job): .spec.imag: field not declared in schema"
    )
    with pytest.raises(UserError, match="field not declared"):
        CALLS["apply"](Server(500, {"message": said}).kube())


@pytest.mark.parametrize("status", [401, 429, 500, 502, 503, 504])
@pytest.mark.parametrize("call", CALLS)
def test_a_server_in_trouble_is_tried_again(status: int, call: str) -> None:
    problem = failure(status, call)
    assert isinstance(problem, Transient)
    assert f"it is {status}" in problem.message


@pytest.mark.parametrize("status", [403, 422])
def test_reading_that_is_forbidden_is_no_fault_of_the_user(status: int) -> None:
    assert isinstance(failure(status, "get"), Transient)


@pytest.mark.parametrize("call", CALLS)
def test_a_server_that_cannot_be_reached_is_tried_again(call: str) -> None:
    server = Server(error=MaxRetryError(None, "/x", Exception("connection refused")))  # type: ignore[arg-type]
    with pytest.raises(Transient, match="connection refused"):
        CALLS[call](server.kube())


def test_an_answer_that_is_not_json_still_says_what_is_wrong() -> None:
    server = Server(502, "<html>")
    with pytest.raises(Transient, match="502 as it is"):
        server.kube().get(REF)


def test_apply_is_server_side_and_takes_fields_over() -> None:
    server = Server()
    server.kube().apply(MANIFEST, "tapchanger-1234")
    ((method, path, query, headers, body),) = server.requests
    assert (method, path) == ("PATCH", "/apis/tapchanger.dev/v1alpha1/namespaces/team-a/enginebuilds/eb-1")
    assert query == {"fieldManager": ["tapchanger-1234"], "force": ["true"]}
    assert headers["Content-Type"] == "application/apply-patch+yaml"
    assert body == MANIFEST


def test_status_is_applied_by_a_manager_of_its_own() -> None:
    server = Server()
    server.kube().apply_status(REF, {"phase": "Ready"})
    ((_, path, query, _, body),) = server.requests
    assert path.endswith("/enginebuilds/eb-1/status")
    assert query["fieldManager"] == ["tapchanger-status"]
    assert body["status"] == {"phase": "Ready"}


def test_delete_hits_only_the_object_that_was_meant() -> None:
    server = Server()
    server.kube().delete(REF, "uid-1")
    ((method, _, _, _, body),) = server.requests
    assert method == "DELETE"
    assert body == {"propagationPolicy": "Background", "preconditions": {"uid": "uid-1"}}


def test_objects_of_a_list_know_their_kind() -> None:
    server = Server(body={"items": [{"metadata": {"name": "eb-1"}}]})
    (item,) = server.kube().items("EngineBuild", None, "a=b")
    assert (item["kind"], item["apiVersion"]) == ("EngineBuild", "tapchanger.dev/v1alpha1")
    ((_, path, query, _, _),) = server.requests
    assert (path, query) == ("/apis/tapchanger.dev/v1alpha1/enginebuilds", {"labelSelector": ["a=b"]})


def test_core_objects_have_the_core_path() -> None:
    server = Server()
    server.kube().get(Ref("Pod", "team-a", "p"))
    assert server.requests[0][1] == "/api/v1/namespaces/team-a/pods/p"
