"""Whose word counts for what: credentials, and the namespaces that they may tell of.

A pod's credential is a token of its service account for the audience :data:`names.OBSERVER_AUDIENCE`, a JSON Web Token (RFC
7519) that the cluster signed; it speaks for the pod's own namespace. PyJWT judges signature, audience and times. A sender that
has no service account here, such as a gateway, has a token of its own that an administrator chose.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Final, NamedTuple

import jwt

LEEWAY_SECONDS: Final = 60.0
"""How far the clocks of the API server and the observer may differ."""
LONGEST: Final = 8_192
"""Characters of a credential; tokens of service accounts have about a thousand."""
MOST_KEYS: Final = 64
_SUBJECT: Final = re.compile(r"system:serviceaccount:([a-z0-9.-]{1,253}):[a-z0-9.-]{1,253}")
ALGORITHMS: Final = frozenset({"RS256", "ES256", "ES384", "ES512"})
"""By which clusters sign. No key of another kind is taken, so that a public one never serves as a shared secret."""
_CHECKS: Final[jwt.types.Options] = {"require": ["exp", "aud", "sub"], "enforce_minimum_key_length": True}


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


def key_set(text: str) -> dict[str, jwt.PyJWK]:
    """The usable keys of a JSON Web Key Set (RFC 7517) by their ids. Raises ValueError where it has none."""
    found = json.loads(text)
    if not isinstance(found, dict) or not isinstance(found.get("keys"), list):
        raise ValueError("not a JSON Web Key Set: it has no list of keys")
    try:
        keys = jwt.PyJWKSet(found["keys"][:MOST_KEYS]).keys
    except (jwt.PyJWTError, KeyError) as none:
        raise ValueError(f"not a JSON Web Key Set: {type(none).__name__}: {none}") from None
    return {str(key.key_id or ""): key for key in keys if key.algorithm_name in ALGORITHMS}


def verify(token: str, keys: Mapping[str, jwt.PyJWK], audience: str) -> Grant:
    """What a service account's token for `audience` grants now.

    Raises UnknownKeyError where `keys` lack the one that it was signed with, else TrustError.
    """
    try:
        key = keys.get(jwt.get_unverified_header(token).get("kid", ""))
        if key is None:
            raise UnknownKeyError("the credential was signed with a key that this cluster doesn't publish")
        # The key decides which algorithm is meant, never the token.
        claims = jwt.decode(token, key, [key.algorithm_name], options=_CHECKS, audience=audience, leeway=LEEWAY_SECONDS)
    except jwt.PyJWTError as wrong:
        raise TrustError(_why(wrong, audience)) from None
    subject = _SUBJECT.fullmatch(claims["sub"])
    if subject is None:
        raise TrustError("the credential is not a service account's")
    return Grant(frozenset((subject[1],)), int(claims["exp"]) + LEEWAY_SECONDS)


def _why(wrong: jwt.PyJWTError, audience: str) -> str:
    match wrong:
        case jwt.InvalidSignatureError() | jwt.InvalidAlgorithmError():
            return "the credential's signature is wrong"
        case jwt.InvalidAudienceError():
            return f"the credential is not for the audience {audience}"
        case jwt.MissingRequiredClaimError():
            return f"the credential has no {wrong.claim}"
        case jwt.ExpiredSignatureError() | jwt.ImmatureSignatureError():
            return "the credential has expired or is not valid yet"
    return f"the credential is neither a token of this cluster nor a sender's ({type(wrong).__name__})"


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
