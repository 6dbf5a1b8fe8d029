"""Envoy's configuration: one file each for bootstrap, listeners and clusters, and one for the routes of each protocol.

Routes and clusters are separate files so that a change of weights reloads routes only: listeners and connections stay.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from tapchanger_operator.names import Owner, server
from tapchanger_operator.plan import envoy_tracing
from tapchanger_operator.plan.common import Manifest
from tapchanger_operator.plan.envoy_routes import cluster_name, routes, routes_file
from tapchanger_operator.plan.envoy_tracing import (
    CREDENTIAL_FILE,
    OBSERVER_CLUSTER,
    credential,
    credential_filters,
    tracing,
)
from tapchanger_operator.plan.split import Mirror, Split
from tapchanger_operator.settings import Settings
from tapchanger_serving.contract import names as contract

CONFIG_DIR: Final = envoy_tracing.CONFIG_DIR
ADMIN_PORT: Final = 9901
_TYPE: Final = "type.googleapis.com/"
_MONITORS: Final = f"{_TYPE}envoy.extensions.resource_monitors"
_PROTOCOLS: Final = {"grpc": contract.GRPC_PORT, "http": contract.HTTP_PORT}
_HTTP_OPTIONS: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def files(owner: Owner, split: Split, settings: Settings) -> dict[str, str]:
    """File name → text of the whole configuration."""
    return dict(_files(owner, tuple(sorted(split.weights.items())), split.slots, split.sticky, split.mirror, settings))


@lru_cache(maxsize=1024)
def _files(
    owner: Owner,
    weights: tuple[tuple[str, int], ...],
    slots: tuple[tuple[str, int], ...],
    sticky: str | None,
    mirror: Mirror | None,
    settings: Settings,
) -> Mapping[str, str]:
    """Rendered once for each split: a pass finds it unchanged far more often than not."""
    split = Split(dict(weights), slots, sticky, mirror)
    return {
        "bootstrap.json": _text(bootstrap(owner, settings)),
        "listeners.json": _text(_resources("listener.v3.Listener", listeners(owner))),
        "clusters.json": _text(_resources("cluster.v3.Cluster", clusters(owner, sorted(split.weights), settings))),
        **({CREDENTIAL_FILE: _text(_secret(credential()))} if settings.observer_auth else {}),
        **{
            routes_file(protocol): _text(_resources("route.v3.RouteConfiguration", [routes(protocol, split)]))
            for protocol in _PROTOCOLS
        },
    }


def _text(value: Manifest) -> str:
    return json.dumps(value, indent=1) + "\n"


def _resources(kind: str, resources: Sequence[Manifest]) -> Manifest:
    typed = [{"@type": f"{_TYPE}envoy.config.{kind}", **resource} for resource in resources]
    return {"resources": typed}


def _secret(secret: Manifest) -> Manifest:
    return {"resources": [{"@type": f"{_TYPE}envoy.extensions.transport_sockets.tls.v3.Secret", **secret}]}


def _source(name: str) -> Manifest:
    return {
        "path_config_source": {"path": f"{CONFIG_DIR}/{name}", "watched_directory": {"path": CONFIG_DIR}},
        "resource_api_version": "V3",
    }


def bootstrap(owner: Owner, settings: Settings) -> Manifest:
    """What Envoy starts with: where its files are, the observer, and a health listener apart from user traffic."""
    return {
        "node": {"id": f"{owner.namespace}/{owner.name}", "cluster": owner.name},
        "admin": {"address": _address("127.0.0.1", ADMIN_PORT)},
        "dynamic_resources": {"lds_config": _source("listeners.json"), "cds_config": _source("clusters.json")},
        "static_resources": {
            "clusters": [
                _observer(settings),
                _cluster("admin", "127.0.0.1", ADMIN_PORT, http2=False, kind="STATIC"),
            ],
            "listeners": [_health_listener()],
        },
        "layered_runtime": {
            "layers": [
                {
                    "name": "static",
                    "static_layer": {
                        "tracing.opentelemetry.flush_interval_ms": 500,
                        "tracing.opentelemetry.min_flush_spans": 100,
                    },
                }
            ]
        },
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": {
                        "@type": f"{_MONITORS}.downstream_connections.v3.DownstreamConnectionsConfig",
                        "max_active_downstream_connections": 20000,
                    },
                }
            ]
        },
    }


def _observer(settings: Settings) -> Manifest:
    cluster = _cluster(OBSERVER_CLUSTER, settings.spans_host, contract.OTLP_GRPC_PORT, http2=True)
    if settings.observer_auth:
        cluster["typed_extension_protocol_options"][_HTTP_OPTIONS]["http_filters"] = credential_filters()
    return cluster


def listeners(owner: Owner) -> list[Manifest]:
    """One listener for gRPC and one for HTTP; both trace every request to the observer."""
    return [_listener(owner, protocol, port) for protocol, port in _PROTOCOLS.items()]


def clusters(owner: Owner, revisions: Sequence[str], settings: Settings) -> list[Manifest]:
    """A cluster for each revision and protocol, resolved to the pods behind its headless Service."""
    found = []
    for revision in revisions:
        host = f"{server(owner.name, revision)}.{owner.namespace}.svc.{settings.cluster_domain}"
        for protocol, port in _PROTOCOLS.items():
            cluster = _cluster(cluster_name(protocol, revision), host, port, http2=protocol == "grpc")
            cluster["metadata"] = {"filter_metadata": {"tapchanger": {"revision": revision}}}
            cluster["outlier_detection"] = {
                "enforcing_consecutive_5xx": 0,
                "enforcing_success_rate": 0,
                "consecutive_gateway_failure": 5,
                "enforcing_consecutive_gateway_failure": 100,
                "interval": "2s",
                "base_ejection_time": "5s",
                "max_ejection_percent": 50,
            }
            found.append(cluster)
    return found


def _address(host: str, port: int) -> Manifest:
    return {"socket_address": {"address": host, "port_value": port}}


def _cluster(name: str, host: str, port: int, *, http2: bool, kind: str = "STRICT_DNS") -> Manifest:
    explicit: Manifest = {"http2_protocol_options": {}} if http2 else {"http_protocol_options": {}}
    dns = {"dns_refresh_rate": "1s", "dns_lookup_family": "V4_PREFERRED"} if kind == "STRICT_DNS" else {}
    endpoint = {"endpoint": {"address": _address(host, port)}}
    return {
        "name": name,
        "type": kind,
        **dns,
        "connect_timeout": "1s",
        "lb_policy": "LEAST_REQUEST",
        "circuit_breakers": {
            "thresholds": [
                {"max_connections": 8192, "max_pending_requests": 8192, "max_requests": 8192, "max_retries": 64}
            ]
        },
        "typed_extension_protocol_options": {
            _HTTP_OPTIONS: {
                "@type": f"{_TYPE}{_HTTP_OPTIONS}",
                "explicit_http_config": explicit,
            }
        },
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def _listener(owner: Owner, protocol: str, port: int) -> Manifest:
    manager: dict[str, Any] = {
        "@type": f"{_TYPE}envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": protocol,
        "codec_type": "AUTO",
        "use_remote_address": True,
        "normalize_path": True,
        "common_http_protocol_options": {"idle_timeout": "3600s"},
        "http2_protocol_options": {"max_concurrent_streams": 1024},
        "stream_idle_timeout": "300s",
        "rds": {"route_config_name": protocol, "config_source": _source(routes_file(protocol))},
        "tracing": tracing(owner),
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_TYPE}envoy.extensions.filters.http.router.v3.Router"},
            }
        ],
    }
    return {
        "name": protocol,
        "address": _address("0.0.0.0", port),  # noqa: S104 - a Service stands in front
        "per_connection_buffer_limit_bytes": 1048576,
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }


def _health_listener() -> Manifest:
    """`/ready` and `/stats/prometheus` of the admin interface, and nothing else of it."""
    allowed = [{"match": {"path": path}, "route": {"cluster": "admin"}} for path in ("/ready", "/stats/prometheus")]
    manager = {
        "@type": f"{_TYPE}envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "health",
        "route_config": {
            "name": "health",
            "virtual_hosts": [{"name": "health", "domains": ["*"], "routes": allowed}],
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_TYPE}envoy.extensions.filters.http.router.v3.Router"},
            }
        ],
    }
    return {
        "name": "health",
        "address": _address("0.0.0.0", contract.ROUTER_HEALTH_PORT),  # noqa: S104 - probes come from the node
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }
