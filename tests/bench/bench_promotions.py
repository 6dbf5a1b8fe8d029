"""Promotions in a row under load by every kind of client: what fails?

Two models take turns. One that is not up any more starts servers, gets a step as a canary and is promoted, while the
servers before it drain and go; one that is still warm takes over at once. `--fresh` waits until the other is gone, so that
every promotion is of the first kind. Meanwhile requests come by gRPC, by gRPC streams and by HTTP clients that keep their
connections. The last line is JSON: `promotions`, `canaries` (those of the first kind), `requests` and `failed` by
protocol, `seconds_each` (median from apply to Ready).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from contextlib import ExitStack

from dev.common.deployment import Deployment
from dev.common.waiting import until
from tests.bench.on_cluster import ground, load

MODELS = ("pvc://models/moderation-v2", "pvc://models/moderation-v1")
PROTOCOLS = ("grpc", "grpc-stream", "http")


def main() -> int:
    """Prints a line for each ten promotions, and JSON last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--promotions", type=int, default=100)
    parser.add_argument(
        "--rate", type=float, default=10.0, help="requests a second of each kind (default: %(default)s)"
    )
    parser.add_argument("--fresh", action="store_true", help="let the servers before go first")
    options = parser.parse_args()
    with ground() as place, ExitStack() as loads:
        deployment = place.deployment(
            "turning",
            "moderation-v1",
            slo={"objectives": [{"latency": "2s", "target": 0.9}, {"availability": 0.999}]},
            rollout={"steps": [{"weight": 50}], "analysis": {"minRequests": 30, "timeout": "15s"}, "watch": "0s"},
        )
        deployment.apply()
        deployment.wait_ready(400)
        texts = place.texts("texts")
        sending = {kind: loads.enter_context(load(deployment, kind, texts, options.rate)) for kind in PROTOCOLS}
        took, canaries = [], 0
        for number in range(options.promotions):
            if options.fresh:
                until("the servers before to go", lambda: _alone(deployment), 120, last=deployment.picture)
            began = time.monotonic()
            deployment.change_uri(MODELS[number % 2])
            status = deployment.wait_ready(300)
            canaries += [entry["event"] for entry in status["history"][-2:]] == ["Started", "Promoted"]
            took.append(time.monotonic() - began)
            if number % 10 == 9:
                failed = {kind: len(one.records().failures()) for kind, one in sending.items()}
                print(f"{number + 1} promotions, failed: {failed}", flush=True)
        answers = {kind: one.stop() for kind, one in sending.items()}
    for kind, records in answers.items():
        for record in records.failures()[:3]:
            print(f"{kind}: {record.line()}")
    summary = {
        "promotions": len(took),
        "canaries": canaries,
        "requests": {kind: len(records) for kind, records in answers.items()},
        "failed": {kind: len(records.failures()) for kind, records in answers.items()},
        "seconds_each": round(statistics.median(took), 1),
    }
    print(json.dumps(summary))
    return 0


def _alone(deployment: Deployment) -> bool:
    """Whether only the stable revision has servers."""
    status = deployment.status()
    return bool(status) and not status.get("previous") and not status.get("retiring")


if __name__ == "__main__":
    sys.exit(main())
