"""Writing to a registry that speaks the OCI distribution specification: blobs in resumable chunks, manifests by tag.

See https://github.com/opencontainers/distribution-spec, "Push" and "Content Management".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urljoin

from tapchanger_serving.build.stores.base import KeepsAllError, digest_of
from tapchanger_serving.build.transport.http import RefusedError
from tapchanger_serving.build.transport.registry import MANIFESTS, Registry, RegistryError

CHUNK = 16 << 20
_OCTETS = {"Content-Type": "application/octet-stream"}
_RANGE = re.compile(r"(?:bytes=)?0-(\d+)")
_NEXT = re.compile(r'<([^>]+)>;\s*rel="?next"?')
_NOT_FOUND, _RANGE_REFUSED = 404, 416
_KEPT = (400, 401, 403, 405, 501)
_TAGS_AT_ONCE = 1000
_RESTARTS = 3

MANIFEST_TYPE = MANIFESTS[0]
EMPTY = b"{}"
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"


@dataclass(frozen=True, slots=True)
class Blob:
    """A file to push. `title` is the name under which `oras pull` writes it."""

    title: str
    digest: str
    size: int
    source: Path | bytes


def manifest(kind: str, blobs: list[Blob], annotations: Mapping[str, str] | None = None) -> bytes:
    """An artifact's manifest. The same files make the same bytes, so that it has the same digest."""
    empty = {"mediaType": EMPTY_TYPE, "digest": digest_of(EMPTY), "size": len(EMPTY)}
    layers = [
        {
            "mediaType": f"{kind}.file",
            "digest": blob.digest,
            "size": blob.size,
            "annotations": {"org.opencontainers.image.title": blob.title},
        }
        for blob in blobs
    ]
    content = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": kind,
        "config": empty,
        "layers": layers or [empty],
        **({"annotations": dict(annotations)} if annotations else {}),
    }
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def size_of(registry: Registry, digest: str) -> int | None:
    """Bytes of a blob, as the registry says; None where it is not there."""
    try:
        told = registry.ask("HEAD", f"blobs/{digest}").headers.get("Content-Length", "")
    except RefusedError as error:
        if error.status == _NOT_FOUND:
            return None
        raise
    return int(told) if told.isdigit() else None


def push_blob(registry: Registry, blob: Blob) -> None:
    """Uploads a blob, which the registry checks against its digest. A chunk that broke off is asked for and goes on."""
    for attempt in range(1, _RESTARTS + 1):
        place = _location(registry, registry.ask("POST", "blobs/uploads/").headers, registry.url)
        try:
            rest = b""
            if isinstance(blob.source, bytes):
                rest = blob.source
            elif blob.size <= CHUNK:
                rest = blob.source.read_bytes()
            else:
                place = _push_chunks(registry, place, blob.source, blob.size)
            query = urlencode({"digest": blob.digest})
            registry.ask("PUT", f"{place}{'&' if '?' in place else '?'}{query}", _OCTETS, rest)
        except RefusedError as error:
            # An upload that the registry has lost, or of which it holds other bytes than were sent, begins anew.
            if error.status not in (_NOT_FOUND, _RANGE_REFUSED) or attempt == _RESTARTS:
                raise
        else:
            return


def _push_chunks(registry: Registry, place: str, source: Path, size: int) -> str:
    done = 0
    with source.open("rb") as reader:
        while done < size:
            reader.seek(done)
            body = reader.read(CHUNK)
            headers = {**_OCTETS, "Content-Range": f"{done}-{done + len(body) - 1}"}
            try:
                said = registry.ask("PATCH", place, headers, body).headers
            except RefusedError as error:
                # A chunk whose answer got lost is there already: the registry says how far it has come.
                if error.status != _RANGE_REFUSED:
                    raise
                said = registry.ask("GET", place).headers
            place, before = _location(registry, said, place), done
            came = _RANGE.fullmatch(said.get("Range", ""))
            done = int(came[1]) + 1 if came else done + len(body)
            if not before < done <= size:
                raise RefusedError(_RANGE_REFUSED, f"at byte {before} of an upload")
    return place


def push_manifest(registry: Registry, reference: str, body: bytes) -> str:
    """Writes a manifest, whose blobs must be there; returns its digest."""
    registry.ask("PUT", f"manifests/{reference}", {"Content-Type": MANIFEST_TYPE}, body)
    return digest_of(body)


def pull_manifest(registry: Registry, reference: str) -> tuple[str, dict[str, Any], bytes] | None:
    """Digest, content and bytes of a manifest; None where there is none."""
    try:
        body = registry.ask("GET", f"manifests/{reference}", {"Accept": MANIFEST_TYPE}).body
    except RefusedError as error:
        if error.status == _NOT_FOUND:
            return None
        raise
    try:
        content = json.loads(body)
    except ValueError as error:
        raise RegistryError(f"the manifest of {reference} is no JSON") from error
    if not isinstance(content, dict):
        raise RegistryError(f"the manifest of {reference} holds no object")
    return digest_of(body), content, body


def delete_manifest(registry: Registry, digest: str) -> None:
    """Takes a manifest away, with all its tags. Raises KeepsAllError where the registry does not do that."""
    try:
        registry.ask("DELETE", f"manifests/{digest}")
    except RefusedError as error:
        if error.status in _KEPT:
            raise KeepsAllError(f"the registry deletes no manifest ({error})") from error
        if error.status != _NOT_FOUND:
            raise


def tags(registry: Registry) -> Iterator[str]:
    """All tags of the repository; none where there is no repository."""
    path = f"tags/list?n={_TAGS_AT_ONCE}"
    while path:
        try:
            reply = registry.ask("GET", path)
        except RefusedError as error:
            if error.status == _NOT_FOUND:
                return
            raise
        try:
            yield from (str(tag) for tag in json.loads(reply.body)["tags"] or ())
        except (ValueError, KeyError, TypeError) as error:
            raise RegistryError("the list of tags can't be read") from error
        more = _NEXT.search(reply.headers.get("Link", ""))
        path = urljoin(f"{registry.url}/v2/{registry.repository}/tags/list", more[1]) if more else ""


def _location(registry: Registry, headers: Mapping[str, str], base: str) -> str:
    found = headers.get("Location")
    if not found:
        raise RegistryError("the registry does not say where an upload goes on")
    return urljoin(base if "://" in base else registry.url, found)
