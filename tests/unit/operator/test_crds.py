"""The CustomResourceDefinitions: structural, fresh, and of one mind with the models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tapchanger_operator.api import crd
from tapchanger_operator.api.enginebuild import EngineBuildSpec
from tapchanger_operator.api.spec import TransformerDeploymentSpec
from tapchanger_operator.resolve.identity import engine_build
from tests.support.golden import ROOT
from tests.support.kstatus import health
from tests.support.samples import FULL_SPEC, IMAGES, MODEL, full_spec, inspection, spec
from tests.support.schemas import defaulted, nodes, problems, schema_of

SPEC = schema_of("TransformerDeployment", "spec")
BUILD_SPEC = schema_of("EngineBuild", "spec")
ALL = [
    (f"{definition['spec']['names']['kind']}{path}", node)
    for definition in crd.definitions().values()
    for path, node in nodes(definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
]
_STRUCTURAL_ONLY = {"$ref", "$defs", "anyOf", "oneOf", "allOf", "const", "title", "prefixItems", "propertyNames"}


@pytest.mark.parametrize("folder", crd.FOLDERS)
def test_generated_files_are_fresh(folder: str) -> None:
    written = {path.name: path.read_text() for path in (ROOT / folder).iterdir()}
    assert written == crd.render(), "run `make generate`"


def test_check_names_stale_files_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["crd", "--root", str(tmp_path)])
    assert crd.main() == 0
    monkeypatch.setattr("sys.argv", ["crd", "--check", "--root", str(tmp_path)])
    assert crd.main() == 0
    stale = tmp_path / "crds" / "tapchanger.dev_enginebuilds.yaml"
    stale.write_text("old")
    capsys.readouterr()
    assert crd.main() == 1
    assert "crds/tapchanger.dev_enginebuilds.yaml" in capsys.readouterr().err
    assert stale.read_text() == "old"


@pytest.mark.parametrize(("path", "node"), ALL, ids=[path for path, _ in ALL])
def test_schemas_are_structural(path: str, node: dict[str, Any]) -> None:
    assert not _STRUCTURAL_ONLY & set(node)
    assert "type" in node or node.get("x-kubernetes-preserve-unknown-fields")
    assert node.get("additionalProperties") is not False
    if node.get("type") == "array":
        assert "items" in node
    if "default" in node:
        assert node["default"] is not None
        assert problems(node, node["default"]) == []


def test_what_the_api_server_fills_in_is_what_the_models_mean() -> None:
    filled = defaulted(SPEC, {"model": MODEL})
    assert problems(SPEC, filled) == []
    assert TransformerDeploymentSpec.model_validate(filled) == spec()
    full = defaulted(SPEC, FULL_SPEC)
    assert problems(SPEC, full) == []
    assert TransformerDeploymentSpec.model_validate(full) == full_spec()


def test_filling_in_twice_changes_nothing() -> None:
    once = defaulted(SPEC, {"model": MODEL})
    assert defaulted(SPEC, once) == once


DISTILLED = spec(engine={"distill": {"dataset": {"uri": "pvc://texts/all.csv"}}})


@pytest.mark.parametrize("of", [spec(), full_spec(), DISTILLED])
def test_a_build_that_the_operator_writes_is_valid_and_stays_the_same_when_read(of: TransformerDeploymentSpec) -> None:
    build = engine_build(of, inspection(), IMAGES.builder)
    assert problems(BUILD_SPEC, build.wire()) == []
    assert EngineBuildSpec.model_validate(defaulted(BUILD_SPEC, build.wire())) == build


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "unknown field": ({"serving": {"replica": {}}}, "serving"),
    "unknown runtime": ({"engine": {"runtime": "abacus"}}, "engine.runtime"),
    "batch too large": ({"engine": {"shapes": {"maxBatchSize": 9999}}}, "engine.shapes.maxBatchSize"),
    "student without texts": ({"engine": {"distill": {"layers": 3}}}, "engine.distill"),
    "student without layers": (
        {"engine": {"distill": {"dataset": {"uri": "pvc://a/b.csv"}, "layers": 0}}},
        "engine.distill.layers",
    ),
    "training for days": (
        {"engine": {"distill": {"dataset": {"uri": "pvc://a/b.csv"}, "maxDuration": "2d"}}},
        "engine.distill.maxDuration",
    ),
    "no learning rate": (
        {"engine": {"distill": {"dataset": {"uri": "pvc://a/b.csv"}, "learningRate": 0}}},
        "engine.distill.learningRate",
    ),
    "no replicas": ({"serving": {"replicas": {"min": 0}}}, "serving.replicas.min"),
    "weight of 100": ({"rollout": {"steps": [{"weight": 100}]}}, "rollout.steps.0.weight"),
    "weight as text": ({"rollout": {"steps": [{"weight": "5%"}]}}, "rollout.steps.0.weight"),
    "false alarm of 0": ({"rollout": {"analysis": {"falseAlarm": 0}}}, "rollout.analysis.falseAlarm"),
    "no duration": ({"rollout": {"watch": "soon"}}, "rollout.watch"),
    "delay that is no duration": ({"serving": {"batching": {"maxQueueDelay": "no"}}}, "serving.batching.maxQueueDelay"),
    "target of 1": ({"slo": {"objectives": [{"latency": "1s", "target": 1}]}}, "slo.objectives.0.target"),
    "no objectives": ({"slo": {"objectives": []}}, "slo.objectives"),
    "unknown task": ({"model": {**MODEL, "task": "poetry"}}, "model.task"),
    "unknown router": ({"router": {"type": "Nginx"}}, "router.type"),
    "wildcard": ({"router": {"type": "GatewayAPI", "hostnames": ["*.example.com"]}}, "router.hostnames.0"),
    "port of 0": (
        {"router": {"type": "GatewayAPI", "parentRefs": [{"name": "a", "port": 0}]}},
        "router.parentRefs.0.port",
    ),
    "nameless gateway": ({"router": {"type": "GatewayAPI", "parentRefs": [{"port": 80}]}}, "router.parentRefs.0"),
    "variant without a name": ({"variants": [{"weight": 5, "engine": {}}]}, "variants.0"),
    "variant without users": ({"variants": [{"name": "b", "weight": 0, "engine": {}}]}, "variants.0.weight"),
    "nine variants": (
        {"variants": [{"name": f"b{n}", "weight": 1, "engine": {}} for n in range(9)]},
        "variants",
    ),
    "unknown metric": ({"experiment": {"metric": "luck"}}, "experiment.metric"),
    "winner that YAML reads as false": ({"experiment": {"winner": False}}, "experiment.winner"),
    "no uri": ({"model": {"task": MODEL["task"]}}, "model"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_specs_are_refused_by_schema_and_model_alike(case: str) -> None:
    change, field = BAD[case]
    bad = {"model": MODEL, **change}
    found = problems(SPEC, bad)
    assert found
    assert found[0].startswith(f"{field}:"), found
    with pytest.raises(ValidationError):
        TransformerDeploymentSpec.model_validate(bad)


def test_columns_point_at_fields_that_exist() -> None:
    for definition in crd.definitions().values():
        version = definition["spec"]["versions"][0]
        root = version["schema"]["openAPIV3Schema"]
        for column in version["additionalPrinterColumns"]:
            node, path = root, column["jsonPath"].split("[")[0].strip(".")
            if path.startswith("metadata"):
                continue
            for part in path.split("."):
                assert part in node["properties"], column
                node = node["properties"][part]


def test_what_kubectl_get_shows_is_what_was_promised() -> None:
    columns = [
        column["name"].upper()
        for column in crd.definitions()["tapchanger.dev_transformerdeployments.yaml"]["spec"]["versions"][0][
            "additionalPrinterColumns"
        ]
        if not column["priority"]
    ]
    assert columns == ["READY", "STABLE", "CANARY", "WEIGHT", "P99", "DRIFT", "AGE", "STATUS"]


def test_short_names_and_categories_are_the_contracts() -> None:
    names = {d["spec"]["names"]["kind"]: d["spec"]["names"] for d in crd.definitions().values()}
    assert {kind: n["shortNames"] for kind, n in names.items()} == {
        "TransformerDeployment": ["tdep"],
        "EngineBuild": ["eb"],
    }
    assert all(n["categories"] == ["all", "ml"] for n in names.values())


def test_the_status_is_a_subresource() -> None:
    for definition in crd.definitions().values():
        assert definition["spec"]["versions"][0]["subresources"] == {"status": {}}


@pytest.mark.parametrize("kind", ["TransformerDeployment", "EngineBuild"])
def test_what_no_operator_has_seen_yet_reads_as_in_progress(kind: str) -> None:
    stored = {"metadata": {"name": "new", "generation": 1}, "status": schema_of(kind, "status")["default"]}
    assert health(stored) == "InProgress"


def test_yaml_has_no_aliases() -> None:
    assert not any("&id" in text for text in crd.render().values())


@pytest.mark.parametrize(("duration", "valid"), [("1s", True), ("24h", True), ("0s", False), ("24h1s", False)])
def test_training_takes_from_a_second_to_a_day(duration: str, *, valid: bool) -> None:
    wanted = {"distill": {"dataset": {"uri": "pvc://a/b.csv"}, "maxDuration": duration}}
    if valid:
        assert problems(SPEC, {"model": MODEL, "engine": wanted}) == []
        assert spec(engine=wanted).engine.distill is not None
        return
    with pytest.raises(ValidationError, match=r"engine\.distill\.maxDuration\n.*write a time from 1s to 24h"):
        spec(engine=wanted)


VARIANT = {"name": "b", "weight": 10, "model": {"uri": "pvc://models/b"}}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"variants": [{**VARIANT, "name": "B"}]}, "lower-case letters, digits and '-'"),
        ({"variants": [{**VARIANT, "name": "control"}]}, "write a name"),
        ({"variants": [VARIANT, VARIANT]}, "needs its own name"),
        ({"variants": [{**VARIANT, "weight": 60}, {**VARIANT, "name": "c", "weight": 40}]}, "add up to 99 at most"),
        ({"variants": [VARIANT], "experiment": {"stickyBy": {"header": "X-User"}}}, "lower case, such as x-user-id"),
        ({"variants": [VARIANT], "experiment": {"stickyBy": {"header": "a b"}}}, "lower case, such as x-user-id"),
    ],
)
def test_names_that_would_spoil_a_configuration_are_refused_by_the_models_too(change: Any, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        spec(**change)


def test_an_experiment_as_its_owner_writes_it_is_taken() -> None:
    wanted = {
        "variants": [VARIANT, {"name": "int8", "weight": 20, "engine": {"precision": "int8"}}],
        "experiment": {"stickyBy": {"header": "x-user-id"}, "metric": "feedback", "minEffect": 0.01, "winner": "Auto"},
    }
    filled = defaulted(SPEC, {"model": MODEL, **wanted})
    assert problems(SPEC, filled) == []
    assert TransformerDeploymentSpec.model_validate(filled) == spec(**wanted)
    assert "experiment" not in defaulted(SPEC, {"model": MODEL}), "none is made up where none was asked for"


def test_every_rule_of_an_experiment_says_what_to_write() -> None:
    nodes_by_path = dict(nodes(SPEC))
    rules = [rule for node in nodes_by_path.values() for rule in node.get("x-kubernetes-validations", [])]
    told = " ".join(rule["message"] for rule in rules)
    for words in (
        "each needs its own", "lower some of them", "write variants:", "write another name", "write a header's name",
        "leave out variants[].model.task", "add {latency: 50ms, target: 0.99}", "write model: {uri: …} or engine: {…}",
    ):  # fmt: skip
        assert words in told
