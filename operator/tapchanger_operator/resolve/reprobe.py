"""When the nodes have become others, their hardware is looked at anew; what is found becomes the engine's, as after a change of
the spec.

The question is asked only where it has an answer: while nodes can't be read, or none is allowed, everything stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pydantic import ValidationError

from tapchanger_operator import names
from tapchanger_operator.api import reasons
from tapchanger_operator.api.base import timestamp, unix
from tapchanger_operator.api.hardware import HardwareStatus
from tapchanger_operator.api.status import ModelStatus
from tapchanger_operator.resolve import needs, placing
from tapchanger_operator.resolve.identity import inspection_key
from tapchanger_operator.resolve.resolution import sentence
from tapchanger_operator.snapshot import JobState, Node, Servers, Snapshot
from tapchanger_serving.contract.messages import Hardware

HOLD_SECONDS: Final = 300.0
"""How long the nodes must have been others: one that restarts, or labels that are written anew, change nothing."""
_SPREAD: Final = 0.5
"""Deployments look up to this share of the time later, each at its own, so that they don't all look at once."""
MOST_KINDS: Final = 64
_NO_ROOM: Final = (reasons.NO_NODE_FITS, reasons.ENGINE_INCOMPATIBLE)


@dataclass(frozen=True)
class Look:
    """What a pass makes of the nodes: the record for status, and the hardware where the Job has found out."""

    record: HardwareStatus | None
    found: Hardware | None = None


def look(snapshot: Snapshot) -> Look:
    """The record after a look at the nodes."""
    record, known, nodes = snapshot.status.hardware, snapshot.status.model, _nodes(snapshot)
    if known is None or known.key != inspection_key(snapshot.spec):
        # What is inspected for the first time has its hardware from that inspection, on the nodes as they are.
        return Look(HardwareStatus(kinds=_kinds(nodes)) if nodes else None)
    if not nodes:
        return Look(record and record.model_copy(update={"others_since": None}))
    if record is None or not record.kinds:
        return Look(HardwareStatus(kinds=_kinds(nodes)))
    if not _are_others(snapshot, known, record, nodes):
        return Look(record.model_copy(update={"others_since": None, "problem": None}))
    since = record.others_since or timestamp(snapshot.now)
    answer = _answer(snapshot.probe) if record.others_since and snapshot.probe else None
    if isinstance(answer, Hardware):
        return Look(HardwareStatus(kinds=_kinds(nodes)), answer)
    return Look(record.model_copy(update={"others_since": since, "problem": answer or record.problem}))


def due(snapshot: Snapshot, record: HardwareStatus | None) -> bool:
    """Whether the nodes have been others for long enough to look at their hardware."""
    if record is None or record.others_since is None:
        return False
    share = int(names.content_hash([snapshot.owner.uid, record.others_since], 8), 16) / 16**8
    return snapshot.now >= unix(record.others_since) + HOLD_SECONDS * (1 + _SPREAD * share)


def job_name(deployment: str, record: HardwareStatus | None) -> str | None:
    """The Job that looks: an operator that was killed finds the one that it started."""
    if record is None or record.others_since is None:
        return None
    return names.probe(deployment, names.content_hash([record.kinds, record.others_since], 8))


def _nodes(snapshot: Snapshot) -> tuple[Node, ...]:
    """The nodes that count. One that is cordoned still is what it is, but not to servers that wait for a node."""
    template = snapshot.spec.serving.template.model_dump(mode="json", by_alias=True)
    allowed = placing.eligible(snapshot.nodes or (), template)
    stable = snapshot.status.stable
    waiting = stable is not None and snapshot.servers.get(stable.revision, Servers()).reason in _NO_ROOM
    return tuple(node for node in allowed if not (waiting and node.cordoned))


def _kinds(nodes: tuple[Node, ...]) -> list[str]:
    return sorted({needs.kind(node) for node in nodes})[:MOST_KINDS]


def _are_others(snapshot: Snapshot, known: ModelStatus, record: HardwareStatus, nodes: tuple[Node, ...]) -> bool:
    """Whether no kind of node is left from when the hardware was looked at, or no node that can run the engine.

    Nodes of just the kinds that were there then are no reason to look again, whatever their labels say.
    """
    now, then = set(_kinds(nodes)), set(record.kinds)
    return now != then and (not now & then or _none_can(snapshot, known, nodes))


def _none_can(snapshot: Snapshot, known: ModelStatus, nodes: tuple[Node, ...]) -> bool:
    stable = snapshot.status.stable
    content = snapshot.contents.get(stable.revision) if stable else None
    runtime = content.runtime if content else ""
    return all(needs.lacks(node, runtime, known.inspection.hardware) for node in nodes)


def _answer(job: JobState) -> Hardware | str | None:
    """What the Job found, in words why it found nothing, or None while it is at it."""
    if job.failure:
        return sentence(job.failure.message, job.failure.remedy)
    if job.phase != "Succeeded":
        return job.trouble.message if job.trouble else None
    try:
        return Hardware.model_validate_json(job.answer or "")
    except ValidationError as problem:
        return f"the answer can't be read: {problem.error_count()} errors; are operator and builder of one release?"
