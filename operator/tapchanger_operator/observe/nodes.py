"""The cluster's nodes, listed at most twice a minute for all deployments together."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any, Final

from tapchanger_operator.errors import Transient
from tapchanger_operator.kube import Kube
from tapchanger_operator.snapshot import Node

log = logging.getLogger(__name__)

FRESH_SECONDS: Final = 30.0
"""What depends on nodes waits for minutes anyway, and a watch would bring every heartbeat of every kubelet."""


class Nodes:
    """What this process knows of the nodes. None: they could not be read, and nothing follows from that."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listed: float | None = None
        self._known: tuple[Node, ...] | None = None

    def current(self, kube: Kube, now: float) -> tuple[Node, ...] | None:
        """The nodes as they were within the last half minute before `now` (Unix seconds)."""
        with self._lock:
            if self._listed is None or not 0 <= now - self._listed < FRESH_SECONDS:
                self._listed, self._known = now, self._read(kube)
            return self._known

    def _read(self, kube: Kube) -> tuple[Node, ...] | None:
        try:
            return tuple(node(item) for item in kube.items("Node", None))
        except Transient as problem:
            log.warning("the nodes can't be read: %s", problem.message)
            return None


def node(item: Mapping[str, Any]) -> Node:
    """What placing and hardware depend on in a Node."""
    meta, spec = item["metadata"], item.get("spec", {})
    return Node(
        name=meta["name"],
        uid=meta["uid"],
        labels=meta.get("labels") or {},
        taints=tuple(spec.get("taints") or ()),
        cordoned=bool(spec.get("unschedulable", False)),
    )
