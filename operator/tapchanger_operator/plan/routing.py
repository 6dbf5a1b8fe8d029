"""Who routes at the moment: routers of the deployment's own, a gateway, or both while one takes over from the other.

A switch of `router.type` makes the new way first and takes the old one away when the new one works:

- To a gateway: routes are made; Envoy goes when every gateway serves them. The Service that applications called goes on,
  with the stable revision's servers behind it.
- To Envoy: routers are made, and the Service leads to them as soon as one is ready. The routes go :data:`LINGER_SECONDS` after
  all routers are, since names and caches of clients take their time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tapchanger_operator import names
from tapchanger_operator.api.base import unix
from tapchanger_operator.names import Ref
from tapchanger_operator.plan.gateway import Attachment
from tapchanger_operator.snapshot import Snapshot

LINGER_SECONDS: Final = 300.0


@dataclass(frozen=True)
class Routing:
    """`attachment`: the routes to have, None for none. `routers`: whether Envoy runs. `through_routers`: whether the Service
    leads to it, or to the stable servers. `marked`: whether there may be routes to look for.
    """

    attachment: Attachment | None
    routers: bool
    through_routers: bool
    marked: bool


def routing(snapshot: Snapshot) -> Routing:
    """What to have now, given what `snapshot` saw."""
    seen = Attachment.seen(snapshot.owner, snapshot.live)
    if snapshot.spec.router.type == "GatewayAPI":
        wanted = Attachment.of(snapshot.spec.router)
        attachment = None if snapshot.router.routes.missing & set(wanted.kinds()) else wanted
        kept = _routers(snapshot) is not None and not snapshot.router.routes.told
        return Routing(attachment, routers=kept, through_routers=kept, marked=True)
    if seen is None:
        return Routing(None, routers=True, through_routers=True, marked=False)
    over = _available_for(_routers(snapshot), snapshot.now) >= LINGER_SECONDS
    attachment = None if over else seen
    return Routing(attachment, routers=True, through_routers=snapshot.router.ready > 0, marked=True)


def _routers(snapshot: Snapshot) -> Mapping[str, Any] | None:
    """The Deployment of Envoy as it was seen."""
    owner = snapshot.owner
    return snapshot.live.get(Ref("Deployment", owner.namespace, names.router(owner.name)))


def _available_for(deployment: Mapping[str, Any] | None, now: float) -> float:
    """Seconds since when all replicas have been available; negative where they aren't."""
    if deployment is None:
        return -1.0
    status = deployment.get("status", {})
    if status.get("availableReplicas", 0) < deployment["spec"].get("replicas", 1):
        return -1.0
    conditions = status.get("conditions", [])
    since = next(
        (c["lastTransitionTime"] for c in conditions if c["type"] == "Available" and c["status"] == "True"), None
    )
    return now - unix(since) if since else -1.0
