"""Runs programs and tells what they said when they fail."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The checkout."""


class CommandError(RuntimeError):
    """A program ended with another exit status than 0; the text holds what it said."""

    def __init__(self, command: Sequence[str], status: int | str, said: str) -> None:
        super().__init__(f"`{' '.join(command)}` ended with {status}:\n{said.strip()[-4000:]}")
        self.status = status
        self.said = said


def run(
    *command: str | Path,
    text: str | None = None,
    seconds: float = 120.0,
    environment: Mapping[str, str] | None = None,
    accepted: Sequence[int] = (0,),
) -> str:
    """Standard output of `command`, which gets `text` as its standard input.

    Raises:
        CommandError: it ended with a status that is not in `accepted`, or did not end within `seconds`.
    """
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words,
            input=text,
            stdin=subprocess.DEVNULL if text is None else None,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
        )
    except subprocess.TimeoutExpired as problem:
        said = "".join(_text(part) for part in (problem.stdout, problem.stderr))
        raise CommandError(words, f"no answer in {seconds:.0f} s", said) from problem
    if done.returncode not in accepted:
        raise CommandError(words, f"exit status {done.returncode}", done.stdout + done.stderr)
    return done.stdout


def show(*command: str | Path, environment: Mapping[str, str] | None = None) -> None:
    """Runs `command` and lets the person see its output, on standard error.

    Raises:
        CommandError: it failed; what it said has been shown already.
    """
    words = [str(word) for word in command]
    status = subprocess.run(
        words, stdin=subprocess.DEVNULL, stdout=2, check=False, cwd=ROOT, env={**os.environ, **(environment or {})}
    ).returncode
    if status:
        raise CommandError(words, f"exit status {status}", "see above")


def _text(part: bytes | str | None) -> str:
    return part.decode(errors="replace") if isinstance(part, bytes) else part or ""
