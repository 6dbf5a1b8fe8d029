"""How Envoy tells the observer of every request."""

from __future__ import annotations

from typing import Final

from tapchanger_operator.names import Owner
from tapchanger_operator.plan.common import OBSERVER_TOKEN_PATH, Manifest
from tapchanger_serving.contract import names as contract

CONFIG_DIR: Final = "/etc/envoy"
CREDENTIAL_FILE: Final = "credential.json"
OBSERVER_CLUSTER: Final = "observer"
_TYPE: Final = "type.googleapis.com/"
_EXTENSION: Final = "envoy.extensions.tracers.opentelemetry"
_FILTERS: Final = "envoy.extensions.filters.http"
_CREDENTIALS: Final = "envoy.extensions.http.injected_credentials"


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


def credential_filters() -> list[Manifest]:
    """Filters of the observer's cluster, which show it the pod's token. Envoy reads it again when the kubelet renews it.

    Spans go without one where there is none: it is for the observer to refuse them.
    """
    source = {
        "path_config_source": {
            "path": f"{CONFIG_DIR}/{CREDENTIAL_FILE}",
            "watched_directory": {"path": contract.OBSERVER_TOKEN_DIR},
        },
        "resource_api_version": "V3",
    }
    generic = {
        "@type": f"{_TYPE}{_CREDENTIALS}.generic.v3.Generic",
        "credential": {"name": OBSERVER_CLUSTER, "sds_config": source},
        "header": "authorization",
        "header_value_prefix": "Bearer ",
    }
    injector = {
        "@type": f"{_TYPE}{_FILTERS}.credential_injector.v3.CredentialInjector",
        "overwrite": True,
        "allow_request_without_credential": True,
        "credential": {"name": "envoy.http.injected_credentials.generic", "typed_config": generic},
    }
    codec = {"@type": f"{_TYPE}{_FILTERS}.upstream_codec.v3.UpstreamCodec"}
    return [
        {"name": "envoy.filters.http.credential_injector", "typed_config": injector},
        {"name": "envoy.filters.http.upstream_codec", "typed_config": codec},
    ]


def credential() -> Manifest:
    """The secret that :func:`credential_filters` names: the pod's token, from its file."""
    return {
        "name": OBSERVER_CLUSTER,
        "generic_secret": {"secret": {"filename": OBSERVER_TOKEN_PATH}},
    }
