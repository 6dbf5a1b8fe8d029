"""A cluster's way to say who a pod is: its keys, and tokens of service accounts signed with them."""

from __future__ import annotations

import base64
import hmac
import json
import time
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from tapchanger_serving.contract import names


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _number(value: int) -> str:
    return _text(value.to_bytes((value.bit_length() + 7) // 8))


class Issuer:
    """Signs with one key, of an elliptic curve (P-256), or RSA."""

    def __init__(self, *, kid: str = "k1", curve: bool = True) -> None:
        self.kid = kid
        self._key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey = (
            ec.generate_private_key(ec.SECP256R1())
            if curve
            else rsa.generate_private_key(public_exponent=65537, key_size=2048)
        )

    def jwk(self) -> dict[str, str]:
        """The public key as in a key set."""
        if isinstance(self._key, rsa.RSAPrivateKey):
            rsa_numbers = self._key.public_key().public_numbers()
            return {"kty": "RSA", "kid": self.kid, "n": _number(rsa_numbers.n), "e": _number(rsa_numbers.e)}
        numbers = self._key.public_key().public_numbers()
        x, y = (_text(value.to_bytes(32)) for value in (numbers.x, numbers.y))
        return {"kty": "EC", "kid": self.kid, "crv": "P-256", "x": x, "y": y}

    def key_set(self) -> str:
        """What the API server answers at /openid/v1/jwks."""
        return json.dumps({"keys": [self.jwk()]})

    def token(self, namespace: str, *, now: float | None = None, seconds: float = 3600, **changed: Any) -> str:
        """A service account's token for the observer; `changed` replaces claims, `alg` and `kid` the header's."""
        now = time.time() if now is None else now
        algorithm = changed.pop("alg", "RS256" if isinstance(self._key, rsa.RSAPrivateKey) else "ES256")
        kid = changed.pop("kid", self.kid)
        claims = {
            "aud": [names.OBSERVER_AUDIENCE],
            "iss": "https://kubernetes.default.svc.cluster.local",
            "sub": f"system:serviceaccount:{namespace}:default",
            "nbf": int(now),
            "exp": int(now + seconds),
            **changed,
        }
        head = {"alg": algorithm, "kid": kid}
        signed = ".".join(_text(json.dumps(part).encode()) for part in (head, claims))
        return f"{signed}.{_text(self._signature(signed.encode()))}"

    def secret(self, namespace: str) -> str:
        """A token whose signature takes the public key, as it is published in PEM, for a shared secret (HS256)."""
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        pem = self._key.public_key().public_bytes(serialization.Encoding.PEM, form)
        signed = self.token(namespace, alg="HS256").rpartition(".")[0]
        return f"{signed}.{_text(hmac.digest(pem, signed.encode(), 'sha256'))}"

    def _signature(self, signed: bytes) -> bytes:
        if isinstance(self._key, rsa.RSAPrivateKey):
            return self._key.sign(signed, padding.PKCS1v15(), hashes.SHA256())
        r, s = decode_dss_signature(self._key.sign(signed, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32) + s.to_bytes(32)
