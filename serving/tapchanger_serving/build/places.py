"""Where the steps read and write. Each place can be moved by an environment variable, for runs outside a cluster."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tapchanger_serving.contract import names
from tapchanger_serving.contract.stored import report_path


@dataclass(frozen=True, slots=True)
class Places:
    """Folders of a build and the file that the kubelet reads as the step's last word."""

    store: Path
    claims: Path
    work: Path
    termination_log: Path
    credentials: Path = Path(names.CREDENTIALS_DIR)
    store_uri: str = ""
    store_credentials: Path = Path(names.STORE_CREDENTIALS_DIR)
    """Where `store_uri` names a store elsewhere, finished builds lie there, and `store` is not used for them."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Places:
        """`TAPCHANGER_{STORE,CLAIMS,WORK,CREDENTIALS}_DIR`, `TAPCHANGER_TERMINATION_LOG` and so on, else the contract's paths."""
        return cls(
            store=Path(environ.get(names.ENV_STORE_DIR, names.STORE_DIR)),
            claims=Path(environ.get(names.ENV_CLAIMS_DIR, names.CLAIMS_DIR)),
            work=Path(environ.get(names.ENV_WORK_DIR, names.WORK_DIR)),
            termination_log=Path(environ.get(names.ENV_TERMINATION_LOG, names.TERMINATION_LOG)),
            credentials=Path(environ.get(names.ENV_CREDENTIALS_DIR, names.CREDENTIALS_DIR)),
            store_uri=environ.get(names.ENV_STORE_URI, ""),
            store_credentials=Path(environ.get(names.ENV_STORE_CREDENTIALS_DIR, names.STORE_CREDENTIALS_DIR)),
        )

    @property
    def checkpoint(self) -> Path:
        """The verified copy of the checkpoint that all later steps read."""
        return self.work / "checkpoint"

    @property
    def exported(self) -> Path:
        """What `export` leaves for `measure`."""
        return self.work / "export"

    @property
    def student(self) -> Path:
        """What `distill` leaves for `measure`: the same of the student as `exported` has of the model."""
        return self.work / "student"

    @property
    def candidates(self) -> Path:
        """One folder per candidate engine."""
        return self.work / "candidates"

    @property
    def timings(self) -> Path:
        """What TensorRT has measured of its kernels; it only saves time, so it may be lost."""
        return self.store / "timings"

    @property
    def unchanged(self) -> Path:
        """Marker: the store already holds this build, so there is nothing to do."""
        return self.work / names.UNCHANGED_MARKER

    def dataset(self) -> Path | None:
        """The fetched evaluation data, if the request names any."""
        return next(iter(sorted(self.work.glob("dataset.*"))), None)

    def calibration_data(self) -> Path | None:
        """The fetched calibration texts, if the request names any."""
        return next(iter(sorted(self.work.glob("calibration.*"))), None)

    def distill_data(self) -> Path | None:
        """The fetched texts for distillation, if the request names any."""
        return next(iter(sorted(self.work.glob("distill.*"))), None)

    def drift_data(self) -> Path | None:
        """The fetched texts that traffic is compared with, if the request names any."""
        return next(iter(sorted(self.work.glob("drift.*"))), None)

    def report(self, name: str) -> Path:
        """The stored report of the build `name`: what makes the build finished."""
        return self.store / report_path(name)

    def page(self, name: str) -> Path:
        """The report as a page for people."""
        return self.report(name).with_suffix(".html")

    def card(self, name: str) -> Path:
        """The model card, in the Hub's format."""
        return self.report(name).with_suffix(".md")
