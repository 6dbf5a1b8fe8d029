"""Follows a TransformerDeployment: every status that it had, and when."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from dev.common.kubectl import Kubectl, Object


@dataclass(frozen=True)
class Seen:
    """The object as it was from `at` (Unix seconds) on."""

    at: float
    body: Object

    @property
    def message(self) -> str:
        """The sentence of status."""
        return str(self.body.get("status", {}).get("message", ""))


@dataclass(frozen=True)
class Stage:
    """A time during which a revision had `weight` percent of the traffic, in Unix seconds."""

    revision: str
    weight: int
    since: float
    until: float


@dataclass
class Follower:
    """Collects statuses while it is entered. `told` is called with each one whose sentence is new."""

    kubectl: Kubectl
    name: str
    namespace: str
    told: Callable[[Seen], None] | None = None
    seen: list[Seen] = field(default_factory=list)

    def __enter__(self) -> Follower:
        self._process, self._changes = self.kubectl.changes("tdep", self.name, self.namespace)
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        self._thread.join(timeout=10)
        if self._process.stdout:
            self._process.stdout.close()

    def _collect(self) -> None:
        for body in self._changes:
            seen = Seen(time.time(), body)
            is_news = not self.seen or self.seen[-1].message != seen.message
            self.seen.append(seen)
            if is_news and self.told:
                self.told(seen)

    def messages(self) -> list[str]:
        """The different sentences, in their order."""
        found: list[str] = []
        for seen in list(self.seen):
            if not found or found[-1] != seen.message:
                found.append(seen.message)
        return found


def stages(seen: list[Seen], until: float) -> list[Stage]:
    """When a canary had which weight, by the operator's own record; the last stage ends with its canary, or at `until`."""
    found: list[Stage] = []
    for entry in seen:
        canary = entry.body.get("status", {}).get("canary") or {}
        started = canary.get("stepStartedAt")
        if found and found[-1].until == until:
            known = found[-1]
            if started and (unix(started), canary["weight"]) == (known.since, known.weight):
                continue
            end = unix(started) if started else entry.at
            found[-1] = Stage(known.revision, known.weight, known.since, end)
        if started:
            found.append(Stage(canary["revision"], canary["weight"], unix(started), until))
    return found


def unix(text: str) -> float:
    """Unix seconds of an RFC 3339 text."""
    return datetime.fromisoformat(text).timestamp()
