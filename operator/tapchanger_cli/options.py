"""Options that all commands have, help with examples, and the parameters' types."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from typing import Any

import click

from tapchanger_cli import completion
from tapchanger_cli.access import Access
from tapchanger_cli.session import Session
from tapchanger_operator.api.base import seconds

EXIT_CODES = "Exit codes: 0 done, 1 not carried out or not found, 2 wrong usage."


class Helped(click.Command):
    """A command whose help ends with examples; `{program}` in them is how it was called."""

    def __init__(self, *arguments: Any, examples: Sequence[str] = (), **rest: Any) -> None:
        super().__init__(*arguments, **rest)
        self.examples = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the examples."""
        if not self.examples:
            return
        formatter.write_paragraph()
        formatter.write("Examples:\n")
        for example in self.examples:
            formatter.write(f"  {example.format(program=ctx.find_root().info_name)}\n")
        formatter.write(f"\n{EXIT_CODES}\n")


class Duration(click.ParamType[float]):
    """A length of time such as 30s or 5m, in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds. Fails with what to write instead."""
        if isinstance(value, (int, float)):
            return float(value)
        try:
            return seconds(value)
        except ValueError as problem:
            self.fail(str(problem), param, ctx)


class Revision(click.ParamType[str]):
    """A revision, or the first four digits and more of it."""

    name = "revision"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The digits. Fails where it can't be a revision."""
        if not re.fullmatch(r"[0-9a-f]{4,64}", str(value)):
            self.fail(f"{value!r} is not a revision; write at least its first four digits (0-9, a-f)", param, ctx)
        return str(value)


def placed(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options that say which cluster and namespace, and how to print."""
    for option in (
        click.option(
            "-o",
            "--output",
            type=click.Choice(["json", "yaml"]),
            help="Print for machines; docs/cli.md has the fields.",
        ),
        click.option("--kubeconfig", type=click.Path(), help="The kubeconfig file (default: as kubectl)."),
        click.option("--context", shell_complete=completion.contexts, help="The context in the kubeconfig."),
        click.option(
            "-n", "--namespace", shell_complete=completion.namespaces, help="The namespace (default: the context's)."
        ),
    ):
        function = option(function)
    return function


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Adds :func:`placed` options and hands the function a :class:`Session` made from them, before its own parameters."""

    @functools.wraps(function)
    def run(*arguments: Any, **parameters: Any) -> None:
        ctx = click.get_current_context()
        given = {name: parameters.pop(name) for name in ("namespace", "context", "kubeconfig", "output")}
        before = ctx.find_root().params
        chosen = {name: value if value is not None else before.get(name) for name, value in given.items()}
        session = Session(
            Access(chosen["kubeconfig"], chosen["context"]),
            chosen["namespace"],
            chosen["output"],
            ctx.find_root().info_name or "tapchanger",
        )
        function(session, *arguments, **parameters)

    return placed(run)


def named(required: bool = True) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The argument NAME, completed from the cluster."""
    return click.argument("name", required=required, shell_complete=completion.deployments)
