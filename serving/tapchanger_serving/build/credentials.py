"""The keys of the mounted Secret, given to the clients of the stores in the environment variables that they read."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from pathlib import Path
from typing import Final

from tapchanger_serving.build import log
from tapchanger_serving.build.failures import CREDENTIALS_FIELD, StepError
from tapchanger_serving.build.limits import MOST_BYTES, MOST_FILES, MOST_SECONDS
from tapchanger_serving.build.sources.registry import DOCKER_CONFIG
from tapchanger_serving.contract.names import ENV_CREDENTIALS

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
    """Takes over the Secret mounted at `folder`, if the step was given one.

    Raises `CredentialsInvalid` where it is missing or has no key that any store knows. Values are never told.
    """
    name = environ.get(ENV_CREDENTIALS)
    if not name:
        return
    # The kubelet's own entries begin with two dots.
    keys = sorted(path.name for path in folder.glob("*") if not path.name.startswith("..")) if folder.is_dir() else []
    if not keys:
        raise _invalid(name, f"the Secret {name} does not exist or is empty")
    unknown = [key for key in keys if key not in VARIABLES and key not in FILES]
    if len(unknown) == len(keys):
        raise _invalid(
            name, f"the Secret {name} has {', '.join(unknown[:10])}, and none of these is a key that a store knows"
        )
    if unknown:
        log.warning("keys of the Secret that no store knows", secret=name, keys=unknown)
    for key in keys:
        if key in VARIABLES:
            environ[key] = (folder / key).read_text(encoding="utf-8").strip()
        for variable in FILES.get(key, ()):
            environ[variable] = str(folder / key)


def _invalid(name: str, message: str) -> StepError:
    return StepError("CredentialsInvalid", message, field=CREDENTIALS_FIELD, remedy=_EXAMPLE.format(name=name))
