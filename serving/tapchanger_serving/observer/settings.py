"""Settings from the environment: `TAPCHANGER_OBSERVER_<NAME>`, each with a default that serves well."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tapchanger_serving.contract import names
from tapchanger_serving.observer.windows import Limits

PREFIX: Final = "TAPCHANGER_OBSERVER_"


class SettingsError(ValueError):
    """A setting that can't be used. The message names it, what was found and what to write."""


class Settings(BaseModel):
    """All settings. Field `fine_seconds` is read from `TAPCHANGER_OBSERVER_FINE_SECONDS`, and so on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = "0.0.0.0"  # noqa: S104 - a pod's own address; who may connect is the NetworkPolicy's
    grpc_port: int = Field(default=names.OTLP_GRPC_PORT, ge=0, le=65535)
    http_port: int = Field(default=names.OTLP_HTTP_PORT, ge=0, le=65535)
    api_port: int = Field(default=names.OBSERVER_API_PORT, ge=0, le=65535)
    max_payload_bytes: int = Field(default=8 << 20, ge=1 << 10, le=1 << 30)
    """Largest OTLP payload, after decompression too."""
    fine_seconds: int = Field(default=7_200, ge=60, le=86_400)
    keep_seconds: int = Field(default=14_400, ge=120, le=604_800)
    max_deployments: int = Field(default=1_000, ge=1)
    max_revisions: int = Field(default=16, ge=2)
    max_buckets: int = Field(default=200_000, ge=1_000)
    state: Path | None = None
    """File that carries the windows over a restart; none is kept without it."""
    state_seconds: float = Field(default=5.0, ge=0.1, le=3_600)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @property
    def limits(self) -> Limits:
        """The bounds of the windows."""
        return Limits(
            fine_seconds=self.fine_seconds,
            keep_seconds=max(self.keep_seconds, self.fine_seconds),
            max_deployments=self.max_deployments,
            max_revisions=self.max_revisions,
            max_buckets=self.max_buckets,
        )


def from_environment(environment: Mapping[str, str]) -> Settings:
    """Read the settings. An empty value counts as unset.

    Raises SettingsError for a name that is no setting and for a value that doesn't fit.
    """
    given = {
        name.removeprefix(PREFIX).lower(): value
        for name, value in environment.items()
        if name.startswith(PREFIX) and value != "" and not _from_a_service(name)
    }
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        name = PREFIX + str(first["loc"][0]).upper()
        if first["type"] == "extra_forbidden":
            known = ", ".join(PREFIX + field.upper() for field in Settings.model_fields)
            raise SettingsError(f"{name}: no such setting; there are {known}") from None
        raise SettingsError(f"{name}: found {first['input']!r}: {first['msg']}") from None


def _from_a_service(name: str) -> bool:
    """Kubernetes gives every container variables for each Service, also for one named `tapchanger-observer`."""
    rest = name.removeprefix(PREFIX)
    return rest.startswith("SERVICE_") or rest == "PORT" or (rest.startswith("PORT_") and rest[5:6].isdigit())
