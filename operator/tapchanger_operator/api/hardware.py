"""What status remembers of the nodes that an engine was made for."""

from __future__ import annotations

from pydantic import Field

from tapchanger_operator.api.base import StatusModel


class HardwareStatus(StatusModel):
    """The nodes as they were when the hardware was last looked at, and since when they have been others.

    `kinds` has eight digits for each kind of node: a hash of the hardware that its labels tell, or of its uid where they don't.
    """

    kinds: list[str] = Field(default=[], description="Kinds of nodes, at most 64.")
    others_since: str | None = Field(
        default=None,
        description="Since when the nodes are others; some minutes later their hardware is looked at anew.",
    )
    problem: str | None = Field(default=None, description="Why the last look failed; it is repeated.")
