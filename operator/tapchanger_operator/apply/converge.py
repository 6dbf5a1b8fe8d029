"""Applies a plan. Each object is applied when its manifest changed or when someone else touched it, and not otherwise."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Any

from tapchanger_operator import names
from tapchanger_operator.errors import UserError
from tapchanger_operator.kube import Kube
from tapchanger_operator.names import Owner, Ref
from tapchanger_operator.plan.common import Manifest
from tapchanger_operator.plan.objects import Plan, kept
from tapchanger_operator.snapshot import Snapshot


class Applied:
    """What this process has applied: object → (hash of the manifest, mark of the object after it).

    It only saves calls: an operator that starts applies everything once. The mark is the object's generation where it has one
    (status changes don't count), else its resourceVersion.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[Ref, str], tuple[str, str]] = {}
        self._lock = threading.Lock()

    def is_current(self, ref: Ref, manager: str, manifest: Manifest, live: Mapping[str, Any] | None) -> bool:
        """Whether `live` still is what applying `manifest` made of it."""
        if live is None:
            return False
        with self._lock:
            return self._known.get((ref, manager)) == (names.content_hash(manifest, 32), _mark(live))

    def remember(self, ref: Ref, manager: str, manifest: Manifest, result: Mapping[str, Any]) -> None:
        """Notes that `manifest` was applied and gave `result`."""
        with self._lock:
            self._known[ref, manager] = (names.content_hash(manifest, 32), _mark(result))

    def forget(self, namespace: str, deployment_refs: Iterable[Ref]) -> None:
        """Drops what is known of objects that are gone."""
        gone = set(deployment_refs)
        with self._lock:
            self._known = {
                key: value for key, value in self._known.items() if key[0] not in gone or key[0].namespace != namespace
            }


def _mark(live: Mapping[str, Any]) -> str:
    meta = live["metadata"]
    generation = meta.get("generation")
    return f"{meta['uid']}/{generation if generation is not None else meta['resourceVersion']}"


def converge(kube: Kube, applied: Applied, snapshot: Snapshot, plan: Plan) -> None:
    """Applies `plan`, tells the routers, then deletes what is not planned.

    Raises UserError where the cluster refuses an object; all others are applied first, so that a bad object never keeps
    a rollback from the routers.
    """
    refused: list[UserError] = []
    for manifest in plan.shared:
        try:
            _apply_shared(kube, snapshot, manifest)
        except UserError as problem:
            refused.append(problem)
    for manifest in plan.owned:
        try:
            _apply_owned(kube, applied, snapshot, manifest, plan.router_config)
        except UserError as problem:
            refused.append(problem)
    if refused:
        raise refused[0]
    gone = _not_planned(snapshot, plan)
    for ref in gone:
        kube.delete(ref, snapshot.live[ref]["metadata"]["uid"])
    applied.forget(snapshot.owner.namespace, gone)


def _apply_owned(kube: Kube, applied: Applied, snapshot: Snapshot, manifest: Manifest, router_config: str) -> None:
    ref = Ref.of(manifest)
    live = snapshot.live.get(ref)
    if ref.kind in ("ControllerRevision", "Job") and live is not None:
        return
    if not applied.is_current(ref, names.MANAGER, manifest, live):
        applied.remember(ref, names.MANAGER, manifest, kube.apply(manifest))
    if ref.kind == "ConfigMap":
        _tell_routers(kube, snapshot, router_config)


def _not_planned(snapshot: Snapshot, plan: Plan) -> list[Ref]:
    """What the deployment has and does not need: its own objects only, and nothing of a revision that must run."""
    needed = {Ref.of(manifest) for manifest in plan.owned}
    needed |= kept(snapshot)

    def leaves(ref: Ref) -> bool:
        meta = snapshot.live[ref]["metadata"]
        owners = {reference["uid"] for reference in meta.get("ownerReferences", [])}
        runs = meta.get("labels", {}).get(names.LABEL_REVISION) in plan.revisions
        return ref not in needed and snapshot.owner.uid in owners and not runs

    return [ref for ref in snapshot.live if leaves(ref)]


def _apply_shared(kube: Kube, snapshot: Snapshot, manifest: Manifest) -> None:
    """An object with several owners: created once, then only this owner's reference is kept in place."""
    ref, manager = Ref.of(manifest), f"{names.MANAGER}-{snapshot.owner.uid[:8]}"
    live = kube.get(ref)
    if live is None:
        kube.apply(manifest, manager)
        return
    if "deletionTimestamp" in live["metadata"]:
        return  # it goes with those that needed it before; the pass after that makes a new one
    owners = [reference["uid"] for reference in live["metadata"].get("ownerReferences", [])]
    if snapshot.owner.uid not in owners:
        kube.apply({**manifest, "spec": live["spec"]}, manager)


def _tell_routers(kube: Kube, snapshot: Snapshot, config: str) -> None:
    """Changes an annotation on each router pod, at which the kubelet refreshes its files within a second."""
    for pod, told in snapshot.router.told.items():
        if told != config:
            ref = Ref("Pod", snapshot.owner.namespace, pod)
            kube.annotate(ref, {names.ANNOTATION_ROUTER_CONFIG: config})


def release_builds(kube: Kube, snapshot: Snapshot, needed: frozenset[str]) -> None:
    """Gives up the builds that the deployment does not need any more; one that nobody needs is deleted."""
    owner: Owner = snapshot.owner
    for build in snapshot.builds.values():
        if owner.uid not in build.owners or build.name in needed:
            continue
        ref = Ref("EngineBuild", owner.namespace, build.name)
        if build.owners == (owner.uid,):
            kube.delete(ref, build.uid)
            continue
        index = build.owners.index(owner.uid)
        path = f"/metadata/ownerReferences/{index}"
        kube.patch(ref, [{"op": "test", "path": f"{path}/uid", "value": owner.uid}, {"op": "remove", "path": path}])
