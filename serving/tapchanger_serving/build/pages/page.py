"""The report as a page that needs nothing else: no script, no font, no address is loaded."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from tapchanger_serving.build.pages import figures, words
from tapchanger_serving.build.pages.built import VERIFICATION, Built, Wire
from tapchanger_serving.build.pages.heat import heat
from tapchanger_serving.build.timing import reference_point
from tapchanger_serving.contract.messages import engine_title

_TEMPLATE = "report.html.j2"
_DRAWN = {
    "artifact", "sizeBytes", "runtime", "precision", "why", "speedup", "torchTextsPerSecond", "candidates", "gates", "surface",
    "comparedTexts", "seconds", "software", "digest", "calibration", "robustness", "data",
    "studentLayers", "distillation",
}  # fmt: skip
_FIGURES = (
    ("Score", "score"),
    ("Memory, MiB", "memory_mib"),
    ("Start, ms", "start_ms"),
    ("Agreement", "agreement"),
    ("Mean cosine", "cosine"),
    ("Largest difference", "max_difference"),
)
_GATE_COLUMNS = {"name", "value", "interval", "bound", "passed", "rows", "examples", "detail"}


def render(built: Built) -> str:
    """The page. The same build gives the same bytes."""
    return _environment().get_template(_TEMPLATE).render(_context(built))


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_source),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_visible,
    )
    environment.filters |= {
        "figure": words.figure, "ms": words.milliseconds, "percent": words.percent, "size": words.size,
        "title": engine_title, "spoken": words.spoken, "numbers": words.rows, "times": words.times,
    }  # fmt: skip
    return environment


def _source(name: str) -> str:
    return resources.files(__package__).joinpath("templates", name).read_text(encoding="utf-8")


def _visible(value: Any) -> Any:
    """What a page shows of a value: drawings as they are, all else as text that can be seen."""
    return value if isinstance(value, Markup) else words.plain(value)


def _context(built: Built) -> dict[str, Any]:
    report, wire = built.report, built.wire
    batch, tokens = reference_point(built.request.shapes)
    calibration = wire.get("calibration")
    return {
        "built": built,
        "report": report,
        "request": built.request,
        "manifest": built.manifest,
        "verification": VERIFICATION,
        "reference": f"{batch} × {tokens}",
        "gates": wire["gates"],
        "gates_failed": sum(not gate.passed for gate in report.gates),
        "gates_have": _present(wire["gates"]),
        "gates_more": _more(wire["gates"], _GATE_COLUMNS),
        "speed": figures.speed_bars(list(_bars(built)), report.torch_texts_per_second),
        "columns": [
            (title, name)
            for title, name in _FIGURES
            if any(getattr(one, name) is not None for one in report.candidates)
        ],
        "heat": heat(report.surface),
        "latency": figures.latency_dots(report.surface),
        "calibration": calibration,
        "reliability": [
            (title, figures.reliability(calibration[key].get("bins", ())))
            for key, title in (("before", "As the model answers"), ("after", "As the engine is served"))
            if calibration and calibration.get(key)
        ],
        "robustness": wire.get("robustness", []),
        "data": wire.get("data"),
        "distillation": report.distillation,
        "more": {name: value for name, value in wire.items() if name not in _DRAWN and value not in ({}, [])},
    }


def _bars(built: Built) -> Iterable[figures.Bar]:
    yield figures.Bar("PyTorch eager", built.report.torch_texts_per_second, "baseline")
    for candidate in built.report.candidates:
        if candidate.texts_per_second is not None:
            kind = "chosen" if built.is_chosen(candidate) else "passed" if candidate.passed else "failed"
            student = " student" if candidate.student_layers else ""
            name = f"{candidate.runtime} {candidate.precision}{student}"
            yield figures.Bar(name, candidate.texts_per_second, kind)


def _present(entries: Sequence[Wire]) -> set[str]:
    """Fields that at least one entry has."""
    return {name for entry in entries for name, value in entry.items() if value not in ([], None)}


def _more(entries: Sequence[Wire], known: set[str]) -> list[str]:
    """Fields beyond those that the page knows, in alphabetical order."""
    return sorted(_present(entries) - known)
