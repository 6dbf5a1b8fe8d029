"""What the functions of a pybind11 module take and give, read from the first lines of their docstrings."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

_OVERLOAD = re.compile(r"^(?:\d+\. )?(?P<name>\w+)\((?P<parameters>.*)\) -> (?P<result>.+)$")
_PREFIX = re.compile(r"\b(?:\w+\.)+(?=\w)|\b\w+::")
_RENAMED = {"IParserError": "ParserError"}
"""Names of C++ that a docstring has where its class was bound later, and under another name."""


@dataclass(frozen=True)
class Parameter:
    """One parameter; `kind` is its type without the module's name."""

    name: str
    kind: str
    required: bool


@dataclass(frozen=True)
class Signature:
    """One overload, without `self`."""

    parameters: tuple[Parameter, ...]
    result: str

    def complaint(
        self, positional: Sequence[str], named: Mapping[str, str], fits: Callable[[str, str], bool]
    ) -> str | None:
        """Why a call doesn't fit; None if it does. Arguments are given by their type, or "" where it isn't known."""
        if len(positional) > len(self.parameters):
            return f"takes {len(self.parameters)} arguments, and {len(positional)} are given"
        given = dict(zip((parameter.name for parameter in self.parameters), positional, strict=False))
        for name, kind in named.items():
            if name in given:
                return f"is given {name} twice"
            given[name] = kind
        known = {parameter.name: parameter for parameter in self.parameters}
        for name, kind in given.items():
            if name not in known:
                return f"has no parameter {name}; it takes {', '.join(known) or 'nothing'}"
            if kind and not fits(kind, known[name].kind):
                return f"takes {known[name].kind} as {name}, and {kind} is given"
        missing = [name for name, parameter in known.items() if parameter.required and name not in given]
        return f"needs {', '.join(missing)}" if missing else None


def signatures(documented: object) -> tuple[Signature, ...]:
    """The overloads that a bound function documents; none where it isn't one of pybind11's."""
    lines = (documented.__doc__ or "").splitlines()
    # An overloaded function says first that it takes anything.
    matches = (_OVERLOAD.match(line.strip()) for line in lines)
    return tuple(_signature(match["parameters"], match["result"]) for match in matches if match)


def plain(kind: str) -> str:
    """A type's name without its module: `tensorrt_bindings.tensorrt.Dims` is `Dims`."""
    name = _PREFIX.sub("", kind.strip())
    return _RENAMED.get(name, name)


def _signature(parameters: str, result: str) -> Signature:
    found = []
    for text in _split(parameters):
        name, _, rest = text.partition(":")
        kind, _, default = rest.partition(" = ")
        found.append(Parameter(name.strip(), plain(kind), required=not default))
    if found and found[0].name in ("self", "arg0"):
        del found[0]
    return Signature(tuple(found), plain(result))


def _split(text: str) -> Iterator[str]:
    """Parts between commas that no bracket encloses."""
    depth, start = 0, 0
    for index, letter in enumerate(text):
        depth += (letter in "[(<") - (letter in "])>")
        if letter == "," and depth == 0:
            yield text[start:index]
            start = index + 1
    if text[start:].strip():
        yield text[start:]
