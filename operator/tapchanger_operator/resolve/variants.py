"""Each variant as a spec of its own, so that it is inspected, built and made a revision of like any other."""

from __future__ import annotations

from dataclasses import replace

from tapchanger_operator.api import reasons
from tapchanger_operator.api.experiment import Variant
from tapchanger_operator.api.spec import ModelSpec, TransformerDeploymentSpec
from tapchanger_operator.api.status import Condition, TransformerDeploymentStatus
from tapchanger_operator.resolve import reprobe
from tapchanger_operator.resolve.identity import inspection_key
from tapchanger_operator.resolve.resolution import Resolution
from tapchanger_operator.resolve.understand import understand
from tapchanger_operator.settings import Images
from tapchanger_operator.snapshot import Snapshot, VariantSeen


def variant_spec(spec: TransformerDeploymentSpec, variant: Variant) -> TransformerDeploymentSpec:
    """The base spec with the variant's model and engine in place of its own."""
    uri = variant.model.uri if variant.model else spec.model.uri
    credentials = (variant.model and variant.model.credentials) or spec.model.credentials
    own = variant.engine.model_dump(exclude_none=True) if variant.engine else {}
    changed = {name: getattr(variant.engine, name) for name in own}
    return spec.model_copy(
        update={
            "model": ModelSpec(uri=uri, task=spec.model.task, credentials=credentials),
            "engine": spec.engine.model_copy(update=changed),
            "variants": [],
            "experiment": None,
        }
    )


def variant_status(
    status: TransformerDeploymentStatus, spec: TransformerDeploymentSpec, name: str, generation: int
) -> TransformerDeploymentStatus:
    """What status remembers of the variant `name` with `spec`, in the places where a deployment has it."""
    arm = next((arm for arm in status.arms if arm.name == name), None)
    known = [model for model in (arm.model if arm else None, status.model) if model]
    model = next((model for model in known if model.key == inspection_key(spec)), None)
    stalled = []
    if arm and arm.stalled:
        told = {"reason": arm.reason, "message": arm.message, "observed_generation": generation}
        stalled.append(Condition(type=reasons.STALLED, status="True", **told))
    return status.model_copy(update={"model": model, "conditions": stalled})


def understand_all(snapshot: Snapshot, images: Images) -> Resolution:
    """What the base spec means, and in `variants` what each variant means."""
    seen_of_nodes = reprobe.look(snapshot)
    found = {}
    for variant in snapshot.spec.variants:
        own = variant_spec(snapshot.spec, variant)
        seen = snapshot.variants.get(variant.name, VariantSeen())
        alone = replace(
            snapshot,
            spec=own,
            status=variant_status(snapshot.status, own, variant.name, snapshot.generation),
            inspection=seen.inspection,
            missing_claims=seen.missing_claims,
            poll=None,
        )
        found[variant.name] = understand(alone, images, seen_of_nodes.found)
    base = understand(snapshot, images, seen_of_nodes.found)
    return replace(base, variants=found, hardware=seen_of_nodes.record)
