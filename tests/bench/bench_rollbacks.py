"""How long a bad canary keeps any traffic: from the end of its first bad answer to the end of its last one.

A model serves at a steady rate; a canary that is several times slower gets a share, is rolled back, and is ordered to be
tried again, as often as `--trials` says. The last line is JSON: `median_s` and `worst_s` of those times, `failed`
requests in all, `trials`, `rate` (requests a second) and `slower` (median time of the canary's answers against stable's).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time

from dev.common.deployment import Deployment
from dev.common.traffic import rollback_seconds
from dev.common.waiting import until
from dev.load import Records
from tapchanger_operator.api.base import unix
from tests.bench.on_cluster import ground, load

SETTLE_SECONDS = 3.0


def main() -> int:
    """Prints a line for each trial, and JSON last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--rate", type=float, default=50.0, help="requests a second (default: %(default)s)")
    parser.add_argument("--weight", type=int, default=20, help="percent that the canary gets (default: %(default)s)")
    parser.add_argument("--texts", default="texts-long", help="list of texts beside the models (default: %(default)s)")
    parser.add_argument("--words", type=int, help="words of each text that are sent (default: all)")
    parser.add_argument(
        "--latency", type=float, default=50.0, help="milliseconds that are promised (default: %(default)g)"
    )
    options = parser.parse_args()
    promised = options.latency / 1000
    with ground() as place:
        deployment = place.deployment(
            "trial",
            "moderation-v1",
            slo={"objectives": [{"latency": f"{options.latency:g}ms", "target": 0.9}, {"availability": 0.999}]},
            rollout={"steps": [{"weight": options.weight}], "analysis": {"minRequests": 100_000}, "watch": "1m"},
        )
        deployment.apply()
        deployment.wait_ready(400)
        texts = [" ".join(text.split()[: options.words]) for text in place.texts(options.texts)]
        with load(deployment, "grpc", tuple(texts), options.rate) as sending:
            deployment.change_uri("pvc://models/moderation-slow")
            canary, found = "", []
            for trial in range(options.trials):
                began = time.time()
                if trial:
                    _again(deployment, canary, trial)
                canary = _rejected(deployment, began)
                time.sleep(SETTLE_SECONDS)
                answers = sending.records().between(began, time.time())
                seconds = rollback_seconds(answers, canary, lambda answer: answer.failed or answer.seconds > promised)
                print(f"trial {trial + 1}: {seconds} s", flush=True)
                found.append(seconds)
        answers = sending.records()
    print(json.dumps(_summary(found, answers, canary, options.rate)))
    return 0


def _again(deployment: Deployment, canary: str, trial: int) -> None:
    order = f"tapchanger.dev/retry={canary} trial {trial + 1}"
    deployment.kubectl("annotate", "tdep", deployment.name, "-n", deployment.namespace, "--overwrite", order)


def _rejected(deployment: Deployment, since: float) -> str:
    """The canary that was rolled back at `since` (Unix seconds) or later."""

    def look() -> str | None:
        back = [entry for entry in deployment.status().get("history", []) if entry["event"] == "RolledBack"]
        return str(back[-1]["revision"]) if back and unix(back[-1]["at"]) >= since else None

    return until("a rollback", look, 300, last=deployment.picture)


def _summary(found: list[float | None], answers: Records, canary: str, rate: float) -> dict[str, object]:
    times = [seconds for seconds in found if seconds is not None]
    stable = answers.where(lambda answer: answer.revision != canary)
    return {
        "median_s": round(statistics.median(times), 2),
        "worst_s": round(max(times), 2),
        "failed": len(answers.failures()),
        "requests": len(answers),
        "trials": len(times),
        "rate": rate,
        "slower": round(answers.of_revision(canary).quantile(0.5) / stable.quantile(0.5), 1),
    }


if __name__ == "__main__":
    sys.exit(main())
