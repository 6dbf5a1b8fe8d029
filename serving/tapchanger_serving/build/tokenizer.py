"""The checkpoint's tokenizer as `tokenizer.json`, and whether it is the one that the checkpoint means."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from tokenizers import Tokenizer as RustTokenizer

from tapchanger_serving.build import log
from tapchanger_serving.build.checkpoint import Checkpoint
from tapchanger_serving.build.dataset import Rows, evenly
from tapchanger_serving.build.failures import MODEL_FIELD, StepError
from tapchanger_serving.build.vocabulary import make_tokenizer, of_transformers, try_tokenizer
from tapchanger_serving.engines.text import TOKENIZER_FILE, Tokenizer

_COMPARED = 200
_SHOWN = 8


def place_tokenizer(checkpoint: Checkpoint, target: Path) -> None:
    """Copies tokenizer.json, or makes it from the older vocabulary files; then tries it."""
    placed = target / TOKENIZER_FILE
    if (checkpoint.folder / TOKENIZER_FILE).is_file():
        shutil.copyfile(checkpoint.folder / TOKENIZER_FILE, placed)
    else:
        make_tokenizer(checkpoint.folder, placed)
    try_tokenizer(placed, checkpoint.embedding_rows, checkpoint.max_tokens)


def require_same_tokens(checkpoint: Checkpoint, tokenizer: Tokenizer, rows: Rows, max_tokens: int) -> None:
    """Compares the tokenizer that will serve with the one that transformers makes of the checkpoint, and its vocabulary files.

    Raises `TokenizerMismatch` with the first text or word on which they differ.
    """
    served = (
        RustTokenizer.from_file(str(checkpoint.folder / TOKENIZER_FILE)) if _has(checkpoint, TOKENIZER_FILE) else None
    )
    if served is not None:
        _require_same_words(served.get_vocab(), _listed(checkpoint))
    try:
        original = of_transformers(checkpoint.folder)
        original("")
    except StepError:
        raise
    except Exception as error:  # noqa: BLE001 - tokenizers raise it bare; what transformers can't use, it can't read otherwise
        log.warning("transformers has no tokenizer of its own to compare with", error=_first_line(error))
        return
    for index in evenly(len(rows), _COMPARED):
        text, pair = rows.texts[index], rows.pairs[index] if rows.pairs else None
        [found] = tokenizer.tokenize([text], [pair] if pair is not None else None, offsets=False)
        try:
            wanted = original(text, pair, truncation=True, max_length=max_tokens)["input_ids"]
        except Exception as error:
            raise _mismatch(
                f"transformers' {type(original).__name__} can't read text {rows.numbered()[index]}, which {TOKENIZER_FILE} "
                f"can: {_first_line(error)}"
            ) from error
        if list(found.ids) != list(wanted):
            at = next((at for at, ids in enumerate(zip(found.ids, wanted, strict=False)) if ids[0] != ids[1]), -1)
            raise _mismatch(
                f"text {rows.numbered()[index]} becomes other tokens than with transformers' {type(original).__name__}: "
                f"from token {max(at, 0)} on {found.ids[max(at, 0) :][:_SHOWN]}, not {list(wanted)[max(at, 0) :][:_SHOWN]}"
            )


def _require_same_words(served: Mapping[str, int], listed: tuple[str, Mapping[str, int]] | None) -> None:
    if listed is None:
        return
    name, words = listed
    for word, number in words.items():
        if served.get(word, number) != number:
            raise _mismatch(f"{word!r} is token {served[word]} in {TOKENIZER_FILE} and {number} in {name}")


def _listed(checkpoint: Checkpoint) -> tuple[str, Mapping[str, int]] | None:
    """The words of the checkpoint's older vocabulary file, if it has one beside tokenizer.json."""
    if _has(checkpoint, "vocab.txt"):
        lines = (checkpoint.folder / "vocab.txt").read_text(encoding="utf-8").split("\n")
        return "vocab.txt", {line.rstrip("\r"): number for number, line in enumerate(lines) if line}
    if _has(checkpoint, "vocab.json"):
        content = json.loads((checkpoint.folder / "vocab.json").read_text(encoding="utf-8"))
        return "vocab.json", {str(word): int(number) for word, number in content.items()}
    return None


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _has(checkpoint: Checkpoint, name: str) -> bool:
    return (checkpoint.folder / name).is_file()


def _mismatch(message: str) -> StepError:
    return StepError(
        "TokenizerMismatch",
        message,
        field=MODEL_FIELD,
        remedy="save model and tokenizer together: AutoTokenizer.from_pretrained(…).save_pretrained(FOLDER)",
    )
