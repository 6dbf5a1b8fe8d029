"""Two engines of one model: one runtime is quickest with a short text, another with a full batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tapchanger_serving.engines.base import Engine


class PartedEngine:
    """Gives batches of at most `tokens` tokens, padding counted, to `small` and all others to `large`."""

    def __init__(self, small: Engine, large: Engine, tokens: int) -> None:
        self._small, self._large, self._tokens = small, large, tokens

    def run(self, feeds: Mapping[str, NDArray[np.int64]]) -> NDArray[np.float32]:
        """See :class:`tapchanger_serving.engines.base.Engine`."""
        work = next(iter(feeds.values())).size
        return (self._small if work <= self._tokens else self._large).run(feeds)

    def close(self) -> None:
        """See :class:`tapchanger_serving.engines.base.Engine`."""
        self._small.close()
        self._large.close()
