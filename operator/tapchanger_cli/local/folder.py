"""The folder that a build writes: complete or not there, whatever happens meanwhile."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from tapchanger_cli.errors import CliError
from tapchanger_serving.contract.messages import BuildReport, BuildRequest
from tapchanger_serving.contract.names import EXIT_USER_ERROR
from tapchanger_serving.contract.stored import artifact_path, report_path

ARTIFACT: Final = "artifact"
REPORT: Final = "report.json"
PAGE: Final = "report.html"
CARD: Final = "README.md"
REQUEST: Final = "request.json"
_CONTENT: Final = {ARTIFACT, REPORT, PAGE, CARD, REQUEST}


class FolderError(CliError):
    """The folder is not one that a build may write."""

    exit_code = EXIT_USER_ERROR


@dataclass(frozen=True)
class Outcome:
    """The folder `path`, and a staging folder beside it that goes away."""

    path: Path
    staging: Path

    @property
    def store(self) -> Path:
        """The store of the build's steps."""
        return self.staging / "store"

    @property
    def work(self) -> Path:
        """The scratch folder of the build's steps."""
        return self.staging / "work"

    def lend(self, name: str) -> None:
        """Puts what the folder holds into the store as the build `name`, so that the builder can say whether it is valid."""
        request, report = _read(self.path)
        if request is None or report is None or request.name != name:
            return
        lent = {artifact_path(report.artifact): ARTIFACT, report_path(name): REPORT}
        for place, content in lent.items():
            link = self.store / place
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to((self.path / content).resolve())

    def take_back(self) -> None:
        """Removes what was lent: it is not valid, and the build will write its own."""
        shutil.rmtree(self.store)
        self.store.mkdir()

    def publish(self, request: BuildRequest) -> None:
        """Makes the folder from what the build stored, in one move. What an earlier build wrote there goes."""
        complete = self.staging / "complete"
        complete.mkdir()
        stored = self.store / report_path(request.name)
        report = BuildReport.model_validate_json(stored.read_bytes())
        (self.store / artifact_path(report.artifact)).rename(complete / ARTIFACT)
        for source, name in ((stored, REPORT), (stored.with_suffix(".html"), PAGE), (stored.with_suffix(".md"), CARD)):
            source.rename(complete / name)
        (complete / REQUEST).write_text(request.dumps(), encoding="utf-8")
        self._replace_by(complete)

    def _replace_by(self, complete: Path) -> None:
        before = self.staging / "before"
        if self.path.exists():
            self.path.rename(before)
        try:
            complete.rename(self.path)
        except BaseException:
            if before.exists():
                before.rename(self.path)
            raise


@contextlib.contextmanager
def outcome(path: Path) -> Iterator[Outcome]:
    """The folder that a build may write, with empty staging beside it. Raises FolderError where `path` holds other things."""
    path = path.resolve()
    _require_ours(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{path.name}.incoming-", dir=path.parent))
    except OSError as problem:
        raise FolderError(f"{path}: {problem.strerror}", "give another folder with --out") from problem
    try:
        found = Outcome(path, staging)
        found.store.mkdir()
        found.work.mkdir()
        yield found
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def read_report(path: Path) -> BuildReport:
    """The complete report in a folder that a build wrote."""
    return BuildReport.model_validate_json((path / REPORT).read_bytes())


def _require_ours(path: Path) -> None:
    if not path.exists():
        return
    if not path.is_dir():
        raise FolderError(f"{path} is a file", "give a folder with --out")
    content = {entry.name for entry in path.iterdir()}
    foreign = sorted(content - _CONTENT)
    if content and (foreign or REQUEST not in content):
        held = ", ".join((foreign or sorted(content))[:5])
        raise FolderError(f"{path} holds what no build wrote there: {held}", "give a new or empty folder with --out")


def _read(path: Path) -> tuple[BuildRequest | None, BuildReport | None]:
    """What an earlier build left; None where it is of another release, or not there."""
    try:
        request = BuildRequest.model_validate_json((path / REQUEST).read_bytes())
        return request, read_report(path)
    except (OSError, ValidationError):
        return None, None
