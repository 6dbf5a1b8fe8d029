"""Everything that ought to exist for one TransformerDeployment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from tapchanger_operator import names
from tapchanger_operator.api.base import API_VERSION
from tapchanger_operator.api.enginebuild import EngineBuildSpec
from tapchanger_operator.api.spec import TransformerDeploymentSpec
from tapchanger_operator.decide import arms
from tapchanger_operator.decide.state import State
from tapchanger_operator.names import Owner, Ref
from tapchanger_operator.plan import envoy, gateway, hours, jobs, network, retraining, router, server, store
from tapchanger_operator.plan.common import Manifest
from tapchanger_operator.plan.routing import routing
from tapchanger_operator.plan.split import Mirror, Split
from tapchanger_operator.resolve import polling, reprobe
from tapchanger_operator.resolve.identity import RevisionContent, inspection_key
from tapchanger_operator.resolve.resolution import Resolution
from tapchanger_operator.resolve.variants import variant_snapshots, variant_specs
from tapchanger_operator.settings import Settings
from tapchanger_operator.snapshot import Snapshot

_NOBODY = "none"
"""A revision that no pod has."""


@dataclass(frozen=True)
class Plan:
    """`owned` objects belong to the deployment alone, and others of their kinds that it has are deleted.

    `shared` objects have several owners: each applies them under a field manager of its own.
    `router_config` is the hash that every router pod must have been told. `revisions` are those whose servers must run.
    """

    owned: tuple[Manifest, ...]
    shared: tuple[Manifest, ...]
    router_config: str
    revisions: frozenset[str]


def objects(snapshot: Snapshot, resolution: Resolution, state: State, settings: Settings) -> Plan:
    """The objects for `state`, in the order in which they are applied."""
    owner, spec, way = snapshot.owner, snapshot.spec, routing(snapshot)
    split = split_of(spec, state)
    files = envoy.files(owner, split, settings) if way.routers else {}
    stable = None if way.through_routers else (state.stable.revision if state.stable else _NOBODY)
    owned: list[Manifest] = [
        network.server_policy(owner, gateway=way.marked, store=settings.store, capture=spec.capture),
        *(_routers(snapshot, files, settings) if way.routers else []),
        router.service(owner, stable, marked=way.marked),
    ]
    if resolution.model is None and not snapshot.missing_claims:
        owned.append(jobs.inspect_job(owner, spec, settings.images, settings.store))
    if snapshot.drift_hours is not None:
        owned.append(hours.config_map(owner, snapshot.drift_hours))
    owned += _polls(snapshot, resolution, settings)
    owned += _probe(snapshot, resolution, settings)
    owned += _variant_inspections(snapshot, resolution, settings, {Ref.of(manifest) for manifest in owned})
    contents = _contents(snapshot, resolution)
    for revision in state.revisions():
        content = contents.get(revision)
        if content is not None:
            owned.append(server.revision_object(owner, content))
            owned.append(server.service(owner, revision))
            owned.append(server.deployment(owner, content, spec.serving.replicas.min, settings, spec.capture))
    revisions = frozenset(state.revisions())
    if way.attachment:
        routes = gateway.routes(owner, way.attachment, split)
        if not snapshot.router.routes.told or gateway.changes(snapshot.live, routes):
            # A gateway may still send requests where the routes led before.
            revisions |= frozenset(snapshot.servers)
        owned += [gateway.backend(owner, revision) for revision in sorted(revisions)]
        owned += routes
    shared = [] if settings.store.uri else [store.claim(owner, settings.store)]
    builds = dict(part.build for part in (resolution, *resolution.variants.values()) if part.build)
    shared += [engine_build(owner, name, build) for name, build in builds.items()]
    return Plan(tuple(owned), tuple(shared), router.config_hash(files), revisions)


def _routers(snapshot: Snapshot, files: Mapping[str, str], settings: Settings) -> list[Manifest]:
    """Envoy and what belongs to it."""
    owner, spec = snapshot.owner, snapshot.spec
    pull_secrets = spec.serving.template.image_pull_secrets
    found = [
        router.config_map(owner, files),
        router.deployment(
            owner,
            spec.router,
            files["bootstrap.json"],
            settings.images,
            pull_secrets,
            observer_auth=settings.observer_auth,
        ),
        network.router_policy(owner),
    ]
    return [*found, router.disruption_budget(owner)] if spec.router.replicas > 1 else found


def _contents(snapshot: Snapshot, resolution: Resolution) -> Mapping[str, RevisionContent]:
    """What is stored of a revision comes first: its pods stay as they were made."""
    targets = [part.content for part in (*resolution.variants.values(), resolution) if part.content]
    return {**{target.revision: target for target in targets}, **snapshot.contents}


def split_of(spec: TransformerDeploymentSpec, state: State) -> Split:
    """How the routers split the requests: by the rollout's weights, or by an experiment's slots."""
    weights = state.weights()
    canary = state.canary
    mirroring = canary.mirror if canary and canary.mirroring else None
    mirror = Mirror(canary.revision, mirroring.percent) if canary and mirroring else None
    if not weights or state.experiment is None:
        return Split(weights, mirror=mirror)
    slots, known = arms.routed(state)
    sticky = spec.experiment.sticky_by if spec.experiment else None
    split = Split.of_slots(slots, known, sticky.header if sticky else None)
    return replace(split, mirror=mirror)


def _polls(snapshot: Snapshot, resolution: Resolution, settings: Settings) -> list[Manifest]:
    """The Jobs that ask for new content, as long as they are due: one for each address of the base spec and the variants."""
    found: dict[str, Manifest] = {}
    for asked, part in [(snapshot, resolution), *_variants(snapshot, resolution)]:
        name = polling.job_name(snapshot.owner.name, part.model) if part.model else None
        if part.model is None or name is None or name in found or not polling.due(asked, part.model):
            continue
        known, images = part.model.inspection, settings.images
        found[name] = jobs.poll_job(snapshot.owner, asked.spec, known, name, images, settings.store)
    return list(found.values())


def _variants(snapshot: Snapshot, resolution: Resolution) -> list[tuple[Snapshot, Resolution]]:
    """What each variant alone sees, and what it means."""
    alone = variant_snapshots(snapshot)
    return [(alone[name], part) for name, part in resolution.variants.items()]


def _probe(snapshot: Snapshot, resolution: Resolution, settings: Settings) -> list[Manifest]:
    """The Job that looks at the nodes' hardware, as long as it is due."""
    name = reprobe.job_name(snapshot.owner.name, resolution.hardware)
    if name is None or not reprobe.due(snapshot, resolution.hardware):
        return []
    return [jobs.probe_job(snapshot.owner, snapshot.spec, name, settings.images, settings.store)]


def _variant_inspections(
    snapshot: Snapshot, resolution: Resolution, settings: Settings, known: set[Ref]
) -> list[Manifest]:
    """Jobs that inspect the variants' models; models that several name are inspected once."""
    found: dict[Ref, Manifest] = {}
    for alone, part in _variants(snapshot, resolution):
        if part.model is None and not alone.missing_claims:
            job = jobs.inspect_job(snapshot.owner, alone.spec, settings.images, settings.store)
            found[Ref.of(job)] = job
    return [job for ref, job in found.items() if ref not in known]


def engine_build(owner: Owner, name: str, spec: EngineBuildSpec) -> Manifest:
    """The EngineBuild, with `owner` as one of those that need it."""
    return {
        "apiVersion": API_VERSION,
        "kind": "EngineBuild",
        "metadata": {
            "name": name,
            "namespace": owner.namespace,
            "labels": {names.LABEL_MANAGED_BY: names.MANAGER},
            "ownerReferences": [owner.reference(controller=False)],
        },
        "spec": spec.wire(),
    }


def kept(snapshot: Snapshot) -> frozenset[Ref]:
    """What is not planned and stays: finished inspections that are still the answer to the spec's question, and what belongs to
    retraining runs. Jobs end by their own time to live.
    """
    specs = [snapshot.spec, *variant_specs(snapshot.spec).values()]
    inspections = {names.inspection(snapshot.owner.name, inspection_key(spec)) for spec in specs}
    return frozenset(Ref("Job", snapshot.owner.namespace, name) for name in inspections) | retraining.kept(snapshot)
