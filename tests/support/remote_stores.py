"""Stores elsewhere for finished builds: the real servers of :mod:`tests.support.stores`, as a pod's environment names them."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import s3fs
from aiobotocore.client import AioBaseClient

from tapchanger_serving.build import stores
from tapchanger_serving.build.places import Places
from tapchanger_serving.build.stores import push, uploads
from tapchanger_serving.build.stores.oci import USED_TYPE
from tapchanger_serving.contract.artifact import Artifact
from tapchanger_serving.contract.messages import BuildReport, Hardware
from tests.support.patience import PATIENCE
from tests.support.stores import KEY, SECRET, oci_registry, s3_store

ENGINES = "engines"
MANIFEST = {"Accept": push.MANIFEST_TYPE}


@dataclass(frozen=True)
class Elsewhere:
    """One store. `port` is where it answers, `environment` what opens it through a port."""

    uri: str
    port: int
    environment: Callable[[int], dict[str, str]]
    damage: Callable[[str, str], None]
    """Alters a byte of the file that has this name in the artifact with this digest; doing it twice heals it."""
    age: Callable[[float], None]
    """Makes all that is there look so many days older."""
    names: Callable[[], set[str]]
    """What is visible: objects below the prefix, or tags."""


def _secret(folder: Path, **keys: str) -> dict[str, str]:
    folder.mkdir(exist_ok=True)
    for name, value in keys.items():
        (folder / name).write_text(value)
    return {
        "TAPCHANGER_STORE_CREDENTIALS": "engine-store",
        "TAPCHANGER_STORE_CREDENTIALS_DIR": str(folder),
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@contextmanager
def s3(folder: Path) -> Iterator[Elsewhere]:
    """An S3 store with a bucket."""
    with s3_store(folder / "store") as server:
        client = s3fs.S3FileSystem(endpoint_url=server.url, key=KEY, secret=SECRET, skip_instance_cache=True)
        client.mkdir(ENGINES)
        uri = f"s3://{ENGINES}/cluster/team-a"
        room = folder / "store" / "objects" / ENGINES

        def environment(port: int) -> dict[str, str]:
            keys = _secret(folder / "secret", AWS_ACCESS_KEY_ID=KEY, AWS_SECRET_ACCESS_KEY=SECRET)
            return {**keys, "TAPCHANGER_STORE_URI": uri, "TAPCHANGER_STORE_ENDPOINT": f"http://127.0.0.1:{port}"}

        def damage(name: str, digest: str) -> None:
            _flip(room / "cluster/team-a/artifacts" / digest.replace(":", "-") / name)

        def age(days: float) -> None:
            for path in room.rglob("*"):
                then = path.stat().st_mtime - days * 86400
                os.utime(path, (then, then))

        def names() -> set[str]:
            client.invalidate_cache()
            return {name.removeprefix(f"{ENGINES}/cluster/team-a/") for name in client.find(f"{ENGINES}/cluster")}

        yield Elsewhere(uri, server.port, environment, damage, age, names)


@contextmanager
def oci(folder: Path, *, deletes: bool = True) -> Iterator[Elsewhere]:
    """A registry; `deletes`: it lets manifests be removed."""
    folder.mkdir(exist_ok=True)
    with oci_registry(folder / "registry", deletes=deletes) as server:
        uri = f"oci://127.0.0.1:{server.port}/{ENGINES}/team-a"
        api = f"{server.url}/v2/{ENGINES}/team-a"

        def environment(port: int) -> dict[str, str]:
            keys = _secret(folder / "secret", OCI_USERNAME="nobody", OCI_PASSWORD="asks-for-it")
            return {**keys, "TAPCHANGER_STORE_URI": f"oci://127.0.0.1:{port}/{ENGINES}/team-a"}

        def names() -> set[str]:
            answer = httpx.get(f"{api}/tags/list", timeout=PATIENCE)
            return set(answer.json()["tags"] or ()) if answer.is_success else set()

        def damage(name: str, digest: str) -> None:
            tag = digest.replace(":", "-")
            layers = httpx.get(f"{api}/manifests/{tag}", headers=MANIFEST, timeout=PATIENCE).json()["layers"]
            blob = next(_digest(layer) for layer in layers if _title(layer) == name)
            _flip(folder / "registry/data/docker/registry/v2/blobs/sha256" / blob[:2] / blob / "data")

        def age(days: float) -> None:
            for tag in names():
                if tag.endswith(".used"):
                    notes = httpx.get(f"{api}/manifests/{tag}", headers=MANIFEST, timeout=PATIENCE).json()[
                        "annotations"
                    ]
                    at = time.time() - days * 86400
                    notes["dev.tapchanger.used"] = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(at))
                    body = push.manifest(USED_TYPE, [], notes)
                    kind = {"Content-Type": push.MANIFEST_TYPE}
                    assert httpx.put(f"{api}/manifests/{tag}", content=body, headers=kind, timeout=PATIENCE).is_success

        yield Elsewhere(uri, server.port, environment, damage, age, names)


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def _digest(layer: Any) -> str:
    return str(layer["digest"]).removeprefix("sha256:")


def _title(layer: Any) -> str:
    return str(layer["annotations"]["org.opencontainers.image.title"])


@contextmanager
def counted(told: Callable[[int], object]) -> Iterator[None]:
    """Tells the number of each request to a store before it is sent. Parts are so small that a build has several."""
    to_s3, to_registry = AioBaseClient._make_api_call, httpx.Client.stream
    sizes = uploads.PART, push.CHUNK
    count = 0

    def asked() -> None:
        nonlocal count
        count += 1
        told(count)

    async def s3_call(*arguments: Any, **named: Any) -> Any:
        asked()
        return await to_s3(*arguments, **named)

    def registry_call(*arguments: Any, **named: Any) -> Any:
        asked()
        return to_registry(*arguments, **named)

    AioBaseClient._make_api_call, httpx.Client.stream = s3_call, registry_call  # type: ignore[method-assign]
    uploads.PART = push.CHUNK = 5 << 20
    try:
        yield
    finally:
        AioBaseClient._make_api_call, httpx.Client.stream = to_s3, to_registry  # type: ignore[method-assign]
        uploads.PART, push.CHUNK = sizes


def write_build(folder: Path, number: int) -> None:
    """Writes the build `eb-<number>`, whose engine has 12 MiB, to the store that the environment names."""
    engine, tokenizer = folder / f"engine-{number}", folder / "tokenizer"
    engine.write_bytes(str(number).encode() * (12 << 20))
    tokenizer.write_bytes(b"{}")
    manifest = Artifact(
        task="text-classification", runtime="onnxruntime", precision="fp32", engine="model.onnx", inputs=(),
        output="logits", dimensions=2, max_tokens=8, max_batch_size=1, hardware=Hardware(arch="amd64"), files=(),
    )  # fmt: skip
    with stores.opened(Places.from_environment()) as store:
        digest, size = store.write_artifact({"model.onnx": engine, "tokenizer.json": tokenizer}, manifest)
        report = BuildReport(
            artifact=digest, size_bytes=size, runtime="onnxruntime", precision="fp32", why="", speedup=1,
            torch_texts_per_second=1, candidates=(), gates=(), surface=(), compared_texts=0, seconds=1,
        )  # fmt: skip
        store.write_report(f"eb-{number}", report, "<p>page</p>", "# card")


@contextmanager
def environment(values: dict[str, str]) -> Iterator[None]:
    """This process has these variables meanwhile."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        for name in values:
            os.environ.pop(name, None)
        os.environ.update(before)


def json_lines(text: str) -> list[dict[str, Any]]:
    """The lines that are JSON objects."""
    found = []
    for line in text.splitlines():
        with contextlib.suppress(ValueError):
            found.append(json.loads(line))
    return found
