"""What an administrator sets, read once from the environment that the chart writes."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tapchanger_operator import sources
from tapchanger_operator.api.base import seconds
from tapchanger_serving.contract.names import ENV_OBSERVER_TOKEN


@dataclass(frozen=True)
class Images:
    """The images that the operator's objects run, pinned by digest where the chart pins them."""

    builder: str
    server: str
    router: str
    capture: str = ""
    """Empty: nothing can be captured."""
    pull_policy: str = "IfNotPresent"


@dataclass(frozen=True)
class Store:
    """What holds artifacts: one claim in each namespace that uses tapchanger, or a store elsewhere."""

    storage_class: str = ""
    size: str = "20Gi"
    access_mode: str = "ReadWriteOnce"
    collects: bool = True
    keep_seconds: float = 7 * 86400.0
    dry_run: bool = False
    """What nobody refers to is removed, or with `dry_run` listed, once it was not used for `keep_seconds`."""
    uri: str = ""
    """`s3://bucket/prefix` or `oci://registry/repository`, below which each namespace has a part; empty: the volume."""
    endpoint: str = ""
    secret: str = ""
    """Where an S3 store answers, and the Secret in each namespace that opens the store; the operator never reads it."""
    peers: tuple[Mapping[str, Any], ...] = ()
    """NetworkPolicy peers that the store is; none: every address."""


@dataclass(frozen=True)
class Settings:
    """All settings of the operator."""

    namespace: str
    identity: str
    images: Images
    store: Store
    observer_host: str
    observer_auth: bool = True
    """Whether the observer asks for credentials: pods then get a token for it."""
    observer_token: Path | None = None
    """The operator's own token for the observer."""
    telemetry: sources.Telemetry = field(default_factory=sources.Telemetry)
    cluster_domain: str = "cluster.local"
    workers: int = 8
    metrics_port: int = 9090
    health_port: int = 8080

    @property
    def spans_host(self) -> str:
        """Where routers and servers send their spans: a Collector, or the observer."""
        return self.telemetry.spans_host or self.observer_host


_REQUIRED = (
    "TAPCHANGER_IMAGE_BUILDER",
    "TAPCHANGER_IMAGE_SERVER",
    "TAPCHANGER_IMAGE_ROUTER",
    "TAPCHANGER_OBSERVER_HOST",
)

_STORE_URI = re.compile(r"s3://[A-Za-z0-9][A-Za-z0-9._-]+/[A-Za-z0-9._/-]+|oci://[A-Za-z0-9.-]+(:\d+)?/[a-z0-9._/-]+")


def load(environment: Mapping[str, str] = os.environ) -> Settings:
    """Settings from `environment`. Raises ValueError that names every variable which is missing."""
    missing = [name for name in _REQUIRED if not environment.get(name)]
    if missing:
        raise ValueError(f"these environment variables must be set: {', '.join(missing)}; the Helm chart does so")
    return Settings(
        namespace=environment.get("TAPCHANGER_NAMESPACE", "tapchanger-system"),
        identity=environment.get("TAPCHANGER_IDENTITY", socket.gethostname()),
        images=Images(
            builder=environment["TAPCHANGER_IMAGE_BUILDER"],
            server=environment["TAPCHANGER_IMAGE_SERVER"],
            router=environment["TAPCHANGER_IMAGE_ROUTER"],
            capture=environment.get("TAPCHANGER_IMAGE_CAPTURE", ""),
            pull_policy=environment.get("TAPCHANGER_IMAGE_PULL_POLICY", "IfNotPresent"),
        ),
        store=Store(
            storage_class=environment.get("TAPCHANGER_STORE_CLASS", ""),
            size=environment.get("TAPCHANGER_STORE_SIZE", "20Gi"),
            access_mode=environment.get("TAPCHANGER_STORE_ACCESS_MODE", "ReadWriteOnce"),
            collects=environment.get("TAPCHANGER_STORE_COLLECT", "true") == "true",
            keep_seconds=seconds(environment.get("TAPCHANGER_STORE_KEEP", "7d")),
            dry_run=environment.get("TAPCHANGER_STORE_DRY_RUN", "false") == "true",
            uri=_store_uri(environment.get("TAPCHANGER_STORE_URI", "")),
            endpoint=environment.get("TAPCHANGER_STORE_ENDPOINT", ""),
            secret=environment.get("TAPCHANGER_STORE_SECRET", ""),
            peers=tuple(json.loads(environment.get("TAPCHANGER_STORE_PEERS", "[]"))),
        ),
        observer_host=environment["TAPCHANGER_OBSERVER_HOST"],
        observer_auth=environment.get("TAPCHANGER_OBSERVER_AUTH", "required") != "open",
        observer_token=Path(token) if (token := environment.get(ENV_OBSERVER_TOKEN)) else None,
        telemetry=sources.load(environment),
        cluster_domain=environment.get("TAPCHANGER_CLUSTER_DOMAIN", "cluster.local"),
        workers=int(environment.get("TAPCHANGER_WORKERS", "8")),
        metrics_port=int(environment.get("TAPCHANGER_METRICS_PORT", "9090")),
        health_port=int(environment.get("TAPCHANGER_HEALTH_PORT", "8080")),
    )


def _store_uri(text: str) -> str:
    if text and (not _STORE_URI.fullmatch(text) or ".." in text):
        raise ValueError(f"TAPCHANGER_STORE_URI is {text!r}; write s3://BUCKET/PREFIX or oci://REGISTRY/REPOSITORY")
    return text.rstrip("/")
