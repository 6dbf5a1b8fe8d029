"""What was built last: `images.json` for the chart, and the keys by which the next build knows that nothing changed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Record:
    """An image that was pushed: the key of its content and `HOST/REPOSITORY@sha256:…`."""

    key: str
    reference: str


@dataclass(frozen=True)
class Base:
    """The base image: what it is and the reference that buildah builds from."""

    origin: str
    reference: str


@dataclass(frozen=True)
class Home:
    """The folders below `$TAPCHANGER_HOME` that images use."""

    root: Path

    @property
    def folder(self) -> Path:
        """Records, logs and what the base image is made from."""
        return self.root / "images"

    @property
    def cache(self) -> Path:
        """buildah's scratch space with the package caches of all builds."""
        return self.root / "cache" / "buildah"

    @property
    def images(self) -> Path:
        """Target → reference, for the chart's values."""
        return self.root / "images.json"

    def records(self) -> dict[str, Record]:
        """What was pushed, by target."""
        return {name: Record(**record) for name, record in _read(self.folder / "records.json").items()}

    def write_records(self, records: Mapping[str, Record]) -> None:
        """Keeps what was pushed and writes `images.json` from it."""
        _write(self.folder / "records.json", {name: asdict(record) for name, record in sorted(records.items())})
        _write(self.images, {name: record.reference for name, record in sorted(records.items())})

    def base(self) -> Base | None:
        """The base image of the last build."""
        found = _read(self.folder / "base.json")
        return Base(**found) if found else None

    def write_base(self, base: Base) -> None:
        """Keeps the base image for the next build."""
        _write(self.folder / "base.json", asdict(base))


def home(environment: Mapping[str, str] = os.environ) -> Home:
    """`$TAPCHANGER_HOME`, or `~/.cache/tapchanger`."""
    return Home(Path(environment.get("TAPCHANGER_HOME") or "~/.cache/tapchanger").expanduser().resolve())


def _read(path: Path) -> dict[str, Any]:
    """An empty dictionary where there is no such file, or one that was cut off while it was written."""
    try:
        found = json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.write_text(json.dumps(content, indent=2) + "\n")
    scratch.replace(path)
