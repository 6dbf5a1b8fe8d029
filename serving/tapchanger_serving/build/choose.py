"""Which engine to take, and how to say why."""

from __future__ import annotations

from collections.abc import Sequence

from tapchanger_serving.contract.messages import Candidate

NOISE = 0.03
"""Differences in speed below this share decide nothing: the more precise engine is taken."""

_PRECISE_FIRST = ("fp32", "fp16", "bf16", "int8", "fp8")


def preferred(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The measured candidates that passed, best first.

    Best is the fastest; among those within 3 % of it, the most precise.
    """
    left = [candidate for candidate in candidates if candidate.passed and candidate.texts_per_second is not None]
    order = []
    while left:
        fastest = max(_speed(candidate) for candidate in left)
        near = [candidate for candidate in left if _speed(candidate) >= (1 - NOISE) * fastest]
        best = min(near, key=lambda candidate: (_PRECISE_FIRST.index(candidate.precision), -_speed(candidate)))
        order.append(best)
        left.remove(best)
    return order


def explain(chosen: Candidate, candidates: Sequence[Candidate], torch_texts_per_second: float) -> str:
    """One sentence or two for the status: the figure that decided, and what was faster but fell."""
    speed = _speed(chosen)
    text = (
        f"{title(chosen)} gave {speed:.0f} texts/s, {speed / torch_texts_per_second:.2f} times PyTorch's "
        f"{torch_texts_per_second:.0f}, with {closeness(chosen)}"
    )
    faster = [other for other in candidates if other is not chosen and other.texts_per_second and _speed(other) > speed]
    fallen = [
        f"{title(other)} ({_speed(other):.0f} texts/s, {closeness(other)})" for other in faster if not other.passed
    ]
    near = [f"{title(other)} ({_speed(other):.0f})" for other in faster if other.passed]
    if fallen:
        text += f"; faster, but failed a gate: {', '.join(fallen)}"
    if near:
        text += f"; within {NOISE:.0%} but less precise: {', '.join(near)}"
    return text


def title(candidate: Candidate) -> str:
    """Runtime and precision."""
    return f"{candidate.runtime} {candidate.precision}"


def closeness(candidate: Candidate) -> str:
    """The parity figure in words."""
    if candidate.cosine is not None:
        return f"mean cosine {candidate.cosine:.5f}"
    if candidate.agreement is not None:
        return f"label agreement {candidate.agreement:.4f}"
    return "no parity figure"


def _speed(candidate: Candidate) -> float:
    return candidate.texts_per_second or 0.0
