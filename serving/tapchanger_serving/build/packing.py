"""What goes into the artifact: the engines' files, and the manifest that says how they run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tapchanger_serving.build.candidates import artifact_files
from tapchanger_serving.build.choose import Arrangement
from tapchanger_serving.build.exported import Exported
from tapchanger_serving.build.trial import Trial
from tapchanger_serving.contract.artifact import Artifact, SmallEngine
from tapchanger_serving.contract.messages import Hardware, SmallChoice

_SMALL = "small/"
"""The folder of the second engine, where it has files of its own."""


@dataclass(frozen=True)
class Packed:
    """Files by their name in the artifact, and the manifest, whose list of files the store fills in."""

    files: dict[str, Path]
    manifest: Artifact


def pack(
    arrangement: Arrangement, trials: Sequence[Trial], model: Exported, hardware: Hardware, temperature: float | None
) -> Packed:
    """The engines of an arrangement."""
    trial = trials[arrangement.large.candidate]
    spec = trial.opened(arrangement.large.threads)
    files = artifact_files(spec)
    small = None
    if arrangement.small is not None:
        other = trials[arrangement.small.candidate]
        folder = "" if other is trial else _SMALL
        files |= {f"{folder}{name}": path for name, path in artifact_files(other.opened(0)).items()}
        small = _small_engine(arrangement, other, folder)
    manifest = Artifact(
        task=model.task,
        runtime=trial.recipe.runtime,
        precision=trial.recipe.precision,
        engine=spec.file.name,
        inputs=model.inputs,
        output=model.output,
        dimensions=model.dimensions,
        max_tokens=model.max_tokens,
        max_batch_size=model.max_batch_size,
        labels=model.labels,
        activation=model.activation,
        temperature=temperature,
        pooling=model.pooling,
        threads=spec.threads,
        options=dict(spec.options),
        small=small,
        hardware=hardware,
        files=(),
    )
    return Packed(files, manifest)


def _small_engine(arrangement: Arrangement, other: Trial, folder: str) -> SmallEngine:
    spec = other.opened(arrangement.small.threads if arrangement.small else 0)
    return SmallEngine(
        tokens=arrangement.tokens,
        runtime=other.recipe.runtime,
        precision=other.recipe.precision,
        engine=f"{folder}{spec.file.name}",
        threads=spec.threads,
        options=dict(spec.options),
    )


def small_choice(arrangement: Arrangement, trials: Sequence[Trial]) -> SmallChoice | None:
    """The second engine as the report tells of it."""
    if arrangement.small is None:
        return None
    recipe = trials[arrangement.small.candidate].recipe
    return SmallChoice(
        tokens=arrangement.tokens,
        runtime=recipe.runtime,
        precision=recipe.precision,
        threads=arrangement.small.threads,
        gain=round(arrangement.gain, 3),
    )
