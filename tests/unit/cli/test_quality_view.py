"""What `explain` and `status` show of labels: the accuracy, what it is made of, and what the labels can't tell."""

from __future__ import annotations

import io

from rich.console import Console

from tapchanger_cli import documents
from tapchanger_cli.subject import read
from tapchanger_cli.views import explanation, overview, quality
from tapchanger_operator.api.quality import QualityStatus, RevisionQuality, SliceQuality
from tests.support.cli_samples import NOW, OLD, conditions, revision
from tests.support.cli_samples import SPEC as SAMPLE

RECORD = QualityStatus(
    revision=OLD,
    message="94 % of 1240 labelled answers are right (92.6 % to 95.6 %)",
    labelled=1240,
    share=0.12,
    accuracy=0.94,
    low=0.926,
    high=0.956,
    adjusted=0.91,
    ece=0.031,
    ece_low=0.012,
    ece_high=0.044,
    brier=0.05,
    slices=[SliceQuality(name="answer=unsafe", labelled=400, accuracy=0.86, low=0.81, high=0.9)],
    others=[
        RevisionQuality(revision="8fa1e2077b", role="canary", labelled=20, accuracy=0.5, low=0.2, high=0.8),
        RevisionQuality(revision="77aa77aa77", role="arm b", labelled=0),
    ],
    warnings=["labels exist only for the answer 'unsafe'"],
    at="2026-11-24T10:00:00Z",
)


def shown(view: object) -> str:
    screen = Console(file=io.StringIO(), width=140)
    screen.print(view)
    text = screen.file.getvalue()  # type: ignore[attr-defined]
    return str(text)


def test_everything_that_labels_say_is_shown() -> None:
    text = shown(quality.view(RECORD))
    for part in (
        "94 % of 1240 labelled answers are right",
        "! labels exist only for the answer 'unsafe'",
        "12 % of the answers are labelled",
        "weighed as they occur: 91 %",
        "calibration error 0.031 (0.012 to 0.044); Brier score 0.050",
        "answer=unsafe",
        "canary",
        "20 % to 80 %",
        "arm b",
    ):
        assert part in text, text
    assert "calibration" not in shown(quality.view(RECORD.model_copy(update={"ece": None, "share": None})))


def test_it_stands_in_status_and_explanation_once_there_are_labels() -> None:
    stable = revision(OLD, 100, 9_000)
    status = {
        "stable": stable,
        "conditions": conditions("True", "Stable", "serves all requests"),
        "quality": RECORD.model_dump(mode="json", by_alias=True),
    }
    metadata = {
        "name": "moderation",
        "namespace": "team-a",
        "generation": 3,
        "creationTimestamp": "2026-11-20T10:00:00Z",
    }
    body = {"metadata": metadata, "spec": SAMPLE, "status": status}
    subject = read(body)
    assert "94 % of 1240" in shown(overview.view(subject, NOW))
    assert "How often answers are right" in shown(explanation.view(subject, None, "tapchanger"))
    assert documents.status(subject)["quality"]["accuracy"] == 0.94
    del status["quality"]
    assert "quality" not in documents.status(read(body))
