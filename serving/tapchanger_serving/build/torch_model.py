"""The PyTorch original: the reference for every answer and the baseline for every speed."""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import transformers

from tapchanger_serving.build.failures import MODEL_FIELD, StepError
from tapchanger_serving.build.files import shown
from tapchanger_serving.build.weights import incomplete
from tapchanger_serving.contract.names import ATTENTION_MASK, INPUT_IDS, TOKEN_TYPE_IDS
from tapchanger_serving.engines.cpus import allowed_cpus
from tapchanger_serving.engines.text import Tensors

_AUTO = {
    "text-classification": transformers.AutoModelForSequenceClassification,
    "token-classification": transformers.AutoModelForTokenClassification,
    "feature-extraction": transformers.AutoModel,
}
# Feature extraction reads token states only, so a missing pooler changes nothing.
_UNUSED = ("pooler.",)


class Headed(torch.nn.Module):
    """A model that takes its inputs by position and gives its first output only."""

    def __init__(self, model: torch.nn.Module, inputs: tuple[str, ...]) -> None:
        super().__init__()
        self.model = model
        self.inputs = inputs

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        """INT64 `[batch, tokens]` per input → logits or token states, in fp32 whatever the model computes in."""
        answer: torch.Tensor = self.model(**dict(zip(self.inputs, tensors, strict=True)), return_dict=False)[0]
        return answer.float()


class TorchModel:
    """PyTorch eager in fp32; `threads` 0 means every core that the container may use."""

    def __init__(self, headed: Headed, threads: int = 0, device: str = "cpu") -> None:
        self.headed = headed.to(device)
        self.threads = threads
        self.device = device

    def on(self, threads: int) -> TorchModel:
        """The same model on another number of threads."""
        return TorchModel(self.headed, threads, self.device)

    def accelerated(self) -> TorchModel:
        """The same model on the GPU, if PyTorch sees one: the fair baseline for engines that run there."""
        return TorchModel(self.headed, self.threads, "cuda") if torch.cuda.is_available() else self

    def run(self, feeds: Tensors) -> npt.NDArray[np.float32]:
        """One forward pass."""
        torch.set_num_threads(self.threads or allowed_cpus())
        with torch.inference_mode():
            tensors = (torch.from_numpy(feeds[name]).to(self.device) for name in self.headed.inputs)
            output: npt.NDArray[np.float32] = self.headed(*tensors).cpu().numpy()
        return output


def load_torch(folder: Path, task: str, *, attention: str = "sdpa") -> TorchModel:
    """Loads the checkpoint in fp32 without running any of its code.

    Raises `CheckpointIncomplete` when weights that the task needs are missing, `ModelUnsupported` when transformers can't
    build the architecture. `attention` "eager" gives the plainest graph, "sdpa" the fastest PyTorch.
    """
    torch.manual_seed(0)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        model, loading = _load(folder, task, attention)
    except Exception as error:  # transformers and PyTorch raise whatever a strange configuration makes them run into
        raise StepError(
            "ModelUnsupported",
            f"transformers {transformers.__version__} can't load the checkpoint: {type(error).__name__}: {shown(error)}",
            field=MODEL_FIELD,
            remedy="use an architecture that this release of transformers implements",
        ) from error
    missing = sorted(key for key in loading["missing_keys"] if not key.startswith(_UNUSED) and ".pooler." not in key)
    if missing:
        raise incomplete(f"the weights lack {', '.join(missing[:5])}, which {type(model).__name__} needs for {task}")
    if loading.get("mismatched_keys"):
        raise incomplete(f"weights with the wrong shape: {shown(sorted(map(str, loading['mismatched_keys'])))}")
    return TorchModel(Headed(model.eval(), _inputs(model)))


def _load(folder: Path, task: str, attention: str) -> tuple[Any, dict[str, Any]]:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    settings = {
        "output_loading_info": True,
        "trust_remote_code": False,
        "use_safetensors": True,
        "ignore_mismatched_sizes": True,  # they are named and refused by whoever calls
        "dtype": torch.float32,
    }
    try:
        return _AUTO[task].from_pretrained(folder, attn_implementation=attention, **settings)  # type: ignore[no-any-return]
    except ValueError:
        if attention == "eager":
            raise
        return _AUTO[task].from_pretrained(folder, attn_implementation="eager", **settings)  # type: ignore[no-any-return]


def _inputs(model: torch.nn.Module) -> tuple[str, ...]:
    accepted = inspect.signature(model.forward).parameters
    types = getattr(model.config, "type_vocab_size", 0) or 0
    with_types = TOKEN_TYPE_IDS in accepted and isinstance(types, int) and types > 1
    return (INPUT_IDS, ATTENTION_MASK, *([TOKEN_TYPE_IDS] if with_types else []))
