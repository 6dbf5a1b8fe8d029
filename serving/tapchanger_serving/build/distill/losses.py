"""How far the student's answers are from the teacher's.

A unit is what is answered: a text, or a token where tokens are classified. Outputs are `[units, figures]`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as fn

from tapchanger_serving.build.exported import Exported
from tapchanger_serving.contract.artifact import Pooling

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Student's and teacher's outputs `[units, figures]` → a loss for each unit `[units]`."""


@dataclass(frozen=True, slots=True)
class Objective:
    """What the student learns for the model's task."""

    model: Exported
    temperature: float

    def units(self, output: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """`[units, figures]` of a batch from the model's output and the attention mask `[batch, tokens]`.

        Token states become embeddings by the model's pooling; token logits become one unit per token that is no padding.
        """
        if self.model.task == "feature-extraction":
            return pooled(output, mask, self.model.pooling_or_default)
        return output[mask.bool()] if self.model.task == "token-classification" else output

    def counts(self, mask: torch.Tensor) -> list[int]:
        """How many units each text of a batch has."""
        if self.model.task != "token-classification":
            return [1] * len(mask)
        return [int(count) for count in mask.sum(dim=1)]

    def losses(self, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        """A loss for each unit."""
        if self.model.task == "feature-extraction":
            return embedding_loss(student, teacher, normalized=self.model.pooling_or_default.normalize)
        return (binary_loss if self._binary else softened_loss)(student, teacher, self.temperature)

    def alike(self, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        """For each unit the cosine of the embeddings, or 1 where all labels are the same and else 0."""
        if self.model.task == "feature-extraction":
            return fn.cosine_similarity(student, teacher, dim=-1)
        if self._binary:
            return ((student > 0) == (teacher > 0)).all(dim=-1).float()
        return (student.argmax(dim=-1) == teacher.argmax(dim=-1)).float()

    @property
    def _binary(self) -> bool:
        return self.model.task == "text-classification" and self.model.activation == "sigmoid"


def softened_loss(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """Kullback-Leibler divergence of the scores that logits over `temperature` give, times its square, which keeps the size
    of gradients (Hinton et al. 2015, Distilling the Knowledge in a Neural Network, section 2)."""
    wanted = fn.log_softmax(teacher / temperature, dim=-1)
    found = fn.log_softmax(student / temperature, dim=-1)
    return temperature**2 * (wanted.exp() * (wanted - found)).sum(dim=-1)


def binary_loss(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """The same for labels that are each yes or no: binary cross entropy with the teacher's chances, the mean over labels."""
    wanted = torch.sigmoid(teacher / temperature)
    each = fn.binary_cross_entropy_with_logits(student / temperature, wanted, reduction="none")
    return temperature**2 * each.mean(dim=-1)


def embedding_loss(student: torch.Tensor, teacher: torch.Tensor, *, normalized: bool) -> torch.Tensor:
    """One minus the cosine; where embeddings keep their length, also the squared distance over the teacher's squared length.

    Of normalized embeddings the squared distance is twice the first term and would add nothing.
    """
    angle = 1 - fn.cosine_similarity(student, teacher, dim=-1)
    if normalized:
        return angle
    return angle + (student - teacher).square().sum(dim=-1) / teacher.square().sum(dim=-1).clamp_min(1e-12)


def pooled(hidden: torch.Tensor, mask: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    """Embeddings `[batch, dim]` from token states `[batch, tokens, dim]`, as the server pools them, with gradients."""
    attended = mask.unsqueeze(-1).to(hidden.dtype)
    if pooling.mode == "cls":
        found = hidden[:, 0]
    elif pooling.mode == "max":
        found = hidden.masked_fill(attended == 0, float("-inf")).amax(dim=1)
    else:
        found = (hidden * attended).sum(dim=1) / attended.sum(dim=1).clamp_min(1e-9)
    return fn.normalize(found, dim=-1) if pooling.normalize else found
