"""What the benchmarks on a real cluster share: a namespace of their own with the models, and what each request met."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from dev.common import stack as stacks
from dev.common.deployment import Deployment
from dev.common.stack import Stack
from dev.load import Load, Plan
from tests.e2e.support import ONE_CANDIDATE, described

NAMESPACE = "bench"
SECONDS = 3600.0


@dataclass(frozen=True)
class Ground:
    """A cluster with the chart on it and an empty namespace."""

    stack: Stack

    def deployment(self, name: str, uri: str, **spec: Any) -> Deployment:
        """A small deployment, described and not applied."""
        return described(self.stack.kubectl, NAMESPACE, name, uri, engine=ONE_CANDIDATE, **spec)

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts that stands beside the models."""
        return tuple(json.loads((self.stack.models / f"{name}.json").read_text()))


@contextmanager
def ground() -> Iterator[Ground]:
    """Starts and fills the cluster where that is needed; the namespace goes at the end."""
    stacks.start_cluster()
    stack = stacks.own_stack()
    stacks.make_models(stack)
    stacks.build_images()
    stacks.install(stack)
    stacks.remove_namespace(stack, NAMESPACE)
    stacks.namespace_with_models(stack, NAMESPACE)
    try:
        yield Ground(stack)
    finally:
        stacks.remove_namespace(stack, NAMESPACE)


def load(deployment: Deployment, protocol: Any, texts: tuple[str, ...], rate: float) -> Load:
    """Steady requests to the deployment's routers."""
    grpc, http = deployment.address()
    address = http.removeprefix("http://") if protocol == "http" else grpc
    return Load(Plan(address, protocol, deployment.name, texts, rate, seconds=SECONDS, allow_remote=True))
