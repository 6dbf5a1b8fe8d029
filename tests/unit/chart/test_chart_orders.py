"""The admission policy that names who gave an order knows the same orders as the operator."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from tapchanger_operator.api import controls

Render = Callable[..., list[dict[str, Any]]]
CAPABLE = ("--api-versions", "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy")


def policies(manifests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [item for item in manifests if item["kind"].startswith("MutatingAdmissionPolicy")]


def test_the_policy_knows_every_order(render: Render) -> None:
    policy = policies(render(*CAPABLE))[0]
    given = next(v["expression"] for v in policy["spec"]["variables"] if v["name"] == "given")
    orders = (*controls.ORDERS, *controls.RETRAINING_ORDERS)
    wanted = {controls.PAUSE, *(controls.annotation(order) for order in orders)}
    assert set(re.findall(r"'(tapchanger\.dev/[a-z]+)'", given)) == wanted
    looked_at = policy["spec"]["matchConditions"][0]["expression"]
    assert set(re.findall(r"'(tapchanger\.dev/[a-z]+)'", looked_at)) == wanted


def test_a_cluster_without_such_policies_gets_none(render: Render) -> None:
    assert not policies(render())


def test_the_policy_can_be_left_out(render: Render) -> None:
    assert not policies(render(*CAPABLE, "--set", "admission.recordOrders=false"))
