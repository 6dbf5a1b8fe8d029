"""Accuracy and calibration with intervals that hold as often as they say, and warnings where labels are no fair sample."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapchanger_operator.api.base import timestamp
from tapchanger_operator.api.status import CanaryStatus, RevisionStatus, TransformerDeploymentStatus
from tapchanger_operator.decide import quality
from tapchanger_operator.decide.calibration import accuracy_interval, adjusted, calibration, differs, surprise
from tapchanger_operator.decide.state import State
from tapchanger_operator.snapshot import Silence
from tapchanger_serving.contract.labels import BINS, AnsweredLabel, ConfidenceBin, LabelledSlice, LabelWindow
from tapchanger_serving.contract.windows import RevisionWindow, Windows

NOW = 1_700_000_000.0
STABLE = RevisionStatus(revision="s" * 10, build="eb-s", uri="pvc://models/a", since=timestamp(NOW - 9_000))
CANARY = CanaryStatus(revision="c" * 10, build="eb-c", uri="pvc://models/b", weight=20, created_at=timestamp(NOW))


def table(chance: random.Random, number: int, off: float) -> list[ConfidenceBin]:
    """A reliability table of a model that is `off` less often right than it says."""
    found: dict[int, list[float]] = {}
    for _ in range(number):
        sure = 0.5 + 0.5 * chance.random()
        kept = found.setdefault(min(BINS - 1, int(sure * BINS)), [0, 0, 0.0])
        kept[0] += 1
        kept[1] += chance.random() < sure - off
        kept[2] += sure
    return [
        ConfidenceBin(number=at, labelled=int(n), right=int(right), confidence=total)
        for at, (n, right, total) in found.items()
    ]


@pytest.mark.parametrize("off", [0.0, 0.03, 0.1, 0.3])
@pytest.mark.parametrize("number", [50, 400, 3_000])
def test_the_interval_of_the_calibration_error_holds(number: int, off: float) -> None:
    chance, inside = random.Random(number + int(100 * off)), 0
    for _ in range(200):
        found = calibration(table(chance, number, off))
        assert found is not None
        inside += found.low - 1e-9 <= off <= found.high + 1e-9
    assert inside >= 186, f"{inside} of 200"


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.floats(0.5, 1.0))
def test_the_interval_of_accuracy_holds_its_estimate_and_shrinks(seed: int, truth: float) -> None:
    chance, labelled, right, width = random.Random(seed), 0, 0, 1.0
    for step in (20, 200, 2_000):
        right += sum(chance.random() < truth for _ in range(step))
        labelled += step
        low, high = accuracy_interval(labelled, right)
        assert 0.0 <= low <= right / labelled <= high <= 1.0
        assert high - low < width
        width = high - low


def test_the_interval_of_accuracy_holds_at_all_times() -> None:
    chance, missed = random.Random(11), 0
    for _ in range(200):
        right = 0
        for labelled in range(1, 301):
            right += chance.random() < 0.9
            low, high = accuracy_interval(labelled, right) if labelled % 20 == 0 else (0.0, 1.0)
            if not low <= 0.9 <= high:
                missed += 1
                break
    assert missed <= 10


def test_weighing_answers_as_they_occur_undoes_labels_that_come_for_one_of_them() -> None:
    labels = LabelWindow(
        labelled=110,
        right=64,
        answered=(
            AnsweredLabel(label="safe", texts=900, labelled=10),
            AnsweredLabel(label="unsafe", texts=100, labelled=100),
        ),
        slices=(
            LabelledSlice(name="answer=safe", labelled=10, right=9),
            LabelledSlice(name="answer=unsafe", labelled=100, right=55),
        ),
    )
    assert adjusted(labels) == pytest.approx(0.9 * 0.9 + 0.1 * 0.55)
    assert adjusted(labels.model_copy(update={"slices": labels.slices[1:]})) is None, "of most answers nothing is known"
    assert adjusted(LabelWindow()) is None


def test_differences_are_counted_in_standard_deviations() -> None:
    assert differs((50, 100), (50, 100)) == 0
    assert differs((10, 100), (60, 100)) > 4
    assert differs((0, 0), (1, 2)) == 0
    assert surprise([ConfidenceBin(number=12, labelled=400, right=400, confidence=340.0)]) == pytest.approx(
        60 / math.sqrt(400 * 0.85 * 0.15)
    )
    assert surprise([]) == 0


def windows(**labels: LabelWindow) -> Windows:
    revisions = tuple(RevisionWindow(revision=name * 10, requests=1_000, labels=one) for name, one in labels.items())
    return Windows(namespace="x", deployment="y", now=NOW, since=0, until=NOW, revisions=revisions)


def labelled(right: int, labels: int, safe: tuple[int, int], unsafe: tuple[int, int], **more: object) -> LabelWindow:
    """`safe` and `unsafe` are (texts, labelled)."""
    answered = tuple(
        AnsweredLabel(label=label, texts=texts, labelled=known)
        for label, (texts, known) in (("safe", safe), ("unsafe", unsafe))
    )
    return LabelWindow(labelled=labels, right=right, answered=answered).model_copy(update=more)


def warned(state: State | None = None, **labels: LabelWindow) -> list[str]:
    found = quality.follow(None, state or State(stable=STABLE), windows(**labels), NOW)
    assert found is not None
    return found.warnings


def test_a_fair_sample_has_no_warnings() -> None:
    assert warned(s=labelled(270, 300, (900, 270), (100, 30))) == []


def test_labels_of_one_kind_of_answer_are_named() -> None:
    only = warned(s=labelled(60, 90, (900, 0), (100, 90)))
    assert len(only) == 1
    assert "labels exist only for the answer 'unsafe'" in only[0]
    mostly = warned(s=labelled(60, 99, (900, 9), (100, 90)))
    assert "90 % of the answers 'unsafe' are labelled, and 1 % of 'safe'" in mostly[0]


def test_labels_of_one_arm_are_named() -> None:
    state = State(stable=STABLE, canary=CANARY)
    found = warned(state, s=labelled(270, 300, (900, 270), (100, 30)), c=labelled(18, 20, (900, 18), (100, 2)))
    assert found == [
        "2 % of the answers of canary are labelled, and 30 % of the stable revision's: either its labels have not come yet, "
        "or who labels looks at one of them more"
    ]


def test_labels_that_are_made_of_the_answer_are_named() -> None:
    bins = (ConfidenceBin(number=12, labelled=400, right=400, confidence=340.0),)
    found = warned(s=labelled(400, 400, (900, 360), (100, 40), bins=bins, sure=400))
    assert "100 % of the labels equal the answer, while the model itself is 85 % sure" in found[0]
    sure = (ConfidenceBin(number=14, labelled=400, right=400, confidence=398.0),)
    assert warned(s=labelled(400, 400, (900, 360), (100, 40), bins=sure, sure=400)) == [], "it may just be good"
    corrected = warned(s=labelled(40, 400, (900, 360), (100, 40), corrections=380))
    assert "95 % of the labels are corrections" in corrected[0]


def test_the_figures_are_those_of_what_serves() -> None:
    labels = labelled(270, 300, (900, 270), (100, 30), sure=300, brier=24.0)
    slices = (
        LabelledSlice(name="answer=safe", labelled=270, right=250),
        LabelledSlice(name="answer=unsafe", labelled=30, right=20),
        LabelledSlice(name="source=x", labelled=3, right=0),
    )
    bins = (ConfidenceBin(number=13, labelled=300, right=270, confidence=279.0),)
    found = quality.follow(
        None,
        State(stable=STABLE, canary=CANARY),
        windows(s=labels.model_copy(update={"slices": slices, "bins": bins})),
        NOW,
    )
    assert found is not None
    assert (found.accuracy, found.share, found.ece, found.brier) == (0.9, 0.3, 0.03, 0.08)
    assert found.low < 0.9 < found.high
    assert [one.name for one in found.slices] == ["answer=unsafe", "answer=safe"], "three labels are too few to be told"
    assert [(one.role, one.accuracy) for one in found.others] == [("canary", None)]
    assert found.message.startswith("90 % of 300 labelled answers are right (")


def test_nothing_is_said_without_labels_and_kept_while_the_observer_is_silent() -> None:
    state = State(stable=STABLE)
    assert quality.follow(None, state, windows(s=LabelWindow()), NOW) is None
    known = quality.follow(None, state, windows(s=labelled(27, 30, (90, 27), (10, 3))), NOW)
    assert quality.follow(known, state, Silence("away"), NOW + 9) == known
    assert quality.follow(known, State(stable=STABLE.model_copy(update={"revision": "other"})), None, NOW + 9) is None
    status = TransformerDeploymentStatus(stable=STABLE, quality=known)
    assert quality.due(status, NOW + 5) is None
    assert quality.due(status, NOW + 15) is not None
    assert quality.due(TransformerDeploymentStatus(), NOW) is None
