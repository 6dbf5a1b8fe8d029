"""The pictures of docs/decisions.md."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import matplotlib as mpl
from matplotlib import pyplot as plt

from tests.bench.decisions import cases
from tests.bench.decisions.outcome import DECIDERS
from tests.bench.decisions.run import Result
from tests.bench.decisions.summary import OURS, clear, false_rollbacks

COLOURS: Final = ("#0b6e4f", "#d1495b", "#edae49")


def draw(results: Sequence[Result], folder: Path) -> None:
    """Writes the pictures as SVG, the same bytes for the same figures."""
    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "decisions", "font.size": 9, "axes.spines.top": False})
    mpl.rcParams.update({"axes.spines.right": False, "legend.frameon": False})
    folder.mkdir(parents=True, exist_ok=True)
    _false_rollbacks(results, folder / "false-rollbacks.svg")
    _harm(results, folder / "bad-requests.svg")
    _detection(results, folder / "detection.svg")


def _save(figure: plt.Figure, path: Path) -> None:
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _false_rollbacks(results: Sequence[Result], path: Path) -> None:
    figure, axes = plt.subplots(figsize=(6.4, 3.2), layout="constrained")
    for index, decider in enumerate(DECIDERS):
        shares = [100.0 * false_rollbacks(results, rate)[decider] for rate in cases.RATES]
        places = [place + 0.27 * (index - 1) for place in range(len(shares))]
        bars = axes.bar(places, shares, 0.25, color=COLOURS[index], label=decider)
        axes.bar_label(bars, fmt="%.2g", fontsize=7)
    axes.axhline(1.0, color="black", linewidth=0.6, linestyle="--")
    axes.set_xticks(range(len(cases.RATES)), [f"{rate:g}/s" for rate in cases.RATES])
    axes.set_ylabel("% of healthy canaries rolled back")
    axes.legend()
    _save(figure, path)


def _harm(results: Sequence[Result], path: Path) -> None:
    names = [regression.name for regression in cases.REGRESSIONS if regression != cases.HEALTHY]
    figure, panels = plt.subplots(1, len(cases.RATES), figsize=(10.0, 3.4), sharey=True, layout="constrained")
    for axes, rate in zip(panels, cases.RATES, strict=True):
        for index, decider in enumerate(DECIDERS):
            chosen = [r for r in results if r.pattern == "steady" and r.rate == rate and r.regression in names]
            values = [max(r.deciders[decider].harm, 0.1) for r in chosen]
            axes.plot(values, range(len(values)), "o", color=COLOURS[index], label=decider, markersize=5)
        axes.set_xscale("log")
        axes.set_title(f"{rate:g} requests/s", fontsize=9)
        axes.set_yticks(range(len(names)), names)
        axes.grid(axis="x", linewidth=0.3)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    figure.supxlabel("bad requests served beyond stable's, mean of a rollout (one hour)", fontsize=9)
    _save(figure, path)


def _detection(results: Sequence[Result], path: Path) -> None:
    counted = [r for r in clear(results) if r.ratio == r.ratio]
    figure, axes = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    line = [1.0, max(r.requests for r in counted) * 1.5]
    axes.plot(line, line, color="black", linewidth=0.6, label="the oracle's")
    axes.plot(line, [1.5 * value for value in line], color="black", linewidth=0.6, linestyle="--", label="1.5 times")
    for index, rate in enumerate(cases.RATES):
        chosen = [r for r in counted if r.rate == rate]
        axes.plot([r.oracle for r in chosen], [r.requests for r in chosen], "os^D"[index], label=f"{OURS}, {rate:g}/s")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("requests that the oracle's sequential test needs")
    axes.set_ylabel("requests of the canary until the rollback")
    axes.legend()
    _save(figure, path)
