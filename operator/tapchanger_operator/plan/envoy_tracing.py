"""How Envoy tells the observer of every request."""

from __future__ import annotations

from typing import Final

from tapchanger_operator.names import Owner
from tapchanger_operator.plan.common import Manifest
from tapchanger_serving.contract import names as contract

OBSERVER_CLUSTER: Final = "observer"
_TYPE: Final = "type.googleapis.com/"
_EXTENSION: Final = "envoy.extensions.tracers.opentelemetry"


def tracing(owner: Owner) -> Manifest:
    """Tracing settings of the HTTP connection manager.

    Every request is exported, whatever a client's `traceparent` says of sampling: the spans are the counts that decide.
    The revision comes from the cluster that the route chose, so that a request which found no healthy server counts for the
    revision that has none.
    """
    resource = {
        contract.ATTR_NAMESPACE: owner.namespace,
        contract.ATTR_DEPLOYMENT: owner.name,
        contract.ATTR_COMPONENT: contract.COMPONENT_ROUTER,
    }
    return {
        "random_sampling": {"value": 100},
        "spawn_upstream_span": False,
        "provider": {
            "name": "envoy.tracers.opentelemetry",
            "typed_config": {
                "@type": f"{_TYPE}envoy.config.trace.v3.OpenTelemetryConfig",
                "grpc_service": {"envoy_grpc": {"cluster_name": OBSERVER_CLUSTER}, "timeout": "1s"},
                "service_name": f"{owner.name}-router",
                "sampler": {
                    "name": "envoy.tracers.opentelemetry.samplers.always_on",
                    "typed_config": {"@type": f"{_TYPE}{_EXTENSION}.samplers.v3.AlwaysOnSamplerConfig"},
                },
                "resource_detectors": [
                    {
                        "name": "envoy.tracers.opentelemetry.resource_detectors.static_config",
                        "typed_config": {
                            "@type": f"{_TYPE}{_EXTENSION}.resource_detectors.v3.StaticConfigResourceDetectorConfig",
                            "attributes": resource,
                        },
                    }
                ],
            },
        },
        "custom_tags": [{"tag": contract.ATTR_REVISION, "value": "%CLUSTER_METADATA(tapchanger:revision)%"}],
    }


def request_start() -> Manifest:
    """The request header that tells a server when the router got the request, so that its span shows the waiting too.

    One that a client sent is overwritten.
    """
    header = {"key": contract.REQUEST_START_HEADER, "value": "t=%START_TIME(%s.%6f)%"}
    return {"header": header, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
