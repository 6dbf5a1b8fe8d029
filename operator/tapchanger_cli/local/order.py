"""What a build is asked for, from options and files. Reads files, starts nothing."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TypeVar

import click
import yaml
from pydantic import BaseModel, ValidationError

from tapchanger_cli.words import printable
from tapchanger_operator.api.spec import EngineSpec, TransformerDeploymentSpec
from tapchanger_serving.contract.distill import DURATION_HELP, Distill
from tapchanger_serving.contract.gates import EvaluationGate, Gates, MetricGate
from tapchanger_serving.contract.messages import BuildRequest, Inspection
from tapchanger_serving.contract.software import software

Kind = TypeVar("Kind", bound=BaseModel)

_METRIC: Final = re.compile(
    r"(?P<name>\w+)(?:\[(?P<slice>[^\]]+)\])?\s*(?P<kind>drop|gap)?\s*(?P<sign><=|>=|≤|≥)\s*(?P<bound>[0-9.eE+-]+)"
)
_FIELDS: Final = {("", ">"): "min", ("", "<"): "max", ("drop", "<"): "max_drop", ("gap", "<"): "max_gap"}
_METRIC_HELP: Final = "write for example 'accuracy>=0.9', 'ece<=0.05', 'accuracy drop<=0.01' or 'accuracy[source]>=0.8'"


@dataclass(frozen=True)
class Order:
    """A model and the engine that is wanted. `task` "auto" is what the checkpoint's head does."""

    uri: str
    task: str = "auto"
    engine: EngineSpec = field(default_factory=EngineSpec)

    @property
    def label(self) -> str:
        """The model's name: the last part of its address."""
        location = self.uri.partition("://")[2].split("@")[0].rstrip("/").rpartition("/")[2]
        return re.sub(r"[^\w.-]+", "-", location).strip(".-") or "model"

    def request(self, found: Inspection) -> BuildRequest:
        """What the steps are asked, named by all that the outcome depends on: content, bounds, hardware and software."""
        wanted = {
            name: getattr(self.engine, name) for name in EngineSpec.model_fields if name in BuildRequest.model_fields
        }
        task = found.task or self.task
        request = BuildRequest.model_validate(
            {"name": "", "uri": self.uri, "digest": found.digest, "task": task, "hardware": found.hardware, **wanted}
        )
        identity = request.model_dump_json(exclude={"name", "uri"}, exclude_none=True) + repr(
            sorted(software().items())
        )
        return request.model_copy(update={"name": f"eb-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"})


def address(model: str) -> str:
    """The URI of a folder, or of what is one already."""
    return model if "://" in model else f"file://{Path(model).resolve()}"


def data_address(data: str, hint: str = "--data") -> str:
    """The URI of a data file; one on this machine is pinned, so that other content is another build."""
    if "://" in data:
        return data
    path = Path(data).resolve()
    try:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as problem:
        raise click.BadParameter(f"{data}: {problem.strerror}", param_hint=hint) from problem
    return f"file://{path}@sha256:{digest}"


def from_manifest(path: Path) -> Order:
    """The order of the TransformerDeployment in a manifest."""
    found = [part for part in _documents(path, "-f") if part.get("kind") == "TransformerDeployment"]
    if len(found) != 1:
        raise click.BadParameter(f"{path} has {len(found)} TransformerDeployments; give one", param_hint="-f")
    spec = _valid(TransformerDeploymentSpec, found[0].get("spec") or {}, path, "-f")
    return Order(spec.model.uri, spec.model.task, spec.engine)


def gates_from(path: Path) -> Gates:
    """The gates in a YAML or JSON file, as `spec.engine.gates` has them."""
    documents = _documents(path, "--gates")
    if len(documents) != 1:
        raise click.BadParameter(f"{path} has {len(documents)} documents; give one", param_hint="--gates")
    return _valid(Gates, documents[0], path, "--gates")


def moved(order: Order, uri: str, task: str | None) -> Order:
    """The order for the model at another address, and for another task if one is given."""
    return replace(order, uri=uri, task=task or order.task)


def with_engine(order: Order, **fields: Any) -> Order:
    """The order with those fields of the engine that are not None; `max_batch_size` and `max_tokens` are of its shapes."""
    wire = order.engine.model_dump(by_alias=False)
    sizes = {name: fields.pop(name) for name in ("max_batch_size", "max_tokens")}
    wire["shapes"] |= {name: value for name, value in sizes.items() if value is not None}
    wire |= {name: value for name, value in fields.items() if value is not None}
    return replace(order, engine=_checked(EngineSpec, wire))


def with_data(order: Order, uri: str | None, columns: dict[str, Any], metrics: Sequence[MetricGate]) -> Order:
    """The order with evaluation data at `uri`, the columns that are not None, and more bounds."""
    gates = order.engine.gates
    given = {name: value for name, value in columns.items() if value}
    if uri is None and gates.evaluation is None:
        if given or metrics:
            raise click.UsageError("--text, --label, --slices and --metric are about data: add --data FILE")
        return order
    known = gates.evaluation.dataset.model_dump() if gates.evaluation else {}
    before = gates.evaluation.model_dump() if gates.evaluation else {}
    dataset = known | given | ({"uri": uri} if uri else {})
    bounds = [*(gates.evaluation.metrics if gates.evaluation else ()), *metrics]
    evaluation = _checked(EvaluationGate, before | {"dataset": dataset, "metrics": bounds})
    engine = order.engine.model_copy(update={"gates": gates.model_copy(update={"evaluation": evaluation})})
    return replace(order, engine=engine)


def with_student(order: Order, uri: str | None, fields: dict[str, Any]) -> Order:
    """The order with a student that learns from the texts at `uri`; `fields` are the options that begin with `--distill-`."""
    given = {name: value for name, value in fields.items() if value is not None}
    before = order.engine.distill
    if uri is None and before is None:
        if given:
            options = ", ".join(sorted(map(_distill_option, given)))
            raise click.UsageError(f"{options}: from which texts? Add --distill FILE")
        return order
    wire = before.model_dump() if before else {}
    columns = {name: given.pop(name) for name in ("text", "text_pair") if name in given}
    dataset = wire.get("dataset", {}) | columns | ({"uri": uri} if uri else {})
    try:
        distill = Distill.model_validate(wire | given | {"dataset": dataset})
    except ValidationError as problem:
        wrong = problem.errors(include_url=False)[0]
        hint = _distill_option(str(wrong["loc"][-1])) if wrong["loc"] else "--distill"
        said = DURATION_HELP if hint == _distill_option("max_duration") else wrong["msg"]
        raise click.BadParameter(f"{said}, not {wrong['input']!r}", param_hint=hint) from problem
    return replace(order, engine=order.engine.model_copy(update={"distill": distill}))


def _distill_option(field: str) -> str:
    return f"--distill-{field.replace('_', '-')}"


def metric(text: str) -> MetricGate:
    """A bound such as `accuracy>=0.9`, `accuracy[source]>=0.8` or `f1 drop<=0.01`."""
    parts = _METRIC.fullmatch(text.strip())
    bound = _FIELDS.get((parts["kind"] or "", ">" if parts["sign"] in (">=", "≥") else "<")) if parts else None
    if parts is None or bound is None:
        raise click.BadParameter(f"{text!r} is no bound; {_METRIC_HELP}", param_hint="--metric")
    try:
        return MetricGate.model_validate({"name": parts["name"], "slice": parts["slice"], bound: parts["bound"]})
    except ValidationError as problem:
        raise click.BadParameter(f"{text!r}: {_told(problem)}", param_hint="--metric") from problem


def _documents(path: Path, hint: str) -> list[dict[str, Any]]:
    try:
        found = [part for part in yaml.safe_load_all(path.read_text(encoding="utf-8")) if part is not None]
    except OSError as problem:
        raise click.BadParameter(f"{path}: {problem.strerror}", param_hint=hint) from problem
    except (yaml.YAMLError, UnicodeDecodeError) as problem:
        raise click.BadParameter(f"{path} is no YAML: {problem}", param_hint=hint) from problem
    wrong = next((part for part in found if not isinstance(part, dict)), None)
    if wrong is not None:
        raise click.BadParameter(f"{path} holds a {type(wrong).__name__}, not fields", param_hint=hint)
    return found


def _valid(kind: type[Kind], content: dict[str, Any], path: Path, hint: str) -> Kind:
    try:
        return kind.model_validate(content)
    except ValidationError as problem:
        raise click.BadParameter(f"{path}: {_told(problem)}", param_hint=hint) from problem


def _checked(kind: type[Kind], content: dict[str, Any]) -> Kind:
    try:
        return kind.model_validate(content)
    except ValidationError as problem:
        raise click.UsageError(_told(problem)) from problem


def _told(problem: ValidationError) -> str:
    """Each field that is wrong and why."""
    errors = [f"{'.'.join(map(str, one['loc'])) or 'it'}: {one['msg']}" for one in problem.errors(include_url=False)]
    return str(printable("; ".join(errors[:5])))
