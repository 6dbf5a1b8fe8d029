"""Object stores by their standard clients: S3, Google Cloud Storage and Azure Blob Storage, all through fsspec.

Each takes its settings from the environment variables that its own tools read.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fsspec.asyn import AsyncFileSystem

_CONNECT_SECONDS, _READ_SECONDS = 20, 60


@dataclass(frozen=True, slots=True)
class Store:
    """A client. `errors` are the exceptions by which it tells that the store or the way to it failed."""

    client: AsyncFileSystem
    errors: tuple[type[BaseException], ...]


def open_store(scheme: str, environ: Mapping[str, str] = os.environ) -> Store:
    """The client for `s3`, `gs` or `az`. Raises ValueError where its settings are not complete."""
    opened: dict[str, Any] = {"s3": _s3, "gs": _gs, "az": _az}
    # What the clients' authors say to whoever writes calls is nothing for whoever runs a build.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        store: Store = opened[scheme](environ)
    return store


def status_of(error: BaseException) -> int | None:
    """The HTTP status that an error of one of the clients carries, itself or by its cause."""
    if isinstance(error, PermissionError):
        return 403
    found: BaseException | None = error
    while found is not None:
        response = getattr(found, "response", None)
        told = response.get("ResponseMetadata", {}).get("HTTPStatusCode") if isinstance(response, dict) else None
        # aiohttp's parser calls a body that was cut short a 400, too.
        code = getattr(found, "code", None) if type(found).__module__.startswith("gcsfs.") else None
        for status in (told, getattr(found, "status_code", None), code):
            if isinstance(status, int) or (isinstance(status, str) and status.isdigit()):
                return int(status)
        found = found.__cause__
    if isinstance(error, FileNotFoundError):
        return 404
    # gcsfs tells of 403 by the text alone.
    return 403 if str(error).startswith("Forbidden") else None


def _s3(environ: Mapping[str, str]) -> Store:
    import aiohttp
    import botocore.session
    from botocore.exceptions import BotoCoreError, ClientError
    from s3fs import S3FileSystem

    region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
    client = S3FileSystem(
        # Public buckets need no login, and the client would insist on one.
        anon=botocore.session.get_session().get_credentials() is None,
        client_kwargs={"region_name": region} if region else {},
        config_kwargs={
            "connect_timeout": _CONNECT_SECONDS,
            "read_timeout": _READ_SECONDS,
            "retries": {"total_max_attempts": 2, "mode": "standard"},
        },
        use_listings_cache=False,
        skip_instance_cache=True,
    )
    # The download goes on by itself, from the last byte that came.
    client.retries = 1
    return Store(client, (OSError, BotoCoreError, ClientError, aiohttp.ClientError))


def _gs(environ: Mapping[str, str]) -> Store:
    import aiohttp
    import google.auth.exceptions
    import requests

    # The package's own name for it asks a second service about the bucket before every call.
    from gcsfs.core import GCSFileSystem
    from gcsfs.retry import HttpError

    client = GCSFileSystem(
        token="anon" if environ.get("STORAGE_EMULATOR_HOST") else None,
        access="read_only",
        project=environ.get("GOOGLE_CLOUD_PROJECT", ""),
        requests_timeout=_READ_SECONDS,
        use_listings_cache=False,
        skip_instance_cache=True,
    )
    errors = (
        OSError,
        HttpError,
        aiohttp.ClientError,
        google.auth.exceptions.GoogleAuthError,
        requests.RequestException,
    )
    return Store(client, errors)


def _az(environ: Mapping[str, str]) -> Store:
    import aiohttp
    from adlfs import AzureBlobFileSystem
    from azure.core.exceptions import AzureError

    def setting(*names: str) -> str | None:
        return next((environ[name] for name in names if environ.get(name)), None)

    login = {
        "connection_string": setting("AZURE_STORAGE_CONNECTION_STRING"),
        "account_key": setting("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_KEY"),
        "sas_token": setting("AZURE_STORAGE_SAS_TOKEN"),
        "client_secret": setting("AZURE_CLIENT_SECRET"),
    }
    client = AzureBlobFileSystem(
        account_name=setting("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT"),
        client_id=setting("AZURE_CLIENT_ID"),
        tenant_id=setting("AZURE_TENANT_ID"),
        anon=not any(login.values()),
        connection_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
        use_listings_cache=False,
        skip_instance_cache=True,
        **login,
    )
    return Store(client, (OSError, AzureError, aiohttp.ClientError))
