"""Takes secrets out of what people will read: signed addresses, passwords in addresses, and the values of credentials."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping

_HIDDEN = "***"
_SECRET_NAME = re.compile(r"(SECRET|TOKEN|PASSWORD|KEY|CONNECTION_STRING)$")
_SHORTEST = 6
_TOLD: set[str] = set()
_IN_ADDRESS = re.compile(r"(?i)([a-z][a-z0-9+.-]*://)[^/\s@\"':]*:[^/\s@\"']+(?=@)")
_IN_QUERY = re.compile(
    r"(?i)([?&](?:[\w.-]*(?:sig|signature|token|credential|secret|password|policy|accesskeyid|api[-_]?key|auth))=)[^&\s\"'<>\\]+"
)
_IN_HEADER = re.compile(r"(?i)\b((?:bearer|basic|sharedkey)\s+)[a-z0-9+/=._~:-]{8,}")


def hide(values: Iterable[str]) -> None:
    """Keeps these out of all texts from now on, wherever they are kept."""
    _TOLD.update(values)


def is_secret(name: str) -> bool:
    """Whether a variable of this name holds a secret."""
    return _SECRET_NAME.search(name.upper()) is not None


def redacted(text: str, environ: Mapping[str, str] = os.environ) -> str:
    """`text` with every secret replaced by `***`."""
    secrets = _TOLD | {value for name, value in environ.items() if is_secret(name)}
    for secret in sorted((secret for secret in secrets if len(secret) >= _SHORTEST), key=len, reverse=True):
        text = text.replace(secret, _HIDDEN)
    for pattern in (_IN_ADDRESS, _IN_QUERY, _IN_HEADER):
        text = pattern.sub(rf"\g<1>{_HIDDEN}", text)
    return text
