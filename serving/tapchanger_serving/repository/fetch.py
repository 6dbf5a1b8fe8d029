"""Brings the artifact to this pod where the store is not a mounted volume."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tapchanger_serving.repository.verify import ArtifactError


@contextmanager
def at_hand(store: str, digest: str) -> Iterator[Path]:
    """The folder in which the artifact `sha256:<hex>` lies as in a volume: `store` itself, unless that is a URI.

    Raises :class:`ArtifactError`, a :class:`tapchanger_serving.repository.verify.DamagedError` where it is missing or
    another. A store that can't be reached is an ArtifactError too: the kubelet tries again.
    """
    if "://" not in store:
        yield Path(store)
        return
    # A server with a volume needs no client of any store.
    from tapchanger_serving.build.failures import StepError
    from tapchanger_serving.build.places import Places
    from tapchanger_serving.build.redaction import redacted
    from tapchanger_serving.build.scratch import scratch
    from tapchanger_serving.build.stores.location import remote

    with scratch() as folder:
        try:
            with remote(dataclasses.replace(Places.from_environment(), store_uri=store)) as found:
                found.fetch(digest, folder)
        except StepError as error:
            told = error.failure
            raise ArtifactError(redacted(f"{told.reason}: {told.message}; {told.remedy}")) from error
        yield folder
