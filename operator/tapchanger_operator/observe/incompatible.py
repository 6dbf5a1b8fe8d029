"""Why the scheduler finds no node for servers: there is no room, or no node has what their engine was built for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tapchanger_operator.api import reasons
from tapchanger_operator.observe.pods import OTHER_NODES
from tapchanger_operator.resolve import needs, placing
from tapchanger_operator.resolve.identity import RevisionContent
from tapchanger_operator.snapshot import Node, Trouble


def explained(trouble: Trouble | None, content: RevisionContent | None, nodes: Sequence[Node]) -> Trouble | None:
    """`trouble` of servers of `content`; where they wait for a node, with how many nodes lack what."""
    if trouble is None or trouble.reason != reasons.NO_NODE_FITS or content is None or content.hardware is None:
        return trouble
    allowed = placing.eligible(nodes, content.template)
    short = needs.shortage(allowed, content.runtime, content.hardware)
    if short is None:
        return trouble
    if all(needs.lacks(node, content.runtime, content.hardware) for node in allowed):
        message = f"no node can run the engine ({content.runtime}): {short}; {OTHER_NODES}"
        return Trouble(reasons.ENGINE_INCOMPATIBLE, message)
    return replace(trouble, message=f"{trouble.message} ({short})")
