"""`tapchanger build`: an engine without a cluster."""

from __future__ import annotations

import importlib.util
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any, Final, NoReturn, get_args

import click
from rich.console import Console, Group, RenderableType
from rich.text import Text

from tapchanger_cli.errors import CliError
from tapchanger_cli.local import folder, order, progress
from tapchanger_cli.local.steps import Steps
from tapchanger_cli.options import Helped
from tapchanger_cli.session import Output, console, dumped
from tapchanger_cli.views import explanation
from tapchanger_operator.api.spec import ServedTask
from tapchanger_serving.contract.messages import BuildReport, BuildRequest, Inspection, Precision, Runtime

_NEEDED: Final = (
    "torch",
    "transformers",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "openvino",
    "nncf",
    "huggingface_hub",
    "jinja2",
)
_INTERRUPTED: Final = 128 + signal.SIGINT


@click.command(
    cls=Helped,
    examples=(
        "{program} build ./my-model                                 a folder; writes ./my-model-engine",
        "{program} build hf://org/name@revision --out engine",
        "{program} build ./my-model --data test.csv --slices source --metric 'accuracy>=0.9' --metric 'accuracy[*]>=0.8'",
        "{program} build ./my-model -f moderation.yaml              with the engine and gates of a TransformerDeployment",
        "{program} build ./my-model --precision int8 -o json",
        "{program} build ./my-model --distill texts.csv --gates gates.yaml     and a student with half of the layers",
    ),
)
@click.argument("model", required=False)
@click.option("--task", type=click.Choice(get_args(ServedTask)), help="Default: what the checkpoint's head does.")
@click.option("--out", type=click.Path(path_type=Path), help="The folder to write (default: MODEL-engine).")
@click.option("--runtime", type=click.Choice(get_args(Runtime)), help="auto takes the fastest that passes the gates.")
@click.option(
    "--precision", type=click.Choice(get_args(Precision)), help="auto takes the fastest that passes the gates."
)
@click.option("--max-batch-size", type=click.IntRange(1, 1024), help="Largest batch (default: 32).")
@click.option("--max-tokens", type=click.IntRange(8, 32768), help="Longest text (default: 256).")
@click.option("--data", help="Evaluation data: a .csv or .jsonl file, or its URI.")
@click.option("--text", help="The data's column of texts (default: text).")
@click.option("--text-pair", help="Its column of second texts, where the task has them.")
@click.option("--label", help="Its column of labels (default: label).")
@click.option("--slices", help="Its columns whose values are judged by themselves, with commas between.")
@click.option(
    "--metric", "metrics", multiple=True, help="A bound, such as 'accuracy>=0.9'; may be given several times."
)
@click.option("--distill", help="Texts from which a smaller student learns: a .csv or .jsonl file, or its URI.")
@click.option("--distill-text", help="Their column (default: text).")
@click.option("--distill-text-pair", help="Their column of second texts, where the task has them.")
@click.option(
    "--distill-layers", type=click.IntRange(1, 1000), help="Layers of the student (default: every second one)."
)
@click.option(
    "--distill-epochs", type=click.IntRange(1, 1000), help="How often the texts are gone through (default: 3)."
)
@click.option("--distill-max-duration", help="Training ends after this time (default: 30m).")
@click.option("--distill-learning-rate", type=float, help="Highest learning rate (default: 1e-4).")
@click.option("--distill-seed", type=click.IntRange(0), help="Seed of the training (default: 0).")
@click.option("--gates", type=click.Path(path_type=Path), help="A file with gates, as spec.engine.gates has them.")
@click.option("-f", "--filename", type=click.Path(path_type=Path), help="A manifest whose engine and gates are taken.")
@click.option(
    "-o", "--output", type=click.Choice(["json", "yaml"]), help="Print for machines; docs/cli.md has the fields."
)
def build(**options: Any) -> None:
    """Build the fastest engine for this machine that still answers like MODEL, a folder or a URI.

    Runs the steps that a cluster's build runs, and writes the artifact, the report (JSON and HTML) and a model card. Needs no
    cluster, but the builder: pip install 'tapchanger[cli,builder]'. Exit code 42: something has to be changed first.
    """
    _require_builder()
    output: Output | None = options["output"] or click.get_current_context().find_root().params.get("output")
    wanted = _order(options)
    out = options["out"] or Path(f"{wanted.label}-engine")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    try:
        with folder.outcome(out) as outcome, progress.shown(Console(stderr=True, highlight=False)) as shown:
            request, built = _run(wanted, outcome, shown)
        report = folder.read_report(outcome.path)
    except KeyboardInterrupt:
        click.echo("stopped; nothing was written", err=True)
        sys.exit(_INTERRUPTED)
    if output:
        click.echo(dumped(_document(request, report, outcome.path, built=built), output))
    else:
        console().print(_view(report, outcome.path, built=built))


def _require_builder() -> None:
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise CliError(
            f"the package {missing[0]} is missing", "install the builder: pip install 'tapchanger[cli,builder]'"
        )


def _order(options: dict[str, Any]) -> order.Order:
    """What is asked for: the manifest first, then the gates' file, then options."""
    if options["filename"]:
        wanted = order.from_manifest(options["filename"])
    elif options["model"]:
        wanted = order.Order(order.address(options["model"]))
    else:
        raise click.UsageError("give a MODEL, a folder or a URI, or a manifest with -f")
    if options["model"]:
        wanted = order.moved(wanted, order.address(options["model"]), options["task"])
    elif options["task"]:
        wanted = order.moved(wanted, wanted.uri, options["task"])
    given = {name: options[name] for name in ("runtime", "precision", "max_batch_size", "max_tokens")}
    gates = order.gates_from(options["gates"]) if options["gates"] else None
    wanted = order.with_engine(wanted, gates=gates, **given)
    columns = {name: options[name] for name in ("text", "text_pair", "label")}
    columns["slices"] = tuple(part.strip() for part in (options["slices"] or "").split(",") if part.strip())
    data = order.data_address(options["data"]) if options["data"] else None
    wanted = order.with_data(wanted, data, columns, [order.metric(text) for text in options["metrics"]])
    texts = order.data_address(options["distill"], "--distill") if options["distill"] else None
    lesson = {name.removeprefix("distill_"): value for name, value in options.items() if name.startswith("distill_")}
    return order.with_student(wanted, texts, lesson)


def _run(wanted: order.Order, outcome: folder.Outcome, shown: progress.Shown) -> tuple[BuildRequest, bool]:
    """Runs the steps; the request, and whether anything was built."""
    steps = Steps(outcome.store, outcome.work, shown.hear)
    found = Inspection.model_validate_json(steps.run("inspect", "--uri", wanted.uri, "--task", wanted.task))
    shown.done("inspect")
    request = wanted.request(found)
    outcome.lend(request.name)
    for step in request.steps:
        steps.run(step, request=request.dumps())
        shown.done(step)
        if steps.unchanged:
            return request, False
        if step == "fetch":
            outcome.take_back()
    outcome.publish(request)
    return request, True


def _document(request: BuildRequest, report: BuildReport, path: Path, *, built: bool) -> dict[str, Any]:
    return {
        "name": request.name,
        "built": built,
        "folder": str(path),
        "model": request.uri,
        "task": request.task,
        "report": report.model_dump(mode="json", by_alias=True, exclude_none=True),
    }


def _view(report: BuildReport, path: Path, *, built: bool) -> RenderableType:
    head = "built" if built else "built already, from the same content on the same hardware"
    return Group(
        Text(f"{head}: {report.why}"),
        Text(""),
        *explanation.report(report),
        Text(""),
        Text(f"{path}: {folder.ARTIFACT}/ ({report.artifact}), {folder.REPORT}, {folder.PAGE}, {folder.CARD}"),
    )


def _end(number: int, frame: FrameType | None) -> NoReturn:
    """Ends the command as Ctrl-C does: the steps are stopped, and nothing is left."""
    del frame
    raise SystemExit(128 + number)
