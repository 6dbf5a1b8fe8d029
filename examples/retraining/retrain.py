"""Trains the moderation model further on new labelled texts: what a run of `spec.retraining` starts in its pod.

It needs `train.py` of the moderation example beside it, and PyTorch and transformers, which tapchanger's builder image has. Its
inputs come from the environment that every run gets (docs/retraining.md). The new checkpoint goes into a folder of its own, and
then the link at the watched address is replaced, so that nobody ever finds half a checkpoint. No text is printed.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

try:
    from examples.moderation import train
except ModuleNotFoundError:  # in the pod, where both files lie in one folder
    import train  # type: ignore[import-not-found,no-redef]

CLAIMS = Path("/claims")
KEPT = 3
"""Checkpoints that stay, for a look back."""
HELD_OUT = 5
"""Every fifth text is not trained on."""
FORGETS = 0.02
"""Accuracy on the old texts that a new checkpoint may lose."""
FIELD_LIMIT = 1 << 20


class RunError(Exception):
    """The run can't be done; the message says what to change."""


@dataclass(frozen=True)
class Data:
    """One file of labelled texts: what is trained on, what is measured on, and its digest."""

    uri: str
    digest: str
    training: tuple[train.Example, ...]
    testing: tuple[train.Example, ...]

    @property
    def rows(self) -> int:
        """Texts, each counted once."""
        return len(self.training) + len(self.testing)


def read(path: Path, claims: Path = CLAIMS) -> Data:
    """A CSV file with columns `text` and `label`; a text that comes again counts once. Raises RunError."""
    content = path.read_bytes()
    csv.field_size_limit(FIELD_LIMIT)
    rows = csv.DictReader(content.decode("utf-8").splitlines(keepends=True))
    if not {"text", "label"} <= set(rows.fieldnames or ()):
        raise RunError(f"{path.name}: columns are {rows.fieldnames}; text and label are needed")
    found: dict[str, int] = {}
    for number, row in enumerate(rows, start=2):
        if row["label"] not in train.LABELS:
            raise RunError(f"{path.name}, row {number}: label {row['label']!r} is none of {', '.join(train.LABELS)}")
        if row["text"].strip():
            found[row["text"]] = train.LABELS.index(row["label"])
    training, testing = [], []
    for text, label in found.items():
        held = int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) % HELD_OUT == 0
        (testing if held else training).append(train.Example(text, label))
    if not training or not testing:
        raise RunError(f"{path.name}: {len(found)} texts are too few to train and to measure on")
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    inside = path.is_relative_to(claims)
    uri = f"pvc://{path.relative_to(claims)}" if inside else f"file://{path}"
    return Data(uri, digest, tuple(training), tuple(testing))


def place(uri: str, claims: Path = CLAIMS) -> Path:
    """The link that a `pvc://CLAIM/path` address names, where the claim is mounted. Raises RunError."""
    scheme, _, rest = uri.partition("://")
    if scheme != "pvc" or ".." in Path(rest).parts:
        raise RunError(f"{uri}: this trainer writes to pvc://CLAIM/path only")
    found = claims / rest
    if not found.is_symlink():
        raise RunError(
            f"{found} is no link; make it one: mv {found.name} {found.name}-0 && ln -s {found.name}-0 {found.name}"
        )
    return found


def publish(link: Path, made: Path, name: str) -> Path:
    """Moves the folder `made` beside `link`, as `name`, and points the link at it in one step."""
    target = link.parent / name
    for file in made.iterdir():
        file.chmod(0o644)
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
    made.chmod(0o755)
    made.rename(target)
    fresh = link.with_name(f".{link.name}-{name}")
    fresh.symlink_to(name)
    fresh.replace(link)
    return target


def tidy(link: Path) -> None:
    """Removes all but the newest checkpoints of runs; the one that the link names stays."""
    runs = sorted((path for path in link.parent.glob("r*") if path.is_dir()), key=lambda path: path.stat().st_mtime)
    for old in runs[:-KEPT]:
        if old.resolve() != link.resolve():
            shutil.rmtree(old)


def run(new: Data, old: Data, link: Path, name: str, settings: train.Settings) -> dict[str, object]:
    """Trains on both, measures before and after on texts that were held out, and publishes what is better.

    Returns the run's result as docs/retraining.md describes it.
    """
    import torch

    torch.manual_seed(settings.seed)
    torch.set_num_threads(1)
    model = train.Classifier(link.resolve(), settings.max_tokens)
    before = {"new": model.measure(new.testing), "old": model.measure(old.testing)}
    model.fit([*new.training, *old.training], settings)
    after = {"new": model.measure(new.testing), "old": model.measure(old.testing)}
    better = after["new"].accuracy > before["new"].accuracy
    forgets = before["old"].accuracy - after["old"].accuracy > FORGETS
    if better and not forgets:
        made = link.parent / f".part-{name}"
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir()
        model.save(made)
        publish(link, made, name)
        tidy(link)
        message = "published"
    else:
        why = "it forgets old texts" if forgets else "it is no better on new texts"
        message = f"nothing was published, since {why}"
    figures = {
        "accuracy_new_before": before["new"].accuracy,
        "accuracy_new": after["new"].accuracy,
        "accuracy_old_before": before["old"].accuracy,
        "accuracy_old": after["old"].accuracy,
        "ece_new": after["new"].ece,
    }
    data = [{"uri": one.uri, "digest": one.digest, "rows": one.rows} for one in (new, old)]
    rounded = {key: round(value, 4) for key, value in figures.items()}
    return {"figures": rounded, "data": data, "message": message}


def main(arguments: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ) -> int:
    """Command line: see the module's description."""
    parser = argparse.ArgumentParser(description="Trains the moderation model further.")
    parser.add_argument("--new", type=Path, required=True, help="CSV of new texts with their labels")
    parser.add_argument("--old", type=Path, required=True, help="CSV of texts that the model must not forget")
    parser.add_argument("--epochs", type=float, default=2.0)
    parser.add_argument("--claims", type=Path, default=CLAIMS, help="where claims are mounted")
    options = parser.parse_args(arguments)
    result = Path(environment["TAPCHANGER_RESULT"])
    try:
        link = place(environment["TAPCHANGER_OUTPUT_URI"], options.claims)
        settings = train.Settings(epochs=options.epochs, learning_rate=3e-4)
        new, old = (read(path, options.claims) for path in (options.new, options.old))
        told = run(new, old, link, environment["TAPCHANGER_RUN"], settings)
    except (RunError, OSError) as problem:
        result.write_text(str(problem))
        print(json.dumps({"level": "error", "msg": str(problem)}))
        return 1
    result.write_text(json.dumps(told))
    print(json.dumps({"level": "info", **told}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
