"""The CRDs' schemas as an API server uses them: validating, and filling in defaults."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator
from typing import Any

import jsonschema

from tapchanger_operator.api import crd

Schema = dict[str, Any]


@functools.cache
def schema_of(kind: str, part: str) -> Schema:
    """The schema of `spec` or `status` of a kind, which nobody changes."""
    found = next(d for d in crd.definitions().values() if d["spec"]["names"]["kind"] == kind)
    root = found["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    result: Schema = root["properties"][part]
    return result


def problems(schema: Schema, value: Any) -> list[str]:
    """What the API server would say of `value`, without CEL. Structural schemas count bounds as draft 4 does."""
    validator = jsonschema.Draft4Validator(_closed(schema))
    return [f"{'.'.join(str(p) for p in e.absolute_path)}: {e.message}" for e in validator.iter_errors(value)]


def _closed(schema: Any) -> Any:
    """Unknown fields count as wrong, as they do with `--validate=strict`, except where all are kept."""
    if isinstance(schema, list):
        return [_closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: value if key in ("default", "enum") else _closed(value) for key, value in schema.items()}
    keeps = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    return closed if schema.get("type") != "object" or keeps else {**closed, "additionalProperties": False}


def defaulted(schema: Schema, value: Any) -> Any:
    """`value` with the schema's defaults filled in."""
    if isinstance(value, list):
        return [defaulted(schema.get("items", {}), item) for item in value]
    if not isinstance(value, dict):
        return value
    filled = copy.deepcopy(value)
    for name, child in schema.get("properties", {}).items():
        if name not in filled and "default" in child:
            filled[name] = copy.deepcopy(child["default"])
        if name in filled:
            filled[name] = defaulted(child, filled[name])
    return filled


def nodes(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """Every schema within a schema, with its path."""
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    for part in ("items", "additionalProperties"):
        if isinstance(schema.get(part), dict):
            yield from nodes(schema[part], f"{path}[]")
