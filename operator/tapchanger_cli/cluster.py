"""The one module that talks to an API server, by the kubeconfig or the pod's service account; errors in a user's terms."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

import yaml
from kubernetes import client, config, watch
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from tapchanger_cli.access import Access
from tapchanger_cli.errors import CliError, NotFoundError, UnreachableError
from tapchanger_operator.api.base import GROUP, VERSION

Object = dict[str, Any]
Answer = TypeVar("Answer")

MANAGER: Final = "tapchanger-cli"
"""Field manager of the annotations that this command writes."""
_TIMEOUT: Final = (3.05, 20)
_WATCH_SECONDS: Final = 240
_MERGE_PATCH: Final = "application/merge-patch+json"
_DEPLOYMENTS: Final = "transformerdeployments"
_BUILDS: Final = "enginebuilds"
_KINDS: Final = {_DEPLOYMENTS: "TransformerDeployment", _BUILDS: "EngineBuild"}
_POD_NAMESPACE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclass(frozen=True)
class _Call:
    """What was asked, for the words of an error."""

    verb: str
    resource: str
    namespace: str | None
    name: str | None = None

    def __str__(self) -> str:
        where = f" in namespace {self.namespace}" if self.namespace else ""
        return f"{self.verb} {self.resource}" + (f" {self.name}" if self.name else "") + where


def contexts(kubeconfig: str | None) -> tuple[list[str], str, str | None]:
    """The contexts of a kubeconfig, the current one, and its namespace. Raises CliError where there is no kubeconfig."""
    try:
        known, current = config.list_kube_config_contexts(kubeconfig)
    except (config.ConfigException, yaml.YAMLError, OSError) as problem:
        raise CliError(f"no kubeconfig can be read: {problem}", "write --kubeconfig FILE, or set KUBECONFIG") from None
    return [entry["name"] for entry in known], current["name"], current["context"].get("namespace")


def connect(access: Access, timeout: tuple[float, float] = _TIMEOUT) -> Cluster:
    """A client of the cluster that `access` names. Raises CliError where that can't be."""
    settings = client.Configuration()
    settings.retries = False
    try:
        names, _, namespace = contexts(access.kubeconfig)
    except CliError:
        if access.kubeconfig or access.context or not _POD_NAMESPACE.is_file():
            raise
        config.load_incluster_config(client_configuration=settings)
        return Cluster(client.ApiClient(settings), _POD_NAMESPACE.read_text().strip(), timeout)
    if access.context and access.context not in names:
        raise CliError(f"the kubeconfig has no context {access.context}", f"write one of {', '.join(names)}")
    if access.context:
        known, _ = config.list_kube_config_contexts(access.kubeconfig)
        namespace = next(entry["context"].get("namespace") for entry in known if entry["name"] == access.context)
    try:
        api = config.new_client_from_config(access.kubeconfig, access.context, client_configuration=settings)
    except (config.ConfigException, yaml.YAMLError, OSError) as problem:
        raise CliError(
            f"the kubeconfig can't be used: {problem}", "see whether `kubectl get namespaces` works"
        ) from None
    return Cluster(api, namespace or "default", timeout)


class Cluster:
    """Reads, and patches of annotations. All raise CliError in words for the user."""

    def __init__(self, api: client.ApiClient, namespace: str, timeout: tuple[float, float] = _TIMEOUT) -> None:
        self._api, self._timeout = api, timeout
        self._objects = client.CustomObjectsApi(api)
        self.namespace = namespace
        """The namespace where none is given."""

    def deployment(self, namespace: str, name: str) -> Object:
        """One TransformerDeployment. Raises NotFoundError, with names like it, where there is none."""
        call = _Call("get", _DEPLOYMENTS, namespace, name)
        found = self._run(
            call, lambda: self._objects.get_namespaced_custom_object(*self._path(call), _request_timeout=self._timeout)
        )
        return _object(found)

    def deployments(self, namespace: str | None) -> list[Object]:
        """All TransformerDeployments of a namespace, or of all (None)."""
        return list(self._list(_Call("list", _DEPLOYMENTS, namespace)).get("items", []))

    def build(self, namespace: str, name: str) -> Object | None:
        """An EngineBuild, or None where there is none."""
        call = _Call("get", _BUILDS, namespace, name)
        try:
            found = self._run(
                call,
                lambda: self._objects.get_namespaced_custom_object(*self._path(call), _request_timeout=self._timeout),
            )
        except NotFoundError:
            return None
        return _object(found)

    def annotate(self, namespace: str, name: str, annotations: Mapping[str, str | None]) -> Object:
        """Merges `annotations` into a TransformerDeployment in one patch; None removes one."""
        call = _Call("patch", _DEPLOYMENTS, namespace, name)
        found = self._run(
            call,
            lambda: self._objects.patch_namespaced_custom_object(
                *self._path(call),
                {"metadata": {"annotations": dict(annotations)}},
                field_manager=MANAGER,
                _content_type=_MERGE_PATCH,
                _request_timeout=self._timeout,
            ),
        )
        return _object(found)

    def user(self) -> str | None:
        """Who the API server takes the user for; None where it does not say."""
        call = _Call("create", "selfsubjectreviews", None)
        review = client.V1SelfSubjectReview()
        try:
            found = self._run(
                call,
                lambda: client.AuthenticationV1Api(self._api).create_self_subject_review(
                    review, _request_timeout=self._timeout
                ),
            )
        except UnreachableError:
            raise
        except CliError:
            return None  # an order must get through where this may not be asked
        return found.status.user_info.username if found.status and found.status.user_info else None

    def namespaces(self) -> list[str]:
        """Names of all namespaces."""
        call = _Call("list", "namespaces", None)
        found = self._run(call, lambda: client.CoreV1Api(self._api).list_namespace(_request_timeout=self._timeout))
        return [item.metadata.name for item in found.items]

    def follow(self, namespace: str | None, name: str | None = None) -> Iterator[list[Object]]:
        """All objects (of that name) now, and again after each change, by watches that follow on each other without an end."""
        selector = {"field_selector": f"metadata.name={name}"} if name else {}
        call = _Call("watch", _DEPLOYMENTS, namespace, name)
        while True:
            listed = self._list(_Call("list", _DEPLOYMENTS, namespace), **selector)
            objects = {_key(item): item for item in listed.get("items", [])}
            yield list(objects.values())
            version = listed.get("metadata", {}).get("resourceVersion", "")
            for event in self._events(call, selector, version):
                if event["type"] == "DELETED":
                    objects.pop(_key(event["object"]), None)
                else:
                    objects[_key(event["object"])] = event["object"]
                yield list(objects.values())

    def _events(self, call: _Call, selector: Mapping[str, str], version: str) -> Iterator[Object]:
        listing, path = self._listing(call.namespace)
        wait = (self._timeout[0], _WATCH_SECONDS + 10)
        try:
            yield from watch.Watch().stream(
                listing,
                *path,
                **selector,
                resource_version=version,
                timeout_seconds=_WATCH_SECONDS,
                _request_timeout=wait,
            )
        except ApiException as problem:
            if problem.status == 410:
                return  # too old a version: the next list begins anew
            self._explain(call, problem)
        except HTTPError as problem:
            raise self._unreachable(problem) from None

    def _list(self, call: _Call, **query: str) -> Object:
        listing, path = self._listing(call.namespace)
        return _object(self._run(call, lambda: listing(*path, **query, _request_timeout=self._timeout)))

    def _listing(self, namespace: str | None) -> tuple[Callable[..., Any], tuple[str, ...]]:
        if namespace is None:
            return self._objects.list_cluster_custom_object, (GROUP, VERSION, _DEPLOYMENTS)
        return self._objects.list_namespaced_custom_object, (GROUP, VERSION, namespace, _DEPLOYMENTS)

    def _path(self, call: _Call) -> tuple[str, ...]:
        return GROUP, VERSION, call.namespace or "", call.resource, call.name or ""

    def _run(self, call: _Call, what: Callable[[], Answer]) -> Answer:
        try:
            return what()
        except ApiException as problem:
            self._explain(call, problem)
        except HTTPError as problem:
            raise self._unreachable(problem) from None

    def _unreachable(self, problem: HTTPError) -> UnreachableError:
        host = self._api.configuration.host
        return UnreachableError(
            f"the API server {host} can't be reached: {problem}", "see whether `kubectl get namespaces` works"
        )

    def _explain(self, call: _Call, problem: ApiException) -> NoReturn:
        words = _message(problem)
        if problem.status == 401:
            raise CliError(
                "the API server does not accept your credentials", "log in anew, or write --context"
            ) from None
        if problem.status == 403:
            role = f"the chart's role tapchanger-{'edit' if call.verb == 'patch' else 'view'} has it"
            resource, has = (
                (f"{call.resource}.{GROUP}", f"; {role}") if call.resource in _KINDS else (call.resource, "")
            )
            raise CliError(f"you may not {call}: {words}", f"ask for the verb {call.verb} on {resource}{has}") from None
        if problem.status == 404 and not _is_status(problem):
            raise CliError(
                f"the cluster knows no {call.resource} of {GROUP}/{VERSION}: tapchanger is not installed",
                "`helm install tapchanger charts/tapchanger --namespace tapchanger-system`, see docs/install.md",
            ) from None
        if problem.status == 404:
            kind = _KINDS.get(call.resource, call.resource)
            raise NotFoundError(f"there is no {kind} {call.name} in namespace {call.namespace}") from None
        if problem.status >= 500 or problem.status == 429:
            raise UnreachableError(f"the API server can't {call}: {problem.status} {words}", "try again") from None
        raise CliError(f"the API server refused to {call}: {problem.status} {words}") from None


def _key(item: Mapping[str, Any]) -> tuple[str, str]:
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]


def _object(found: object) -> Object:
    if not isinstance(found, dict):
        raise CliError(f"the API server answered with {type(found).__name__} where an object was asked for")
    return found


def _body(problem: ApiException) -> Any:
    try:
        return json.loads(problem.body or "")
    except ValueError:
        return None


def _is_status(problem: ApiException) -> bool:
    """A missing object is answered with a Status that names it, a missing resource in plain text."""
    body = _body(problem)
    return isinstance(body, dict) and bool(body.get("details", {}).get("name"))


def _message(problem: ApiException) -> str:
    body = _body(problem)
    return str(body.get("message") if isinstance(body, dict) else None or problem.reason or "")
