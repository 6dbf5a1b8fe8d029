"""Asks an OCI registry whether it has an image."""

from __future__ import annotations

import urllib.error
import urllib.request

MANIFEST_TYPES = ", ".join(
    (
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
LOCAL = ("localhost", "127.0.0.1", "[::1]")


def is_local(registry: str) -> bool:
    """Whether the registry is this machine's own, which speaks plain HTTP."""
    host = registry.partition("/")[0]
    return host.rpartition(":")[0] in LOCAL or host in LOCAL


def has(reference: str, timeout: float = 5.0) -> bool:
    """Whether the registry knows `HOST/REPOSITORY@sha256:…`. A registry that does not answer has nothing."""
    name, _, digest = reference.partition("@")
    host, _, repository = name.partition("/")
    scheme = "http" if is_local(host) else "https"
    request = urllib.request.Request(
        f"{scheme}://{host}/v2/{repository}/manifests/{digest}", method="HEAD", headers={"Accept": MANIFEST_TYPES}
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, TimeoutError):
        return False
