"""Scenarios one after the other in a thread, while the tests go on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from dev.common.deployment import Deployment
from dev.common.kubectl import Kubectl
from dev.common.stack import Stack
from tests.e2e.support import described

T = TypeVar("T")
LONGEST_SECONDS = 1800.0
"""For all of them together. Each step of a scenario has its own time as well."""


@dataclass(frozen=True)
class Scene:
    """What scenarios find: the cluster, the shared namespace with its engines, and real texts with their labels."""

    stack: Stack
    kubectl: Kubectl
    space: str
    engines: dict[str, Deployment]
    labelled: list[tuple[str, str]]
    texts: list[str]
    lesson: Callable[[int], None]

    def described(self, name: str, uri: str, **spec: Any) -> Deployment:
        return described(self.kubectl, self.space, name, uri, **spec)


Scenario = Callable[[Scene], Any]


class Beside(threading.Thread):
    """Runs `scenarios` in their order. What one of them raises is raised again where its outcome is asked for."""

    def __init__(self, scene: Scene, scenarios: Sequence[Scenario]) -> None:
        super().__init__(name="scenarios", daemon=True)
        self._scene = scene
        self._outcomes: dict[Scenario, Future[Any]] = {scenario: Future() for scenario in scenarios}

    def run(self) -> None:
        for scenario, outcome in self._outcomes.items():
            if not outcome.set_running_or_notify_cancel():
                continue
            try:
                outcome.set_result(scenario(self._scene))
            except BaseException as problem:  # noqa: BLE001 -- raised again where the outcome is asked for
                outcome.set_exception(problem)

    def outcome(self, scenario: Callable[[Scene], T]) -> T:
        """What the scenario returned, as soon as it has."""
        return cast("T", self._outcomes[scenario].result(LONGEST_SECONDS))

    def wait_for(self, scenarios: Iterable[Scenario]) -> None:
        """Until those of them that were begun have ended, well or not."""
        _, late = wait([self._outcomes[one] for one in scenarios if one in self._outcomes], LONGEST_SECONDS)
        assert not late, "scenarios beside the tests do not end"

    def stop(self) -> None:
        """No further one begins."""
        for outcome in self._outcomes.values():
            outcome.cancel()
