"""A small client of the API server, with the admin's certificate."""

import http.client
import json
import ssl
from dataclasses import dataclass
from typing import Any

from dev.cluster import network
from dev.cluster.errors import ClusterError
from dev.cluster.paths import Paths

MANAGER = "tapchanger-cluster"
PLURALS = {"StorageClass": "storageclasses"}
CLUSTER_SCOPED = frozenset({"ClusterRole", "ClusterRoleBinding", "PersistentVolume", "StorageClass"})


class UnreachableError(Exception):
    """The API server does not answer; waiting may help."""


@dataclass(frozen=True)
class Api:
    """One connection a request; `context` holds the admin's certificate."""

    context: ssl.SSLContext

    def get(self, path: str) -> dict[str, Any]:
        """The JSON document at `path`.

        Raises:
            UnreachableError: no connection, or an answer above 499.
            ClusterError: the server refuses the request.
        """
        return self._json("GET", path)

    def is_ready(self) -> bool:
        try:
            status, _ = self._request("GET", "/readyz", None, "")
        except UnreachableError:
            return False
        return status == 200

    def apply(self, document: dict[str, Any]) -> None:
        """Applies an object on the server's side; raises as `get` does."""
        path = f"{object_path(document)}?fieldManager={MANAGER}&force=true"
        self._json("PATCH", path, document, "application/apply-patch+yaml")

    def delete(self, document: dict[str, Any]) -> None:
        """Deletes an object at once; one that does not exist is fine. Raises as `get` does."""
        status, text = self._request("DELETE", f"{object_path(document)}?gracePeriodSeconds=0", None, "")
        if status not in (200, 202, 404):
            raise ClusterError(f"DELETE {object_path(document)}: {status} {text[:500]}")

    def exists(self, document: dict[str, Any]) -> bool:
        status, _ = self._request("GET", object_path(document), None, "")
        return status == 200

    def _json(self, method: str, path: str, body: Any = None, content: str = "") -> dict[str, Any]:
        status, text = self._request(method, path, body, content)
        if status >= 500:
            raise UnreachableError(f"{method} {path}: {status} {text[:500]}")
        if status >= 400:
            raise ClusterError(f"{method} {path}: {status} {text[:500]}")
        document: dict[str, Any] = json.loads(text)
        return document

    def _request(self, method: str, path: str, body: Any, content: str) -> tuple[int, str]:
        connection = http.client.HTTPSConnection("127.0.0.1", network.API_PORT, context=self.context, timeout=10)
        headers = {"Accept": "application/json"} | ({"Content-Type": content} if content else {})
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            return response.status, response.read().decode()
        except (OSError, http.client.HTTPException) as error:
            raise UnreachableError(f"{method} {path}: {error}") from error
        finally:
            connection.close()


def connect(paths: Paths) -> Api:
    """A client; needs the certificates, and does not connect yet."""
    context = ssl.create_default_context(cafile=paths.pki / "ca.crt")
    context.load_cert_chain(paths.pki / "admin.crt", paths.pki / "admin.key")
    return Api(context)


def object_path(document: dict[str, Any]) -> str:
    """The URL path of an object: `/apis/GROUP/VERSION/namespaces/NAMESPACE/PLURAL/NAME`."""
    version, kind, metadata = document["apiVersion"], document["kind"], document["metadata"]
    prefix = f"/apis/{version}" if "/" in version else f"/api/{version}"
    scope = "" if kind in CLUSTER_SCOPED else f"/namespaces/{metadata['namespace']}"
    return f"{prefix}{scope}/{PLURALS.get(kind, kind.lower() + 's')}/{metadata['name']}"
