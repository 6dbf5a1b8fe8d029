"""Settings from the environment: `TAPCHANGER_OBSERVER_<NAME>`, each with a default that serves well."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tapchanger_serving.contract import names
from tapchanger_serving.observer.peers import Peers
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
    auth: Literal["required", "open"] = "required"
    """`open`: whoever reaches the ports is believed."""
    keys_url: str = ""
    """Where the cluster's key set is; by default the API server that Kubernetes tells every container of."""
    account: Path = Path("/var/run/secrets/kubernetes.io/serviceaccount")
    """Folder with `token` and `ca.crt`, with which the key set is asked for."""
    senders: Path | None = None
    """Folder with tokens of senders that have no service account here, a file each: `TOKEN [NAMESPACE …]`."""
    namespace: str = ""
    """The observer's own namespace, whose pods (the operator's) may ask about every deployment."""
    token: Path | None = None
    """File with the credential that observers show each other."""
    peers: str = ""
    """Where all observers are, this one too: `HOST[:PORT]`, several with commas; a name may have many addresses."""
    replicas: int = Field(default=1, ge=1, le=64)
    """How many observers must answer together."""
    max_waiting: int = Field(default=256, ge=1)
    max_waiting_bytes: int = Field(default=64 << 20, ge=1 << 10)
    """Payloads that wait to be counted, and their bytes; what comes beyond is turned away."""
    max_payload_bytes: int = Field(default=8 << 20, ge=1 << 10, le=1 << 30)
    """Largest OTLP payload, after decompression too."""
    fine_seconds: int = Field(default=7_200, ge=60, le=86_400)
    keep_seconds: int = Field(default=14_400, ge=120, le=604_800)
    max_deployments: int = Field(default=1_000, ge=1)
    max_revisions: int = Field(default=16, ge=2)
    max_buckets: int = Field(default=200_000, ge=1_000)
    max_answers: int = Field(default=32_000, ge=100, le=65_000)
    """Requests whose answers are remembered for labels that come later: so many at least, twice as many at most."""
    state: Path | None = None
    """File that carries the windows over a restart; none is kept without it."""
    state_seconds: float = Field(default=5.0, ge=0.1, le=3_600)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @property
    def together(self) -> Peers | None:
        """The observers that share the spans; None for one that has them all."""
        if not self.peers:
            return None
        return Peers(tuple(self.peers.split(",")), self.replicas, self.token)

    @property
    def limits(self) -> Limits:
        """The bounds of the windows."""
        return Limits(
            fine_seconds=self.fine_seconds,
            keep_seconds=max(self.keep_seconds, self.fine_seconds),
            max_deployments=self.max_deployments,
            max_revisions=self.max_revisions,
            max_buckets=self.max_buckets,
            max_answers=self.max_answers,
        )


def from_environment(environment: Mapping[str, str]) -> Settings:
    """Read the settings. An empty value counts as unset.

    Raises SettingsError for a name that is no setting, for a value that doesn't fit, and where credentials are required and
    no cluster could prove them.
    """
    made = _parsed(environment)
    if made.auth == "open" or made.keys_url:
        return made
    host, port = environment.get("KUBERNETES_SERVICE_HOST"), environment.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise SettingsError(
            f"{PREFIX}AUTH: found 'required', but this is no pod, and no cluster proves credentials; write where its"
            f" keys are in {PREFIX}KEYS_URL, or set {PREFIX}AUTH=open to believe everyone"
        )
    host = f"[{host}]" if ":" in host else host
    return made.model_copy(update={"keys_url": f"https://{host}:{port}/openid/v1/jwks"})


def _parsed(environment: Mapping[str, str]) -> Settings:
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
