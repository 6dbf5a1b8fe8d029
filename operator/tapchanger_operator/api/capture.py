"""``spec.capture`` and ``status.capture``: texts kept for retraining, off unless written."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import ConfigDict, Field, model_validator

from tapchanger_operator.api.base import Model, SecretName, StatusModel, rules, seconds
from tapchanger_serving.contract.capture import (
    CONSENT_HEADER,
    KINDS,
    ConsentMode,
    EncryptionType,
    Kind,
    Names,
    Unclear,
)

URI: Final = r"^(s3://[A-Za-z0-9][A-Za-z0-9._-]+|pvc://[a-z0-9]([-a-z0-9.]*[a-z0-9])?)(/[A-Za-z0-9][A-Za-z0-9._-]*)+/?$"
URI_HELP: Final = "write s3://BUCKET/PREFIX or pvc://CLAIM/FOLDER"
_RECIPIENT: Final = r"^age1[a-z0-9]{20,120}$"
_REDUNDANT: Final = "a {0} is named twice; write each of them once"
_ENCRYPTION: Final = (
    (
        "(self.type == 'SSE-KMS') == has(self.kmsKey)",
        "type SSE-KMS and kmsKey go together: {type: SSE-KMS, kmsKey: KEY-ID}",
    ),
    (
        "(self.type == 'Age') == (has(self.recipients) && size(self.recipients) > 0)",
        "type Age and recipients go together: {type: Age, recipients: [age1…]}, the public keys that `age-keygen` tells",
    ),
)
_DESTINATION: Final = (
    (
        "self.uri.startsWith('s3://') || !self.encryption.type.startsWith('SSE-')",
        "only an S3 store encrypts by itself: for a volume write encryption: {type: Age, recipients: [age1…]}, or "
        "{type: None} where its storage is encrypted",
    ),
    (
        "self.uri.startsWith('s3://') || (!has(self.secretName) && !has(self.endpoint))",
        "secretName and endpoint belong to an s3:// destination; leave them out",
    ),
)

Retention = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,3}(h|d)$", max_length=5)]
"""A length of time in whole hours or days: `12h`, `30d`."""


class CaptureEncryption(Model):
    """Who can read what is stored. There is no default, so that it is a choice."""

    model_config = ConfigDict(json_schema_extra=rules(*_ENCRYPTION))

    type: EncryptionType = Field(
        description="SSE-S3, SSE-KMS: the store encrypts. Age: the pod does, for `recipients`, and nobody in the cluster can "
        "read it. None: the bucket or the volume is encrypted by other means."
    )
    kms_key: str | None = Field(default=None, min_length=1, max_length=2048, description="The key's id or ARN.")
    recipients: list[Annotated[str, Field(pattern=_RECIPIENT, max_length=128)]] = Field(
        default=[], max_length=8, description="Public keys of the age format (age1…)."
    )

    @model_validator(mode="after")
    def _fits(self) -> CaptureEncryption:
        """What the rules say at admission, for objects that were stored without them."""
        if (self.type == "SSE-KMS") != (self.kms_key is not None):
            raise ValueError(_ENCRYPTION[0][1])
        if (self.type == "Age") != bool(self.recipients):
            raise ValueError(_ENCRYPTION[1][1])
        return self


class CaptureDestination(Model):
    """Where captured texts are kept."""

    model_config = ConfigDict(json_schema_extra=rules(*_DESTINATION))

    uri: str = Field(
        max_length=512,
        description=f"{URI_HELP[0].upper()}{URI_HELP[1:]}; the deployment has a part of its own below, NAMESPACE/NAME.",
        json_schema_extra=rules((f"self.matches(r'{URI}') && !self.contains('..')", URI_HELP)),
    )
    endpoint: str | None = Field(
        default=None,
        max_length=512,
        pattern=r"^https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?/?$",
        description="https://host:port of an S3 store that is not Amazon's.",
    )
    secret_name: SecretName | None = Field(
        default=None,
        description="A Secret with AWS_ACCESS_KEY_ID and so on. It is mounted in the capturing container and in the Job that "
        "removes what is old, and nowhere else.",
    )
    encryption: CaptureEncryption

    @model_validator(mode="after")
    def _fits(self) -> CaptureDestination:
        if not re.match(URI, self.uri) or ".." in self.uri:
            raise ValueError(URI_HELP)
        s3 = self.uri.startswith("s3://")
        if not s3 and self.encryption.type.startswith("SSE-"):
            raise ValueError(_DESTINATION[0][1])
        if not s3 and (self.secret_name or self.endpoint):
            raise ValueError(_DESTINATION[1][1])
        return self

    @property
    def claim(self) -> str | None:
        """The PersistentVolumeClaim of a `pvc://` destination."""
        found = re.match(r"pvc://([^/]+)/", self.uri)
        return found[1] if found else None


class CaptureConsent(Model):
    """Whose texts may be captured."""

    header: str = Field(
        default=CONSENT_HEADER,
        max_length=64,
        pattern=r"^[a-z][a-z0-9-]*$",
        description="The request header (gRPC: metadata) by which a client tells; granted, yes, true and 1 grant.",
    )
    mode: ConsentMode = Field(
        default="OptIn",
        description="OptIn: only requests that grant it are captured. OptOut: those without the header too.",
    )


class CaptureRedaction(Model):
    """What is taken out of texts before they leave the pod."""

    kinds: list[Kind] = Field(
        default=list(KINDS),
        min_length=1,
        max_length=len(KINDS),
        description="Kinds of personal data that are replaced, by default all.",
        json_schema_extra=rules(("self.all(k, self.exists_one(o, k == o))", _REDUNDANT.format("kind"))),
    )
    names: Names = Field(
        default="Capitals",
        description="How names are found. Capitals: what is written like a name, also places and products. Cues: only what "
        "follows words such as `Mr` or `my name is`.",
    )
    unclear: Unclear = Field(
        default="Drop",
        description="What happens to a text in which capitals tell nothing of names, such as one in capitals only or in small "
        "letters only. Keep keeps the names in it.",
    )
    regions: list[Annotated[str, Field(pattern=r"^[A-Z]{2}$")]] = Field(
        default=[],
        max_length=32,
        description="Countries whose phone numbers are known without their prefix, such as [US, DE]; by default 14 of them.",
    )


class CaptureSpec(Model):
    """A sample of the texts that are asked, kept for retraining with personal data taken out."""

    sample: float = Field(default=0.01, gt=0, le=1, description="Share of the texts that may be captured.")
    max_per_minute: int = Field(default=60, ge=1, le=100_000, description="Texts a minute at most, of each server.")
    destination: CaptureDestination
    retention: Retention = Field(default="30d", description="What is older, in hours or days, is deleted.")
    consent: CaptureConsent = CaptureConsent()
    redact: CaptureRedaction = CaptureRedaction()

    @property
    def retention_seconds(self) -> float:
        """`retention` in seconds."""
        return seconds(self.retention)


class CapturePlace(StatusModel):
    """A place that holds captured texts, and what deletes them in time. `until`: nothing is written there any more since."""

    prefix: str
    retention: str
    endpoint: str = ""
    secret_name: str = ""
    until: str | None = None


class CaptureStatus(StatusModel):
    """What is captured, since the servers' present containers started.

    `dropped` counts texts that were sampled and not kept; `reasons` says why, the most frequent first.
    """

    destination: str = ""
    message: str = ""
    captured: int = 0
    dropped: int = 0
    reasons: list[str] = []
    last_written: str | None = None
    trouble: str = ""
    asked_at: str | None = None
    places: list[CapturePlace] = []
