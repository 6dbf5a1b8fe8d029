"""Stores outside the cluster, on its node: an S3 store and the cluster's own registry, and the Secrets that open them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import s3fs

from dev.cluster.network import NODE_IP, REGISTRY_PORT
from dev.common.kubectl import Kubectl
from dev.fixtures.catalog import CHECKPOINT
from tests.support.pushing import Repository, titled
from tests.support.stores import KEY, SECRET, Server, s3_store

MODEL_SECRET: Final = "model-store"
REGISTRY: Final = f"{NODE_IP}:{REGISTRY_PORT}"
BUCKET: Final = "models"


@dataclass(frozen=True)
class Bucket:
    """A bucket of an S3 store that pods reach."""

    name: str
    server: Server

    @property
    def folder(self) -> Path:
        """Where the objects lie on this machine."""
        return self.server.log.parent / "objects" / self.name

    def put(self, checkpoint: Path, prefix: str) -> str:
        """Uploads a checkpoint's files, the weights last, and returns its address."""
        client = _client(self.server)
        for name in sorted(CHECKPOINT, key="model.safetensors".__eq__):
            client.put_file(str(checkpoint / name), f"{self.name}/{prefix}/{name}")
        return f"s3://{self.name}/{prefix}"


@contextmanager
def bucket(folder: Path, name: str = BUCKET) -> Iterator[Bucket]:
    """An S3 store with one bucket."""
    with s3_store(folder, NODE_IP) as server:
        _client(server).mkdir(name)
        yield Bucket(name, server)


def push(checkpoint: Path, repository: str, tag: str) -> str:
    """Makes a tag of the cluster's registry the checkpoint, and returns its address."""
    more = [name for name in CHECKPOINT if name == "tokenizer_config.json"]
    Repository(f"http://{REGISTRY}", repository).push(tag, titled(checkpoint, *more))
    return f"oci://{REGISTRY}/{repository}:{tag}"


def secret(kubectl: Kubectl, namespace: str, name: str, server: Server) -> None:
    """A Secret that opens the S3 store and the registry."""
    keys = {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_ENDPOINT_URL": server.url,
        "OCI_PLAIN_HTTP": REGISTRY,
    }
    meta = {"name": name, "namespace": namespace}
    kubectl.apply({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": keys})


def _client(server: Server) -> s3fs.S3FileSystem:
    return s3fs.S3FileSystem(endpoint_url=server.url, key=KEY, secret=SECRET, skip_instance_cache=True)
