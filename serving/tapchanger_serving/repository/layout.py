"""Writes the model repository: per model a folder with `config.pbtxt`, version 1 and warm-up data."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tapchanger_serving.contract.artifact import MANIFEST
from tapchanger_serving.repository.modelconfig import ModelConfig
from tapchanger_serving.repository.models import Serving, engine_model, text_model, warmup_files
from tapchanger_serving.repository.verify import copy_verified, read_manifest

VERSION = "1"


def lay_out(store: Path, digest: str, output: Path, serving: Serving) -> tuple[ModelConfig, ...]:
    """Checks the artifact and writes both of its models under `output`, replacing what an earlier try has left.

    Raises :class:`tapchanger_serving.repository.verify.ArtifactError` and leaves no model behind that could be served.
    """
    artifact, folder = read_manifest(store, digest)
    configs = (text_model(artifact, serving), engine_model(artifact, serving))
    for config in configs:
        shutil.rmtree(output / config.name, ignore_errors=True)
    first = output / configs[0].name / VERSION
    first.mkdir(parents=True)
    shutil.copyfile(folder / MANIFEST, first / MANIFEST)
    for file in artifact.files:
        copy_verified(folder, file, first / file.path)
    for config in configs[1:]:
        shutil.copytree(first, output / config.name / VERSION, copy_function=os.link)
    warmup = output / configs[0].name / "warmup"
    warmup.mkdir()
    for name, content in warmup_files().items():
        (warmup / name).write_bytes(content)
    for config in configs:
        (output / config.name / "config.pbtxt").write_text(config.render())
    return configs
