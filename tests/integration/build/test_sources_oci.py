"""`oci://` against a real registry, with what `oras push`, ModelPack and images of models put there."""

from __future__ import annotations

import base64
import gzip
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import transformers

from tapchanger_serving.build.digest import hash_tree
from tapchanger_serving.contract.messages import BuildRequest, Inspection
from tapchanger_serving.contract.names import ENV_CREDENTIALS
from tests.support.breaking_proxy import breaking_proxy
from tests.support.patience import PATIENCE
from tests.support.pushing import FILES, MANIFEST, Repository, titled
from tests.support.small_builds import Build, small_bert
from tests.support.stores import Server, oci_registry

TASK = ("--task", "text-classification")
IMAGE_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
PASSWORD, BCRYPT = "a-long-password", "$2b$05$abcdefghijklmnopqrstuuLjrm7vL7hts70kt.SnShIOHbr1tdDPu"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with oci_registry(tmp_path_factory.mktemp("oci") / "registry") as server:
        yield server


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return small_bert(tmp_path / "upload", transformers.BertForSequenceClassification)


def archive(folder: Path, prefix: str, *extra: tuple[tarfile.TarInfo, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name in FILES:
            tar.add(folder / name, f"{prefix}{name}")
        for info, data in extra:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return gzip.compress(stream.getvalue())


def link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info, b""


def inspected(build: Build, uri: str, *arguments: str, **environment: str) -> Inspection:
    done = build.step("inspect", "--uri", uri, *TASK, *arguments, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return Inspection.model_validate_json(build.last_word())


def test_an_artifact_is_what_its_tag_and_its_digest_name(build: Build, registry: Server, model: Path) -> None:
    (model / "README.md").write_text("never fetched")
    repository = Repository(registry.url, "team/moderation")
    digest = repository.push("v1", titled(model, "README.md"))
    uri = f"oci://127.0.0.1:{registry.port}/team/moderation"
    found = inspected(build, f"{uri}:v1")
    assert found.digest == hash_tree(model, FILES)
    assert found.version == digest
    assert inspected(build, f"{uri}@{digest}") == found
    request = BuildRequest(name="eb", uri=f"{uri}:v1", digest=found.digest, task=TASK[1], hardware=found.hardware)
    assert build.step("fetch", request=request).returncode == 0
    other = build.step("inspect", "--uri", f"{uri}:v1@sha256:{'a' * 64}", *TASK)
    assert other.returncode == 42
    assert build.failure().reason == "ModelNotFound"


def test_a_tag_that_moves_is_noticed_by_its_manifest_alone(build: Build, registry: Server, model: Path) -> None:
    repository, uri = Repository(registry.url, "moving"), f"oci://127.0.0.1:{registry.port}/moving:latest"
    repository.push("latest", titled(model))
    known = inspected(build, uri)
    assert inspected(build, uri, "--known", known.dumps()) == known
    config = json.loads((model / "config.json").read_text()) | {"note": "another"}
    (model / "config.json").write_text(json.dumps(config))
    repository.push("latest", titled(model))
    assert inspected(build, uri, "--known", known.dumps()).digest == hash_tree(model, FILES) != known.digest


def test_an_image_with_a_model_gives_the_checkpoint_below_its_folder(
    build: Build, registry: Server, model: Path
) -> None:
    base = archive(model, "usr/share/", link("bin/sh", "/bin/busybox"), (tarfile.TarInfo("models/gone.json"), b"{}"))
    whiteouts = ((tarfile.TarInfo(f"usr/share/.wh.{name}"), b"") for name in FILES)
    layers = [(base, IMAGE_LAYER, {}), (archive(model, "./models/", *whiteouts), IMAGE_LAYER, {})]
    repository = Repository(registry.url, "image")
    digest = repository.push("amd64", layers)
    entry = {"mediaType": MANIFEST, "digest": digest, "size": 1, "platform": {"os": "linux", "architecture": "any"}}
    kind = "application/vnd.oci.image.index.v1+json"
    index = {"schemaVersion": 2, "mediaType": kind, "manifests": [entry]}
    length = len(
        httpx.get(f"{registry.url}/v2/image/manifests/{digest}", headers={"Accept": MANIFEST}, timeout=PATIENCE).content
    )
    entry["size"] = length
    repository.put("manifests/v1", json.dumps(index).encode(), kind)
    found = inspected(build, f"oci://127.0.0.1:{registry.port}/image:v1")
    assert found.digest == hash_tree(model, FILES)


def test_a_model_pack_names_its_files_by_paths(build: Build, registry: Server, model: Path) -> None:
    kind = "application/vnd.cncf.model.weight.v1.raw"
    layers = [((model / name).read_bytes(), kind, {"org.cncf.model.filepath": f"bert/{name}"}) for name in FILES]
    Repository(registry.url, "pack").push("v1", layers)
    assert inspected(build, f"oci://127.0.0.1:{registry.port}/pack:v1").digest == hash_tree(model, FILES)


def test_blobs_come_whole_through_a_connection_that_breaks_again_and_again(
    build: Build, registry: Server, model: Path
) -> None:
    Repository(registry.url, "broken").push("v1", titled(model))
    with breaking_proxy(registry.port, cut_after=20_000) as proxy:
        found = inspected(build, f"oci://127.0.0.1:{proxy.port}/broken:v1")
    assert proxy.cuts > 0
    assert found.digest == hash_tree(model, FILES)


def test_a_registry_that_asks_for_a_login_gets_the_one_of_the_secret(build: Build, model: Path, tmp_path: Path) -> None:
    name, password = "robot", PASSWORD
    (tmp_path / "htpasswd").write_text(f"{name}:{BCRYPT}\n")
    with oci_registry(tmp_path / "registry", tmp_path / "htpasswd") as server:
        Repository(server.url, "private", (name, password)).push("v1", titled(model))
        uri = f"oci://127.0.0.1:{server.port}/private:v1"
        assert build.step("inspect", "--uri", uri, *TASK).returncode == 42
        assert build.failure().reason == "AccessDenied"
        assert "dockerconfigjson" in (build.failure().remedy or "")
        env = secret(tmp_path, {"auths": {f"127.0.0.1:{server.port}": {"auth": encoded(name, password)}}})
        assert inspected(build, uri, **env).digest == hash_tree(model, FILES)


def encoded(name: str, password: str) -> str:
    return base64.b64encode(f"{name}:{password}".encode()).decode()


def secret(tmp_path: Path, config: Any) -> dict[str, str]:
    folder = tmp_path / "credentials"
    folder.mkdir(exist_ok=True)
    (folder / ".dockerconfigjson").write_text(json.dumps(config))
    return {ENV_CREDENTIALS: "registry", "TAPCHANGER_CREDENTIALS_DIR": str(folder)}


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ((tarfile.TarInfo("../escape.json"), b"{}"), "ArchiveInvalid"),
        ((tarfile.TarInfo("/etc/escape.json"), b"{}"), "ArchiveInvalid"),
        ((tarfile.TarInfo(".wh..."), b""), "ArchiveInvalid"),
    ],
    ids=["climbs", "absolute", "deletes"],
)
def test_a_layer_that_leads_out_of_its_folder_is_refused(
    build: Build, registry: Server, model: Path, extra: tuple[tarfile.TarInfo, bytes], reason: str
) -> None:
    Repository(registry.url, "hostile").push("v1", [(archive(model, "models/", extra), IMAGE_LAYER, {})])
    done = build.step("inspect", "--uri", f"oci://127.0.0.1:{registry.port}/hostile:v1", *TASK)
    assert done.returncode == 42
    assert build.failure().reason == reason
    assert "leads out of the folder" in build.failure().message


def test_evaluation_data_is_an_artifact_of_its_own(build: Build, registry: Server, model: Path) -> None:
    data = b"text,label\ntea,LABEL_0\n"
    Repository(registry.url, "data").push("v1", [(data, "text/csv", {"org.opencontainers.image.title": "test.csv"})])
    Repository(registry.url, "with-data").push("v1", titled(model))
    host = f"oci://127.0.0.1:{registry.port}"
    found = inspected(build, f"{host}/with-data:v1")
    request = BuildRequest.model_validate(
        {
            "name": "eb", "uri": f"{host}/with-data:v1", "digest": found.digest, "task": TASK[1],
            "hardware": found.hardware, "gates": {"evaluation": {"dataset": {"uri": f"{host}/data:v1"}}},
        }
    )  # fmt: skip
    assert build.step("fetch", request=request).returncode == 0
    assert (build.places.work / "dataset.csv").read_bytes() == data
