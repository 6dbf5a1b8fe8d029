"""What an expression may be, as far as a trace through source code knows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Kind:
    """What an expression may be: `what` is module, class, object, method, list, local class, local object or function."""

    what: str
    of: Any = None
    name: str = ""


Kinds = frozenset[Kind]
NOTHING: Kinds = frozenset()


@dataclass
class Traced:
    """What was found: the uses that are wrong, and all that were looked at as `Class.name`."""

    wrong: list[str] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)


def joined(found: Iterable[Kinds]) -> Kinds:
    """All of them."""
    return NOTHING.union(*found)


def listed(kinds: Kinds) -> Kinds:
    """A list of such values."""
    return frozenset(Kind("list", kind) for kind in kinds)


def items(kinds: Kinds) -> Kinds:
    """What lies in lists of such values."""
    return frozenset(kind.of for kind in kinds if kind.what == "list")
