"""Evaluation data: CSV or JSON Lines, read row by row, sampled evenly when there is more than a build can afford."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import numpy as np
import numpy.typing as npt

from tapchanger_serving.build.failures import DATASET_FIELD, StepError
from tapchanger_serving.build.files import shown
from tapchanger_serving.contract.gates import LABEL_SEPARATOR

if TYPE_CHECKING:
    from tapchanger_serving.contract.gates import DatasetSource, TextSource

MAX_ROWS = 5000
_CELL_LIMIT = 1 << 24
_ROWS_LIMIT = 2_000_000
_FILE_LIMIT = 2 << 30
SUFFIXES = (".csv", ".jsonl")


@dataclass(frozen=True, slots=True)
class Rows:
    """Texts in the data's order. `labels` are as written in the data; `slices` holds one value per text and column.

    `numbers` are those of the rows in the data, from 1, where it was thinned.
    """

    texts: tuple[str, ...]
    pairs: tuple[str, ...] | None = None
    labels: tuple[str, ...] | None = None
    slices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    numbers: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return len(self.texts)

    def numbered(self) -> npt.NDArray[np.intp]:
        """The number of each row in the data."""
        return np.array(self.numbers or range(1, len(self) + 1), dtype=np.intp)

    def whole(self) -> list[str]:
        """Each text with its pair, if there is one, as one string."""
        return [f"{text}\n{pair}" for text, pair in zip(self.texts, self.pairs or repeat(""), strict=False)]


def read_dataset(path: Path, source: DatasetSource, limit: int = MAX_ROWS) -> Rows:
    """Reads the columns that `source` names; more than `limit` rows are thinned evenly, always in the same way.

    A list, which JSON Lines may hold, is read as its items with the separator of labels between; as a text, with spaces.
    Raises `DatasetInvalid` for a broken file, a missing column or no rows.
    """
    rows, numbers, columns = _read(path, source, (source.label, *source.slices), limit, DATASET_FIELD)
    return Rows(
        texts=columns[source.text],
        pairs=columns[source.text_pair] if source.text_pair else None,
        labels=tuple(_joined(row[source.label], LABEL_SEPARATOR) for row in rows),
        slices={name: columns[name] for name in source.slices},
        numbers=numbers,
    )


def read_texts(path: Path, source: TextSource, limit: int, field: str) -> Rows:
    """The same for texts without labels; `field` is the spec's that names them."""
    _, numbers, columns = _read(path, source, (), limit, field)
    return Rows(columns[source.text], columns[source.text_pair] if source.text_pair else None, numbers=numbers)


def _read(
    path: Path, source: DatasetSource | TextSource, more: tuple[str, ...], limit: int, field: str
) -> tuple[list[dict[str, object]], tuple[int, ...], dict[str, tuple[str, ...]]]:
    """Rows, their numbers, and the columns as texts."""
    wanted = [source.text, *([source.text_pair] if source.text_pair else []), *more]
    try:
        # Read twice, so that only the rows that are kept are ever in memory.
        kept = evenly(sum(1 for _ in _rows(path, wanted)), limit)
        chosen = frozenset(kept)
        rows = [row for index, row in enumerate(_rows(path, wanted)) if index in chosen]
    except (ValueError, csv.Error, RecursionError) as error:
        raise _invalid(f"{source.uri}: {error}", field) from error
    if not rows:
        raise _invalid(f"{source.uri} has no rows", field)
    columns = {name: tuple(_joined(row[name], " ") for row in rows) for name in wanted}
    return rows, tuple(index + 1 for index in kept), columns


def evenly(count: int, limit: int) -> list[int]:
    """At most `limit` indices below `count`, evenly spread, in order."""
    return [index * count // limit for index in range(limit)] if count > limit else list(range(count))


def suffix_of(uri: str, field: str = DATASET_FIELD) -> str:
    """The kind of data file by the URI's path. Raises `DatasetInvalid` for one that this release can't read."""
    path = uri.split("@sha256:")[0].split("?")[0]
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise _invalid(f"{uri} ends in {suffix or 'nothing'}; this release reads {' and '.join(SUFFIXES)}", field)
    return suffix


def require_size(path: Path, uri: str, field: str = DATASET_FIELD) -> None:
    """Raises `DatasetInvalid` for a file of more than 2 GiB."""
    if path.stat().st_size > _FILE_LIMIT:
        raise _invalid(f"{uri} has {path.stat().st_size} bytes, and at most {_FILE_LIMIT} are read", field)


def _rows(path: Path, wanted: list[str]) -> Iterator[dict[str, object]]:
    for number, record in enumerate(_records(path), start=1):
        if number > _ROWS_LIMIT:
            msg = f"more than {_ROWS_LIMIT} rows; a build evaluates {MAX_ROWS}, so give a sample"
            raise ValueError(msg)
        yield _cells(record, wanted, number)


def _lines(stream: TextIO) -> Iterator[str]:
    number = 0
    while line := stream.readline(_CELL_LIMIT + 1):
        number += 1
        if len(line) > _CELL_LIMIT:
            msg = f"line {number} has more than {_CELL_LIMIT} characters"
            raise ValueError(msg)
        if "\0" in line:
            msg = f"line {number} holds a NUL character"
            raise ValueError(msg)
        yield line


def _records(path: Path) -> Iterator[Mapping[str, object]]:
    csv.field_size_limit(_CELL_LIMIT)
    with path.open(encoding="utf-8-sig", newline="") as stream:
        if path.suffix == ".csv":
            yield from csv.DictReader(_lines(stream), strict=True)
            return
        for number, line in enumerate(_lines(stream), start=1):
            if not line.strip():
                continue
            record = json.loads(line)
            if not isinstance(record, dict):
                msg = f"line {number} holds a {type(record).__name__}, not an object"
                raise ValueError(msg)
            yield record


def _cells(row: Mapping[str, object], wanted: list[str], number: int) -> dict[str, object]:
    missing = [name for name in wanted if row.get(name) is None]
    if missing:
        columns = ", ".join(shown(name) for name in list(row)[:20])
        msg = f"row {number} has no {', '.join(repr(name) for name in missing)}; the columns are {columns}"
        raise ValueError(msg)
    cells = {name: row[name] for name in wanted}
    torn = [name for name, cell in cells.items() if any("\ud800" <= character <= "\udfff" for character in str(cell))]
    if torn:
        msg = f"row {number} has half a surrogate pair in {torn[0]!r}, which is no text"
        raise ValueError(msg)
    return cells


def _joined(cell: object, separator: str) -> str:
    return separator.join(str(item) for item in cell) if isinstance(cell, list) else str(cell)


def _invalid(message: str, field: str) -> StepError:
    return StepError(
        "DatasetInvalid",
        message,
        field=field,
        remedy="give a UTF-8 .csv with a header line or a .jsonl with one object a line, not packed, and name its columns",
    )
