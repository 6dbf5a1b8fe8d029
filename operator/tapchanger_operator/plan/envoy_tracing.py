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


def without_trace_context() -> list[Manifest]:
    """Upstream filters that keep the trace's context from the servers.

    Triton's OpenTelemetry mode corrupts its memory under load when requests carry a `traceparent` (2.51: a segmentation
    fault within seconds at 1,500 requests a second, none without the header). Its own sampled spans still tell of queue
    and engine.
    """
    filters = f"{_TYPE}envoy.extensions.filters.http"
    removed = [{"remove": header} for header in ("traceparent", "tracestate")]
    return [
        {
            "name": "envoy.filters.http.header_mutation",
            "typed_config": {
                "@type": f"{filters}.header_mutation.v3.HeaderMutation",
                "mutations": {"request_mutations": removed},
            },
        },
        {
            "name": "envoy.filters.http.upstream_codec",
            "typed_config": {"@type": f"{filters}.upstream_codec.v3.UpstreamCodec"},
        },
    ]
