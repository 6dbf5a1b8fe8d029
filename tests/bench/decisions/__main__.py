"""How tapchanger, Flagger and Argo Rollouts decide on the same simulated canaries: `make bench-decisions`.

Healthy canaries, latencies times 1.2, 1.5, 2 and 5, and 0.5, 2 and 10 points more errors, at 0.2 to 200 requests per second,
steady, heavy-tailed, diurnal, bursty and autocorrelated. Each rollout is followed for one hour: what is promoted
serves all requests until then. The last line of the output is one JSON object:

- `false_rollback_rate`: share of healthy canaries that tapchanger rolls back, in the worst case;
- `bad_requests_vs_best_peer`: bad requests that tapchanger lets through over those of the better peer of each case,
  summed over all cases that break a budget clearly (1.5 times and more);
- `detection_vs_sprt`: mean requests of the canary at its rollback over those of an oracle's sequential probability
  ratio test, which knows the rates and looks at the same times, worst of the stationary cases that break a budget
  clearly and are rolled back in 95 % of the rollouts within the hour;
- `lucky_promotions`: canaries that break a budget and were promoted at 0.2 requests per second;
- `rollouts`: how many were simulated for each decider.

`SEED` seeds it, `ROLLOUTS` is the number for each case. Fails where the operator's own code would have decided
otherwise than its twin on a sample.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from tests.bench.decisions import cases, plots, summary
from tests.bench.decisions.run import run

DOCS = Path(__file__).resolve().parents[3] / "docs" / "decisions"


def main() -> int:
    """Returns 1 where the twin and the operator's code disagree."""
    seed, rollouts = int(os.environ.get("SEED", "1")), int(os.environ.get("ROLLOUTS", "2000"))
    began, results = time.perf_counter(), []
    for result in run(seed, rollouts, processes=min(2, os.cpu_count() or 1)):
        results.append(result)
        if result.regression == cases.REGRESSIONS[-1].name:
            spent = time.perf_counter() - began
            print(f"{spent:5.0f} s  {result.pattern}, {result.rate:g} requests/s", file=sys.stderr, flush=True)
    differences = [line for result in results for line in result.differences]
    for line in differences:
        print(f"the operator decides otherwise: {line}")
    folder = Path(os.environ.get("DECISIONS_OUT", DOCS))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cases.md").write_text(summary.tables(results, seed), encoding="utf-8")
    plots.draw(results, folder)
    print(summary.short(results))
    print(json.dumps(summary.headline(results)))
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
