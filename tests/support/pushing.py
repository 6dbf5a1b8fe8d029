"""Pushes artifacts to a registry, as `oras push` and others do."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.support.patience import PATIENCE

FILES = ("config.json", "model.safetensors", "tokenizer.json")
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
Layer = tuple[bytes, str, dict[str, str]]


@dataclass(frozen=True)
class Repository:
    """One repository, to push to."""

    url: str
    name: str
    login: tuple[str, str] | None = None

    def push(self, tag: str, layers: Sequence[Layer]) -> str:
        """Pushes blobs and manifest; returns the manifest's digest."""
        described = [
            {"mediaType": kind, "digest": self.blob(data), "size": len(data), "annotations": notes}
            for data, kind, notes in layers
        ]
        config = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": self.blob(b"{}"), "size": 2}
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": described}
        body = json.dumps(manifest).encode()
        self.put(f"manifests/{tag}", body, MANIFEST)
        return f"sha256:{hashlib.sha256(body).hexdigest()}"

    def put(self, path: str, body: bytes, kind: str) -> None:
        answer = httpx.put(
            f"{self.url}/v2/{self.name}/{path}",
            content=body,
            headers={"Content-Type": kind},
            auth=self.login,
            timeout=PATIENCE,
        )
        assert answer.is_success, answer.text

    def blob(self, data: bytes) -> str:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        begun = httpx.post(f"{self.url}/v2/{self.name}/blobs/uploads/", auth=self.login, timeout=PATIENCE)
        assert begun.status_code == 202, begun.text
        place = httpx.URL(begun.headers["Location"]).copy_merge_params({"digest": digest})
        done = httpx.put(place, content=data, auth=self.login, timeout=PATIENCE)
        assert done.status_code == 201, done.text
        return digest


def titled(folder: Path, *more: str) -> list[Layer]:
    """As `oras push` gives it: each file a layer, named by its title."""
    kind = "application/octet-stream"
    return [((folder / name).read_bytes(), kind, {"org.opencontainers.image.title": name}) for name in (*FILES, *more)]
