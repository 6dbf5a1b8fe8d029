"""The page and the card: the same build gives the same bytes, nothing is loaded, and foreign texts stay texts."""

from __future__ import annotations

import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from hypothesis import given, settings
from hypothesis import strategies as st

from tapchanger_serving.build.pages import Built, card, figures, markdown, page
from tapchanger_serving.build.pages.built import VERIFICATION
from tapchanger_serving.build.pages.heat import LEVELS, heat
from tapchanger_serving.build.places import Places
from tapchanger_serving.build.stores.volume import Volume
from tapchanger_serving.contract.gates import DatasetSource, EvaluationGate, Gates
from tapchanger_serving.contract.messages import Candidate, GateResult, Timing
from tests.support import built as samples
from tests.support import golden

FOLDER = golden.GOLDEN / "build"
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</title></style></svg><svg onload=alert(1)>",
    "[click](javascript:alert(1)) ![x](https://evil.example/x.png) | `code` |\n\n# heading <b>",
    "{{ 7 * 7 }}{% include '/etc/passwd' %}",
    "---\nlicense: mit\n---",
    "\x00\x1b[31m\u202egnp.exe\u200b",
)


class Seen(HTMLParser):
    """What a browser would find in a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def hostile() -> Built:
    """A build in which every text that somebody else may write is an attack."""
    bad = "".join(HOSTILE)
    candidates = (
        *(Candidate(runtime=text, precision=text, texts_per_second=100.0, passed=True) for text in HOSTILE),
        Candidate(runtime="openvino", precision="int8", error=bad),
    )
    gates = tuple(GateResult(name=text, value=0.5, bound=text, passed=True, detail=text) for text in HOSTILE)
    found = samples.built(why=bad, candidates=candidates, gates=gates, software={bad: bad})
    evaluation = Gates(evaluation=EvaluationGate(dataset=DatasetSource(uri=f"file:///data/{bad}.csv")))
    request = samples.request(uri=f"file:///models/{bad}", gates=evaluation)
    return Built(request, samples.manifest(labels=HOSTILE), found.report)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("report.html", lambda: page.render(samples.built())),
        ("report.full.html", lambda: page.render(samples.with_sections(samples.built(), **samples.SECTIONS))),
        ("report.student.html", lambda: page.render(samples.with_student())),
        ("card.md", lambda: card.render(samples.built())),
        ("card.student.md", lambda: card.render(samples.with_student())),
    ],
)
def test_a_build_gives_the_golden_page_and_card(name: str, found: Any) -> None:
    text = found()
    assert text == found()
    golden.compare(FOLDER / name, text)


def test_no_golden_file_is_left_that_nothing_renders() -> None:
    golden.no_stale(FOLDER, ("report.html", "report.full.html", "report.student.html", "card.md", "card.student.md"))


@pytest.mark.parametrize("build", [samples.built, hostile], ids=["plain", "hostile"])
def test_a_page_runs_nothing_and_loads_nothing(build: Any) -> None:
    seen = Seen(page.render(build()))
    assert not set(seen.tags) & {"script", "img", "iframe", "object", "embed", "link", "a", "form", "base", "b:script"}
    assert not [name for name, _ in seen.attributes if name.startswith("on") or name in ("src", "href", "style")]
    assert any("default-src 'none'" in value for name, value in seen.attributes if name == "content")
    assert "url(" not in page.render(build())
    assert "@import" not in page.render(build())


def test_foreign_texts_are_shown_and_never_run() -> None:
    text = page.render(hostile())
    plain_tags = Seen(page.render(samples.built())).tags
    assert set(Seen(text).tags) <= set(plain_tags)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "{{ 7 * 7 }}" in text
    assert not re.search("[\x00\x1b\u202e\u200b]", text)


def test_foreign_texts_in_a_card_are_no_markup_and_no_metadata() -> None:
    text = card.render(hostile())
    read = ModelCard(text)
    assert read.data.get("license") is None
    assert {result.metric_value for result in read.data.eval_results} == {0.5}
    body = re.sub(r"(?s)(?<!`)(`+)(?!`).*?(?<!`)\1(?!`)", "", read.text)  # code is shown as it is
    assert "7 \\* 7" in body
    assert "<script" not in body
    assert "<img" not in body
    assert not re.search(r"(?<!\\)\]\(", body)
    assert not re.search("[\x00\x1b\u202e\u200b]", body)
    tables = [line for line in body.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in tables if "passed" in line and "0.5" in line}) == 1


def test_a_card_is_read_back_as_the_hub_reads_it() -> None:
    data = ModelCard(card.render(samples.built())).data
    assert (data.base_model, data.library_name, data.pipeline_tag) == (
        "team/moderation",
        "openvino",
        "text-classification",
    )
    assert data.tags == ["tapchanger", "openvino", "bf16", "amd64"]
    results = {result.metric_name: result for result in data.eval_results}
    assert set(results) == {"parity agreement", "accuracy", "accuracy[source=forum]", "accuracy drop"}
    assert results["parity agreement"].dataset_name == "comparison texts"
    assert results["accuracy"].metric_value == 0.942123
    assert results["accuracy"].dataset_name == "test.csv"
    assert (results["accuracy[source=forum]"].dataset_config, results["accuracy[source=forum]"].metric_type) == (
        "source=forum", "accuracy",
    )  # fmt: skip
    assert results["accuracy drop"].metric_type == "accuracy_drop"


def test_only_an_engine_of_fewer_bits_is_called_quantized() -> None:
    def relation(precision: str) -> object:
        found = samples.built(precision=precision)
        return ModelCard(card.render(found)).data.get("base_model_relation")

    assert relation("int8") == "quantized"
    assert relation("bf16") is None
    local = Built(samples.request(uri="file:///models/m"), samples.manifest(), samples.built().report)
    assert ModelCard(card.render(local)).data.base_model is None


def test_a_student_is_told_apart_from_the_model_with_the_same_runtime_and_precision() -> None:
    found = samples.with_student()
    assert [found.is_chosen(one) for one in found.report.candidates] == [False] * 4 + [True]
    text = " ".join(Seen(page.render(found)).texts)
    for wanted in (
        "openvino bf16 of the 3-layer student", "openvino bf16 student", "epoch 2 of 3 was closest to the model",
        "41 texts were left out", "the time was over", "0, 2, 5",
    ):  # fmt: skip
        assert wanted in text, wanted
    hub = ModelCard(card.render(found)).data
    assert (hub.base_model_relation, "distillation" in (hub.tags or [])) == ("finetune", True)


def test_figures_that_a_report_has_are_on_the_page() -> None:
    text = " ".join(Seen(page.render(samples.with_sections(samples.built(), **samples.SECTIONS))).texts)
    for wanted in (
        "636 · 3.31×", "812.4 · 4.23× · a gate failed", "CUDA driver version is insufficient", "not evaluated", "-0.001",
        "8 × 64 tokens: p50 25.6 ms, p99 36.6 ms", "not measured", "4 of 5", "8.9 MiB", "hf://team/moderation@v2", "a" * 64,
        "b" * 64, "amx_bf16, avx2, avx512_vnni", "openvino 2026.4.1, torch 2.13.0", "temperature 1.7", "0.081", "typos",
        "6.5 %", "Personal data", "Label calm", "900 rows: confidence 97 %, right 90 %",
    ):  # fmt: skip
        assert wanted in text, wanted


def test_a_section_that_the_page_has_no_drawing_for_is_listed() -> None:
    found = samples.with_sections(samples.built(), startUp={"coldSeconds": 1.5, "notes": ["<b>"]})
    text = page.render(found)
    assert "<h2>Start up</h2>" in text
    assert "<dt>cold seconds</dt><dd>1.5" in text
    assert "<li>&lt;b&gt;" in text


@settings(max_examples=40, deadline=None)
@given(
    speeds=st.lists(st.none() | st.floats(0.001, 1e9), max_size=5),
    torch=st.floats(0, 1e9),
    times=st.lists(
        st.tuples(st.integers(1, 1024), st.integers(8, 32768), st.floats(0, 1e7), st.floats(0, 1e7)), max_size=6
    ),
    texts=st.lists(st.text(max_size=60), min_size=5, max_size=5),
    value=st.none() | st.floats(allow_nan=False, allow_infinity=False),
)
def test_any_report_has_a_page_and_a_card(
    speeds: list[float | None],
    torch: float,
    times: list[tuple[int, int, float, float]],
    texts: list[str],
    value: float | None,
) -> None:
    candidates = tuple(
        Candidate(runtime=text, precision="fp32", texts_per_second=speed)
        for text, speed in zip(texts, speeds, strict=False)
    )
    surface = tuple(Timing(batch=b, tokens=t, p50_ms=p50, p99_ms=p99) for b, t, p50, p99 in times)
    gates = tuple(GateResult(name=text, value=value, bound=text, passed=False, detail=text) for text in texts)
    found = samples.built(
        why=texts[0], candidates=candidates, surface=surface, gates=gates, torch_texts_per_second=torch
    )
    assert set(Seen(page.render(found)).tags).isdisjoint({"script", "a", "img"})
    assert len(ModelCard(card.render(found)).data.eval_results or []) == (0 if value is None else len(gates))


def test_the_commands_on_the_page_verify_an_artifact_and_find_a_flipped_bit(places: Places, tmp_path: Path) -> None:
    (tmp_path / "engine").write_bytes(b"engine")
    manifest = samples.manifest(files=())
    digest, _ = Volume(places).write_artifact({"model.xml": tmp_path / "engine"}, manifest)
    folder = Volume(places).artifact_folder(digest)

    def run(command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, check=False)

    assert f"sha256:{run(VERIFICATION[0]).stdout.split()[0]}" == digest
    assert run(VERIFICATION[1]).returncode == 0
    (folder / "model.xml").write_bytes(b"enginf")
    assert run(VERIFICATION[1]).returncode == 1
    found = Built(samples.request(), Volume(places).read_manifest(digest), samples.built().report)
    assert VERIFICATION[1] in " ".join(Seen(page.render(found)).texts)


def test_a_heat_table_is_shaded_by_the_time_of_one_text() -> None:
    table = heat(samples.SURFACE)
    assert table.tokens == (16, 64, 256)
    cells = {(batch, cell.point.tokens): cell.level for batch, row in table.rows for cell in row if cell}
    assert (cells[1, 16], cells[8, 256]) == (0, LEVELS)
    assert cells[1, 64] == cells[8, 64] == cells[32, 64]
    assert dict(table.rows)[32][2] is None
    assert heat(()).rows == ()
    assert [cell.level for _, row in heat(samples.SURFACE[:1]).rows for cell in row if cell] == [0]


def test_ticks_stay_few_on_any_axis() -> None:
    for low, high in ((1, 1.2), (0.1, 9), (0.01, 1e5), (3, 3)):
        points = (Timing(batch=1, tokens=8, p50_ms=low, p99_ms=high),)
        assert figures.latency_dots(points).count(" ms</text>") <= 10


@pytest.mark.parametrize("text", HOSTILE)
def test_code_spans_hold_any_text(text: str) -> None:
    span = markdown.code(f"a`{text}``b")
    fence = re.match("`+", span)
    assert fence is not None
    assert span.endswith(fence[0])
    assert fence[0] not in span[len(fence[0]) : -len(fence[0])]
    assert "\n" not in span
