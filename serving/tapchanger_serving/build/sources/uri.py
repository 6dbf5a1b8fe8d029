"""Reads a URI and picks the source."""

from __future__ import annotations

import re
from pathlib import Path

from tapchanger_serving.build.failures import MODEL_FIELD, StepError
from tapchanger_serving.build.sources.base import Source
from tapchanger_serving.build.sources.https import HttpsSource
from tapchanger_serving.build.sources.hub import HubSource
from tapchanger_serving.build.sources.local import LocalSource
from tapchanger_serving.build.sources.objects import ObjectSource
from tapchanger_serving.build.sources.oci import OciSource

_URI = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<rest>.+?)(?:@sha256:(?P<pin>[^@/]*))?")
_HEX = re.compile(r"[0-9a-f]{64}")
_SUPPORTED = (
    "pvc://CLAIM/path, file:///path, https://…@sha256:<hex>, hf://org/name@revision, s3://BUCKET/path, gs://BUCKET/path, "
    "az://CONTAINER/path and oci://registry/repository:tag"
)


def source_of(uri: str, *, claims: Path, field: str = MODEL_FIELD) -> Source:
    """The source behind a URI. Raises `UriInvalid` or `SourceUnsupported` for what this release can't read."""
    parts = _URI.fullmatch(uri)
    if parts is None:
        raise StepError(
            "UriInvalid", f"{uri!r} is no URI with a scheme", field=field, remedy=f"write one of {_SUPPORTED}"
        )
    scheme, rest, pin = parts["scheme"], parts["rest"], parts["pin"]
    if pin is not None and not _HEX.fullmatch(pin):
        raise StepError(
            "UriInvalid",
            f"the pin of {uri!r} is {pin!r}; a SHA-256 has 64 hexadecimal digits in lower case",
            field=field,
            remedy="write @sha256: followed by the 64 digits that sha256sum prints",
        )
    digest = f"sha256:{pin}" if pin else None
    match scheme:
        case "pvc":
            return LocalSource.in_claim(uri, rest, claims, tree_pin=digest, field=field)
        case "file":
            return LocalSource.at_path(uri, rest, tree_pin=digest, field=field)
        case "https":
            return HttpsSource(uri, url=f"https://{rest}", pin=digest, field=field)
        case "hf":
            return HubSource.parse(uri, rest, tree_pin=digest, field=field)
        case "s3" | "gs" | "az":
            return ObjectSource.parse(uri, scheme, rest, tree_pin=digest, field=field)
        case "oci":
            return OciSource.parse(uri, rest, pin=digest, field=field)
    raise StepError(
        "SourceUnsupported",
        f"{scheme}:// URIs are unknown; known are {_SUPPORTED}",
        field=field,
        remedy="copy the checkpoint to a PersistentVolumeClaim and write pvc://CLAIM/path",
    )
