"""What the builder and a server make of the texts: an artifact with its reference, and the bins of every text.

The checkpoint is built by the builder's own steps, once for each reference; answers come from its engine. Both are kept, by the
hash of all that they depend on.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import tapchanger_serving
from examples.moderation import train
from tapchanger_serving.build.places import Places
from tapchanger_serving.build.stores.volume import Volume
from tapchanger_serving.contract.artifact import MANIFEST, Artifact
from tapchanger_serving.contract.drift import Reference
from tapchanger_serving.engines.answers import TextModel
from tapchanger_serving.engines.features import Describer, Known
from tests.bench.drift.texts import write
from tests.support.small_builds import Build

MISSING = -1
DATA = "pvc://models/data.csv"
"""Where a build finds its data."""
_BATCH = 64
_SOURCES = ("contract/drift.py", "engines/features.py", "engines/scripts.py", "build/drift_reference.py")


@dataclass(frozen=True)
class Corpus:
    """Texts as a server tells of them: bins `[texts, signals]`, :data:`MISSING` where there is none, and labels by number."""

    bins: npt.NDArray[np.int16]
    labels: npt.NDArray[np.int16]


@dataclass(frozen=True)
class Described:
    """One reference and the corpora beside it. `names` are the labels; `microseconds` is what describing one text took."""

    reference: Reference
    names: tuple[str, ...]
    corpora: dict[str, Corpus]
    microseconds: float


def describe(texts: dict[str, list[str]], reference: str) -> Described:
    """All corpora, as a server with the reference `reference` describes them."""
    key = hashlib.sha256(repr(sorted(texts.items())).encode() + reference.encode())
    for name in _SOURCES:
        key.update((Path(tapchanger_serving.__file__).parent / name).read_bytes())
    folder = train.home() / "cache" / "bench-drift" / key.hexdigest()[:12]
    if not (folder / MANIFEST).exists():
        _build(texts[reference], folder)
    known = Known.read(folder)
    if known is None:
        raise LookupError(f"{folder}: the build described no reference")
    artifact = Artifact.model_validate_json((folder / MANIFEST).read_text())
    model = TextModel.open(artifact, folder)
    describer = Describer.of(model.tokenizer, known.vocabulary)
    names = artifact.labels
    found, spent, told = {}, 0.0, 0
    for name, some in texts.items():
        kept = folder / f"{name}.npz"
        if not kept.exists():
            bins, labels, seconds = described(model, describer, some, names)
            np.savez(kept, bins=bins, labels=labels, seconds=seconds)
        with np.load(kept) as saved:
            found[name] = Corpus(saved["bins"], saved["labels"])
            spent, told = spent + float(saved["seconds"]), told + len(saved["bins"])
    return Described(known.reference, names, found, 1e6 * spent / told)


def described(
    model: TextModel, describer: Describer, texts: list[str], names: tuple[str, ...]
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.int16], float]:
    """Bins `[texts, signals]` and labels `[texts]`, as a server tells them, and the seconds that describing took."""
    bins, labels, seconds = [], [], 0.0
    for start in range(0, len(texts), _BATCH):
        some = texts[start : start + _BATCH]
        encodings = model.tokenize(some)
        answers = model.answer(some, encodings)
        began = time.perf_counter()
        told = [describer.describe(text, encodings[row], answers, row) for row, text in enumerate(some)]
        seconds += time.perf_counter() - began
        bins += [[MISSING if one is None else one for one in each.bins] for each in told]
        labels += [names.index(each.label or "") for each in told]
    return np.array(bins, dtype=np.int16), np.array(labels, dtype=np.int16), seconds


def _build(texts: list[str], folder: Path) -> None:
    """The moderation checkpoint's artifact, with `texts` as the reference."""
    build_into(
        folder,
        train.checkpoint(train.Settings()),
        lambda path: write(path, texts),
        driftData={"uri": DATA, "text": "text"},
    )


def build_into(folder: Path, checkpoint: Path, write_data: Callable[[Path], None], **fields: Any) -> None:
    """The artifact of a text classifier in ONNX Runtime and fp32, by the builder's own steps, beside the data at :data:`DATA`."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        places = Places(root / "store", root / "claims", root / "work", root / "termination-log")
        for place in (places.store, places.claims, places.work):
            place.mkdir()
        shutil.copytree(checkpoint, places.claims / "models" / "v1")
        write_data(places.claims / DATA.removeprefix("pvc://"))
        build = Build(places)
        request = build.request(
            "pvc://models/v1", "text-classification", runtime="onnxruntime", precision="fp32", **fields
        )
        report = build.run(request)
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(Volume(places).artifact_folder(report.artifact), folder)
