"""Which nodes pods may be put on, by the rules of Kubernetes' scheduler that depend on the node alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from tapchanger_operator.snapshot import Node

OS: Final = "kubernetes.io/os"
ARCH: Final = "kubernetes.io/arch"
_PASSING: Final = (
    "node.kubernetes.io/", "node.cloudprovider.kubernetes.io/",
    "ToBeDeletedByClusterAutoscaler", "DeletionCandidateOfClusterAutoscaler",
)  # fmt: skip
"""Taints of a node that is on its way up or down, or in trouble: they say nothing of what it is."""

Template = Mapping[str, Any]
Expression = Mapping[str, Any]


def eligible(nodes: Iterable[Node], template: Template) -> tuple[Node, ...]:
    """The Linux nodes that the node selector, the required node affinity and the tolerations of a pod template allow.

    A node that is cordoned, not ready or short of room counts: it is still of its kind.
    """
    return tuple(node for node in nodes if _linux(node) and _allowed(node, template))


def meets(labels: Mapping[str, str], expressions: Iterable[Expression]) -> bool:
    """Whether a node's labels meet all requirements of a node selector term."""
    return all(_meets(labels, expression) for expression in expressions)


def _linux(node: Node) -> bool:
    return node.labels.get(OS, "linux") == "linux"


def _allowed(node: Node, template: Template) -> bool:
    if not template.get("nodeSelector", {}).items() <= node.labels.items():
        return False
    tolerations = template.get("tolerations", [])
    if not all(_tolerated(taint, tolerations) for taint in node.taints if _keeps_away(taint)):
        return False
    affinity = template.get("affinity", {}).get("nodeAffinity", {})
    terms = affinity.get("requiredDuringSchedulingIgnoredDuringExecution", {}).get("nodeSelectorTerms")
    return terms is None or any(_term_meets(node, term) for term in terms)


def _term_meets(node: Node, term: Mapping[str, Any]) -> bool:
    """An empty term matches no node, as in Kubernetes."""
    expressions, fields = term.get("matchExpressions", []), term.get("matchFields", [])
    if not expressions and not fields:
        return False
    return meets(node.labels, expressions) and meets({"metadata.name": node.name}, fields)


def _meets(labels: Mapping[str, str], expression: Expression) -> bool:
    value, values = labels.get(expression["key"]), [str(one) for one in expression.get("values") or []]
    match expression["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt":
            return _number(value) is not None and _number(value) > _number(values[0])  # type: ignore[operator]
        case "Lt":
            return _number(value) is not None and _number(value) < _number(values[0])  # type: ignore[operator]
    return False


def _number(text: str | None) -> int | None:
    try:
        return int(text or "")
    except ValueError:
        return None


def _keeps_away(taint: Mapping[str, str]) -> bool:
    return taint.get("effect") in ("NoSchedule", "NoExecute") and not taint.get("key", "").startswith(_PASSING)


def _tolerated(taint: Mapping[str, str], tolerations: Sequence[Mapping[str, Any]]) -> bool:
    return any(_tolerates(toleration, taint) for toleration in tolerations)


def _tolerates(toleration: Mapping[str, Any], taint: Mapping[str, str]) -> bool:
    if toleration.get("effect") not in (None, "", taint["effect"]):
        return False
    key = toleration.get("key")
    if toleration.get("operator", "Equal") == "Exists":
        return key in (None, "", taint["key"])
    return key == taint["key"] and (toleration.get("value") or "") == taint.get("value", "")
