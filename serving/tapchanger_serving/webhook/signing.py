"""Signatures as Standard Webhooks 1.0 has them, which receivers check with that project's libraries."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import Final

PREFIX: Final = "whsec_"
SHORTEST: Final = 16
"""Fewer bytes than this can be guessed."""


class SigningKeyError(ValueError):
    """The Secret's signing key can't be used; the message says why, and never what it is."""


def key(text: bytes) -> bytes:
    """The key that a Secret holds: `whsec_` and base64, or any other bytes as they are. Raises SigningKeyError."""
    raw = text.strip()
    if raw.startswith(PREFIX.encode()):
        try:
            raw = base64.b64decode(raw[len(PREFIX) :], validate=True)
        except binascii.Error as problem:
            raise SigningKeyError("it begins with whsec_, and what follows is no base64") from problem
    if len(raw) < SHORTEST:
        raise SigningKeyError(f"it has {len(raw)} bytes; write {SHORTEST} random ones or more")
    return raw


def headers(run: str, at: int, body: bytes, signing_key: bytes | None) -> dict[str, str]:
    """The three headers of a call at `at` (Unix seconds); without a key there is no signature."""
    found = {"webhook-id": run, "webhook-timestamp": str(at)}
    if signing_key is not None:
        signed = hmac.new(signing_key, b".".join((run.encode(), str(at).encode(), body)), hashlib.sha256).digest()
        found["webhook-signature"] = f"v1,{base64.b64encode(signed).decode()}"
    return found
