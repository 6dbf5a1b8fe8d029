"""`s3://` against a real S3 store, through a network that breaks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import s3fs
import torch
import transformers
from safetensors.torch import load_file, save_file

from tapchanger_serving.build.digest import hash_tree
from tapchanger_serving.contract.messages import BuildRequest, Inspection
from tapchanger_serving.contract.names import ENV_CREDENTIALS
from tests.support.breaking_proxy import breaking_proxy
from tests.support.small_builds import Build, small_bert
from tests.support.stores import KEY, SECRET, Server, s3_store

TASK = ("--task", "text-classification")
FILES = ("config.json", "model.safetensors", "tokenizer.json")
SHARDED = (
    "config.json",
    "model-00001.safetensors",
    "model-00002.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with s3_store(tmp_path_factory.mktemp("s3") / "store") as server:
        client(server).mkdir("models")
        yield server


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = small_bert(tmp_path / "upload", transformers.BertForSequenceClassification)
    (folder / "pytorch_model.bin").write_bytes(b"never fetched")
    return folder


def client(server: Server) -> s3fs.S3FileSystem:
    return s3fs.S3FileSystem(endpoint_url=server.url, key=KEY, secret=SECRET, skip_instance_cache=True)


def access(tmp_path: Path, port: int, **change: str) -> dict[str, str]:
    """The environment of a step whose Secret holds what opens the store at `port`."""
    keys = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
    folder = tmp_path / "credentials"
    folder.mkdir(exist_ok=True)
    for name, value in (keys | change).items():
        (folder / name).write_text(value)
    return {ENV_CREDENTIALS: "store", "TAPCHANGER_CREDENTIALS_DIR": str(folder), "AWS_EC2_METADATA_DISABLED": "true"}


def upload(server: Server, folder: Path, prefix: str) -> str:
    client(server).put(f"{folder}/", f"models/{prefix}/", recursive=True)
    return f"s3://models/{prefix}"


def sharded(folder: Path, megabytes: int) -> Path:
    """The checkpoint in two files, the second one with a tensor of so many megabytes besides."""
    first, rest = {}, {"big": torch.randint(0, 255, (megabytes << 20,), dtype=torch.uint8)}
    for name, tensor in load_file(folder / "model.safetensors").items():
        (first if name.startswith("classifier.") else rest)[name] = tensor
    names = {}
    for file, tensors in (("model-00001.safetensors", first), ("model-00002.safetensors", rest)):
        save_file(tensors, folder / file)
        names |= dict.fromkeys(tensors, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))
    (folder / "model.safetensors").unlink()
    (folder / "leftover.safetensors").write_bytes(b"not named by the index")
    return folder


def test_a_checkpoint_is_inspected_fetched_and_only_what_matters_travels(
    build: Build, store: Server, model: Path, tmp_path: Path
) -> None:
    uri, env = upload(store, model, "v1"), access(tmp_path, store.port)
    done = build.step("inspect", "--uri", uri, *TASK, **env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    found = Inspection.model_validate_json(build.last_word())
    assert found.digest == hash_tree(model, FILES)
    assert SECRET not in done.stdout + build.last_word()
    request = BuildRequest(name="eb", uri=uri, digest=found.digest, task="text-classification", hardware=found.hardware)
    assert build.step("fetch", request=request, **env).returncode == 0
    assert {path.name for path in build.places.checkpoint.iterdir()} == set(FILES)
    pinned = build.step("inspect", "--uri", f"{uri}@{found.digest}", *TASK, **env)
    assert pinned.returncode == 0, pinned.stdout


def test_shards_come_whole_through_a_connection_that_breaks_again_and_again(
    build: Build, store: Server, model: Path, tmp_path: Path
) -> None:
    uri = upload(store, sharded(model, megabytes=12), "sharded")
    with breaking_proxy(store.port, cut_after=3 << 20) as proxy:
        done = build.step("inspect", "--uri", uri, *TASK, **access(tmp_path, proxy.port))
    assert done.returncode == 0, done.stdout
    assert proxy.cuts > 0
    assert Inspection.model_validate_json(build.last_word()).digest == hash_tree(model, SHARDED)


def test_content_that_is_as_it_was_is_known_without_a_download(
    build: Build, store: Server, model: Path, tmp_path: Path
) -> None:
    uri = upload(store, sharded(model, megabytes=4), "polled")
    with breaking_proxy(store.port, cut_after=None) as proxy:
        env = access(tmp_path, proxy.port)
        assert build.step("inspect", "--uri", uri, *TASK, **env).returncode == 0
        known = Inspection.model_validate_json(build.last_word())
    with breaking_proxy(store.port, cut_after=1 << 20) as proxy:
        env = access(tmp_path, proxy.port)
        again = build.step("inspect", "--uri", uri, *TASK, "--known", known.dumps(), **env)
        assert again.returncode == 0, again.stdout
        assert Inspection.model_validate_json(build.last_word()) == known
        assert proxy.cuts == 0
    config = json.loads((model / "config.json").read_text()) | {"note": "another"}
    (model / "config.json").write_text(json.dumps(config))
    env = access(tmp_path, store.port)
    upload(store, model, "polled")
    assert build.step("inspect", "--uri", uri, *TASK, "--known", known.dumps(), **env).returncode == 0
    assert Inspection.model_validate_json(build.last_word()).digest == hash_tree(model, SHARDED) != known.digest


@pytest.mark.parametrize(
    ("path", "change", "reason", "word"),
    [
        ("models/none", {}, "ModelNotFound", "nothing at this path"),
        ("nowhere/v1", {}, "ModelNotFound", "nothing at this path"),
        ("models/refused", {"AWS_SECRET_ACCESS_KEY": "not-the-secret-key"}, "AccessDenied", "does not let the build in"),
        ("models/large", {"TAPCHANGER_MAX_DOWNLOAD_BYTES": "1000"}, "DownloadTooLarge", "more than 1000 bytes"),
        ("models/pickled", {}, "PickleCheckpoint", "pytorch_model.bin"),
    ],
)  # fmt: skip
def test_what_can_not_be_fetched_is_explained(
    build: Build, store: Server, model: Path, tmp_path: Path, path: str, change: dict[str, str], reason: str, word: str
) -> None:
    if path == "models/pickled":
        (model / "model.safetensors").unlink()
    if path not in ("models/none", "nowhere/v1"):
        upload(store, model, path.removeprefix("models/"))
    done = build.step("inspect", "--uri", f"s3://{path}", *TASK, **access(tmp_path, store.port, **change))
    assert done.returncode == 42, done.stdout
    failure = build.failure()
    assert failure.reason == reason
    assert word in failure.message
    assert failure.field == "spec.model.uri"
    assert failure.remedy
    assert not any(secret in done.stdout + build.last_word() for secret in (SECRET, "not-the-secret-key"))


def test_a_store_that_does_not_answer_is_tried_again_by_the_job(build: Build, tmp_path: Path) -> None:
    done = build.step("inspect", "--uri", "s3://models/v1", *TASK, **access(tmp_path, 9))
    assert done.returncode == 1, done.stdout
    assert build.failure().reason == "DownloadFailed"
    assert "it is tried again" in (build.failure().remedy or "")


def test_evaluation_data_comes_from_the_same_store(build: Build, store: Server, model: Path, tmp_path: Path) -> None:
    uri, env = upload(store, model, "with-data"), access(tmp_path, store.port)
    client(store).pipe("models/data/test.csv", b"text,label\ntea,LABEL_0\n")
    assert build.step("inspect", "--uri", uri, *TASK, **env).returncode == 0
    found = Inspection.model_validate_json(build.last_word())
    gates = {"evaluation": {"dataset": {"uri": "s3://models/data/test.csv"}}}
    request = BuildRequest.model_validate(
        {"name": "eb", "uri": uri, "digest": found.digest, "task": TASK[1], "hardware": found.hardware, "gates": gates}
    )
    done = build.step("fetch", request=request, **env)
    assert done.returncode == 0, done.stdout
    assert (build.places.work / "dataset.csv").read_bytes() == b"text,label\ntea,LABEL_0\n"
