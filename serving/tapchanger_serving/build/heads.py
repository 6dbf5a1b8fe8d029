"""Which tasks a checkpoint's architecture can do."""

from __future__ import annotations

from typing import Any

from tapchanger_serving.build.failures import TASK_FIELD, StepError
from tapchanger_serving.build.files import shown
from tapchanger_serving.build.weights import incomplete

_BY_SUFFIX = {
    "ForSequenceClassification": ("text-classification", "feature-extraction"),
    "ForTokenClassification": ("token-classification", "feature-extraction"),
    "ForMaskedLM": ("feature-extraction",),
    "ForPreTraining": ("feature-extraction",),
    "ForQuestionAnswering": ("feature-extraction",),
    "ForCausalLM": ("text-generation",),
    "LMHeadModel": ("text-generation",),
    "Model": ("feature-extraction",),
}
_BUILT = ("text-classification", "token-classification", "feature-extraction")


def tasks_of(architecture: str) -> tuple[str, ...]:
    """Tasks for which the architecture has a head."""
    return next((tasks for suffix, tasks in _BY_SUFFIX.items() if architecture.endswith(suffix)), ())


def check_head(config: dict[str, Any], task: str) -> str:
    """The architecture, if it has a head for the task. Raises `TaskMismatch`, `TaskUnsupported`, `CheckpointIncomplete`."""
    architectures = config.get("architectures") or []
    if not architectures:
        raise incomplete("config.json names no architectures")
    if not isinstance(architectures, list) or not isinstance(architectures[0], str):
        raise incomplete(f"config.json has architectures {shown(architectures)}; it is a list of class names")
    architecture = shown(architectures[0])
    if task not in _BUILT:
        raise StepError(
            "TaskUnsupported",
            f"this release builds no engines for {task}",
            field=TASK_FIELD,
            remedy=f"write one of {', '.join(_BUILT)}",
        )
    able = tasks_of(architecture)
    if config.get("is_encoder_decoder") and task == "feature-extraction":
        able = tuple(other for other in able if other != task)
    if task not in able:
        can = ", ".join(able) if able else "none of the known tasks"
        raise StepError(
            "TaskMismatch",
            f"the checkpoint's architecture is {architecture}, which has no head for {task}; it can do {can}",
            field=TASK_FIELD,
            remedy=f"write task: {able[0]}, or point model.uri at a checkpoint fine-tuned for {task}"
            if able
            else f"point model.uri at a checkpoint fine-tuned for {task}",
        )
    return architecture
