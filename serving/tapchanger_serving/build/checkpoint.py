"""Reads what a checkpoint folder is from its JSON files and weight headers, without importing PyTorch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tapchanger_serving.build.failures import MODEL_FIELD, StepError
from tapchanger_serving.build.heads import check_head, tasks_of
from tapchanger_serving.build.weights import Weights, find_weights, incomplete
from tapchanger_serving.contract.artifact import Pooling

AUTO = "auto"
"""For a task: the first one that the checkpoint's head can do."""
_CONFIG = "config.json"
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "spiece.model",
    "tokenizer.model",
)
_VOCABULARIES = (
    {"tokenizer.json"},
    {"vocab.txt"},
    {"vocab.json", "merges.txt"},
    {"sentencepiece.bpe.model"},
    {"spiece.model"},
)
_SENTENCE_FILES = ("modules.json", "sentence_bert_config.json", "1_Pooling/config.json")
DESCRIPTIONS = (_CONFIG, *_TOKENIZER_FILES, *_SENTENCE_FILES)
"""Every file that may matter beside the weights, as paths in the folder."""
_SENTENCE_MODULES = {"Transformer", "Pooling", "Normalize"}
_OFFSET_POSITIONS = {
    "roberta",
    "xlm-roberta",
    "camembert",
    "roberta-prelayernorm",
    "xlm-roberta-xl",
    "data2vec-text",
    "mpnet",
}
_NO_LIMIT = 1_000_000
_FALLBACK_TOKENS = 512


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint that this release can build from, for one task.

    `files` are the paths that matter, relative to the folder; the digest is over exactly these.
    """

    folder: Path
    files: tuple[str, ...]
    architecture: str
    model_type: str
    labels: tuple[str, ...]
    activation: str
    max_tokens: int
    pooling: Pooling | None
    weights: Weights

    @property
    def size_bytes(self) -> int:
        """Bytes of all files that matter."""
        return sum((self.folder / path).stat().st_size for path in self.files)


def read_checkpoint(folder: Path, task: str) -> Checkpoint:
    """Reads and checks a folder.

    Raises :class:`StepError`: `CheckpointIncomplete`, `PickleCheckpoint`, `RemoteCode`, `TaskMismatch`, `ModuleUnsupported`.
    """
    config = _json(folder, _CONFIG)
    if config is None:
        raise incomplete(f"no {_CONFIG} in the folder")
    tokenizer_config = _json(folder, "tokenizer_config.json") or {}
    _refuse_code(folder, config, tokenizer_config)
    architecture = check_head(config, task)
    weights = find_weights(folder, task)
    _require_vocabulary(folder)
    optional = (*_TOKENIZER_FILES, *(_SENTENCE_FILES if task == "feature-extraction" else ()))
    present = tuple(name for name in optional if (folder / name).is_file())
    classifies = task.endswith("-classification")
    return Checkpoint(
        folder=folder,
        files=(_CONFIG, *weights.files, *present),
        architecture=architecture,
        model_type=str(config.get("model_type", "")),
        labels=_labels(config) if classifies else (),
        activation=_activation(config) if task == "text-classification" else "softmax",
        max_tokens=_max_tokens(folder, config, tokenizer_config, sentence=task == "feature-extraction"),
        pooling=_pooling(folder) if task == "feature-extraction" else None,
        weights=weights,
    )


def natural_task(folder: Path) -> str:
    """The task of the checkpoint's head. Raises `CheckpointIncomplete` or, where no head is known, `TaskMismatch`."""
    config = _json(folder, _CONFIG)
    if config is None:
        raise incomplete(f"no {_CONFIG} in the folder")
    architectures = config.get("architectures") or [""]
    able = tasks_of(str(architectures[0])) or ("feature-extraction",)
    check_head(config, able[0])
    return able[0]


def _json(folder: Path, name: str) -> dict[str, Any] | None:
    path = folder / name
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise incomplete(f"{name} is no valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise incomplete(f"{name} holds a {type(content).__name__}, not an object")
    return content


def _refuse_code(folder: Path, config: dict[str, Any], tokenizer_config: dict[str, Any]) -> None:
    for name, content in ((_CONFIG, config), ("tokenizer_config.json", tokenizer_config)):
        if content.get("auto_map"):
            scripts = ", ".join(sorted(path.name for path in folder.glob("*.py"))) or "from its repository"
            raise StepError(
                "RemoteCode",
                f"{name} has auto_map, which loads Python code from the checkpoint ({scripts})",
                field=MODEL_FIELD,
                remedy="use a model that transformers implements itself; if yours is one, save it again without auto_map",
            )


def _require_vocabulary(folder: Path) -> None:
    if not any(all((folder / name).is_file() for name in names) for names in _VOCABULARIES):
        raise incomplete("no tokenizer: neither tokenizer.json nor a vocabulary it could be made from (vocab.txt, …)")


def _labels(config: dict[str, Any]) -> tuple[str, ...]:
    named = config.get("id2label")
    if isinstance(named, dict) and named:
        return tuple(str(named[key]) for key in sorted(named, key=int))
    # transformers leaves the names out when they are its own default.
    return tuple(f"LABEL_{index}" for index in range(int(config.get("num_labels", 2))))


def _activation(config: dict[str, Any]) -> str:
    several = config.get("problem_type") == "multi_label_classification"
    return "sigmoid" if several or len(_labels(config)) == 1 else "softmax"


def _max_tokens(folder: Path, config: dict[str, Any], tokenizer_config: dict[str, Any], *, sentence: bool) -> int:
    """The smallest of what positions, tokenizer and sentence-transformers allow."""
    limits = [tokenizer_config.get("model_max_length")]
    positions = config.get("max_position_embeddings")
    if isinstance(positions, int) and config.get("model_type") in _OFFSET_POSITIONS:
        # These models count positions from the padding id on.
        positions -= int(config.get("pad_token_id") or 0) + 1
    limits.append(positions)
    if sentence:
        limits.append((_json(folder, "sentence_bert_config.json") or {}).get("max_seq_length"))
    usable = [int(limit) for limit in limits if isinstance(limit, int | float) and 0 < limit < _NO_LIMIT]
    return min(usable, default=_FALLBACK_TOKENS)


def _pooling(folder: Path) -> Pooling:
    """How sentence-transformers would pool; the mean without normalizing where its files are missing."""
    modules_file = folder / "modules.json"
    if not modules_file.is_file():
        return Pooling()
    try:
        modules = json.loads(modules_file.read_text(encoding="utf-8"))
        kinds = [str(module["type"]).rsplit(".", 1)[-1] for module in modules]
    except (ValueError, KeyError, TypeError) as error:
        raise incomplete(f"modules.json is broken: {error}") from error
    unknown = sorted(set(kinds) - _SENTENCE_MODULES)
    if unknown:
        raise StepError(
            "ModuleUnsupported",
            f"modules.json has {', '.join(unknown)}; without it the embeddings would differ",
            field=MODEL_FIELD,
            remedy=f"use a model made of {', '.join(sorted(_SENTENCE_MODULES))}",
        )
    return Pooling(mode=_pooling_mode(_json(folder, "1_Pooling/config.json") or {}), normalize="Normalize" in kinds)


def _pooling_mode(config: dict[str, Any]) -> Any:
    modes = {"pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean", "pooling_mode_max_tokens": "max"}
    chosen = [key for key, value in config.items() if key.startswith("pooling_mode_") and value is True]
    if not chosen:
        return config.get("pooling_mode") if config.get("pooling_mode") in modes.values() else "mean"
    if len(chosen) > 1 or chosen[0] not in modes:
        raise StepError(
            "ModuleUnsupported",
            f"1_Pooling/config.json asks for {', '.join(chosen)}",
            field=MODEL_FIELD,
            remedy="use a model that pools by the mean, the first token or the maximum",
        )
    return modes[chosen[0]]
