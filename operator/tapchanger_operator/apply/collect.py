"""Once a day in each namespace: a Job that removes from its store what nobody refers to any more."""

from __future__ import annotations

import logging
import threading
from typing import Any, Final

from tapchanger_operator import names
from tapchanger_operator.api.base import unix
from tapchanger_operator.errors import UserError
from tapchanger_operator.kube import Kube, Object
from tapchanger_operator.names import Owner, Ref
from tapchanger_operator.plan.jobs import collect_job
from tapchanger_operator.settings import Settings, Store
from tapchanger_serving.contract.messages import Collection

log = logging.getLogger(__name__)

PERIOD_SECONDS: Final = 86400.0


class Collections:
    """What this process has looked after today, such as a namespace. It only saves calls: a day's Job is made once."""

    def __init__(self) -> None:
        self._day = 0
        self._done: set[str] = set()
        self._lock = threading.Lock()

    def due(self, what: str, day: int) -> bool:
        """Whether nobody has looked after it on `day`; from now on somebody has."""
        with self._lock:
            if day != self._day:
                self._day, self._done = day, set()
            due = what not in self._done
            self._done.add(what)
            return due


def collect_store(kube: Kube, collections: Collections, owner: Owner, settings: Settings, now: float) -> None:
    """Starts the day's Job, unless the store is younger than what it would remove. What refuses it is logged, no more."""
    day = int(now // PERIOD_SECONDS)
    if not settings.store.collects or not collections.due(owner.namespace, day):
        return
    if not settings.store.uri and _is_young(kube, owner.namespace, settings.store, now):
        return
    order = _order(kube, owner.namespace, settings)
    try:
        kube.create(collect_job(owner, day, order, settings.images, settings.store))
    except UserError as problem:
        log.warning("the store's collection was refused: %s", problem.message, extra={"namespace": owner.namespace})


def _is_young(kube: Kube, namespace: str, store: Store, now: float) -> bool:
    """Whether there is no claim, or one that can't hold anything old enough."""
    claim = kube.get(Ref("PersistentVolumeClaim", namespace, names.STORE_CLAIM))
    return claim is None or now - unix(claim["metadata"]["creationTimestamp"]) < store.keep_seconds


def _order(kube: Kube, namespace: str, settings: Settings) -> Collection:
    """Everything that any object of the namespace refers to, also objects that this version can't otherwise read."""
    builds = kube.items("EngineBuild", namespace)
    selector = f"{names.LABEL_MANAGED_BY}={names.MANAGER}"
    revisions = kube.items("ControllerRevision", namespace, selector)
    artifacts = {_inside(build, "status", "report", "artifact") for build in builds}
    artifacts |= {_inside(revision, "data", "artifact") for revision in revisions}
    return Collection(
        builds=tuple(sorted(build["metadata"]["name"] for build in builds)),
        artifacts=tuple(sorted(digest for digest in artifacts if digest)),
        models=tuple(sorted({digest for build in builds if (digest := _inside(build, "spec", "model", "digest"))})),
        older_than_seconds=settings.store.keep_seconds,
        dry_run=settings.store.dry_run,
    )


def _inside(item: Object, *path: str) -> str:
    found: Any = item
    for name in path:
        found = found.get(name, {}) if isinstance(found, dict) else {}
    return found if isinstance(found, str) else ""
