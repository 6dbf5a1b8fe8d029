"""A builder that is killed at any instant: nothing half-written is ever used, and the work goes on to its end."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import transformers

from tapchanger_serving.build import collect
from tapchanger_serving.build.places import Places
from tapchanger_serving.build.stores import volume
from tapchanger_serving.build.stores.volume import Volume
from tapchanger_serving.contract.messages import BuildRequest
from tapchanger_serving.repository.layout import lay_out
from tapchanger_serving.repository.models import Serving
from tapchanger_serving.repository.verify import DamagedError
from tests.support import warm_steps
from tests.support.small_builds import Build, small_bert

SHAPES = {"maxBatchSize": 8, "maxTokens": 32}
KILLS = {"fetch": 6, "export": 4, "measure": 10}
SEED = 20


class Killable:
    """The steps of one build, each of which can be killed at a numbered point."""

    def __init__(self, build: Build, request: BuildRequest) -> None:
        self.build, self.request = build, request

    def run(self, step: str, folder: Path, kill_at: int = 0) -> int:
        """Runs a step; it is killed before it touches `folder` for the `kill_at`th time. How often it did without a kill."""
        counted = self.build.places.termination_log.with_name("counted")
        environment = os.environ | self.build.environment(self.request)
        done = warm_steps.run([step], environment, warm_steps.Watch(folder, counted, kill_at))
        assert done.returncode == (-signal.SIGKILL if kill_at else 0), done.stdout + done.stderr
        return 0 if kill_at else int(counted.read_text())


@pytest.fixture
def killable(build: Build) -> Killable:
    """A build of a small classifier by one runtime."""
    small_bert(build.places.claims / "models/v1", transformers.BertForSequenceClassification)
    request = build.request(
        "pvc://models/v1", "text-classification", runtime="onnxruntime", precision="fp32", shapes=SHAPES
    )
    return Killable(build, request)


def visible(places: Places) -> Iterator[str]:
    """Digests of the artifacts that a reader could find."""
    folder = places.store / "artifacts"
    for path in folder.iterdir() if folder.is_dir() else ():
        if not path.name.startswith(volume.INCOMING):
            yield path.name.replace("-", ":")


def require_nothing_half(places: Places, name: str) -> None:
    """Whatever a reader finds is whole."""
    for digest in visible(places):
        assert volume.valid_artifact(Volume(places).artifact_folder(digest), digest)
    for path in places.store.glob("reports/*.json"):
        assert path.read_text().endswith("}")
        assert Volume(places).finished(name) is not None


def leftovers(places: Places) -> list[Path]:
    return [path for path in places.store.glob("*/*") if path.name.startswith(volume.INCOMING)]


def test_twenty_kills_leave_nothing_half_and_the_build_ends_well(killable: Killable, tmp_path: Path) -> None:
    build, dice, killed = killable.build, random.Random(SEED), 0
    for step, kills in KILLS.items():
        # Only the store outlives a pod, so that the step which writes it is killed where it does.
        folder = build.places.store if step == "measure" else tmp_path
        points = killable.run(step, folder)
        assert points > kills
        for point in dice.sample(range(1, points + 1), kills):
            forget_the_end(build.places)
            killable.run(step, folder, kill_at=point)
            killed += 1
            require_nothing_half(build.places, build.name)
        forget_the_end(build.places)
        killable.run(step, folder)
    assert killed == sum(KILLS.values())

    found = Volume(build.places).finished(build.name)
    assert found is not None
    serving = Serving("m", max_batch=8, queue_delay_us=0)
    assert lay_out(build.places.store, found.artifact, tmp_path / "repository", serving)
    left = leftovers(build.places)
    assert left
    collect.sweep(build.places)
    assert leftovers(build.places) == left
    then = time.time() - collect.LEFTOVER_SECONDS - 60
    for path in left:
        for each in [*path.rglob("*"), path]:
            os.utime(each, (then, then))
    collect.sweep(build.places)
    assert not leftovers(build.places)
    assert Volume(build.places).finished(build.name) == found


def forget_the_end(places: Places) -> None:
    """A build that came to its end before is made anew, so that each kill meets one at work."""
    for path in [*places.store.glob("reports/eb-*"), *places.store.glob("artifacts/sha256-*")]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def test_a_damaged_artifact_is_never_served_and_is_built_again(killable: Killable, tmp_path: Path) -> None:
    build, serving = killable.build, Serving("m", max_batch=8, queue_delay_us=0)
    first = build.run(killable.request)
    engine = Volume(build.places).artifact_folder(first.artifact) / "model.onnx"
    content = engine.read_bytes()
    flipped = content[:1000] + bytes([content[1000] ^ 4]) + content[1001:]
    for number, damaged in enumerate((flipped, content[:-100], None)):
        engine.unlink()
        if damaged is not None:
            engine.write_bytes(damaged)
        repository = tmp_path / f"repository-{number}"
        with pytest.raises(DamagedError):
            lay_out(build.places.store, first.artifact, repository, serving)
        assert not list(repository.rglob("config.pbtxt"))
        assert Volume(build.places).finished(build.name) is None
        engine.write_bytes(content)
        found = Volume(build.places).finished(build.name)
        assert found
        assert (found.digest, found.artifact) == (first.digest, first.artifact)
    engine.write_bytes(flipped)
    again = build.run(killable.request)
    assert lay_out(build.places.store, again.artifact, tmp_path / "repository", serving)
