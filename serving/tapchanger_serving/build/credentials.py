"""The keys of the mounted Secrets, given to the clients of the stores in the environment variables that they read."""

from __future__ import annotations

import os
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tapchanger_serving.build import log
from tapchanger_serving.build.failures import CREDENTIALS_FIELD, STORE_CREDENTIALS_FIELD, StepError
from tapchanger_serving.build.limits import MOST_BYTES, MOST_FILES, MOST_SECONDS
from tapchanger_serving.build.redaction import hide, is_secret
from tapchanger_serving.build.transport.registry import DOCKER_CONFIG
from tapchanger_serving.contract.names import ENV_CREDENTIALS, ENV_STORE_CREDENTIALS, ENV_STORE_ENDPOINT

VARIABLES: Final = frozenset(
    {
        "HF_TOKEN", "HF_ENDPOINT",
        "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION",
        "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3",
        "GOOGLE_CLOUD_PROJECT", "STORAGE_EMULATOR_HOST",
        "AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_KEY", "AZURE_STORAGE_ACCOUNT_KEY",
        "AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_CONNECTION_STRING",
        "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "AZURE_TENANT_ID",
        "OCI_USERNAME", "OCI_PASSWORD", "OCI_PLAIN_HTTP",
        "HTTPS_PROXY", "NO_PROXY",
        MOST_BYTES, MOST_FILES, MOST_SECONDS,
    }
)  # fmt: skip
"""Keys whose value becomes the variable of the same name."""

FILES: Final = {
    "GOOGLE_APPLICATION_CREDENTIALS": ("GOOGLE_APPLICATION_CREDENTIALS",),
    "gcloud-application-credentials.json": ("GOOGLE_APPLICATION_CREDENTIALS",),
    ".dockerconfigjson": (DOCKER_CONFIG,),
    "ca.crt": ("AWS_CA_BUNDLE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"),
}
"""Keys whose file is named by these variables."""

_EXAMPLE = (
    "kubectl create secret generic {name} --from-literal=AWS_ACCESS_KEY_ID=… --from-literal=AWS_SECRET_ACCESS_KEY=… "
    "in the deployment's namespace, or what else the documentation of sources lists"
)


def adopt(folder: Path, environ: MutableMapping[str, str] = os.environ) -> None:
    """Takes over the Secret of the model that is mounted at `folder`, if the step was given one.

    Raises `CredentialsInvalid` where it is missing or has no key that any store knows. Values are never told.
    """
    environ.update(_read(folder, environ.get(ENV_CREDENTIALS), CREDENTIALS_FIELD))


def take(folder: Path, name: str, field: str, environ: MutableMapping[str, str] = os.environ) -> None:
    """Takes over the Secret `name` that is mounted at `folder`; `field` is where it was named. Raises as :func:`adopt` does."""
    environ.update(_read(folder, name, field))


@contextmanager
def lent(folder: Path, environ: MutableMapping[str, str] = os.environ) -> Iterator[None]:
    """Takes over the Secret of the artifact store for as long as this is open, so that the model's stays apart from it.

    The store's endpoint, where the step was given one, takes the place of what the Secret says. Raises as :func:`adopt` does.
    """
    given = _read(folder, environ.get(ENV_STORE_CREDENTIALS), STORE_CREDENTIALS_FIELD)
    endpoint = environ.get(ENV_STORE_ENDPOINT)
    if endpoint:
        given["AWS_ENDPOINT_URL"] = endpoint
    hide(value for name, value in given.items() if is_secret(name))
    before = {name: environ.get(name) for name in given}
    environ.update(given)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                environ.pop(name, None)
            else:
                environ[name] = value


def _read(folder: Path, name: str | None, field: str) -> dict[str, str]:
    """Variables by name, from the Secret `name` at `folder`; none where there is no name."""
    if not name:
        return {}
    # The kubelet's own entries begin with two dots.
    keys = sorted(path.name for path in folder.glob("*") if not path.name.startswith("..")) if folder.is_dir() else []
    if not keys:
        raise _invalid(name, field, f"the Secret {name} does not exist or is empty")
    unknown = [key for key in keys if key not in VARIABLES and key not in FILES]
    if len(unknown) == len(keys):
        said = f"the Secret {name} has {', '.join(unknown[:10])}, and none of these is a key that a store knows"
        raise _invalid(name, field, said)
    if unknown:
        log.warning("keys of the Secret that no store knows", secret=name, keys=unknown)
    files = {variable: str(folder / key) for key in keys for variable in FILES.get(key, ())}
    return files | {key: (folder / key).read_text(encoding="utf-8").strip() for key in keys if key in VARIABLES}


def _invalid(name: str, field: str, message: str) -> StepError:
    return StepError("CredentialsInvalid", message, field=field, remedy=_EXAMPLE.format(name=name))
