"""Chart, definitions and namespaces may go in any order: nothing hangs, and a new installation works."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from dev.common import stack as stacks
from dev.common.kubectl import Kubectl
from dev.common.stack import CRDS, SYSTEM, Stack
from dev.common.waiting import until
from tests.e2e.support import NAMESPACE, described

LIMIT_SECONDS = 60.0


def remove_chart(stack: Stack) -> None:
    if stacks.RELEASE in stacks.helm(stack, "list", "--namespace", SYSTEM, "--short"):
        stacks.helm(stack, "uninstall", stacks.RELEASE, "--namespace", SYSTEM, "--wait", "--timeout", "2m")


def remove_definitions(stack: Stack) -> None:
    for name in CRDS:
        stack.kubectl.delete("crd", name)


def remove_namespaces(stack: Stack) -> None:
    spaces = (SYSTEM, place(stack))
    for name in spaces:
        stack.kubectl.delete("namespace", name, wait=False)
    for name in spaces:
        stack.kubectl.delete("namespace", name)


def place(stack: Stack) -> str:
    return f"{NAMESPACE}-uninstall"


ACTIONS: dict[str, Callable[[Stack], None]] = {
    "chart": remove_chart,
    "definitions": remove_definitions,
    "namespaces": remove_namespaces,
}


@pytest.mark.parametrize(
    "order",
    [
        ("chart", "definitions", "namespaces"),
        ("namespaces", "definitions", "chart"),
        ("definitions", "namespaces", "chart"),
    ],
    ids="-".join,
)
def test_uninstalling_in_any_order_leaves_nothing_stuck(
    stack: Stack, kubectl: Kubectl, space: str, order: tuple[str, ...], words: Callable[[str], None]
) -> None:
    where = place(stack)
    stacks.namespace_with_models(stack, where)
    deployment = described(kubectl, where, "left", "moderation-v1")
    deployment.apply()
    until("servers, a build or at least its Job", lambda: kubectl.items("pods", where), 60, last=deployment.picture)

    for step in order:
        began = time.monotonic()
        ACTIONS[step](stack)
        took = time.monotonic() - began
        words(f"uninstall {'-'.join(order)}, {step}: {took:.1f} s")
        assert took < LIMIT_SECONDS, f"{step} took {took:.0f} s"
    rest = kubectl.items("clusterrole,clusterrolebinding", None, f"app.kubernetes.io/part-of={stacks.RELEASE}")
    for item in rest:
        kubectl.delete(item["kind"], item["metadata"]["name"])

    assert not [name for name in CRDS if kubectl.get("crd", name)]
    assert kubectl.get("namespace", SYSTEM) is None
    assert kubectl.get("namespace", where) is None
    stacks.remove_namespace(stack, where)
    stacks.install(stack)
    pods = kubectl.items("pods", SYSTEM)
    assert {pod["metadata"]["labels"]["app.kubernetes.io/component"] for pod in pods} == {"operator", "observer"}
