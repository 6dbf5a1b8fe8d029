"""The command line: `python3 -m dev.demo`. The last line of its standard output is a JSON object with what was measured."""

from __future__ import annotations

import argparse
import copy
import csv
import json
import sys
from collections.abc import Sequence
from typing import Any, Final

import yaml

from dev.common import stack as stacks
from dev.common.deployment import Deployment
from dev.common.reach import reached
from dev.common.shell import ROOT, CommandError
from dev.common.stack import SYSTEM, Stack
from dev.demo import cluster, scenes
from dev.demo.progress import Progress

EXAMPLE: Final = ROOT / "examples" / "moderation" / "moderation.yaml"
CHECKPOINTS: Final = ("moderation-v1", "moderation-v2", "moderation-slow", "data")
BETTER: Final = "pvc://models/moderation-v2"
TOO_SLOW: Final = "pvc://models/moderation-slow"
PATIENCE: Final = {"minRequests": 20, "timeout": "2m"}
"""A demonstration's few requests must do: a canary of a product waits for more."""
TARGET: Final = 0.9
"""The share of requests within the example's latency: builds, load and servers all run on one small machine."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0 only when all of it was seen to work."""
    options = _parser().parse_args(arguments)
    progress = Progress()
    try:
        stack = cluster.chosen(options.context)
        result = _show(stack, cluster.registry_for(stack, options.registry), progress)
    except (CommandError, AssertionError, LookupError, ValueError, OSError) as problem:
        print(f"error: {problem}", flush=True)
        print(f"What was done stays as it is. Look with: {_look()}", flush=True)
        return 1
    print(json.dumps(result), flush=True)
    return 0


def _show(stack: Stack, registry: str | None, progress: Progress) -> dict[str, Any]:
    _prepare(stack, registry, progress)
    deployment = _deployment(stack)
    texts = _texts(stack)
    with progress.phase("serve", "kubectl apply builds an engine in the cluster and serves it"):
        example = EXAMPLE.relative_to(ROOT)
        progress.say(f"{example}, with short steps that few requests decide, and {TARGET:.0%} within its latency")
        report = scenes.serve(deployment, progress.say)
    with reached(deployment, own=stack.own) as (grpc, _):
        with progress.phase("answers", "three texts through the router"):
            scenes.ask(grpc, deployment, texts[:3], progress.say)
        with progress.phase("promote", "a better model takes over, step by step"):
            promotion = scenes.promote(grpc, deployment, BETTER, texts, progress.say)
        with progress.phase("rollback", "a model that is too slow is taken back"):
            rollback = scenes.roll_back(grpc, deployment, TOO_SLOW, _long_texts(stack), progress.say)
            progress.say(f"{rollback.seconds:.1f} s from the first slow answer to all traffic on stable")
    failures = [*promotion.failed, *rollback.failed]
    if failures:
        raise AssertionError(f"{len(failures)} requests failed, the first: {failures[0]}")
    deployment.change_uri(BETTER)
    deployment.wait_ready(scenes.CANARY_SECONDS)
    _next_steps(stack, deployment, progress)
    return {
        "seconds": progress.seconds,
        "engine": f"{report['runtime']}/{report['precision']}",
        "speedup": round(report["speedup"], 2),
        "canary_weights": [round(share.seen, 1) for share in promotion.shares],
        "rollback_seconds": round(rollback.seconds, 1),
        "failed_requests": len(failures),
    }


def _prepare(stack: Stack, registry: str | None, progress: Progress) -> None:
    if stack.own:
        with progress.phase("cluster", "a real Kubernetes on this machine"):
            stacks.start_cluster()
    with progress.phase("images", "operator, builder, server, router, observer"):
        stacks.build_images(registry)
    with progress.phase("models", "checkpoints of the examples"):
        stacks.make_models(stack)
        if not stack.own:
            cluster.upload_models(stack, "default", CHECKPOINTS)
    with progress.phase("install", "the Helm chart"):
        stacks.install(stack)
    progress.say(f"operator and observer run in namespace {SYSTEM}")


def _deployment(stack: Stack) -> Deployment:
    """The example with a short rollout, begun anew where an earlier demonstration left it behind."""
    manifest = copy.deepcopy(yaml.safe_load(EXAMPLE.read_text()))
    rollout = manifest["spec"].setdefault("rollout", {})
    rollout["analysis"] = {**rollout.get("analysis", {}), **PATIENCE}
    for objective in manifest["spec"]["slo"]["objectives"]:
        if "latency" in objective:
            objective["target"] = TARGET
    deployment = Deployment(stack.kubectl, manifest)
    stack.kubectl.delete("tdep", deployment.name, deployment.namespace)
    return deployment


def _texts(stack: Stack) -> list[str]:
    with (stack.models / "data" / "moderation" / "evaluation.csv").open(newline="") as file:
        return [row["text"] for row in csv.DictReader(file)]


def _long_texts(stack: Stack) -> list[str]:
    """Texts on which a slow model shows what it costs."""
    found: list[str] = json.loads((stack.models / "texts-long.json").read_text())
    return found


def _next_steps(stack: Stack, deployment: Deployment, progress: Progress) -> None:
    kubectl = " ".join(stack.kubectl.command())
    progress.say("The cluster goes on running. What to try next:")
    if stack.own:
        progress.say(f"  export KUBECONFIG={stack.kubectl.kubeconfig} PATH={stack.home / 'bin'}:$PATH")
        kubectl = "kubectl"
    progress.say(f"  {kubectl} get tdep,eb")
    progress.say(f"  {kubectl} describe tdep {deployment.name}")
    progress.say(f"  {kubectl} delete tdep {deployment.name}")
    if stack.own:
        progress.say("  make cluster-down")


def _look() -> str:
    own = stacks.own_stack()
    return f"{' '.join(own.kubectl.command('get', 'tdep,eb,jobs,pods', '--all-namespaces'))}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 -m dev.demo", description=__doc__)
    parser.add_argument("--context", help="use the cluster of this kube context instead of one of its own")
    parser.add_argument("--registry", help="HOST/PATH that the nodes of that cluster pull images from")
    return parser


if __name__ == "__main__":
    sys.exit(main())
