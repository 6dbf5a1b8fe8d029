"""How soon tapchanger notices drift in real texts, beside evidently, frouros and river: `make bench-drift`.

Ten cases: film reviews become tweets, Amazon reviews, New York Times snippets, or get typos; 20, 5 and 1 % of NYT among them; a
slow ramp; prompts with more injections, and film reviews among prompts. Eight more are other mixes of the same texts, at which
nobody looked while the monitor was made. Bins, labels and confidence are those that a server of
the moderation model tells, with the reference that the builder made. tapchanger may raise one false alarm in 100,000 requests;
each peer runs at its default, and tuned to as many on the same requests. The last line of the output is one JSON object:

- `cases`, and `ahead`: in how many of them tapchanger takes no more requests than the best tuned peer; `held_out` and
  `held_out_ahead` are the same of the other mixes;
- `false_alarms_per_100k` of tapchanger among requests like the reference;
- `ms_per_1000`: what the monitor and describing the texts take for 1,000 requests;
- `peers`: false alarms of each at its default and tuned, and its milliseconds.

`REPEATS` (3) sets how often each case is drawn, `DRIFT_OUT` where the table goes.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from examples.moderation import train
from tests.bench.drift import ours, streams
from tests.bench.drift.described import Corpus, Described, describe
from tests.bench.drift.streams import CASES, HELD_OUT, Case
from tests.bench.drift.texts import corpora, pip

ROOT = Path(__file__).resolve().parents[3]
REQUIREMENTS = ROOT / "requirements" / "bench-drift.txt"
NULL = 50_000
"""Requests like each reference."""
BEFORE, AFTER = 2_000, 6_000
"""Requests before the change, and the most after it."""
ALL = (*CASES, *HELD_OUT)
_NULLS = (("reviews-reference", "reviews"), ("prompts-reference", "prompts"))


def main() -> None:
    """Everything."""
    repeats = int(os.environ.get("REPEATS", "3"))
    texts = corpora()
    known = {name: describe(texts, name) for name, _ in _NULLS}
    nulls = {name: streams.unchanged(known[name], corpus, NULL, np.random.default_rng(1)) for name, corpus in _NULLS}
    drawn = [(case, *_drawn(known[case.reference], case, seed)) for case in ALL for seed in range(repeats)]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        _hand_over(folder, known, nulls, drawn)
        peers = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.drift.peers", str(folder)],
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(_installed()), str(ROOT)])},
            cwd=ROOT,
        )
        mine = _ours(known, nulls, drawn)
        if peers.wait():
            raise RuntimeError("the peers broke off; see above")
        found = json.loads((folder / "peers.json").read_text())
    table, summary = _summary(mine, found, repeats, known)
    print(table)
    if out := os.environ.get("DRIFT_OUT", str(ROOT / "docs" / "drift-cases.md")):
        Path(out).write_text(table + "\n", encoding="utf-8")
    print(json.dumps(summary))


def _drawn(described: Described, case: Case, seed: int) -> tuple[Corpus, Corpus]:
    rng = np.random.default_rng(100 + seed)
    before = streams.unchanged(described, case.before, BEFORE, rng)
    return before, streams.changed(described, case, AFTER, rng)


def _ours(known: dict[str, Described], nulls: dict[str, Corpus], drawn: list[Any]) -> dict[str, Any]:
    watches = {name: ours.Watch.of(one) for name, one in known.items()}
    began = time.perf_counter()
    false = {name: len(ours.alarms(watches[name], null)) for name, null in nulls.items()}
    spent = time.perf_counter() - began
    delays, named = [], []
    for case, before, after in drawn:
        watch = watches[case.reference]
        delay, signal = ours.first_alarm(watch, ours.warmed(watch, before), after)
        delays.append(delay)
        named.append(signal)
        print(f"{case.name}: {delay} requests ({signal})", file=sys.stderr, flush=True)
    return {"false": sum(false.values()), "seconds": spent, "delays": delays, "named": named}


def _hand_over(folder: Path, known: dict[str, Described], nulls: dict[str, Corpus], drawn: list[Any]) -> None:
    """What the peers read: the same numbers, of the reference's texts too."""
    for name, described in known.items():
        np.savez(folder / f"reference-{name}.npz", x=_matrix(described.corpora[name]))
        np.savez(folder / f"null-{name}.npz", x=_matrix(nulls[name]))
    cases = []
    for number, (case, before, after) in enumerate(drawn):
        np.savez(folder / f"case-{number}.npz", x=np.vstack([_matrix(before), _matrix(after)]))
        cases.append({**asdict(case), "file": f"case-{number}.npz", "change": BEFORE})
    (folder / "cases.json").write_text(json.dumps(cases))


def _matrix(corpus: Corpus) -> Any:
    """`[requests, labels and signals]`, the sketch last."""
    return np.column_stack([corpus.labels, corpus.bins]).astype(np.float64)


def _installed() -> Path:
    """The folder of the peers' libraries, which are installed where it is not there yet."""
    key = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:12]
    folder = train.home() / "cache" / "bench-drift" / f"peers-{key}"
    if not folder.exists():
        print("installing evidently, frouros and river", file=sys.stderr, flush=True)
        part = folder.with_name(f".part-{os.getpid()}")
        version = ["--python-version", f"{sys.version_info.major}.{sys.version_info.minor}", "--only-binary", ":all:"]
        words = [
            "install",
            "--quiet",
            "--no-deps",
            "--require-hashes",
            *version,
            "--target",
            str(part),
            "-r",
            str(REQUIREMENTS),
        ]
        subprocess.run([*pip(), *words], check=True)
        part.rename(folder)
    return folder


def _summary(
    mine: dict[str, Any], peers: dict[str, Any], repeats: int, known: dict[str, Described]
) -> tuple[str, dict[str, Any]]:
    names = list(peers)
    lines = [
        "| case | tapchanger | what it names | " + " | ".join(f"{name}, tuned" for name in names) + " | best default |",
        "|---" * (len(names) + 4) + "|",
    ]
    ahead: list[bool] = []
    for number, case in enumerate(ALL):
        part = slice(number * repeats, (number + 1) * repeats)
        own = _mean(mine["delays"][part])
        tuned = {name: _mean(peers[name]["delays_tuned"][part]) for name in names}
        default = {name: _mean(peers[name]["delays_default"][part]) for name in names}
        best = min(default, key=lambda name: default[name])
        named = [signal for signal in mine["named"][part] if signal]
        common = max(set(named), key=named.count) if named else "–"
        ahead.append(own <= min(tuned.values()))
        cells = [case.name, _shown(own), common, *(_shown(value) for value in tuned.values())]
        lines.append("| " + " | ".join([*cells, f"{_shown(default[best])} ({best})"]) + " |")
    requests = NULL * len(_NULLS)
    describing = sum(one.microseconds for one in known.values()) / len(known)
    cost = 1e6 * mine["seconds"] / requests + describing
    false = 1e5 * mine["false"] / requests
    rows = [("tapchanger", "–", f"{false:.1f}", f"{cost:.0f}")]
    rows += [
        (name, f"{one['false_default']:.1f}", f"{one['false_tuned']:.1f}", f"{one['ms_per_1000']:.0f}")
        for name, one in peers.items()
    ]
    lines += ["", "| | false alarms in 100,000, default | tuned | ms for 1,000 requests |", "|---|---|---|---|"]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    told = {
        "cases": len(CASES),
        "ahead": sum(ahead[: len(CASES)]),
        "held_out": len(HELD_OUT),
        "held_out_ahead": sum(ahead[len(CASES) :]),
        "false_alarms_per_100k": round(false, 2),
        "ms_per_1000": round(cost, 1),
        "peers": {
            name: {key: round(one[key], 2) for key in ("false_default", "false_tuned", "ms_per_1000")}
            for name, one in peers.items()
        },
    }
    return "\n".join(lines), told


def _mean(delays: list[int | None]) -> float:
    """A change that was not noticed counts with all requests that were looked at."""
    return float(np.mean([AFTER if delay is None else delay for delay in delays]))


def _shown(delay: float) -> str:
    return "not noticed" if delay >= AFTER else f"{delay:.0f}"


if __name__ == "__main__":
    main()
