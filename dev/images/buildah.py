"""The few uses of buildah and skopeo. Every call's output goes to a log; a failure shows its end."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from dev.images import settings


class BuildError(Exception):
    """A program failed; the text holds the end of what it said and where the rest is."""


@dataclass(frozen=True)
class Buildah:
    """buildah with its scratch space and package caches in `cache`, its logs in `logs`."""

    cache: Path
    logs: Path

    def build(self, root: Path, target: str, tag: str, arguments: Mapping[str, str]) -> None:
        """Builds one target of the Dockerfile in `root` as the local image `tag`."""
        (self.logs / f"{target}.log").unlink(missing_ok=True)
        mounted = settings.prepare(self.cache / "settings")
        self.run(
            target,
            "buildah", "build", "--layers", "--isolation", "chroot", "--network", "host",
            "--volume", f"{mounted}:/run/build:ro",
            *(word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")),
            "--target", target, "--tag", tag, str(root),
        )  # fmt: skip

    def push(self, target: str, tag: str, destination: str, *, secure: bool) -> str:
        """Pushes the local image `tag` and returns the digest that the registry knows it by.

        Over plain HTTP, which is this machine's own registry, compressing would take longer than sending.
        """
        digest = self.logs / f"{target}.digest"
        flags = [] if secure else ["--tls-verify=false", "--disable-compression"]
        self.run(
            target, "buildah", "push", "--quiet", *flags, "--digestfile", str(digest), tag, f"docker://{destination}"
        )
        return digest.read_text().strip()

    def run(self, log: str, *command: str, seconds: float | None = None) -> str:
        """Standard output of a command.

        Raises:
            BuildError: it failed, is not installed or took longer than `seconds`.
        """
        self.cache.mkdir(parents=True, exist_ok=True)
        self.logs.mkdir(parents=True, exist_ok=True)
        file = self.logs / f"{log}.log"
        with file.open("a") as sink:
            print(f"$ {' '.join(command)}", file=sink, flush=True)
            done = _finish(command, sink, {**os.environ, "TMPDIR": str(self.cache)}, seconds)
        if done.returncode:
            tail = "\n".join(file.read_text(errors="replace").splitlines()[-25:])
            raise BuildError(f"{' '.join(command[:2])} failed for {log}; the whole log is {file}\n{tail}")
        return done.stdout.strip() if done.stdout else ""


def _finish(
    command: Sequence[str], log: TextIO, environment: Mapping[str, str], seconds: float | None
) -> subprocess.CompletedProcess[str]:
    # A build's steps are worth reading while they go on; the other commands answer in a line.
    output = log if command[:2] == ("buildah", "build") else subprocess.PIPE
    try:
        return subprocess.run(
            command, stdout=output, stderr=log, text=True, env=environment, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, returncode=124, stdout="")
    except FileNotFoundError as error:
        raise BuildError(f"{command[0]} is not installed; `apt-get install {command[0]}` does it on Debian") from error
