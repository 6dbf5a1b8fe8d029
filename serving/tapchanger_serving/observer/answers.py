"""Which revision answered a request, and what: kept of the last requests, so that a label may come long after the answer.

A request is known by its router's span, and more of it by its server's, in whatever order they come. It is found by its trace
id or by its `x-request-id`. At least the last `limit` and at most the last 2 × `limit` requests are remembered, in about 350
bytes each.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from tapchanger_serving.observer.keys import Key

REMEMBERED: Final = 32_000
SAVED: Final = 20_000
"""So many of the last requests are carried over a restart."""
PIECE: Final = 1_000
"""Requests that are encoded at a time."""
_SEVERAL: Final = b""
_SERVER: Final = "server"
_HEAD: Final = struct.Struct("<HIB")
_ROW: Final = struct.Struct("<HH")
_MOST_WORDS: Final = 65_535
_UUID: Final = 36

Rows = tuple[tuple[str, float], ...]
"""Label and score of each text of a request."""


class SeveralError(LookupError):
    """A trace in which a deployment answered more than once."""


class Answer(NamedTuple):
    """What is remembered of a request: `end` in Unix seconds, the class of its tokens (0: unknown), and what was answered to
    its first texts (none: its server told nothing).
    """

    identity: bytes
    key: Key
    end: int
    tokens: int
    rows: Rows


class _Generation:
    """Requests that are forgotten together, with the words that they need."""

    def __init__(self) -> None:
        self.answers: dict[bytes, bytes] = {}
        self.keys: dict[Key, int] = {}
        self.labels: dict[str, int] = {}
        self.by_number: tuple[list[Key], list[str]] = ([], [])

    def put(self, answer: Answer) -> None:
        keys, labels = self.by_number
        rows = b""
        for label, score in answer.rows:
            number = self.labels.get(label)
            if number is None:
                if len(labels) >= _MOST_WORDS:
                    break
                number = self.labels[label] = len(labels)
                labels.append(label)
            rows += _ROW.pack(number, round(score * 10_000))
        which = self.keys.get(answer.key)
        if which is None:
            which = self.keys[answer.key] = len(keys)
            keys.append(answer.key)
        self.answers[answer.identity] = _HEAD.pack(which, answer.end, answer.tokens) + rows

    def get(self, identity: bytes) -> Answer | None:
        packed = self.answers.get(identity)
        if packed is None:
            return None
        keys, labels = self.by_number
        which, end, tokens = _HEAD.unpack_from(packed)
        rows = tuple((labels[number], score / 10_000) for number, score in _ROW.iter_unpack(packed[_HEAD.size :]))
        return Answer(identity, keys[which], end, tokens, rows)


class Answers:
    """The last requests. An identity is a trace's id and then the router's span's."""

    def __init__(self, limit: int = REMEMBERED) -> None:
        self._limit = min(limit, _MOST_WORDS)
        self._young, self._old = _Generation(), _Generation()
        self._names: dict[int, bytes] = {}
        self._old_names: dict[int, bytes] = {}

    def asked(self, key: Key, identity: bytes, end: float, request_id: str) -> None:
        """Remember what a router said of a request."""
        if len(identity) != 24:
            return
        known = None
        if identity in self._young.answers or identity in self._old.answers:  # its server was first
            known = self.find(identity)
        rows, tokens = (known.rows, known.tokens) if known else ((), 0)
        self._put(Answer(identity, key, int(end), tokens, rows))
        self._name(_of_trace(key, identity[:16]), identity)
        if request_id:
            self._name(_of_request(key, request_id), identity)

    def answered(self, key: Key, identity: bytes, end: float, tokens: int, rows: Rows) -> None:
        """Remember what a server said of a request."""
        if len(identity) != 24:
            return
        known = self.find(identity)
        self._put(Answer(identity, key, known.end if known else int(end), tokens, rows))
        self._name(_of_trace(key, identity[:16], _SERVER), identity)

    def find(self, identity: bytes) -> Answer | None:
        """What is remembered of a request, by its identity."""
        return self._young.get(identity) or self._old.get(identity)

    def recall(self, namespace: str, deployment: str, name: str) -> Answer | None:
        """What is remembered of a request of a deployment, by its trace id or its request id.

        Raises SeveralError where a trace id is not enough.
        """
        about, trace = Key(namespace, deployment, ""), _trace_id(name)
        found = None
        if trace is not None:
            found = self._named(_of_trace(about, trace))
            if found is None:
                found = self._named(_of_trace(about, trace, _SERVER))
        if found is None:
            found = self._named(_of_request(about, name))
        if found is None:
            return None
        if found == _SEVERAL:
            raise SeveralError(
                "it names several requests to the deployment; send the x-request-id of the one that is meant"
            )
        answer = self.find(found)
        if answer is None or answer.key[:2] != (namespace, deployment):
            return None
        return answer if answer.rows else self._joined(answer)

    def _joined(self, answer: Answer) -> Answer:
        """With what the server told of it where another span lies between the two, as that of a proxy does."""
        trace = answer.identity[:16]
        told = self._named(_of_trace(answer.key, trace, _SERVER))
        if not told or self._named(_of_trace(answer.key, trace)) != answer.identity:
            return answer
        other = self.find(told)
        if other is None or other.key != answer.key:
            return answer
        return answer._replace(rows=other.rows, tokens=other.tokens)

    def saved(self) -> Iterator[list[list[Any]]]:
        """The last requests, oldest first, in pieces for JSON."""
        last = [*self._old.answers, *self._young.answers][-SAVED:]
        names: dict[bytes, list[int]] = {identity: [] for identity in last}
        for kept in (self._old_names, self._names):
            for name, identity in kept.items():
                if name >= 0 and identity in names:
                    names[identity].append(name)
        for start in range(0, len(last), PIECE):
            found = filter(None, map(self.find, last[start : start + PIECE]))
            yield [[one.identity.hex(), *one.key, one.end, one.tokens, one.rows, names[one.identity]] for one in found]

    def load(self, rows: Iterable[list[Any]]) -> None:
        """What :meth:`saved` wrote. Raises ValueError, TypeError or IndexError for anything else."""
        for identity, namespace, deployment, revision, end, tokens, told, of_request in rows:
            key, which = Key(str(namespace), str(deployment), str(revision)), bytes.fromhex(identity)
            if len(which) != 24:
                raise ValueError(f"identity {identity!r}")
            answers = tuple((str(label), float(score)) for label, score in told)
            self._put(Answer(which, key, int(end), int(tokens), answers))
            self._name(_of_trace(key, which[:16], _SERVER if told and not of_request else ""), which)
            if told:
                self._name(_of_trace(key, which[:16], _SERVER), which)
            for name in of_request:
                self._name(int(name), which)

    def _put(self, answer: Answer) -> None:
        if answer.identity not in self._young.answers and len(self._young.answers) >= self._limit:
            self._old, self._young = self._young, _Generation()
            self._old_names, self._names = self._names, {}
        self._young.put(answer)

    def _name(self, name: int, identity: bytes) -> None:
        before = self._names.get(name)
        if before is None:
            before = self._old_names.get(name)
        self._names[name] = identity if before is None or before == identity else _SEVERAL

    def _named(self, name: int) -> bytes | None:
        found = self._names.get(name)
        return self._old_names.get(name) if found is None else found


def _trace_id(name: str) -> bytes | None:
    try:
        return bytes.fromhex(name) if len(name) == 32 else None
    except ValueError:
        return None


def _of_trace(key: Key, trace_id: bytes, kind: str = "") -> int:
    """A negative number, which isn't kept: it is another one after each start."""
    return -1 - abs(hash((key.namespace, key.deployment, trace_id, kind)))


def _of_request(key: Key, request_id: str) -> int:
    """Of a UUID the last 60 bits, which are random: Envoy writes where its version is why the request is traced."""
    salt = _salt(key.namespace, key.deployment)
    if len(request_id) == _UUID and request_id[18] == request_id[23] == "-":
        try:
            return salt ^ int(request_id[20:23] + request_id[24:], 16)
        except ValueError:
            pass
    return salt ^ _digest(request_id)


@lru_cache(maxsize=4096)
def _salt(namespace: str, deployment: str) -> int:
    return _digest(f"{namespace}/{deployment}")


def _digest(text: str) -> int:
    """60 bits that are the same after a restart."""
    return int.from_bytes(blake2b(text.encode(errors="replace"), digest_size=8).digest()) >> 4
