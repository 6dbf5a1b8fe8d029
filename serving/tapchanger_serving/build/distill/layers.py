"""A student made of some of the teacher's layers."""

from __future__ import annotations

import copy
from typing import Any

import torch

from tapchanger_serving.build.failures import DISTILL_FIELD, StepError


def layer_count(model: torch.nn.Module) -> int:
    """How many layers the model has. Raises `DistillInvalid` for an architecture whose layers can't be told."""
    return len(_stack(model)[1])


def make_student(model: torch.nn.Module, keep: tuple[int, ...]) -> torch.nn.Module:
    """A copy of `model`, a transformers model, with these of its layers and all else: embeddings, norms and heads."""
    student = copy.deepcopy(model)
    name, stack = _stack(student)
    parent, _, attribute = name.rpartition(".")
    setattr(student.get_submodule(parent), attribute, torch.nn.ModuleList(stack[index] for index in keep))
    config: Any = student.config
    total = len(stack)
    for key, value in list(vars(config).items()):
        # Some configurations have a list with one entry a layer, such as the kinds of attention.
        if isinstance(value, list) and len(value) == total:
            setattr(config, key, [value[index] for index in keep])
    config.num_hidden_layers = len(keep)
    return student


def parameters(model: torch.nn.Module) -> int:
    """Numbers in all weights."""
    return sum(tensor.numel() for tensor in model.parameters())


def _stack(model: torch.nn.Module) -> tuple[str, torch.nn.ModuleList]:
    """The name of the list of layers and the list: the largest that has as many entries as the configuration says."""
    count = getattr(model.config, "num_hidden_layers", None)
    found = [
        (name, part)
        for name, part in model.named_modules()
        if isinstance(part, torch.nn.ModuleList) and len(part) == count
    ]
    if not found:
        raise StepError(
            "DistillInvalid",
            f"the layers of {type(model).__name__} can't be told apart: they are shared, or named in a way of their own",
            field=DISTILL_FIELD,
            remedy="leave out distill for this model",
        )
    return max(found, key=lambda each: parameters(each[1]))
