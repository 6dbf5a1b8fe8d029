"""The labels of a classifier, as config.json names them."""

from __future__ import annotations

from typing import Any

from tapchanger_serving.build.files import invalid, shown

_MOST = 100_000
_LONGEST = 1000
_REMEDY = 'write id2label as {"0": "first name", "1": "second name"}: ids from 0 on, names of one line'


def labels_of(config: dict[str, Any]) -> tuple[str, ...]:
    """The names in the order of their ids. Raises `CheckpointInvalid`.

    At most 100,000 labels are read; a name has at most 1,000 characters and no control characters, because it is answered,
    logged and compared with the labels of data files.
    """
    named = config.get("id2label")
    if not named:
        # transformers leaves the names out when they are its own default.
        return tuple(f"LABEL_{index}" for index in range(_count(config.get("num_labels", 2), "num_labels")))
    if not isinstance(named, dict):
        raise invalid(f"config.json has id2label {shown(named)}, which is no object", _REMEDY)
    count = _count(len(named), "as many labels as")
    try:
        by_id = {int(key): value for key, value in named.items()}
    except ValueError as error:
        raise invalid(f"config.json has an id2label with an id that is no number: {shown(error)}", _REMEDY) from error
    if sorted(by_id) != list(range(count)):
        raise invalid(f"config.json has an id2label of {count} names whose ids are not 0 to {count - 1}", _REMEDY)
    return tuple(_name(index, by_id[index]) for index in range(count))


def _count(value: Any, what: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _MOST:
        raise invalid(f"config.json has {what} {shown(value)}; it must be a whole number from 1 to {_MOST}", _REMEDY)
    return value


def _name(index: int, value: Any) -> str:
    if not isinstance(value, str | int | float):
        raise invalid(f"label {index} in config.json is {shown(value)}, which is no name", _REMEDY)
    name = str(value)
    if not name.isprintable() or len(name) > _LONGEST:
        raise invalid(
            f"label {index} in config.json is {shown(name)!r}, of {len(name)} characters; "
            f"a label has at most {_LONGEST} characters and no control characters",
            _REMEDY,
        )
    return name
