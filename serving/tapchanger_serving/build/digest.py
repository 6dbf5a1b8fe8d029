"""Content digests of files and of folders."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

_CHUNK = 1 << 20


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of the file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def copy_hashed(source: Path, target: Path) -> str:
    """Copies a file and returns the hex SHA-256 of the very bytes that were written."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with source.open("rb") as reader, target.open("wb") as writer:
        while chunk := reader.read(_CHUNK):
            digest.update(chunk)
            writer.write(chunk)
    return digest.hexdigest()


def tree_digest(sha256_by_path: Mapping[str, str]) -> str:
    """`sha256:<hex>` over the sorted lines `<sha256>  <path>\\n`: what `sha256sum FILES | LC_ALL=C sort | sha256sum` prints."""
    lines = sorted(f"{sha256}  {path}\n" for path, sha256 in sha256_by_path.items())
    return "sha256:" + hashlib.sha256("".join(lines).encode()).hexdigest()


def hash_tree(folder: Path, files: Iterable[str]) -> str:
    """:func:`tree_digest` of some files of a folder."""
    return tree_digest({path: file_sha256(folder / path) for path in files})


def copy_tree(folder: Path, files: Iterable[str], target: Path) -> str:
    """Copies some files of a folder into the emptied `target` and returns the :func:`tree_digest` of what was copied."""
    shutil.rmtree(target, ignore_errors=True)
    return tree_digest({path: copy_hashed(folder / path, target / path) for path in files})
