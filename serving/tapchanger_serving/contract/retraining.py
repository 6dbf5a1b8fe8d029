"""What a retraining run is told, and what it may answer.

A run finds its inputs below :data:`RUN_DIR`: `run.json` is a :class:`RunInputs`, `drift.json` its drift report where something
has drifted. The parts that a script needs most stand in the environment too. A webhook is sent the same `run.json`. No text that
a user wrote is in any of them.

A run may answer with a :class:`RunResult` in its container's termination message, which the kubelet cuts at 4096 bytes.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, FiniteFloat

from tapchanger_serving.contract.base import Message

RUN_DIR: Final = "/tapchanger"
RUN_FILE: Final = "run.json"
DRIFT_FILE: Final = "drift.json"

ENV_RUN: Final = "TAPCHANGER_RUN"
"""The run's id; it never comes twice."""
ENV_TRIGGER: Final = "TAPCHANGER_TRIGGER"
"""`Drift`, `Schedule` or `Manual`."""
ENV_RUN_NAMESPACE: Final = "TAPCHANGER_NAMESPACE"
ENV_DEPLOYMENT: Final = "TAPCHANGER_DEPLOYMENT"
ENV_RUN_FILE: Final = "TAPCHANGER_RUN_FILE"
"""Where `run.json` is."""
ENV_MODEL_URI: Final = "TAPCHANGER_MODEL_URI"
ENV_MODEL_DIGEST: Final = "TAPCHANGER_MODEL_DIGEST"
"""Address and content of the model that serves."""
ENV_OUTPUT_URI: Final = "TAPCHANGER_OUTPUT_URI"
"""The address at which the new checkpoint has to be."""
ENV_REFERENCE_URI: Final = "TAPCHANGER_REFERENCE_URI"
"""The texts that traffic is compared with; unset where they are the first that came."""
ENV_CAPTURE_URI: Final = "TAPCHANGER_CAPTURE_URI"
"""Where captured requests are; unset where none are captured."""
ENV_DRIFT_FILE: Final = "TAPCHANGER_DRIFT_FILE"
"""Where `drift.json` is; unset where nothing has drifted."""
ENV_RESULT: Final = "TAPCHANGER_RESULT"
"""The file for the run's :class:`RunResult`."""

WEBHOOK_TYPE: Final = "tapchanger.retraining.requested"
ENV_WEBHOOK_URL: Final = "TAPCHANGER_WEBHOOK_URL"
ENV_WEBHOOK_TIMEOUT: Final = "TAPCHANGER_WEBHOOK_TIMEOUT"
"""Seconds that one call may take."""
ENV_WEBHOOK_SECRET: Final = "TAPCHANGER_WEBHOOK_SECRET"  # noqa: S105 - a variable's name
"""The name of the Secret that is mounted at :data:`WEBHOOK_SECRET_DIR`; unset where there is none."""
WEBHOOK_SECRET_DIR: Final = "/webhook"  # noqa: S105 - a folder
SIGNING_KEY: Final = "signing-key"
AUTHORIZATION: Final = "authorization"
CA: Final = "ca.crt"
"""Keys of that Secret: by which calls are signed, the value of their header `Authorization`, and whose certificate is trusted."""

Trigger = Literal["Drift", "Schedule", "Manual"]

FIGURES: Final = 32
DATA: Final = 16


class DriftFigureReport(Message):
    """How far one signal is from the reference."""

    feature: str
    signal: str
    psi: float
    ks: float | None = None
    chi_square: float
    p_value: float


class DriftBucketReport(Message):
    """The share of texts of one kind in the reference and of late."""

    name: str
    reference: float
    now: float


class DriftReport(Message):
    """What moved, since when and how far. Counts and shares only."""

    revision: str
    feature: str
    signal: str
    since: str
    reference: str
    evidence: float
    threshold: float
    texts: int
    mmd: float | None = None
    figures: tuple[DriftFigureReport, ...] = ()
    buckets: tuple[DriftBucketReport, ...] = ()


class RunModel(Message):
    """The model that is to be trained further. `revision` and `build` are those that serve it."""

    uri: str
    digest: str
    task: str
    revision: str
    build: str


class RunReference(Message):
    """What traffic is compared with: the data's address where there is one, and the artifact that describes them."""

    uri: str | None = None
    artifact: str | None = None


class RunInputs(Message):
    """All that a run is told."""

    run: str
    trigger: Trigger
    namespace: str
    deployment: str
    model: RunModel
    output: str
    reference: RunReference = RunReference()
    capture: str | None = None
    drift: DriftReport | None = None


FigureName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_.@/-]{0,63}$")]


class RunData(Message):
    """Data that a run trained on, by content."""

    uri: str = Field(max_length=1024)
    digest: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")
    rows: int | None = Field(default=None, ge=0)


class RunResult(Message):
    """What a run says of itself: figures by name, the data that it used, and a word for people."""

    figures: dict[FigureName, FiniteFloat] = Field(default={}, max_length=FIGURES)
    data: tuple[RunData, ...] = Field(default=(), max_length=DATA)
    message: str = Field(default="", max_length=500)
