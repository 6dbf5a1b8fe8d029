"""The command with all that it knows."""

from __future__ import annotations

from importlib import metadata
from typing import Any

import click
from rich.text import Text

from tapchanger_cli import build, show, steer
from tapchanger_cli import completion as completing
from tapchanger_cli.options import EXIT_CODES, Helped, command, placed
from tapchanger_cli.session import Session
from tapchanger_operator.api.base import API_VERSION


@click.group(epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@placed
def cli(**options: Any) -> None:
    """See, understand and steer rollouts of transformer models.

    Every order is an annotation on a TransformerDeployment, carried out once by the operator. It needs no more rights than
    get and patch on transformerdeployments; watching needs list and watch.
    """
    del options  # commands take them from the context, where they were not given after the command's name


@click.command(
    cls=Helped,
    examples=(
        'eval "$(tapchanger completion bash)"              in ~/.bashrc',
        'eval "$(tapchanger completion zsh)"               in ~/.zshrc, after compinit',
        "kubectl completes `kubectl tapchanger` by itself: it calls kubectl_complete-tapchanger",
    ),
)
@click.argument("shell", type=click.Choice(["bash", "zsh"]))
def completion(shell: str) -> None:
    """Print the script by which a shell completes."""
    click.echo(completing.script(cli, shell))


@click.command(cls=Helped, examples=("{program} version", "{program} version -o json"))
@command
def version(session: Session) -> None:
    """Print this command's version and the API's."""
    try:
        release = metadata.version("tapchanger")
    except metadata.PackageNotFoundError:
        release = "not installed"
    document = {"version": release, "apiVersion": API_VERSION}
    session.emit(document, lambda: Text(f"tapchanger {document['version']} ({API_VERSION})"))


for _command in (
    show.status, show.explain, show.history,
    steer.promote, steer.abort, steer.pause, steer.resume, steer.retry, steer.skip, steer.retrain,
    build.build, completion, version,
):  # fmt: skip
    cli.add_command(_command)


def run(program: str) -> None:
    """Runs the command as `program` with the words of the command line, and ends the process."""
    cli.main(prog_name=program, complete_var=completing.VARIABLE)


def complete(words: list[str]) -> None:
    """Prints what kubectl offers after `words`."""
    click.echo(completing.for_kubectl(cli, words))
