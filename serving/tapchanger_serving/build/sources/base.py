"""What every source can do."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class Source(Protocol):
    """A place that holds a checkpoint or a data file.

    `tree_pin` is the digest that the user wrote for the checkpoint's content, if this kind of source is pinned that way.
    The methods raise :class:`tapchanger_serving.build.failures.StepError` that names `field`.
    """

    @property
    def tree_pin(self) -> str | None:
        """The digest that the URI pins."""
        ...

    @property
    def remote(self) -> bool:
        """Whether the content travels over a network."""
        ...

    def version(self) -> str | None:
        """A mark of the content that costs no download: as long as it stays, the content does. None where there is none."""
        ...

    def folder(self, scratch: Path) -> Path:
        """The checkpoint's folder; downloads go into the new folder `scratch`."""
        ...

    def file(self, scratch: Path) -> Path:
        """The data file; downloads go into the new folder `scratch`."""
        ...
