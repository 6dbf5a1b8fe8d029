"""Capture for retraining: what operator, servers and the capturing sidecar say to each other, and where captured texts lie."""

from __future__ import annotations

from typing import Final, Literal, Protocol

from pydantic import Field

from tapchanger_serving.contract.base import Message

METRICS_PORT: Final = 8004
"""Of the sidecar: `/metrics` for Prometheus, `/v1/capture` for the operator, `/healthz`."""
TELL_PATH: Final = "/v1/capture"
SOCKET_DIR: Final = "/capture"
SOCKET: Final = f"{SOCKET_DIR}/texts.sock"
"""Datagram socket by which the text model hands texts to the sidecar, in a memory volume of the pod's own."""
SPOOL_DIR: Final = "/spool"
"""Where the sidecar keeps what is redacted, packed and not yet stored; in memory, so that no node's disk has it."""
CREDENTIALS_DIR: Final = "/capture-credentials"
"""The Secret of `capture.destination.secretName`, read-only, in the sidecar and in no other container of the pod."""
DESTINATION_DIR: Final = "/captured"
"""Where the claim of a `pvc://` destination is mounted."""
ENV_SAMPLING: Final = "TAPCHANGER_CAPTURE_SAMPLING"
"""JSON of :class:`Sampling`, for the server."""
ENV_ORDER: Final = "TAPCHANGER_CAPTURE"
"""JSON of :class:`Order`, for the sidecar and for the Job that removes what is old."""
ENV_POD: Final = "POD_NAME"
LONGEST_TEXT: Final = 16_384
"""Characters of a text; longer ones are not captured, since cutting could leave half of a name or number unrecognized."""

Kind = Literal["email", "phone", "card", "iban", "ip", "url", "nationalId", "handle", "number", "address", "name"]
KINDS: Final[tuple[Kind, ...]] = (
    "email", "phone", "card", "iban", "ip", "url", "nationalId", "handle", "number", "address", "name",
)  # fmt: skip
Names = Literal["Capitals", "Cues"]
Unclear = Literal["Drop", "Keep"]
EncryptionType = Literal["SSE-S3", "SSE-KMS", "Age", "None"]
ConsentMode = Literal["OptIn", "OptOut"]
CONSENT_HEADER: Final = "x-capture-consent"
GRANTED: Final = frozenset({"granted", "yes", "true", "1"})
"""What a consent header says to allow capture, whatever its case. Anything else refuses."""


class Consent(Message):
    """Which requests may be captured: with OptIn those whose header grants it, with OptOut also those without the header."""

    header: str = CONSENT_HEADER
    mode: ConsentMode = "OptIn"

    def allows(self, value: object) -> bool:
        """Whether a request with this value of the header may be captured; None is a request without it."""
        if value is None:
            return self.mode == "OptOut"
        return isinstance(value, str) and value.strip().lower() in GRANTED


class Sampling(Message):
    """What a server hands to its sidecar: a `share` of the texts (0 to 1), at most `per_minute` of them."""

    revision: str
    share: float
    per_minute: int
    consent: Consent = Consent()
    socket: str = SOCKET


class Encryption(Message):
    """How objects are encrypted. `recipients` are age public keys, `kms_key` a key's id or ARN."""

    type: EncryptionType
    kms_key: str = ""
    recipients: tuple[str, ...] = ()


class Redaction(Message):
    """What is taken out of texts before they leave the pod."""

    kinds: tuple[Kind, ...] = KINDS
    names: Names = "Capitals"
    unclear: Unclear = "Drop"
    regions: tuple[str, ...] = ()
    """Countries (ISO 3166-1 alpha-2) whose way to write phone numbers without a prefix is known; empty: the defaults."""


class Order(Message):
    """What the sidecar does, and the Job that removes what is older than `retention_seconds`.

    `prefix` is the deployment's part of the destination (:func:`location`); a `pvc://` claim is mounted at
    :data:`DESTINATION_DIR`.
    """

    prefix: str
    revision: str = ""
    endpoint: str = ""
    secret: str = ""
    encryption: Encryption
    redaction: Redaction = Redaction()
    retention_seconds: float
    flush_seconds: float = 60.0


class Told(Message):
    """What a sidecar has done since it started. Times are Unix seconds.

    `dropped` counts texts that were handed over and not captured, by reason; `trouble` says what keeps it from storing.
    """

    captured: int = 0
    dropped: dict[str, int] = Field(default_factory=dict)
    stored: int = 0
    last_written: float | None = None
    waiting: int = 0
    trouble: str = ""


class _Destination(Protocol):
    @property
    def uri(self) -> str: ...


class _Capture(Protocol):
    @property
    def destination(self) -> _Destination: ...


def location(namespace: str, deployment: str, capture: _Capture) -> str:
    """The address below which the deployment's captured texts lie, as objects `DATE/REVISION/POD-NUMBER.jsonl.gz`.

    `capture` is a spec's. Without a slash at its end; `s3://BUCKET/…` or `pvc://CLAIM/…`.
    """
    return f"{capture.destination.uri.rstrip('/')}/{namespace}/{deployment}"
