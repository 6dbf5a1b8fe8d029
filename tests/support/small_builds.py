"""Small models with random weights, and a build that runs step by step as the Job would."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from tapchanger_serving.build.places import Places
from tapchanger_serving.contract.messages import BuildReport, BuildRequest, Inspection, StepFailure
from tapchanger_serving.contract.names import ENV_BUILD_REQUEST
from tests.support import warm_steps

SERVING = Path(__file__).parents[2] / "serving"
SENTENCES = [
    "the train is late again and nobody knows why",
    "what a lovely cup of tea, thank you",
    "rain, rain and more rain until friday",
    "go away and never come back",
]
TEXTS = [*SENTENCES, "tea", "the train and the rain and the tea " * 20]


def word_pieces(folder: Path) -> Tokenizer:
    """A small WordPiece tokenizer, saved into the folder."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(
        SENTENCES, trainers.WordPieceTrainer(vocab_size=150, special_tokens=special, show_progress=False)
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    return tokenizer


def small_bert(folder: Path, kind: type[Any], *, layers: int = 1, **config: Any) -> Path:
    """A BERT of one layer, or of more, with random weights and its tokenizer."""
    folder.mkdir(parents=True)
    vocabulary = word_pieces(folder).get_vocab_size()
    torch.manual_seed(1)
    settings = transformers.BertConfig(
        vocab_size=vocabulary, hidden_size=32, num_hidden_layers=layers, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=64, **({"initializer_range": 0.4} | config),
    )  # fmt: skip
    kind(settings).save_pretrained(folder)
    for path in folder.glob("*.safetensors"):
        path.chmod(0o644)
    return folder


def write_csv(path: Path, header: list[str], rows: list[list[str]]) -> None:
    """Writes a data set."""
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])


def reference(folder: Path, auto: type[Any], max_tokens: int) -> tuple[Any, Any]:
    """What transformers answers to TEXTS, and the tensors it gave the model."""
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), pad_token="[PAD]")
    inputs = tokenizer(TEXTS, truncation=True, max_length=max_tokens, padding=True, return_tensors="pt")
    with torch.inference_mode():
        return auto.from_pretrained(folder).eval()(**inputs), inputs


@dataclass(frozen=True)
class Build:
    """Runs the steps of one build in processes of their own, in empty folders."""

    places: Places
    name: str = "eb-test"

    def step(
        self, *arguments: str, request: BuildRequest | None = None, fresh: bool = False, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Runs one step; its last word is in the termination log. With `fresh` the process starts as a Job's does."""
        self.places.termination_log.unlink(missing_ok=True)
        env = os.environ | self.environment(request) | environment
        if arguments[0] in warm_steps.WARM and not fresh:
            return warm_steps.run(arguments, env)
        command = [sys.executable, "-m", "tapchanger_serving.build", *arguments]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False)

    def environment(self, request: BuildRequest | None = None) -> dict[str, str]:
        """What a step finds in its environment."""
        return {
            "PYTHONPATH": str(SERVING),
            "TAPCHANGER_STORE_DIR": str(self.places.store),
            "TAPCHANGER_CLAIMS_DIR": str(self.places.claims),
            "TAPCHANGER_WORK_DIR": str(self.places.work),
            "TAPCHANGER_TERMINATION_LOG": str(self.places.termination_log),
            **({ENV_BUILD_REQUEST: request.dumps()} if request else {}),
        }

    def request(self, uri: str, task: str, **fields: Any) -> BuildRequest:
        """Inspects the model and asks for its build."""
        done = self.step("inspect", "--uri", uri, "--task", task)
        assert done.returncode == 0, done.stdout
        found = Inspection.model_validate_json(self.last_word())
        base = {"name": self.name, "uri": uri, "digest": found.digest, "task": task, "hardware": found.hardware}
        return BuildRequest.model_validate(base | fields)

    def run(self, request: BuildRequest, *, fresh: bool = False) -> BuildReport:
        """All steps, which must succeed and write nothing but JSON lines."""
        for step in request.steps:
            done = self.step(step, request=request, fresh=fresh)
            assert done.returncode == 0, done.stdout + done.stderr
            assert done.stderr == ""
            assert all(json.loads(line)["msg"] for line in done.stdout.splitlines())
        return BuildReport.model_validate_json(self.last_word())

    def last_word(self) -> str:
        """The termination message."""
        return self.places.termination_log.read_text(encoding="utf-8")

    def failure(self) -> StepFailure:
        """The termination message of a step that gave up."""
        return StepFailure.model_validate_json(self.last_word())
