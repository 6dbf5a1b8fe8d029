"""Which cluster a command is about."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Access:
    """A kubeconfig file and a context in it; None takes kubectl's own choice."""

    kubeconfig: str | None = None
    context: str | None = None
