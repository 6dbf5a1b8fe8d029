"""The credential that pods show the observer."""

from __future__ import annotations

from pathlib import Path


def bearer(file: Path) -> str:
    """The `Authorization` header with the token in `file`, read anew each time because the kubelet renews it. Raises OSError."""
    return f"Bearer {file.read_text(encoding='ascii').strip()}"
