"""One TransformerDeployment as its owner handles it: apply, look, wait, change."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from dev.common.kubectl import Kubectl, Object, condition, picture
from dev.common.waiting import LateError, until
from tapchanger_serving.contract.names import GRPC_PORT, HTTP_PORT


@dataclass
class Deployment:
    """A manifest and the cluster that it lives in. A change is made in the manifest and applied."""

    kubectl: Kubectl
    manifest: Object

    @property
    def name(self) -> str:
        """Its name, which is also the served model's."""
        return str(self.manifest["metadata"]["name"])

    @property
    def namespace(self) -> str:
        """Its namespace."""
        return str(self.manifest["metadata"].get("namespace", "default"))

    def apply(self) -> str:
        """`kubectl apply` of the manifest."""
        return self.kubectl.apply(self.manifest)

    def change_uri(self, uri: str) -> str:
        """The same, with another model."""
        self.manifest = copy.deepcopy(self.manifest)
        self.manifest["spec"]["model"]["uri"] = uri
        return self.apply()

    def difference(self) -> str:
        """What `kubectl diff` says."""
        return self.kubectl.diff(self.manifest)

    def body(self) -> Object:
        """The object as it is. Raises LookupError where it is gone."""
        found = self.kubectl.get("tdep", self.name, self.namespace)
        if found is None:
            raise LookupError(f"there is no TransformerDeployment {self.namespace}/{self.name}")
        return found

    def status(self) -> dict[str, Any]:
        """Its status, once the operator has seen the present spec; an empty one before."""
        body = self.body()
        status: dict[str, Any] = body.get("status", {})
        return status if status.get("observedGeneration") == body["metadata"]["generation"] else {}

    def canary(self) -> dict[str, Any]:
        """The canary as status has it; empty where there is none."""
        found: dict[str, Any] = self.status().get("canary", {})
        return found

    def wait_ready(self, seconds: float) -> dict[str, Any]:
        """The status, once the spec's content serves. Raises LateError, at once where it has stalled."""
        return self.wait_condition("Ready", "True", seconds, fatal=True)

    def wait_condition(self, kind: str, value: str, seconds: float, *, fatal: bool = False) -> dict[str, Any]:
        """The status, once a condition has `value`; `fatal`: a stalled deployment ends the waiting."""

        def look() -> dict[str, Any] | None:
            status = self.status()
            if condition({"status": status}, kind).get("status") == value:
                return status
            if fatal and condition({"status": status}, "Stalled").get("status") == "True":
                raise LateError(f"{self.name} has stalled: {status.get('message')}\n{self.picture()}")
            return None

        return until(f"{kind}={value} of {self.name}", look, seconds, last=self.picture)

    def address(self) -> tuple[str, str]:
        """gRPC's HOST:PORT and HTTP's URL of the router's Service, as the node itself reaches them."""
        service = self.kubectl.get("service", self.name, self.namespace)
        if service is None:
            raise LookupError(f"there is no Service {self.namespace}/{self.name}")
        host = service["spec"]["clusterIP"]
        return f"{host}:{GRPC_PORT}", f"http://{host}:{HTTP_PORT}"

    def picture(self) -> str:
        """What a person would look at when it does not go as expected."""
        return picture(self.kubectl, self.namespace)
