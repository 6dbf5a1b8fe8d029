"""Finished builds in a real S3 store and a real registry: written, found again, laid out, damaged, killed and collected."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest
import transformers

from tapchanger_serving.build import collect, limits, stores
from tapchanger_serving.build.failures import StepError
from tapchanger_serving.build.places import Places
from tapchanger_serving.build.stores import push
from tapchanger_serving.build.stores.objects import Objects
from tapchanger_serving.build.stores.oci import Repository
from tapchanger_serving.build.transport.registry import Registry
from tapchanger_serving.contract.messages import BuildReport, Collection
from tapchanger_serving.contract.names import EXIT_ARTIFACT_DAMAGED
from tapchanger_serving.repository.__main__ import main as lay_out
from tapchanger_serving.repository.fetch import at_hand
from tests.support import remote_stores
from tests.support.breaking_proxy import breaking_proxy
from tests.support.golden import ROOT
from tests.support.patience import PATIENCE
from tests.support.remote_stores import Elsewhere
from tests.support.small_builds import SERVING, Build, small_bert

KEY_OF_S3 = "test-secret-key"
KINDS = ("s3", "oci")
DAY = 86400.0
SEED, KILLS = 19, 3
_KILLED = """
import os, pathlib, signal, sys, threading
from tests.support import remote_stores
folder, number, limit = pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
def die(count):
    if count == limit:
        # Some die before the request, some in the middle of it.
        threading.Timer(0.004 * (limit % 3), os.kill, (os.getpid(), signal.SIGKILL)).start()
with remote_stores.counted(die):
    remote_stores.write_build(folder, number)
"""
"""Writes a build and is killed at its `limit`th request."""


@dataclass(frozen=True)
class Store:
    """A store, and a folder for what is done with it."""

    elsewhere: Elsewhere
    folder: Path

    def places(self, port: int | None = None) -> Places:
        return Places.from_environment(self.environment(port))

    def environment(self, port: int | None = None) -> dict[str, str]:
        return {**self.elsewhere.environment(port or self.elsewhere.port), "TAPCHANGER_WORK_DIR": str(self.folder)}

    def write(self, number: int, port: int | None = None) -> int:
        """Writes a build; how many requests that took."""
        asked: list[int] = []
        with remote_stores.environment(self.environment(port)), remote_stores.counted(asked.append):
            remote_stores.write_build(self.folder, number)
        return len(asked)

    def write_killed(self, number: int, point: int) -> None:
        """Writes a build in a process of its own, which is killed at a request."""
        command = [sys.executable, "-c", _KILLED, str(self.folder), str(number), str(point)]
        environment = {**os.environ, **self.environment(), "PYTHONPATH": f"{SERVING}{os.pathsep}{ROOT}"}
        done = subprocess.run(command, env=environment, capture_output=True, check=False, text=True)
        assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr

    def finished(self, name: str) -> BuildReport | None:
        with remote_stores.environment(self.environment()), stores.opened(self.places()) as store:
            return store.finished(name)

    def fetch(self, digest: str) -> set[str]:
        """The files that a server would get."""
        with (
            remote_stores.environment(self.environment()),
            at_hand(self.places().store_uri, digest) as found,
        ):
            return {path.name for path in found.rglob("*") if path.is_file()}

    def visible(self) -> set[str]:
        """Digests of the artifacts that a reader could find."""
        names = self.elsewhere.names()
        found = {
            name.split("/")[1] for name in names if name.startswith("artifacts/") and name.endswith("/artifact.json")
        }
        found |= {name for name in names if name.startswith("sha256-") and not name.endswith(".used")}
        return {name.replace("-", ":") for name in found}

    def collect(self, **order: object) -> None:
        with remote_stores.environment(self.environment()):
            collect.collect(Collection.model_validate({"older_than_seconds": 7 * DAY} | order), self.places())


@pytest.fixture(scope="module", params=KINDS)
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Elsewhere]:
    with getattr(remote_stores, request.param)(tmp_path_factory.mktemp(request.param)) as found:
        yield found


@pytest.fixture
def store(shared: Elsewhere, tmp_path: Path) -> Store:
    return Store(shared, tmp_path)


def laid_out(store: Store, digest: str, **environment: str) -> int:
    """What the init container ends with."""
    arguments = ["--store", store.places().store_uri, "--digest", digest, "--name", "m", "--max-batch", "8"]
    arguments += ["--queue-delay-us", "0", "--output", str(store.folder / "repository")]
    with remote_stores.environment({**store.environment(), **environment}):
        return lay_out(arguments)


def test_a_whole_build_is_written_to_s3_and_found_again(build: Build, tmp_path: Path) -> None:
    small_bert(build.places.claims / "models/v1", transformers.BertForSequenceClassification)
    shape = {"runtime": "onnxruntime", "precision": "fp32", "shapes": {"maxBatchSize": 8, "maxTokens": 16}}
    request = build.request("pvc://models/v1", "text-classification", **shape)
    with remote_stores.s3(tmp_path / "s3") as found:
        store = Store(found, tmp_path)
        environment = found.environment(found.port)
        for step in ("fetch", "export", "measure"):
            done = build.step(step, request=request, **environment)
            assert done.returncode == 0, done.stdout + done.stderr
            assert done.stderr == ""
            assert KEY_OF_S3 not in done.stdout
        report = BuildReport.model_validate_json(build.last_word())
        assert report.artifact_uri == f"{found.uri}/artifacts/{report.artifact.replace(':', '-')}"
        assert report.report_uri == f"{found.uri}/reports/eb-test.json"
        assert not list(build.places.store.iterdir())

        assert build.step("fetch", request=request, **environment).returncode == 0
        assert build.places.unchanged.exists()
        again = build.step("measure", request=request, **environment)
        assert again.returncode == 0, again.stdout
        assert BuildReport.model_validate_json(build.last_word()) == report
        assert laid_out(store, report.artifact) == 0
        assert (tmp_path / "repository/m-engine/1/model.onnx").is_file()


def test_a_damaged_artifact_is_not_served_and_not_taken_for_finished(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    store.write(5)
    report = store.finished("eb-5")
    assert report is not None
    assert laid_out(store, report.artifact, TMPDIR=str(store.folder)) == 0
    engine = store.folder / "repository/m-engine/1/model.onnx"
    assert engine.read_bytes() == b"5" * (12 << 20)
    store.elsewhere.damage("model.onnx", report.artifact)
    assert laid_out(store, report.artifact) == EXIT_ARTIFACT_DAMAGED
    said = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert said["level"] == "error"
    assert store.elsewhere.uri in said["msg"]
    assert store.finished("eb-5") is None
    assert laid_out(store, "sha256:" + "0" * 64) == EXIT_ARTIFACT_DAMAGED
    store.elsewhere.damage("model.onnx", report.artifact)
    assert store.finished("eb-5") == report


def test_a_writer_that_is_killed_leaves_nothing_that_is_used(store: Store) -> None:
    points, dice = store.write(0), random.Random(SEED)
    assert points > KILLS
    for number, point in enumerate(dice.sample(range(2, points + 1), KILLS), start=1):
        store.write_killed(number, point)
        for digest in store.visible():
            assert store.fetch(digest) == {"artifact.json", "model.onnx", "tokenizer.json"}
        found = store.finished(f"eb-{number}")
        assert found is None or store.fetch(found.artifact)
    store.write(1)
    whole = store.finished("eb-1")
    assert whole is not None
    before = store.elsewhere.names()
    store.write(1)
    assert store.elsewhere.names() == before


def test_what_breaks_off_goes_on(store: Store) -> None:
    answers = 1000 if store.elsewhere.uri.startswith("s3:") else 2500
    with breaking_proxy(store.elsewhere.port, cut_after=answers) as proxy:
        store.write(7, port=proxy.port)
    assert proxy.cuts > 0
    found = store.finished("eb-7")
    assert found is not None
    assert store.fetch(found.artifact) == {"artifact.json", "model.onnx", "tokenizer.json"}


def test_a_store_that_does_not_answer_or_lets_nobody_in_is_told_in_words(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(limits, "_FIRST_PAUSE", 0.001)
    environment = store.environment(port=9)
    arguments = ["--store", environment["TAPCHANGER_STORE_URI"], "--digest", "sha256:" + "0" * 64, "--name", "m"]
    with remote_stores.environment(environment):
        assert lay_out([*arguments, "--max-batch", "8", "--queue-delay-us", "0"]) == 1
    said = json.loads(capsys.readouterr().err.splitlines()[-1])["msg"]
    assert said.startswith("StoreUnreachable: ")
    assert "it is tried again" in said
    assert "test-secret-key" not in said
    places = replace(store.places(), store_credentials=store.folder / "none")
    with (
        remote_stores.environment(environment),
        pytest.raises(StepError, match="CredentialsInvalid"),
        stores.opened(places),
    ):
        pass


def test_what_nobody_refers_to_is_collected_when_it_is_old(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    store.write(8)
    store.write(9)
    kept = store.finished("eb-8")
    gone = store.finished("eb-9")
    assert kept is not None
    assert gone is not None
    store.collect()
    assert store.finished("eb-9") == gone
    store.elsewhere.age(30)
    store.collect(dry_run=True)
    assert {kept.artifact, gone.artifact} <= store.visible()
    used = store.finished("eb-9")
    assert used == gone
    store.collect(builds=("eb-8",), artifacts=(kept.artifact,))
    assert store.finished("eb-9") == gone
    assert store.visible() == {kept.artifact, gone.artifact}
    store.elsewhere.age(30)
    store.collect(builds=("eb-8",), artifacts=(kept.artifact,))
    assert store.visible() == {kept.artifact}
    assert not any("eb-9" in name or gone.artifact[-64:] in name for name in store.elsewhere.names())
    assert store.finished("eb-8") == kept
    removed = [line for line in remote_stores.json_lines(capsys.readouterr().out) if line["msg"] == "removed"]
    assert {"report", "artifact"} <= {line["kind"] for line in removed}


def test_a_build_that_begins_to_use_it_meanwhile_gets_it_back(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write(6)
    report = store.finished("eb-6")
    assert report is not None
    store.elsewhere.age(30)
    delete, delete_object = push.delete_manifest, Objects._delete

    def used_right_after(registry: Registry, digest: str) -> None:
        delete(registry, digest)
        Repository(store.elsewhere.uri, registry).use_artifact(report.artifact)

    def object_used_right_after(objects: Objects, path: str) -> None:
        delete_object(objects, path)
        objects.use_artifact(report.artifact)

    monkeypatch.setattr(push, "delete_manifest", used_right_after)
    monkeypatch.setattr(Objects, "_delete", object_used_right_after)
    store.collect(builds=("eb-6",))
    assert report.artifact in store.visible()
    assert store.finished("eb-6") == report


def test_an_artifact_of_a_registry_is_what_oras_pulls(tmp_path: Path) -> None:
    with remote_stores.oci(tmp_path / "kept", deletes=False) as found:
        store = Store(found, tmp_path)
        store.write(1)
        report = store.finished("eb-1")
        assert report is not None
        uri, _, digest = (report.artifact_uri or "").partition("@")
        assert uri == found.uri
        api = uri.replace("oci://", "http://").replace(f":{found.port}/", f":{found.port}/v2/")
        answer = httpx.get(f"{api}/manifests/{digest}", headers=remote_stores.MANIFEST, timeout=PATIENCE)
        manifest = answer.json()
        titles = [layer["annotations"]["org.opencontainers.image.title"] for layer in manifest["layers"]]
        assert titles == ["artifact.json", "model.onnx", "tokenizer.json"]
        assert manifest["artifactType"] == "application/vnd.tapchanger.engine.v1"
        assert (report.report_uri or "").startswith(f"{found.uri}:eb-1@sha256:")
        found.age(30)
        store.collect()
        assert store.visible() == {report.artifact}
