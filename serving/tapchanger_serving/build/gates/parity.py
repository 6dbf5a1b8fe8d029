"""The engine's answers against PyTorch's."""

from __future__ import annotations

from tapchanger_serving.build.answers import Fidelity
from tapchanger_serving.build.gates.results import Evidence, at_least
from tapchanger_serving.contract.gates import ParityGate
from tapchanger_serving.contract.messages import GateResult


def parity(gate: ParityGate, fidelity: Fidelity) -> GateResult:
    """Label agreement of classifiers, mean cosine of embeddings."""
    if fidelity.cosine is not None:
        detail = None if fidelity.worst_cosine is None else f"worst text {fidelity.worst_cosine:.5f}"
        found = Evidence(fidelity.cosine, fidelity.count, fidelity.interval, detail=detail)
        return at_least("parity cosine", found, gate.min_cosine, confident=gate.confident)
    found = Evidence(fidelity.agreement, fidelity.count, fidelity.interval)
    return at_least("parity agreement", found, gate.min_agreement, confident=gate.confident)
