"""`explain NAME`: why it is as it is, and what a person can do."""

from __future__ import annotations

import functools
from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from tapchanger_cli.advice import advise
from tapchanger_cli.builds import Build
from tapchanger_cli.subject import Subject
from tapchanger_cli.views import drift, evidence, quality
from tapchanger_cli.views.parts import BAD, GOOD, QUIET, heading, table, truth
from tapchanger_cli.words import clock, number
from tapchanger_operator.api import reference
from tapchanger_serving.contract.messages import BUSY, BuildReport, Candidate, GateResult, engine_title

_REGISTRY = "oci://"


def view(subject: Subject, build: Build | None, program: str) -> RenderableType:
    """Everything that explains the state."""
    head = Text.assemble((subject.name, "bold"), f"  namespace {subject.namespace}")
    parts: list[RenderableType] = [head, Text(subject.sentence)]
    for title, body in _sections(subject, build, program):
        parts += [Text(""), heading(title), Padding(body, (0, 0, 0, 2))]
    return Group(*parts)


def _sections(subject: Subject, build: Build | None, program: str) -> Iterator[tuple[str, RenderableType]]:
    if subject.status.conditions:
        yield "Conditions", Group(*_conditions(subject))
    analysis = subject.status.analysis
    if analysis:
        lines: list[RenderableType] = [evidence.verdict(subject, analysis)]
        lines += [Text(f"· {line}") for line in evidence.explained(analysis)]
        if analysis.evidence:
            lines.append(evidence.figures(analysis))
        yield "Evidence", Group(*lines)
        blame = evidence.blamed(analysis)
        if analysis.exemplars:
            blame.append(Text(f"traces of real bad requests: {', '.join(analysis.exemplars)}"))
        if blame:
            yield "Where the time or the errors come from", Group(*blame)
    if subject.status.drift:
        yield "Whether traffic is like the reference", drift.view(subject.status.drift)
    if subject.status.quality:
        yield "How often answers are right", quality.view(subject.status.quality)
    if subject.status.rejected:
        rows = [
            (entry.revision, clock(entry.at), entry.reason, entry.uri, entry.message)
            for entry in reversed(subject.status.rejected)
        ]
        columns = ("REVISION", "WHEN", "REASON", "MODEL", "WHY")
        yield "Rejected revisions (the same content is not tried again by itself)", table(columns, rows)
    if build:
        yield f"Engine {build.name}", _build(build)
    advice = [(Text(one.command, style="bold"), one.effect) for one in advise(subject, program)]
    yield "What you can do", table(("COMMAND", "WHAT IT DOES"), advice)


def _conditions(subject: Subject) -> Iterator[RenderableType]:
    """Each condition with what its reason means; a message is shown once."""
    told = {subject.sentence, ""}
    for found in subject.status.conditions:
        meaning = meanings().get(found.reason)
        said = f"  {found.reason}: {meaning}" if meaning else f"  {found.reason}"
        yield Text.assemble(truth(found.status, f"{found.type} {found.status}"), said)
        if found.message not in told:
            yield Padding(Text(found.message, style=QUIET), (0, 0, 0, 2))
        told.add(found.message)


@functools.cache
def meanings() -> dict[str, str]:
    """What each reason means, as docs/reasons.md has it."""
    return {value: meaning for _, value, meaning in reference.entries()}


def _build(build: Build) -> RenderableType:
    words = Text(f"{build.phase}: {build.message}")
    if build.unreadable:
        return Group(words, Text("its report is of another release and can't be read by this command"))
    return Group(words, *report(build.report), *_place(build)) if build.report else words


def report(found: BuildReport) -> Iterator[RenderableType]:
    """The engine chosen, its gates and all candidates."""
    rate = f"{number(found.torch_texts_per_second)} texts/s"
    yield Text(f"{engine_title(found)}, {found.speedup:.2f} times PyTorch ({rate})")
    if found.small:
        yield Text(
            f"batches of up to {found.small.tokens} tokens: {found.small.runtime} {found.small.precision}, "
            f"{found.small.gain:.0%} faster over the surface"
        )
    if found.waited is not None and found.waited >= BUSY:
        yield Text(
            f"measured on a busy node: engines waited for a CPU {found.waited:.0%} of the time; "
            "spec.engine.attempt builds it again",
            style=BAD,
        )
    yield Text("")
    yield table(
        ("GATE", "FOUND", "95 %", "BOUND", "", "DETAIL"), [_gate(entry) for entry in found.gates], right=("FOUND",)
    )
    yield Text("")
    columns = ("CANDIDATE", "TEXTS/S", "P50 MS", "SCORE", "MEMORY MIB", "START MS", "FIDELITY", "", "NOTE")
    figures = ("TEXTS/S", "P50 MS", "SCORE", "MEMORY MIB", "START MS", "FIDELITY")
    yield table(columns, [_candidate(entry, found) for entry in found.candidates], right=figures)
    if found.distillation:
        yield Text("")
        yield Text(f"Distillation: {found.distillation.summary}")


def _place(build: Build) -> Iterator[RenderableType]:
    """Where the engine and the complete report lie."""
    if not build.report_uri:
        return
    yield Text("")
    if build.artifact_uri:
        yield Text(f"Engine: {build.artifact_uri}")
    digest = f", {build.report.digest}" if build.report and build.report.digest else ""
    yield Text(f"Complete report: {build.report_uri}{digest}")
    if build.report_uri.startswith(_REGISTRY):
        pulled = build.report_uri.removeprefix(_REGISTRY)
        yield Text(f"with a page and a model card: oras pull {pulled}", style=QUIET)
    else:
        stem = build.report_uri.removesuffix(".json")
        yield Text(f"as a page: {stem}.html; as a model card: {stem}.md", style=QUIET)


def _gate(entry: GateResult) -> tuple[RenderableType | str, ...]:
    found = "not evaluated" if entry.value is None else f"{entry.value:.4g}"
    within = f"{entry.interval.low:.4g} to {entry.interval.high:.4g}" if entry.interval else "–"
    rows = f"{entry.rows} rows" if entry.rows is not None else ""
    detail = "; ".join(part for part in (entry.detail, rows) if part)
    return entry.name, found, within, entry.bound, _passed(entry.passed), detail


def _candidate(entry: Candidate, found: BuildReport) -> tuple[RenderableType | str, ...]:
    chosen = engine_title(entry) == engine_title(found)
    name = Text(engine_title(entry), style="bold" if chosen else "")
    fidelity = entry.agreement if entry.agreement is not None else entry.cosine
    figures = (entry.texts_per_second, entry.p50_ms, entry.score, entry.memory_mib, entry.start_ms, fidelity)
    mark: RenderableType = Text("chosen", style=GOOD) if chosen else _passed(entry.passed)
    return name, *("–" if value is None else f"{value:.4g}" for value in figures), mark, entry.error or entry.note or ""


def _passed(passed: bool) -> Text:
    return Text("passed", style=GOOD) if passed else Text("failed", style=BAD)
