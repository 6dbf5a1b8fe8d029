"""Each variant as a spec of its own, so that it is inspected, polled, built and made a revision of like any other.

Those that ask the same question of the same address share the answer: an arm that has another engine of the base spec's model
follows that model, and a poll finds new content for all of them at once. So arms that are compared by their engines never have
two models for long.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from tapchanger_operator.api import reasons
from tapchanger_operator.api.base import PollInterval, seconds
from tapchanger_operator.api.experiment import Variant
from tapchanger_operator.api.spec import ModelSpec, TransformerDeploymentSpec
from tapchanger_operator.api.status import Condition, ModelStatus, TransformerDeploymentStatus
from tapchanger_operator.resolve import reprobe
from tapchanger_operator.resolve.identity import inspection_key
from tapchanger_operator.resolve.resolution import Resolution
from tapchanger_operator.resolve.understand import understand
from tapchanger_operator.settings import Images
from tapchanger_operator.snapshot import Snapshot, VariantSeen


def variant_spec(spec: TransformerDeploymentSpec, variant: Variant) -> TransformerDeploymentSpec:
    """The base spec with the variant's model and engine in place of its own."""
    own = variant.model
    uri = own.uri if own else spec.model.uri
    credentials = (own and own.credentials) or spec.model.credentials
    interval = (own and own.poll_interval) or spec.model.poll_interval
    engine = variant.engine.model_dump(exclude_none=True) if variant.engine else {}
    changed = {name: getattr(variant.engine, name) for name in engine}
    return spec.model_copy(
        update={
            "model": ModelSpec(uri=uri, task=spec.model.task, credentials=credentials, poll_interval=interval),
            "engine": spec.engine.model_copy(update=changed),
            "variants": [],
            "experiment": None,
        }
    )


def variant_specs(spec: TransformerDeploymentSpec) -> dict[str, TransformerDeploymentSpec]:
    """The spec of each variant by its name. A question that several ask has one interval: the base spec's, else the shortest."""
    if not spec.variants:
        return {}
    found = {variant.name: variant_spec(spec, variant) for variant in spec.variants}
    keys = {name: inspection_key(own) for name, own in found.items()}
    intervals = {key: _shortest(found[name] for name in keys if keys[name] == key) for key in keys.values()}
    intervals[inspection_key(spec)] = spec.model.poll_interval
    return {name: _polled(own, intervals[keys[name]]) for name, own in found.items()}


def _shortest(specs: Iterable[TransformerDeploymentSpec]) -> PollInterval | None:
    return min((s.model.poll_interval for s in specs if s.model.poll_interval), key=seconds, default=None)


def _polled(spec: TransformerDeploymentSpec, interval: PollInterval | None) -> TransformerDeploymentSpec:
    return spec.model_copy(update={"model": spec.model.model_copy(update={"poll_interval": interval})})


def variant_status(
    status: TransformerDeploymentStatus, spec: TransformerDeploymentSpec, name: str, generation: int
) -> TransformerDeploymentStatus:
    """What status remembers of the variant `name` with `spec`, in the places where a deployment has it.

    The model is the base spec's or that of the first arm with the same question. It has no canary: an arm's new revision takes
    over as soon as it is ready.
    """
    arm = next((arm for arm in status.arms if arm.name == name), None)
    key = inspection_key(spec)
    known = [status.model, *(other.model for other in status.arms)]
    stalled = []
    if arm and arm.stalled:
        told = {"reason": arm.reason, "message": arm.message, "observed_generation": generation}
        stalled.append(Condition(type=reasons.STALLED, status="True", **told))
    model = next((model for model in known if model and model.key == key), None)
    # A retraining run puts its result at the base spec's address.
    return status.model_copy(update={"model": model, "conditions": stalled, "retraining": None})


def variant_snapshots(snapshot: Snapshot) -> dict[str, Snapshot]:
    """The world as each variant alone would see it, by its name."""
    found = {}
    for name, own in variant_specs(snapshot.spec).items():
        seen = snapshot.variants.get(name, VariantSeen())
        found[name] = replace(
            snapshot,
            spec=own,
            status=variant_status(snapshot.status, own, name, snapshot.generation),
            inspection=seen.inspection,
            missing_claims=seen.missing_claims,
            poll=seen.poll,
        )
    return found


def understand_all(snapshot: Snapshot, images: Images) -> Resolution:
    """What the base spec means, and in `variants` what each variant means."""
    seen_of_nodes = reprobe.look(snapshot)
    base = understand(snapshot, images, seen_of_nodes.found)
    answers: dict[str, ModelStatus] = {base.model.key: base.model} if base.model else {}
    found: dict[str, Resolution] = {}
    for name, alone in variant_snapshots(snapshot).items():
        found[name] = understand(_with_answer(alone, answers), images, seen_of_nodes.found)
        if model := found[name].model:
            answers.setdefault(model.key, model)
    return replace(base, variants=found, hardware=seen_of_nodes.record)


def _with_answer(alone: Snapshot, answers: Mapping[str, ModelStatus]) -> Snapshot:
    """The snapshot in which a question that was asked in this pass already has its answer."""
    model = answers.get(inspection_key(alone.spec))
    return replace(alone, status=alone.status.model_copy(update={"model": model}), poll=None) if model else alone
