"""Makes builds run again whose artifact servers have found damaged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tapchanger_operator.kube import Kube, Object
from tapchanger_operator.names import Owner, Ref
from tapchanger_operator.snapshot import BuildSeen, Damage, Snapshot
from tapchanger_operator.status import builds as build_status


@dataclass(frozen=True)
class Mended:
    """A build that runs again, and why."""

    build: Owner
    message: str


def mend(kube: Kube, snapshot: Snapshot) -> tuple[Mended, ...]:
    """Takes the finished Job of each such build away and sets the build back to its start; its own passes do the rest.

    The Job goes first: a pass that ends in between finds a build that is ready, and does the same again.
    """
    mended = []
    for build, damage in _damaged(snapshot):
        status = build_status.damaged(build.status, damage, build.status.observed_generation, snapshot.now)
        if status is None:
            continue
        owner = Owner("EngineBuild", build.name, snapshot.owner.namespace, build.uid)
        job = kube.get(Ref("Job", owner.namespace, owner.name))
        if job is not None:
            if not _has_ended(job):
                continue
            kube.delete(Ref("Job", owner.namespace, owner.name), job["metadata"]["uid"])
        wire = status.model_dump(mode="json", by_alias=True, exclude_none=True)
        kube.apply_status(Ref(owner.kind, owner.namespace, owner.name), wire)
        mended.append(Mended(owner, status.message))
    return tuple(mended)


def _damaged(snapshot: Snapshot) -> Iterator[tuple[BuildSeen, Damage]]:
    """Each build with the latest word on its artifact. What a build has since replaced by another can't be mended by it."""
    latest: dict[str, Damage] = {}
    for revision, servers in snapshot.servers.items():
        content = snapshot.contents.get(revision)
        build = snapshot.builds.get(content.build) if content else None
        report = build.status.report if build else None
        if content is None or servers.damage is None or report is None or report.artifact != content.artifact:
            continue
        known = latest.get(content.build)
        if known is None or known.at < servers.damage.at:
            latest[content.build] = servers.damage
    return ((snapshot.builds[name], damage) for name, damage in latest.items())


def _has_ended(job: Object) -> bool:
    conditions = job.get("status", {}).get("conditions", [])
    return any(c["type"] in ("Complete", "Failed") and c.get("status") == "True" for c in conditions)
