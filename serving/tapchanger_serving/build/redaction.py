"""Takes secrets out of what people will read: signed addresses, passwords in addresses, and the values of credentials."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

_HIDDEN = "***"
_SECRET_NAME = re.compile(r"(SECRET|TOKEN|PASSWORD|KEY|CONNECTION_STRING)$")
_SHORTEST = 6
_IN_ADDRESS = re.compile(r"(?i)([a-z][a-z0-9+.-]*://)[^/\s@\"':]*:[^/\s@\"']+(?=@)")
_IN_QUERY = re.compile(
    r"(?i)([?&](?:[\w.-]*(?:sig|signature|token|credential|secret|password|policy|accesskeyid|api[-_]?key|auth))=)[^&\s\"'<>\\]+"
)
_IN_HEADER = re.compile(r"(?i)\b((?:bearer|basic|sharedkey)\s+)[a-z0-9+/=._~:-]{8,}")


def redacted(text: str, environ: Mapping[str, str] = os.environ) -> str:
    """`text` with every secret replaced by `***`."""
    secrets = {v for k, v in environ.items() if _SECRET_NAME.search(k.upper()) and len(v) >= _SHORTEST}
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, _HIDDEN)
    for pattern in (_IN_ADDRESS, _IN_QUERY, _IN_HEADER):
        text = pattern.sub(rf"\g<1>{_HIDDEN}", text)
    return text
