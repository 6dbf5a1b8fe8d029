"""The one place that talks to the API server: reads, server-side apply, deletes, and errors in the operator's own terms."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from tapchanger_operator import names
from tapchanger_operator.api import reasons
from tapchanger_operator.api.base import API_VERSION
from tapchanger_operator.errors import Transient, UserError
from tapchanger_operator.names import Ref

Object = dict[str, Any]

_TIMEOUT: Final = (3.05, 20)
_PLURALS: Final = {
    "TransformerDeployment": (API_VERSION, "transformerdeployments"),
    "EngineBuild": (API_VERSION, "enginebuilds"),
    "Deployment": ("apps/v1", "deployments"),
    "ControllerRevision": ("apps/v1", "controllerrevisions"),
    "Job": ("batch/v1", "jobs"),
    "Service": ("v1", "services"),
    "ConfigMap": ("v1", "configmaps"),
    "PersistentVolumeClaim": ("v1", "persistentvolumeclaims"),
    "Pod": ("v1", "pods"),
    "Node": ("v1", "nodes"),
    "Event": ("v1", "events"),
    "PodDisruptionBudget": ("policy/v1", "poddisruptionbudgets"),
    "NetworkPolicy": ("networking.k8s.io/v1", "networkpolicies"),
    "HTTPRoute": ("gateway.networking.k8s.io/v1", "httproutes"),
    "GRPCRoute": ("gateway.networking.k8s.io/v1", "grpcroutes"),
    "Lease": ("coordination.k8s.io/v1", "leases"),
}
_UNTYPED: Final = "failed to create typed patch object"
"""What server-side apply says, with status 500, of a manifest with unknown fields or two entries of one key."""
_APPLY_PATCH: Final = "application/apply-patch+yaml"
_MERGE_PATCH: Final = "application/merge-patch+json"
_JSON_PATCH: Final = "application/json-patch+json"


def connect() -> Kube:
    """A client by the pod's service account, or by the current kube context outside a cluster."""
    try:
        config.load_incluster_config()
    except config.ConfigException:
        config.load_kube_config()
    return Kube(client.ApiClient())


class Kube:
    """Typed calls on plain manifests. Raises Transient where a call may succeed later, UserError where it can't."""

    def __init__(self, api: client.ApiClient) -> None:
        self._api = api

    def get(self, ref: Ref) -> Object | None:
        """The object, or None where there is none."""
        try:
            return self._call("GET", _path(ref.kind, ref.namespace, ref.name))
        except _NotFound:
            return None

    def items(self, kind: str, namespace: str | None, selector: str = "") -> list[Object]:
        """All objects of `kind` in `namespace` (None: everywhere) that carry the labels of `selector`."""
        query = {"labelSelector": selector} if selector else {}
        answer = self._call("GET", _path(kind, namespace, None), query)
        api_version = _PLURALS[kind][0]
        return [{**item, "kind": kind, "apiVersion": api_version} for item in answer.get("items", [])]

    def items_if_known(self, kind: str, namespace: str, selector: str = "") -> list[Object] | None:
        """As :meth:`items`; None where the cluster has no such kind."""
        try:
            return self.items(kind, namespace, selector)
        except _NotFound:
            return None

    def apply(self, manifest: Mapping[str, Any], manager: str = names.MANAGER) -> Object:
        """Server-side apply of `manifest`; fields that others own and this names are taken over."""
        ref = Ref.of(manifest)
        query = {"fieldManager": manager, "force": "true"}
        return self._call("PATCH", _path(ref.kind, ref.namespace, ref.name), query, manifest, _APPLY_PATCH)

    def apply_status(self, ref: Ref, status: Mapping[str, Any]) -> Object:
        """Server-side apply of the status subresource: what `status` leaves out is removed."""
        manifest = {
            "apiVersion": API_VERSION,
            "kind": ref.kind,
            "metadata": {"name": ref.name, "namespace": ref.namespace},
            "status": status,
        }
        query = {"fieldManager": f"{names.MANAGER}-status", "force": "true"}
        path = _path(ref.kind, ref.namespace, ref.name) + "/status"
        try:
            return self._call("PATCH", path, query, manifest, _APPLY_PATCH)
        except _NotFound:
            return {}

    def annotate(self, ref: Ref, annotations: Mapping[str, str]) -> None:
        """Merges `annotations` into the object; one that has gone meanwhile is passed over."""
        try:
            self._call(
                "PATCH",
                _path(ref.kind, ref.namespace, ref.name),
                {},
                {"metadata": {"annotations": annotations}},
                _MERGE_PATCH,
            )
        except _NotFound:
            return

    def patch(self, ref: Ref, operations: Sequence[Object]) -> None:
        """A JSON patch; one on an object that has gone meanwhile is passed over."""
        try:
            self._call("PATCH", _path(ref.kind, ref.namespace, ref.name), {}, operations, _JSON_PATCH)
        except _NotFound:
            return

    def delete(self, ref: Ref, uid: str) -> None:
        """Deletes the object if it still is the one with `uid`; what it owns follows in the background."""
        body = {"propagationPolicy": "Background", "preconditions": {"uid": uid}}
        try:
            self._call("DELETE", _path(ref.kind, ref.namespace, ref.name), {}, body)
        except (_NotFound, _Conflict):
            return

    def create(self, manifest: Mapping[str, Any]) -> Object | None:
        """Creates an object. None where one of that name exists."""
        ref = Ref.of(manifest)
        try:
            return self._call("POST", _path(ref.kind, ref.namespace, None), {}, manifest)
        except _Conflict:
            return None

    def replace(self, manifest: Mapping[str, Any]) -> Object | None:
        """Replaces an object at its resourceVersion. None where someone was faster."""
        ref = Ref.of(manifest)
        try:
            return self._call("PUT", _path(ref.kind, ref.namespace, ref.name), {}, manifest)
        except (_Conflict, _NotFound):
            return None

    def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content: str = "application/json",
    ) -> Object:
        headers = {"Accept": "application/json", "Content-Type": content}
        request = self._api.param_serialize(
            method=method,
            resource_path=path,
            query_params=list((query or {}).items()),
            header_params=headers,
            body=body,
            auth_settings=["BearerToken"],
        )
        try:
            response = self._api.call_api(*request, _request_timeout=_TIMEOUT)
            data = response.read()
        except (HTTPError, ApiException) as problem:
            raise Transient("ApiServerUnreachable", f"{method} {path}: {problem}") from problem
        if response.status >= 400:
            raise _translated(response.status, _message(data, response.reason), method, path)
        return cast("Object", json.loads(data))


class _NotFound(Transient):
    pass


class _Conflict(Transient):
    pass


def _path(kind: str, namespace: str | None, name: str | None) -> str:
    api_version, plural = _PLURALS[kind]
    root = f"/api/{api_version}" if "/" not in api_version else f"/apis/{api_version}"
    where = f"/namespaces/{namespace}" if namespace else ""
    return f"{root}{where}/{plural}" + (f"/{name}" if name else "")


def _translated(status: int, message: str, method: str, path: str) -> Transient | UserError:
    if status == 404:
        return _NotFound("NotFound", message)
    if status == 409:
        return _Conflict("Conflict", message)
    if status in (400, 403, 422) and method in ("PATCH", "POST"):
        return UserError(reasons.REFUSED, message)
    if status == 500 and message.startswith(_UNTYPED):
        return UserError(reasons.REFUSED, message)
    return Transient("ApiServerError", f"{method} {path}: {status} {message}")


def _message(data: bytes, otherwise: str) -> str:
    try:
        return str(json.loads(data)["message"])
    except (ValueError, KeyError, TypeError):
        return otherwise
