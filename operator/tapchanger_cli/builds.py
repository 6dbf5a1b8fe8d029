"""What the command reads of an EngineBuild."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from tapchanger_cli.words import printable
from tapchanger_serving.contract.messages import BuildReport


@dataclass(frozen=True)
class Build:
    """One build. `artifact_uri` and `report_uri` say where the engine and the complete report lie.

    `report` is None while there is none, or where it is of another release (`unreadable`).
    """

    name: str
    phase: str
    message: str
    report: BuildReport | None = None
    unreadable: bool = False
    report_uri: str = ""
    artifact_uri: str = ""

    def document(self) -> dict[str, Any]:
        """For `-o json`."""
        report = self.report.model_dump(mode="json", by_alias=True, exclude_none=True) if self.report else None
        return {
            "name": self.name,
            "phase": self.phase,
            "message": self.message,
            "report": report,
            "artifactUri": self.artifact_uri,
            "reportUri": self.report_uri,
        }


def read(body: Mapping[str, Any]) -> Build:
    """A build from its object."""
    status = printable(body.get("status") or {})
    report, unreadable = None, False
    if status.get("report"):
        try:
            report = BuildReport.model_validate(status["report"])
        except ValidationError:
            unreadable = True
    return Build(
        name=str(body["metadata"]["name"]),
        phase=str(status.get("phase", "Pending")),
        message=str(status.get("message", "")),
        report=report,
        unreadable=unreadable,
        report_uri=str(status.get("reportUri", "")),
        artifact_uri=str(status.get("artifactUri", "")),
    )
