"""Step `inspect`: what the checkpoint is, what it weighs, and what machine this is."""

from __future__ import annotations

from typing import cast

from tapchanger_serving.build import cache, credentials, log
from tapchanger_serving.build.checkpoint import AUTO, Checkpoint, natural_task, read_checkpoint
from tapchanger_serving.build.digest import hash_tree
from tapchanger_serving.build.failures import MODEL_FIELD, StepError
from tapchanger_serving.build.finite import require_finite
from tapchanger_serving.build.places import Places
from tapchanger_serving.build.scratch import scratch
from tapchanger_serving.build.sources import source_of
from tapchanger_serving.build.vocabulary import TOKENIZER, try_tokenizer
from tapchanger_serving.contract.messages import Inspection, Task
from tapchanger_serving.hardware import probe


def inspect(uri: str, task: str, places: Places, known: Inspection | None = None) -> Inspection:
    """Reads the checkpoint at `uri` for `task`; "auto" is the first task that its head can do.

    Where the source tells that nothing changed, `known` is the answer.

    Raises :class:`tapchanger_serving.build.failures.StepError` for everything that the user has to change.
    """
    credentials.adopt(places.credentials)
    source = source_of(uri, claims=places.claims)
    # Asked before the download: content that comes in between is found at the next look.
    version = source.version()
    if known is not None and version is not None and version == known.version:
        log.info("checkpoint is as it was", uri=uri, digest=known.digest)
        return known
    with scratch() as folder:
        found_at = source.folder(folder)
        task = natural_task(found_at) if task == AUTO else task
        checkpoint = read_checkpoint(found_at, task)
        digest = hash_tree(checkpoint.folder, checkpoint.files)
        require_pin(uri, source.tree_pin, digest)
        require_finite(checkpoint.folder, checkpoint.weights)
        _try_tokenizer(checkpoint)
        if source.remote:
            cache.keep(places, checkpoint, digest)
        found = _described(checkpoint, digest, task, version)
    log.info(
        "inspected checkpoint", uri=uri, digest=digest, architecture=found.architecture, parameters=found.parameters
    )
    return found


def require_pin(uri: str, pin: str | None, digest: str) -> None:
    """Raises `DigestMismatch` if the URI pins another content than the one found."""
    if pin is not None and pin != digest:
        raise StepError(
            "DigestMismatch",
            f"{uri}: found {digest}, wanted {pin}",
            field=MODEL_FIELD,
            remedy="pin the found digest if the new content is the one you want",
        )


def _try_tokenizer(checkpoint: Checkpoint) -> None:
    """Older vocabulary files become a tokenizer in step `export`, which tries it then."""
    if TOKENIZER in checkpoint.files:
        try_tokenizer(checkpoint.folder / TOKENIZER, checkpoint.embedding_rows, checkpoint.max_tokens)


def _described(checkpoint: Checkpoint, digest: str, task: str, version: str | None) -> Inspection:
    return Inspection(
        digest=digest,
        task=cast("Task", task),
        architecture=checkpoint.architecture,
        labels=checkpoint.labels,
        max_tokens=checkpoint.max_tokens,
        parameters=checkpoint.weights.parameters,
        size_bytes=checkpoint.size_bytes,
        hardware=probe(),
        version=version,
    )
