"""The peers, in a Python of their own libraries: `python -m tests.bench.drift.peers FOLDER`.

Reads what :mod:`~tests.bench.drift.__main__` left in FOLDER, as matrices `[requests, features]` of the same numbers that
tapchanger's servers tell of a text, and writes `peers.json`. Each peer gives a score to windows of requests, or to each request,
and alarms where it exceeds a threshold: its own default, and the lowest one with as few false alarms as tapchanger is allowed.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

ALLOWED_PER_100K = 1.0
"""False alarms that a tuned peer may have."""
Scores = list[tuple[int, float]]
Scorer = Callable[[Any, Any], Scores]
"""From the reference and a stream to (requests seen, score)."""


def frouros_ks(reference: Any, stream: Any) -> Scores:
    """The two-sample test of Kolmogorov and Smirnov for each feature, on windows of 100: -log10 of the least p-value."""
    from frouros.detectors.data_drift import KSTest

    tests = []
    for column in reference.T:
        test = KSTest()
        test.fit(X=column)
        tests.append(test)

    def score(window: Any) -> float:
        found = [test.compare(X=column)[0].p_value for test, column in zip(tests, window.T, strict=True)]
        return -float(np.log10(max(min(found), 1e-300)))

    return windows(stream, 100, score)


def frouros_mmd(reference: Any, stream: Any) -> Scores:
    """The maximum mean discrepancy of windows of 100, with the default kernel, on standardized features."""
    from frouros.detectors.data_drift import MMD

    mean, spread = reference.mean(axis=0), np.maximum(reference.std(axis=0), 1e-9)
    width = np.sqrt(reference.shape[1])
    test = MMD()
    test.fit(X=(reference[:500] - mean) / spread / width)
    return windows(stream, 100, lambda window: float(test.compare(X=(window - mean) / spread / width)[0].distance))


def evidently(reference: Any, stream: Any) -> Scores:
    """The preset for data drift on windows of 500, without the sketch: the largest distance of a column over its threshold."""
    return [(end, ratio) for end, ratio, _ in _evidently(reference, stream)]


def evidently_share(reference: Any, stream: Any) -> Scores:
    """The same preset's own verdict: the share of drifted columns."""
    return [(end, share) for end, _, share in _evidently(reference, stream)]


_KEPT: dict[int, list[tuple[int, float, float]]] = {}


def _evidently(reference: Any, stream: Any) -> list[tuple[int, float, float]]:
    key = id(stream)
    if key not in _KEPT:
        _KEPT[key] = list(_evidently_windows(reference, stream))
    return _KEPT[key]


def _evidently_windows(reference: Any, stream: Any) -> Iterator[tuple[int, float, float]]:
    import pandas as pd
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    columns = [k for k in range(reference.shape[1] - 16) if reference[:, k].std() > 0]
    names = [f"c{k}" for k in columns]
    definition = DataDefinition(numerical_columns=names)
    known = Dataset.from_pandas(pd.DataFrame(reference[:2000, columns], columns=names), data_definition=definition)
    for end in range(500, len(stream) + 1, 500):
        frame = pd.DataFrame(stream[end - 500 : end][:, columns], columns=names)
        report = Report([DataDriftPreset()]).run(Dataset.from_pandas(frame, data_definition=definition), known)
        values = [metric["value"] for metric in report.dict()["metrics"]]
        ratio = max(float(value) for value in values if not isinstance(value, dict)) / 0.1
        share = next(value["share"] for value in values if isinstance(value, dict))
        yield end, ratio, float(share)
        if ratio > 40:
            return


def windows(stream: Any, size: int, score: Callable[[Any], float]) -> Scores:
    """The score of each whole window."""
    return [(end, score(stream[end - size : end])) for end in range(size, len(stream) + 1, size)]


def adwin(delta: float) -> Callable[[Any, Any], list[int]]:
    """ADWIN on each feature, scaled to 0 to 1; all begin anew after an alarm of one."""

    def alarms(reference: Any, stream: Any) -> list[int]:
        from river.drift import ADWIN

        low, high = reference.min(axis=0), reference.max(axis=0)
        used = high > low
        scaled = ((stream - low) / np.maximum(high - low, 1e-9))[:, used]
        found, detectors = [], [ADWIN(delta=delta) for _ in range(scaled.shape[1])]
        for number, row in enumerate(scaled.tolist(), start=1):
            hit = False
            for detector, value in zip(detectors, row, strict=True):
                detector.update(value)
                hit = hit or detector.drift_detected
            if hit:
                found.append(number)
                detectors = [ADWIN(delta=delta) for _ in range(scaled.shape[1])]
        return found

    return alarms


SCORED: dict[str, tuple[Scorer, float]] = {
    "frouros KS": (frouros_ks, -float(np.log10(0.05))),
    "frouros MMD": (frouros_mmd, float("nan")),
    "evidently": (evidently_share, 0.5),
    "evidently, largest": (evidently, 1.0),
}
DELTAS = (0.002, 1e-5, 1e-8, 1e-12, 1e-18)
"""ADWIN's default, and smaller ones to tune it."""


def main(folder: Path) -> None:
    """Everything, into `peers.json`."""
    warnings.filterwarnings("ignore")
    references = {path.stem.removeprefix("reference-"): np.load(path)["x"] for path in folder.glob("reference-*.npz")}
    nulls = {name: np.load(folder / f"null-{name}.npz")["x"] for name in references}
    cases = json.loads((folder / "cases.json").read_text())
    streams = [(case, np.load(folder / case["file"])["x"]) for case in cases]
    requests = sum(len(null) for null in nulls.values())
    found = {}
    for peer, (scorer, default) in SCORED.items():
        began = time.perf_counter()
        scores = {name: scorer(references[name], nulls[name]) for name in references}
        spent = time.perf_counter() - began
        every = sorted((value for some in scores.values() for _, value in some), reverse=True)
        allowed = int(ALLOWED_PER_100K * requests / 1e5)
        tuned = every[allowed]
        told = {"ms_per_1000": 1e6 * spent / requests, "tuned": tuned}
        told["false_default"] = 1e5 * sum(value > default for value in every) / requests
        told["false_tuned"] = 1e5 * sum(value > tuned for value in every) / requests
        told["delays_default"], told["delays_tuned"] = [], []
        for case, stream in streams:
            after = scorer(references[case["reference"]], stream[case["change"] :])
            for kind, threshold in (("default", default), ("tuned", tuned)):
                first = next((end for end, value in after if value > threshold), None)
                told[f"delays_{kind}"].append(first)
        found[peer] = told
        print(peer, round(time.perf_counter() - began, 1), "s", file=sys.stderr, flush=True)
    found["river ADWIN"] = _adwin(references, nulls, streams, requests)
    (folder / "peers.json").write_text(json.dumps(found))


def _adwin(references: Any, nulls: Any, streams: Any, requests: int) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for delta in DELTAS:
        began, run = time.perf_counter(), adwin(delta)
        false = 1e5 * sum(len(run(references[name], nulls[name])) for name in references) / requests
        spent = time.perf_counter() - began
        kind = "default" if delta == DELTAS[0] else "tuned"
        if kind == "default" or false <= ALLOWED_PER_100K or delta == DELTAS[-1]:
            told[f"false_{kind}"] = false
            told["ms_per_1000"] = 1e6 * spent / requests
            told["tuned"] = delta
            told[f"delays_{kind}"] = [
                next(
                    (
                        end - case["change"]
                        for end in run(references[case["reference"]], stream)
                        if end > case["change"]
                    ),
                    None,
                )
                for case, stream in streams
            ]
            if kind == "tuned":
                break
    return told


if __name__ == "__main__":
    main(Path(sys.argv[1]))
