"""Envoy's routes, one file for each protocol: the part of its configuration that a change of weights changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tapchanger_operator.plan.common import Manifest
from tapchanger_operator.plan.envoy_tracing import request_start
from tapchanger_operator.plan.split import Mirror, Split
from tapchanger_serving.contract import names as contract

_INFERENCE: Final[Mapping[str, Manifest]] = {
    "grpc": {"path": "/inference.GRPCInferenceService/ModelInfer"},
    "http": {"safe_regex": {"regex": "/v2/models/[^?]+/infer(\\?.*)?"}},
}
REQUEST_TIMEOUT: Final = "60s"
"""How long a request may take."""


def routes_file(protocol: str) -> str:
    """The file of one protocol's routes: Envoy takes exactly one route configuration from a file."""
    return f"routes-{protocol}.json"


def routes(protocol: str, split: Split) -> Manifest:
    """Everything goes to the weighted revisions; the answer names the one that gave it.

    A request that is copied has a route of its own, which marks it and its copy, so that both servers tell their answers.
    """
    found = [_mirrored(protocol, split, split.mirror)] if split.mirror and split.entries() else []
    return {
        "name": protocol,
        "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [*found, _route(protocol, split)]}],
    }


def cluster_name(protocol: str, revision: str) -> str:
    """The cluster of a revision's servers for one protocol."""
    return f"{revision}-{protocol}"


def _route(protocol: str, split: Split) -> Manifest:
    weighted = [
        {
            "name": cluster_name(protocol, revision),
            "weight": weight,
            "response_headers_to_add": [
                {
                    "header": {"key": contract.REVISION_HEADER, "value": revision},
                    "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
                }
            ],
        }
        for revision, weight in split.entries()
    ]
    match = {"match": {"prefix": "/"}}
    if not weighted:
        body = {"inline_string": "no revision is serving yet; see `kubectl get tdep`\n"}
        return {**match, "direct_response": {"status": 503, "body": body}}
    action = {
        "weighted_clusters": {"clusters": weighted, **({"use_hash_policy": True} if split.sticky else {})},
        **({"hash_policy": [{"header": {"header_name": split.sticky}}]} if split.sticky else {}),
        "timeout": REQUEST_TIMEOUT,
        "max_stream_duration": {"grpc_timeout_header_max": REQUEST_TIMEOUT},
        "retry_policy": {
            "retry_on": "connect-failure,refused-stream,reset-before-request",
            "num_retries": 2,
            "retry_back_off": {"base_interval": "0.025s", "max_interval": "0.25s"},
        },
    }
    return {
        **match,
        "route": action,
        "request_headers_to_add": [request_start()],
        "request_headers_to_remove": [contract.MIRROR_HEADER],
    }


def _mirrored(protocol: str, split: Split, mirror: Mirror) -> Manifest:
    """The route of the inference requests that are copied. Streams aren't: Envoy would keep all of one until it ends."""
    share = {"default_value": {"numerator": mirror.percent, "denominator": "HUNDRED"}}
    post = {"name": ":method", "string_match": {"exact": "POST"}}
    route = _route(protocol, split)
    copied = {"header": {"key": contract.MIRROR_HEADER, "value": mirror.revision}}
    return {
        "match": {**_INFERENCE[protocol], "headers": [post], "runtime_fraction": share},
        "route": {
            **route["route"],
            "request_mirror_policies": [{"cluster": cluster_name(protocol, mirror.revision)}],
        },
        "request_headers_to_add": [request_start(), {**copied, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}],
    }
