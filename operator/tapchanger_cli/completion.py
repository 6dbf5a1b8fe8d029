"""Completion by the shell, of names in the cluster too. A question that the cluster doesn't answer at once completes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import click
from click.shell_completion import BashComplete, CompletionItem, ShellComplete, ZshComplete

from tapchanger_cli.access import Access
from tapchanger_cli.errors import CliError
from tapchanger_cli.words import printable

if TYPE_CHECKING:
    from tapchanger_cli.cluster import Cluster

VARIABLE: Final = "_TAPCHANGER_COMPLETE"
"""The environment variable by which a shell's script asks the program."""
_PATIENCE: Final = (1.0, 2.0)
_NO_FILES: Final = 4
"""Cobra's ShellCompDirectiveNoFileComp."""


def script(group: click.Command, shell: str) -> str:
    """The script that a shell evaluates to complete `tapchanger`."""
    kind: type[ShellComplete] = BashComplete if shell == "bash" else ZshComplete
    return kind(group, {}, "tapchanger", VARIABLE).source()


def for_kubectl(group: click.Command, words: list[str]) -> str:
    """What kubectl asks `kubectl_complete-tapchanger` for: a completion a line with its description, then the directive.

    `words` follow `kubectl tapchanger`; the last one is to be completed. The form is Cobra's.
    """
    *before, incomplete = words or [""]
    items = ShellComplete(group, {}, "kubectl tapchanger", VARIABLE).get_completions(before, incomplete)
    lines = [f"{item.value}\t{item.help}" if item.help else str(item.value) for item in items if item.type == "plain"]
    files = any(item.type == "file" for item in items)
    return "\n".join([*lines, f":{0 if files else _NO_FILES}"])


def deployments(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of deployments in the namespace that was written so far."""
    del param

    def known(cluster: Cluster) -> list[CompletionItem]:
        found = cluster.deployments(_written(ctx, "namespace") or cluster.namespace)
        return [
            CompletionItem(item["metadata"]["name"], help=_short(item.get("status", {}).get("message", "")))
            for item in found
        ]

    return _asked(ctx, incomplete, known)


def namespaces(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of namespaces."""
    del param
    return _asked(ctx, incomplete, lambda cluster: [CompletionItem(name) for name in cluster.namespaces()])


def contexts(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Contexts of the kubeconfig."""
    del param
    from tapchanger_cli.cluster import contexts as known

    try:
        names, _, _ = known(_written(ctx, "kubeconfig"))
    except CliError:
        return []  # a shell's prompt is no place for an error; the command itself will tell it
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def _short(message: str) -> str:
    """The beginning of a sentence, on one line."""
    return " ".join(str(printable(message)).split())[:80]


def _asked(
    ctx: click.Context, incomplete: str, known: Callable[[Cluster], list[CompletionItem]]
) -> list[CompletionItem]:
    from tapchanger_cli.cluster import connect

    try:
        found = known(connect(Access(_written(ctx, "kubeconfig"), _written(ctx, "context")), _PATIENCE))
    except CliError:
        return []  # a shell's prompt is no place for an error; the command itself will tell it
    return [item for item in found if str(item.value).startswith(incomplete)]


def _written(ctx: click.Context, option: str) -> str | None:
    """An option's value, before the command's name or after it."""
    at: click.Context | None = ctx
    while at is not None:
        if at.params.get(option):
            return str(at.params[option])
        at = at.parent
    return None
