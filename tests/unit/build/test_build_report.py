"""The last words of a step fit into the 4096 bytes that the kubelet keeps."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tapchanger_serving.build import termination
from tapchanger_serving.build.report import report_text
from tapchanger_serving.contract.distill import Epoch
from tapchanger_serving.contract.evidence import (
    Calibration,
    ClassShare,
    DataQuality,
    Flips,
    Interval,
    PersonalData,
    Reliability,
    ReliabilityBin,
    Suspicion,
)
from tapchanger_serving.contract.gates import PERTURBATIONS
from tapchanger_serving.contract.messages import (
    BuildReport,
    Candidate,
    GateResult,
    Hardware,
    Inspection,
    StepFailure,
    Timing,
)
from tests.support.built import DISTILLATION

SURFACE = tuple(Timing(batch=b, tokens=t, p50_ms=1.5, p99_ms=2.5) for b in (1, 8, 32) for t in (16, 64))
CANDIDATES = tuple(
    Candidate(
        runtime=r,
        precision=p,
        texts_per_second=123.45,
        p50_ms=1.234,
        memory_mib=99.9,
        agreement=0.9991,
        max_difference=0.01,
    )
    for r in ("onnxruntime", "openvino")
    for p in ("fp32", "int8")
)


def report(
    gates: tuple[GateResult, ...] = (), candidates: tuple[Candidate, ...] = CANDIDATES, why: str = "fast"
) -> BuildReport:
    return BuildReport(
        artifact="sha256:" + "a" * 64, size_bytes=10, runtime="openvino", precision="int8", why=why, speedup=2.5,
        torch_texts_per_second=50.0, candidates=candidates, gates=gates, surface=SURFACE, compared_texts=1000, seconds=60.0,
    )  # fmt: skip


def gate(name: str, *, passed: bool = True, detail: str | None = "40 rows") -> GateResult:
    return GateResult(name=name, value=0.9, bound="≥ 0.8", passed=passed, detail=detail)


def test_a_report_that_fits_is_left_whole() -> None:
    whole = report(gates=(gate("accuracy"), gate("accuracy[source=a]")))
    assert BuildReport.model_validate_json(report_text(whole)) == whole


def test_many_slices_are_thinned_and_what_failed_stays() -> None:
    slices = tuple(gate(f"accuracy[source={index:04d} with a rather long name]") for index in range(300))
    failed = gate("accuracy[source=bad]", passed=False, detail="37 rows")
    text = report_text(report(gates=(gate("accuracy"), *slices, failed)))
    kept = BuildReport.model_validate_json(text)
    assert len(text.encode()) <= 4096
    assert failed in kept.gates
    assert "accuracy" in {result.name for result in kept.gates}


def test_long_errors_are_shortened_before_figures_are_lost() -> None:
    broken = tuple(Candidate(runtime="openvino", precision="int8", error="x" * 3000) for _ in range(3))
    kept = BuildReport.model_validate_json(report_text(report(candidates=(*CANDIDATES, *broken))))
    assert kept.candidates[:4] == CANDIDATES
    assert kept.surface == SURFACE
    assert len(kept.candidates[-1].error or "") == 120


def full_report() -> BuildReport:
    bins = tuple(ReliabilityBin(count=100, confidence=0.512345, accuracy=0.498765) for _ in range(15))
    found = Reliability(ece=0.012345, brier=0.123456, bins=bins)
    some = Suspicion(share=0.012345, count=50, examples=tuple(range(1000, 1010)))
    data = DataQuality(
        rows=5000, duplicates=some, near_duplicates=some, leakage=some, label_noise=some, personal_rows=some,
        personal_data=tuple(PersonalData(kind=kind, count=3, examples=some.examples) for kind in ("email", "phone")),
        classes=tuple(ClassShare(label=f"a label {index}", count=10, share=0.02) for index in range(50)),
    )  # fmt: skip
    interval = Interval(low=0.876543, high=0.912345, method="bootstrap")
    gates = tuple(
        GateResult(name=f"accuracy[source={index}]", value=0.9, bound="≥ 0.8", passed=True, rows=5000, interval=interval,
                   examples=(1, 2, 3, 4, 5))
        for index in range(12)
    )  # fmt: skip
    return report(gates).model_copy(
        update={
            "calibration": Calibration(rows=2500, before=found, temperature=1.2345, after=found),
            "robustness": tuple(
                Flips(kind=kind, texts=200, engine=0.05, reference=0.04, examples=(1, 2, 3)) for kind in PERTURBATIONS
            ),
            "data": data,
        }
    )


def test_of_a_full_report_diagrams_and_examples_go_first_and_figures_stay() -> None:
    kept = BuildReport.model_validate_json(report_text(full_report()))
    assert kept.calibration is not None
    assert kept.calibration.after is not None
    assert (kept.calibration.temperature, kept.calibration.after.ece, kept.calibration.after.bins) == (
        1.2345,
        0.012345,
        (),
    )
    assert kept.candidates == CANDIDATES
    assert len(kept.gates) == 12
    assert all(gate.interval for gate in kept.gates)


def test_a_student_doubles_the_candidates_and_the_report_still_fits_with_the_chosen_one() -> None:
    students = tuple(each.model_copy(update={"student_layers": 3}) for each in CANDIDATES * 3)
    whole = full_report().model_copy(
        update={
            "candidates": (*CANDIDATES * 3, *students),
            "student_layers": 3,
            "distillation": DISTILLATION.model_copy(update={"epochs": DISTILLATION.epochs * 50}),
        }
    )
    kept = BuildReport.model_validate_json(report_text(whole))
    assert ("openvino", "int8", 3) in {(one.runtime, one.precision, one.student_layers) for one in kept.candidates}


def test_of_many_epochs_the_first_the_best_and_the_last_stay() -> None:
    epochs = tuple(Epoch(number=number, held_out_loss=1.0, seconds=1.0) for number in range(100))
    whole = report().model_copy(update={"distillation": DISTILLATION.model_copy(update={"epochs": epochs, "best": 7})})
    kept = BuildReport.model_validate_json(report_text(whole)).distillation
    assert kept is not None
    assert [epoch.number for epoch in kept.epochs] == [0, 7, 99]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.builds(gate, st.text(max_size=300), passed=st.booleans(), detail=st.text(max_size=600)), max_size=60),
    st.text(max_size=5000),
    st.lists(st.text(max_size=3000), max_size=8),
)
def test_any_report_fits(gates: list[GateResult], why: str, errors: list[str]) -> None:
    candidates = tuple(Candidate(runtime="openvino", precision="int8", error=error) for error in errors)
    text = report_text(report(tuple(gates), candidates, why))
    assert len(text.encode()) <= 4096
    assert BuildReport.model_validate_json(text).artifact == "sha256:" + "a" * 64


@settings(max_examples=50, deadline=None)
@given(st.text(min_size=1, max_size=60), st.text(max_size=9000), st.none() | st.text(max_size=9000))
def test_any_failure_fits_and_keeps_its_reason(reason: str, message: str, remedy: str | None) -> None:
    text = termination.failure_text(StepFailure(reason=reason, message=message, remedy=remedy))
    assert len(text.encode()) <= 4096
    assert StepFailure.model_validate_json(text).reason == reason


def test_an_inspection_with_too_many_labels_still_fits() -> None:
    inspection = Inspection(
        digest="sha256:0", architecture="BertForTokenClassification", labels=tuple(f"label-{i}" for i in range(2000)),
        max_tokens=512, parameters=1, size_bytes=1, hardware=Hardware(arch="amd64"),
    )  # fmt: skip
    text = termination.inspection_text(inspection)
    assert len(text.encode()) <= 4096
    assert Inspection.model_validate_json(text).digest == "sha256:0"
