"""The peers, in a Python of their own libraries: `python -m tests.bench.drift.peers FOLDER`.

Reads what :mod:`~tests.bench.drift.__main__` left in FOLDER, as matrices `[requests, features]` of the same numbers that
tapchanger's servers tell of a text, and writes `peers.json`. Each peer looks at windows of requests, or at each request. It
alarms by its own default; tuned, it alarms where its score exceeds all but as many scores as tapchanger is allowed false alarms,
among the same requests like the reference.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

ALLOWED_PER_100K = 1.0
"""False alarms that a tuned peer may have."""
SKETCH = 16


class Look(NamedTuple):
    """After so many requests: whether the default alarms, and the score."""

    requests: int
    default: bool
    score: float


Looks = Callable[[Any, Any], Iterator[Look]]
"""From the reference and a stream to what is seen of it, as far as one asks."""


def frouros_ks(reference: Any, stream: Any) -> Iterator[Look]:
    """Kolmogorov and Smirnov's two-sample test for each feature, on windows of 100, at 5 %; -log10 of the least p-value."""
    from frouros.detectors.data_drift import KSTest

    used, tests = reference.std(axis=0) > 0, []
    for column in reference[:, used].T:
        test = KSTest()
        test.fit(X=column)
        tests.append(test)
    for end, window in _windows(stream[:, used], 100):
        chance = min(test.compare(X=column)[0].p_value for test, column in zip(tests, window.T, strict=True))
        yield Look(end, chance < 0.05, -float(np.log10(max(chance, 1e-300))))


def frouros_mmd(reference: Any, stream: Any) -> Iterator[Look]:
    """The maximum mean discrepancy of windows of 100, with the default kernel, on standardized features. There is no default."""
    from frouros.detectors.data_drift import MMD

    mean, spread = reference.mean(axis=0), np.maximum(reference.std(axis=0), 1e-9)
    width = np.sqrt(reference.shape[1])
    test = MMD()
    test.fit(X=(reference[:500] - mean) / spread / width)
    for end, window in _windows(stream, 100):
        yield Look(end, False, float(test.compare(X=(window - mean) / spread / width)[0].distance))


def evidently(reference: Any, stream: Any) -> Iterator[Look]:
    """The preset for data drift on windows of 500, without the sketch; it alarms where half of the columns drifted. The score is
    the largest distance of a column.
    """
    import pandas as pd
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    columns = [k for k in range(reference.shape[1] - SKETCH) if reference[:, k].std() > 0]
    names = [f"c{k}" for k in columns]
    definition = DataDefinition(numerical_columns=names)
    known = Dataset.from_pandas(pd.DataFrame(reference[:2000, columns], columns=names), data_definition=definition)
    for end, window in _windows(stream[:, columns], 500):
        frame = Dataset.from_pandas(pd.DataFrame(window, columns=names), data_definition=definition)
        values = [metric["value"] for metric in Report([DataDriftPreset()]).run(frame, known).dict()["metrics"]]
        share = next(value["share"] for value in values if isinstance(value, dict))
        yield Look(end, share >= 0.5, max(float(value) for value in values if not isinstance(value, dict)))


def _windows(stream: Any, size: int) -> Iterator[tuple[int, Any]]:
    for end in range(size, len(stream) + 1, size):
        yield end, stream[end - size : end]


def adwin(delta: float, reference: Any, stream: Any) -> Iterator[int]:
    """After how many requests ADWIN on one of the features, scaled to 0 to 1, alarms; all begin anew then."""
    from river.drift import ADWIN

    low, high = reference.min(axis=0), reference.max(axis=0)
    used = high > low
    scaled = ((stream - low) / np.maximum(high - low, 1e-9))[:, used]
    detectors = [ADWIN(delta=delta) for _ in range(scaled.shape[1])]
    for number, row in enumerate(scaled.tolist(), start=1):
        hit = False
        for detector, value in zip(detectors, row, strict=True):
            detector.update(value)
            hit = hit or detector.drift_detected
        if hit:
            yield number
            detectors = [ADWIN(delta=delta) for _ in range(scaled.shape[1])]


WINDOWED: dict[str, Looks] = {"frouros KS": frouros_ks, "frouros MMD": frouros_mmd, "evidently": evidently}
DELTAS = (0.002, 1e-6, 1e-12, 1e-18)
"""ADWIN's default, and smaller ones to tune it."""


def main(folder: Path) -> None:
    """Everything, into `peers.json`."""
    warnings.filterwarnings("ignore")
    references = {path.stem.removeprefix("reference-"): np.load(path)["x"] for path in folder.glob("reference-*.npz")}
    nulls = {name: np.load(folder / f"null-{name}.npz")["x"] for name in references}
    cases = json.loads((folder / "cases.json").read_text())
    streams = [(case, np.load(folder / case["file"])["x"]) for case in cases]
    found = {}
    for peer, looks in WINDOWED.items():
        began = time.perf_counter()
        found[peer] = _windowed(looks, references, nulls, streams)
        print(f"{peer}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    found["river ADWIN"] = _adwin(references, nulls, streams)
    (folder / "peers.json").write_text(json.dumps(found))


def _windowed(looks: Looks, references: Any, nulls: Any, streams: Any) -> dict[str, Any]:
    requests = sum(len(null) for null in nulls.values())
    began = time.perf_counter()
    quiet = [look for name in references for look in looks(references[name], nulls[name])]
    spent = time.perf_counter() - began
    scores = sorted((look.score for look in quiet), reverse=True)
    tuned = scores[int(ALLOWED_PER_100K * requests / 1e5)]
    told: dict[str, Any] = {
        "ms_per_1000": 1e6 * spent / requests,
        "false_default": 1e5 * sum(look.default for look in quiet) / requests,
        "false_tuned": 1e5 * sum(score > tuned for score in scores) / requests,
        "delays_default": [],
        "delays_tuned": [],
    }
    has_default = looks is not frouros_mmd
    for case, stream in streams:
        first: dict[str, int] = {}
        for look in looks(references[case["reference"]], stream[case["change"] :]):
            if look.default:
                first.setdefault("default", look.requests)
            if look.score > tuned:
                first.setdefault("tuned", look.requests)
            if "tuned" in first and ("default" in first or not has_default):
                break
        for kind in ("default", "tuned"):
            told[f"delays_{kind}"].append(first.get(kind))
    return told


def _adwin(references: Any, nulls: Any, streams: Any) -> dict[str, Any]:
    told: dict[str, Any] = {}
    requests = sum(len(null) for null in nulls.values())
    for delta in DELTAS:
        began = time.perf_counter()
        false = 1e5 * sum(len(list(adwin(delta, references[name], nulls[name]))) for name in references) / requests
        spent = time.perf_counter() - began
        kind = "default" if delta == DELTAS[0] else "tuned"
        if kind == "default" or false <= ALLOWED_PER_100K or delta == DELTAS[-1]:
            told |= {f"false_{kind}": false, "ms_per_1000": 1e6 * spent / requests}
            told[f"delays_{kind}"] = [
                _first(delta, references[case["reference"]], stream, case["change"]) for case, stream in streams
            ]
            if kind == "tuned":
                break
    return told


def _first(delta: float, reference: Any, stream: Any, change: int) -> int | None:
    """Requests from the change to the first alarm after it."""
    return next((end - change for end in adwin(delta, reference, stream) if end > change), None)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
