"""Names by content: what shares an engine, and what makes a new revision."""

from __future__ import annotations

from typing import Any

import pytest

from tapchanger_operator.resolve import identity
from tapchanger_operator.resolve.identity import RevisionContent, build_name, engine_build, inspection_key
from tapchanger_serving.contract.messages import Hardware, Inspection
from tests.support.samples import FULL_SPEC, IMAGES, MODEL, full_spec, inspection, spec

ARTIFACT = "sha256:" + "c" * 64


def name_of(of: Any, found: Inspection | None = None, builder: str = IMAGES.builder) -> str:
    return build_name(engine_build(of, found or inspection(), builder))


def content(of: Any, artifact: str = ARTIFACT, image: str = IMAGES.server) -> RevisionContent:
    build = engine_build(of, inspection(), IMAGES.builder)
    return identity.revision(of, build, build_name(build), artifact, "openvino", image)


def test_the_same_content_has_the_same_name() -> None:
    assert name_of(spec()) == name_of(spec())
    assert name_of(full_spec()) == name_of(full_spec())


def test_names_are_stable_from_release_to_release() -> None:
    """A change here rebuilds every engine and rolls every deployment out anew."""
    assert name_of(spec()) == "eb-6bdaf05ae5bd"
    assert content(spec()).revision == "ccda62ae8a"


@pytest.mark.parametrize(
    "change",
    [
        {"model": {**MODEL, "uri": "file:///elsewhere/moderation"}},
        {"model": {**MODEL, "credentials": {"secretName": "store"}}},
        {"model": {**MODEL, "pollInterval": "5m"}},
        {"serving": {"template": {"nodeSelector": {"pool": "other"}}}},
        {"serving": {"replicas": {"min": 7}}},
        {"serving": {"batching": {"maxQueueDelay": "5ms"}}},
        {"rollout": {"steps": []}},
        {"slo": {"objectives": [{"availability": 0.9}]}},
        {"router": {"replicas": 1}},
        {"engine": {"tensorrt": {"hardwareCompatibility": "None"}}},
        {"engine": {"attempt": 1}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_where_a_model_lies_and_how_it_is_served_is_not_part_of_its_engine(change: dict[str, Any]) -> None:
    assert name_of(spec(**change)) == name_of(spec())


@pytest.mark.parametrize(
    "change",
    [
        {"engine": {"attempt": 2}},
        {"engine": {"runtime": "openvino"}},
        {"engine": {"precision": "fp32"}},
        {"engine": {"tensorrt": {"hardwareCompatibility": "AmperePlus"}}},
        {"engine": {"shapes": {"maxTokens": 64}}},
        {"engine": {"gates": {"parity": {"minAgreement": 0.5}}}},
        {"engine": {"distill": {"dataset": {"uri": "pvc://data/texts.csv"}}}},
        {"model": {**MODEL, "task": "feature-extraction"}},
    ],
    ids=lambda change: str(next(iter(change.values()))),
)
def test_what_shapes_an_engine_is_part_of_its_name(change: dict[str, Any]) -> None:
    assert name_of(spec(**change)) != name_of(spec())


def test_every_setting_of_a_student_and_its_data_s_pin_is_part_of_the_name() -> None:
    dataset = {"uri": "pvc://data/texts.csv"}
    changes = [
        {"dataset": dataset},
        {"dataset": {"uri": dataset["uri"] + "@sha256:" + "0" * 64}},
        {"dataset": {**dataset, "text": "body"}},
        *({"dataset": dataset, **more} for more in ({"layers": 2}, {"epochs": 5}, {"maxDuration": "5m"}, {"seed": 1})),
    ]
    assert len({name_of(spec(engine={"distill": change})) for change in changes}) == len(changes)
    said = {"dataset": {**dataset, "text": "text"}, "epochs": 3, "maxDuration": "30m", "seed": 0}
    assert name_of(spec(engine={"distill": said})) == name_of(spec(engine={"distill": {"dataset": dataset}}))


def test_other_weights_hardware_or_builder_make_another_engine() -> None:
    other = inspection().model_copy(update={"hardware": Hardware(arch="arm64")})
    names = {
        name_of(spec()),
        name_of(spec(), inspection("sha256:" + "d" * 64)),
        name_of(spec(), other),
        name_of(spec(), builder="registry.test/builder:next"),
    }
    assert len(names) == 4


def test_a_revision_that_was_stored_without_its_hardware_keeps_its_name() -> None:
    known = content(spec())
    assert known.hardware is not None
    assert known.model_copy(update={"hardware": None}).revision == known.revision


def test_what_the_inspection_says_for_people_is_not_part_of_the_name() -> None:
    found = inspection().model_copy(update={"labels": ("a",), "parameters": 1, "architecture": "Other"})
    assert name_of(spec(), found) == name_of(spec())


@pytest.mark.parametrize(
    "change",
    [
        {"serving": {"batching": {"maxQueueDelay": "5ms"}}},
        {"serving": {"template": {"resources": {"limits": {"memory": "3Gi"}}}}},
        {"serving": {"template": {"nodeSelector": {"pool": "other"}}}},
    ],
    ids=str,
)
def test_what_shapes_the_pods_makes_a_new_revision(change: dict[str, Any]) -> None:
    assert content(spec(**change)).revision != content(spec()).revision


@pytest.mark.parametrize(
    "change",
    [
        {"serving": {"replicas": {"min": 7}}},
        {"serving": {"template": {"buildResources": {"limits": {"memory": "3Gi"}}}}},
        {"model": {**MODEL, "uri": "file:///elsewhere/moderation"}},
        {"rollout": {"watch": "1m"}},
    ],
    ids=str,
)
def test_what_does_not_shape_the_pods_makes_no_new_revision(change: dict[str, Any]) -> None:
    assert content(spec(**change)).revision == content(spec()).revision


def test_another_artifact_or_server_image_makes_a_new_revision() -> None:
    revisions = {
        content(spec()).revision,
        content(spec(), artifact="sha256:" + "e" * 64).revision,
        content(spec(), image="registry.test/server:next").revision,
    }
    assert len(revisions) == 3


def test_a_stored_revision_reads_back_as_the_same() -> None:
    stored = content(full_spec()).wire()
    assert RevisionContent.model_validate(stored) == content(full_spec())
    assert RevisionContent.model_validate(stored).revision == content(full_spec()).revision


def test_the_inspection_is_asked_anew_where_its_question_changes() -> None:
    keys = {
        inspection_key(spec()),
        inspection_key(spec(model={**MODEL, "uri": "pvc://models/other"})),
        inspection_key(spec(model={**MODEL, "task": "feature-extraction"})),
        inspection_key(spec(serving={"template": {"nodeSelector": {"pool": "gpu"}}})),
        inspection_key(spec(model={**MODEL, "credentials": {"secretName": "store"}})),
        inspection_key(full_spec()),
    }
    assert len(keys) == 6
    assert inspection_key(spec(rollout={"watch": "1m"})) == inspection_key(spec())


def test_claims_are_those_of_the_model_and_the_evaluation_data() -> None:
    assert identity.claims(full_spec()) == ("data.sets", "models")
    assert identity.claims(spec(model={**MODEL, "uri": "file:///models/a"})) == ()
    distilled = spec(engine={"distill": {"dataset": {"uri": "pvc://texts/all.csv"}}})
    assert identity.claims(distilled) == ("models", "texts")
    assert identity.claims(engine_build(distilled, inspection(), "b")) == ("models", "texts")
    assert inspection_key(distilled) != inspection_key(spec())
    assert identity.claims(engine_build(full_spec(), inspection(), "b")) == ("data.sets", "models")


def test_builds_get_the_part_of_the_template_that_places_pods() -> None:
    where = identity.placement(full_spec().serving.template)
    assert where["resources"] == FULL_SPEC["serving"]["template"]["buildResources"]
    assert "labels" not in where
    assert "serviceAccountName" not in where
    assert identity.placement(spec().serving.template) == {}


@pytest.mark.parametrize(("text", "microseconds"), [("auto", 0), ("2ms", 2000), ("1s", 1_000_000), ("0.5ms", 500)])
def test_queue_delays_are_in_microseconds(text: str, microseconds: int) -> None:
    assert identity.queue_delay_us(text) == microseconds
