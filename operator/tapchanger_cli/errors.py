"""What goes wrong for reasons that a user can mend. All end the command with exit code 1 and two lines on standard error."""

from __future__ import annotations

from typing import IO, Any

import click


class CliError(click.ClickException):
    """What was found (`message`) and what to do about it (`remedy`)."""

    exit_code = 1

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy

    def show(self, file: IO[Any] | None = None) -> None:
        """Writes it to standard error."""
        click.echo(f"error: {self.message}", file=file, err=file is None)
        if self.remedy:
            click.echo(f"  {self.remedy}", file=file, err=file is None)


class NotFoundError(CliError):
    """There is no object of that name."""


class UnreachableError(CliError):
    """The API server gives no answer; it may a moment later."""


class NotCarriedOutError(CliError):
    """The operator's answer to an order is no, or there is none yet."""
