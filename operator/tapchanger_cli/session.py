"""What every command starts with: the cluster, the namespace, and where the answer goes."""

from __future__ import annotations

import functools
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import click
import yaml
from rich.console import Console, RenderableType

from tapchanger_cli.access import Access

if TYPE_CHECKING:
    from tapchanger_cli.cluster import Cluster

Output = Literal["json", "yaml"]

_UNBOUND_WIDTH = 400
"""Columns where nobody says how many there are: a line in a file or a pipe is not broken."""


@dataclass(frozen=True)
class Session:
    """One run of a command. `program` is how it was called, `tapchanger` or `kubectl tapchanger`."""

    access: Access
    given_namespace: str | None
    output: Output | None
    program: str
    now: Callable[[], float] = time.time

    @functools.cached_property
    def cluster(self) -> Cluster:
        """The cluster; the first use connects."""
        from tapchanger_cli.cluster import connect  # the client takes a second to load, which help need not wait for

        return connect(self.access)

    @property
    def namespace(self) -> str:
        """The namespace that was given, or that of the context."""
        return self.given_namespace or self.cluster.namespace

    def emit(self, document: Any, view: Callable[[], RenderableType]) -> None:
        """Prints the answer as it was asked for."""
        if self.output is None:
            console().print(view())
        else:
            click.echo(dumped(document, self.output))


def dumped(document: Any, output: Output, *, line: bool = False) -> str:
    """`document` as JSON (on one line, if wanted) or as a YAML document."""
    if output == "json":
        return json.dumps(document, indent=None if line else 2, ensure_ascii=False)
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)
    return f"---\n{text.rstrip()}" if line else text.rstrip()


def console() -> Console:
    """Standard output."""
    drawn = Console(highlight=False, soft_wrap=False)
    if not drawn.is_terminal and not os.environ.get("COLUMNS"):
        drawn = Console(highlight=False, width=_UNBOUND_WIDTH)
    return drawn
