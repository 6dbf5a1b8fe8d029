"""`gs://` against a server that speaks Google's storage API."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
import transformers

from tapchanger_serving.build.digest import hash_tree
from tapchanger_serving.contract.messages import Inspection
from tapchanger_serving.contract.names import ENV_CREDENTIALS
from tests.support.patience import PATIENCE
from tests.support.small_builds import Build, small_bert
from tests.support.stores import Server, gcs_store

TASK = ("--task", "text-classification")
FILES = ("config.json", "model.safetensors", "tokenizer.json")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with gcs_store(tmp_path_factory.mktemp("gcs") / "store") as server:
        made = httpx.post(
            f"{server.url}/storage/v1/b", params={"project": "test"}, json={"name": "models"}, timeout=PATIENCE
        )
        assert made.is_success, made.text
        yield server


def test_a_checkpoint_is_inspected_and_known_again(build: Build, store: Server, tmp_path: Path) -> None:
    folder = small_bert(tmp_path / "upload", transformers.BertForSequenceClassification)
    for name in FILES:
        target = f"{store.url}/upload/storage/v1/b/models/o?uploadType=media&name={quote(f'v1/{name}', safe='')}"
        assert httpx.post(target, content=(folder / name).read_bytes(), timeout=PATIENCE).is_success
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials/STORAGE_EMULATOR_HOST").write_text(store.url)
    env = {ENV_CREDENTIALS: "store", "TAPCHANGER_CREDENTIALS_DIR": str(tmp_path / "credentials")}
    done = build.step("inspect", "--uri", "gs://models/v1", *TASK, **env)
    assert done.returncode == 0, done.stdout + done.stderr
    found = Inspection.model_validate_json(build.last_word())
    assert found.digest == hash_tree(folder, FILES)
    assert build.step("inspect", "--uri", "gs://models/v1", *TASK, "--known", found.dumps(), **env).returncode == 0
    assert Inspection.model_validate_json(build.last_word()) == found
    assert build.step("inspect", "--uri", "gs://models/none", *TASK, **env).returncode == 42
    assert build.failure().reason == "ModelNotFound"
