"""Building blocks of the API types: the model base, durations and model URIs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel

from tapchanger_serving.contract.duration import DURATION_PATTERN as DURATION_PATTERN
from tapchanger_serving.contract.duration import Duration as Duration
from tapchanger_serving.contract.duration import seconds as seconds

GROUP: Final = "tapchanger.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"

PollInterval = Annotated[str, Field(pattern=r"^([1-9][0-9]{0,4}(m|h|d))+$", max_length=32)]
"""A length of time in whole minutes, hours or days: `5m`, `1h30m`, `1d`."""

Attempt = Annotated[int, Field(ge=1, le=1000)]
"""Which build of the same content this is."""

ATTEMPT: Final = (
    "Raise it by one to have the engine of the same content built and measured anew, as after a build on a busy node."
)

SecretName = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")]
"""The name of a Secret in the deployment's namespace."""

FreeForm = Annotated[dict[str, Any], WithJsonSchema({"type": "object", "x-kubernetes-preserve-unknown-fields": True})]
"""A Kubernetes structure that is passed on as it is; the API server validates it where it is used."""


def timestamp(unix: float) -> str:
    """RFC 3339 text, UTC, in milliseconds, of a Unix time in seconds."""
    return datetime.fromtimestamp(unix, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def unix(text: str) -> float:
    """Unix time in seconds of an RFC 3339 text."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


class Model(BaseModel):
    """Base of spec types: frozen, camelCase on the wire, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)

    def wire(self) -> dict[str, Any]:
        """As a manifest has it: camelCase keys, unset optional fields left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class StatusModel(Model):
    """Base of status types: fields that a newer operator wrote are passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)


URI_PATTERN: Final = (
    r"^(pvc://[a-z0-9]([-a-z0-9.]*[a-z0-9])?/.+|file:///.+|https://.+@sha256:[0-9a-f]{64}|hf://[^/@]+/[^/@]+(@.+)?"
    r"|(s3|gs|az)://[A-Za-z0-9][A-Za-z0-9._-]+[A-Za-z0-9](/.*)?|oci://[A-Za-z0-9.-]+(:[0-9]+)?/[a-z0-9].*)$"
)
URI_HELP: Final = (
    "write pvc://CLAIM/path, file:///path, hf://org/name@revision, s3://BUCKET/path, gs://BUCKET/path, az://CONTAINER/path, "
    "oci://registry/repository:tag or https://host/model.tar.gz@sha256:<digest>; "
    "all may end in @sha256:<digest> to pin the content"
)
PINNED: Final = "@sha256:"
"""What every address holds whose content can't change."""


@dataclass(frozen=True)
class ModelUri:
    """A model's or data set's address, taken apart."""

    scheme: str
    location: str

    @property
    def claim(self) -> str | None:
        """The PersistentVolumeClaim that holds the content, where it is a `pvc://` address."""
        return self.location.split("/", 1)[0] if self.scheme == "pvc" else None


def parse_uri(uri: str) -> ModelUri:
    """Takes `uri` apart. Raises ValueError with what to write where it can't."""
    scheme, separator, location = uri.partition("://")
    if not separator or not location:
        raise ValueError(f"{uri!r} is not an address; {URI_HELP}")
    return ModelUri(scheme, location)


def rules(*pairs: tuple[str, str]) -> dict[str, Any]:
    """CEL rules as a JSON schema extension: pairs of (rule, message)."""
    return {"x-kubernetes-validations": [{"rule": rule, "message": message} for rule, message in pairs]}


def joined(*several: dict[str, Any]) -> dict[str, Any]:
    """The CEL rules of `several` schema extensions as one."""
    key = "x-kubernetes-validations"
    return {key: [rule for one in several for rule in one[key]]}


def readable(value: float | None) -> str | None:
    """Seconds as status shows a latency: `38ms`, `1.2s`; None where there is none."""
    if value is None:
        return None
    return f"{value:.3g}s" if value >= 1 else f"{value * 1000:.3g}ms"
