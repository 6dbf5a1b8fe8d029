"""Whose word counts for what: credentials, and the namespaces that they may tell of.

A pod's credential is a token of its service account for the audience :data:`names.OBSERVER_AUDIENCE`, a JSON Web Token (RFC
7519) that the cluster signed (RFC 7515, section 5.2); it speaks for the pod's own namespace. A sender that has no service
account here, such as a gateway, has a token of its own that an administrator chose. Nothing in this module reads a clock or
a file.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

LEEWAY_SECONDS: Final = 60.0
"""How far the clocks of the API server and the observer may differ."""
LONGEST: Final = 8_192
"""Characters of a credential; tokens of service accounts have about a thousand."""
MOST_KEYS: Final = 64
_SUBJECT: Final = re.compile(r"system:serviceaccount:([a-z0-9.-]{1,253}):[a-z0-9.-]{1,253}")
_CURVES: Final[Mapping[str, tuple[str, ec.EllipticCurve, hashes.HashAlgorithm]]] = {
    "P-256": ("ES256", ec.SECP256R1(), hashes.SHA256()),
    "P-384": ("ES384", ec.SECP384R1(), hashes.SHA384()),
    "P-521": ("ES512", ec.SECP521R1(), hashes.SHA512()),
}

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey


class TrustError(Exception):
    """A credential that is none. The message says why and holds nothing of it."""


class UnknownKeyError(TrustError):
    """A token that was signed with a key which isn't known (yet)."""


class Grant(NamedTuple):
    """The namespaces that a sender may tell of, None for all, and until when (Unix seconds)."""

    namespaces: frozenset[str] | None
    until: float

    def covers(self, namespace: str) -> bool:
        """Whether the sender may tell of `namespace`."""
        return self.namespaces is None or namespace in self.namespaces


EVERYTHING: Final = Grant(None, float("inf"))
"""What everyone gets where no credential is asked for."""


def bearer(header: str | None) -> str:
    """The credential in an `Authorization` header. Raises TrustError where there is none."""
    scheme, _, found = (header or "").partition(" ")
    token = found.strip()
    if scheme.lower() != "bearer" or not token:
        raise TrustError("no credential; send the header Authorization: Bearer TOKEN")
    if len(token) > LONGEST:
        raise TrustError(f"the credential has {len(token)} characters; they have at most {LONGEST}")
    return token


def digest(token: str) -> bytes:
    """By what a credential is kept in memory."""
    return hashlib.sha256(token.encode()).digest()


def key_set(text: str) -> dict[str, PublicKey]:
    """The usable keys of a JSON Web Key Set (RFC 7517) by their ids. Raises ValueError where the text is none."""
    found = json.loads(text)
    if not isinstance(found, dict) or not isinstance(found.get("keys"), list):
        raise ValueError("not a JSON Web Key Set: it has no list of keys")
    keys = {}
    for entry in found["keys"][:MOST_KEYS]:
        key = _public_key(entry) if isinstance(entry, dict) else None
        if key is not None:
            keys[str(entry.get("kid", ""))] = key
    return keys


def _public_key(entry: dict[str, Any]) -> PublicKey | None:
    if entry.get("kty") == "RSA":
        return rsa.RSAPublicNumbers(_integer(entry["e"]), _integer(entry["n"])).public_key()
    if entry.get("kty") == "EC" and entry.get("crv") in _CURVES:
        _, curve, _ = _CURVES[entry["crv"]]
        return ec.EllipticCurvePublicNumbers(_integer(entry["x"]), _integer(entry["y"]), curve).public_key()
    return None


def verify(token: str, keys: Mapping[str, PublicKey], audience: str, now: float) -> Grant:
    """What a service account's token for `audience` grants at `now` (Unix seconds).

    Raises UnknownKeyError where `keys` lack the one that it was signed with, else TrustError.
    """
    head, claims, signature, signed = _parts(token)
    key = keys.get(str(head.get("kid", "")))
    if key is None:
        raise UnknownKeyError("the credential was signed with a key that this cluster doesn't publish")
    if not _fits(key, str(head.get("alg")), signature, signed):
        raise TrustError("the credential's signature is wrong")
    aud = claims.get("aud")
    if audience not in (aud if isinstance(aud, list) else [aud]):
        raise TrustError(f"the credential is not for the audience {audience}")
    until = _seconds(claims, "exp")
    if now > until + LEEWAY_SECONDS or now < _seconds(claims, "nbf", 0.0) - LEEWAY_SECONDS:
        raise TrustError("the credential has expired or is not valid yet")
    subject = _SUBJECT.fullmatch(str(claims.get("sub")))
    if subject is None:
        raise TrustError("the credential is not a service account's")
    return Grant(frozenset((subject[1],)), until + LEEWAY_SECONDS)


def _fits(key: PublicKey, algorithm: str, signature: bytes, signed: bytes) -> bool:
    """Whether `signature` is that of `signed`. The key decides which algorithm is meant, never the token alone."""
    try:
        if isinstance(key, rsa.RSAPublicKey):
            if algorithm != "RS256":
                return False
            key.verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
            return True
        wanted, _, hashed = next(one for one in _CURVES.values() if one[1].name == key.curve.name)
        size = (key.curve.key_size + 7) // 8
        if algorithm != wanted or len(signature) != 2 * size:
            return False
        halves = (int.from_bytes(signature[:size]), int.from_bytes(signature[size:]))
        key.verify(encode_dss_signature(*halves), signed, ec.ECDSA(hashed))
    except InvalidSignature:
        return False
    return True


def _parts(token: str) -> tuple[dict[str, Any], dict[str, Any], bytes, bytes]:
    """Header, claims, signature, and the bytes that were signed."""
    parts = token.split(".")
    try:
        head, claims, signature = (_decoded(part) for part in parts)
        found = json.loads(head), json.loads(claims)
    except (ValueError, RecursionError):
        raise TrustError("the credential is neither a token of this cluster nor a sender's") from None
    if not all(isinstance(one, dict) for one in found):
        raise TrustError("the credential is neither a token of this cluster nor a sender's")
    return *found, signature, f"{parts[0]}.{parts[1]}".encode()


def _seconds(claims: dict[str, Any], name: str, otherwise: float | None = None) -> float:
    found = claims.get(name, otherwise)
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise TrustError(f"the credential has no {name}")
    return float(found)


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None


def _integer(text: Any) -> int:
    return int.from_bytes(_decoded(str(text)))


def senders(files: Mapping[str, str]) -> dict[bytes, Grant]:
    """What administrators' tokens grant, by their digests. Each file (by its name) says `TOKEN [NAMESPACE …]`.

    Without namespaces a sender may tell of all. Raises ValueError that names a file which is none.
    """
    found = {}
    for name, text in files.items():
        token, *namespaces = text.split() or [""]
        if not 16 <= len(token) <= LONGEST:
            raise ValueError(f"{name}: found a token of {len(token)} characters; write 16 or more, then the namespaces")
        found[digest(token)] = Grant(frozenset(namespaces) or None, float("inf"))
    return found
