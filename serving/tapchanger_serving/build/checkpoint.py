"""Reads what a checkpoint folder is from its JSON files and weight headers, without importing PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tapchanger_serving.build.failures import MODEL_FIELD, StepError
from tapchanger_serving.build.files import JSON_LIMIT, TOKENIZER_LIMIT, invalid, present, read_json, require_size, shown
from tapchanger_serving.build.heads import check_head, tasks_of
from tapchanger_serving.build.labels import labels_of
from tapchanger_serving.build.limits import MOST_BYTES, most
from tapchanger_serving.build.sizes import check_sizes
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

    `files` are the paths that matter, relative to the folder; the digest is over exactly these. `embedding_rows` is how many
    token ids the model knows, where config.json says it.
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
    embedding_rows: int | None

    @property
    def size_bytes(self) -> int:
        """Bytes of all files that matter."""
        return sum((self.folder / path).stat().st_size for path in self.files)


def read_checkpoint(folder: Path, task: str) -> Checkpoint:
    """Reads and checks a folder.

    Raises :class:`StepError`: `CheckpointIncomplete`, `CheckpointInvalid`, `PickleCheckpoint`, `RemoteCode`, `TaskMismatch`,
    `ModuleUnsupported`, `ModelUnsupported`.
    """
    config = _json(folder, _CONFIG)
    if config is None:
        raise incomplete(f"no {_CONFIG} in the folder")
    tokenizer_config = _json(folder, "tokenizer_config.json") or {}
    _refuse_code(folder, config, tokenizer_config)
    architecture = check_head(config, task)
    weights = find_weights(folder, task)
    _require_total(weights)
    check_sizes(config, weights.tensors)
    _require_vocabulary(folder)
    optional = (*_TOKENIZER_FILES, *(_SENTENCE_FILES if task == "feature-extraction" else ()))
    found = tuple(name for name in optional if present(folder, name))
    for name in found:
        require_size(folder, name, TOKENIZER_LIMIT if name == "tokenizer.json" else JSON_LIMIT)
    classifies = task.endswith("-classification")
    labels = labels_of(config) if classifies else ()
    return Checkpoint(
        folder=folder,
        files=(_CONFIG, *weights.files, *found),
        architecture=architecture,
        model_type=str(config.get("model_type", "")),
        labels=labels,
        activation=_activation(config, labels) if task == "text-classification" else "softmax",
        max_tokens=_max_tokens(folder, config, tokenizer_config, sentence=task == "feature-extraction"),
        pooling=_pooling(folder) if task == "feature-extraction" else None,
        weights=weights,
        embedding_rows=config.get("vocab_size"),
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
    if not present(folder, name):
        return None
    try:
        content = read_json(folder, name)
    except ValueError as error:
        raise incomplete(f"{name} is no valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise incomplete(f"{name} holds a {type(content).__name__}, not an object")
    return content


def _require_total(weights: Weights) -> None:
    limit = most(MOST_BYTES)
    if weights.size_bytes > limit:
        raise invalid(
            f"the weights have {weights.size_bytes} bytes, and at most {limit} are read",
            f"give a smaller model, or set {MOST_BYTES} for the build",
        )


def _refuse_code(folder: Path, config: dict[str, Any], tokenizer_config: dict[str, Any]) -> None:
    for name, content in ((_CONFIG, config), ("tokenizer_config.json", tokenizer_config)):
        asked = next((key for key in ("auto_map", "trust_remote_code", "custom_pipelines") if content.get(key)), None)
        if asked:
            scripts = ", ".join(sorted(shown(path.name) for path in folder.glob("*.py"))[:10]) or "from its repository"
            raise StepError(
                "RemoteCode",
                f"{name} has {asked}, which loads Python code from the checkpoint ({scripts})",
                field=MODEL_FIELD,
                remedy=f"use a model that transformers implements itself; if yours is one, save it again without {asked}",
            )
    if config.get("quantization_config"):
        raise StepError(
            "ModelUnsupported",
            "config.json has quantization_config: the weights were quantized before",
            field=MODEL_FIELD,
            remedy="give the checkpoint from before its quantization; the build makes and measures low precisions itself",
        )


def _require_vocabulary(folder: Path) -> None:
    if not any(all(present(folder, name) for name in names) for names in _VOCABULARIES):
        raise incomplete("no tokenizer: neither tokenizer.json nor a vocabulary it could be made from (vocab.txt, …)")


def _activation(config: dict[str, Any], labels: tuple[str, ...]) -> str:
    several = config.get("problem_type") == "multi_label_classification"
    return "sigmoid" if several or len(labels) == 1 else "softmax"


def _max_tokens(folder: Path, config: dict[str, Any], tokenizer_config: dict[str, Any], *, sentence: bool) -> int:
    """The smallest of what positions, tokenizer and sentence-transformers allow."""
    limits = [tokenizer_config.get("model_max_length")]
    positions = config.get("max_position_embeddings")
    if isinstance(positions, int) and config.get("model_type") in _OFFSET_POSITIONS:
        # These models count positions from the padding id on.
        padding = config.get("pad_token_id")
        positions -= (padding if isinstance(padding, int) else 0) + 1
    limits.append(positions)
    if sentence:
        limits.append((_json(folder, "sentence_bert_config.json") or {}).get("max_seq_length"))
    usable = [int(limit) for limit in limits if isinstance(limit, int | float) and 0 < limit < _NO_LIMIT]
    return min(usable, default=_FALLBACK_TOKENS)


def _pooling(folder: Path) -> Pooling:
    """How sentence-transformers would pool; the mean without normalizing where its files are missing."""
    if not present(folder, "modules.json"):
        return Pooling()
    try:
        modules = read_json(folder, "modules.json")
        kinds = [str(module["type"]).rsplit(".", 1)[-1] for module in modules]
    except (ValueError, KeyError, TypeError) as error:
        raise incomplete(f"modules.json is broken: {error}") from error
    unknown = sorted(set(kinds) - _SENTENCE_MODULES)
    if unknown:
        raise StepError(
            "ModuleUnsupported",
            f"modules.json has {', '.join(map(shown, unknown[:10]))}; without it the embeddings would differ",
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
            f"1_Pooling/config.json asks for {', '.join(map(shown, chosen[:10]))}",
            field=MODEL_FIELD,
            remedy="use a model that pools by the mean, the first token or the maximum",
        )
    return modes[chosen[0]]
