"""Which store the environment names, and the conversation with it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tapchanger_serving.build import credentials
from tapchanger_serving.build.failures import STORE_FIELD, StepError
from tapchanger_serving.build.places import Places
from tapchanger_serving.build.stores.base import ArtifactStore
from tapchanger_serving.build.stores.volume import Volume

if TYPE_CHECKING:
    from tapchanger_serving.build.stores.remote import Remote

_S3 = re.compile(r"s3://(?P<bucket>[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9])/(?P<prefix>[A-Za-z0-9][A-Za-z0-9._/-]*)")
_OCI = re.compile(
    r"oci://(?P<host>[A-Za-z0-9.-]+(?::\d+)?|\[::1\]:\d+)/(?P<repository>[a-z0-9]+(?:(?:[._/]|__|-+)[a-z0-9]+)*)"
)


@contextmanager
def opened(places: Places) -> Iterator[ArtifactStore]:
    """The store that `places` names. Its login is in the environment only as long as this is open."""
    if not places.store_uri:
        yield Volume(places)
        return
    with remote(places) as store:
        yield store


@contextmanager
def remote(places: Places) -> Iterator[Remote]:
    """The store elsewhere that `places.store_uri` names. Raises `StoreInvalid` for what names none."""
    uri = places.store_uri.rstrip("/")
    bucket, repository = _S3.fullmatch(uri), _OCI.fullmatch(uri)
    if ".." in uri or not (bucket or repository):
        raise StepError(
            "StoreInvalid",
            f"{uri!r} names no store",
            field=STORE_FIELD,
            remedy="write s3://BUCKET/PREFIX or oci://REGISTRY/REPOSITORY",
        )
    with credentials.lent(places.store_credentials):
        if bucket:
            from tapchanger_serving.build.stores.objects import Objects

            yield Objects.at(uri, bucket["bucket"], bucket["prefix"])
        elif repository:
            from tapchanger_serving.build.stores.oci import Repository

            with Repository.at(uri, repository["host"], repository["repository"]) as store:
                yield store
