"""What metrics are computed on: rows with their truth and a model's answers, one class per kind of task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

from tapchanger_serving.build.gates.resampling import Statistic
from tapchanger_serving.build.gates.results import UnanswerableError
from tapchanger_serving.contract.gates import MetricName

Mask = npt.NDArray[np.bool_]
Metrics = Mapping[MetricName, Callable[[], Statistic]]


class Sample(Protocol):
    """Rows with truth and answers."""

    def __len__(self) -> int:
        """Rows."""
        ...

    def take(self, rows: Mask) -> Self:
        """Some of the rows."""
        ...

    def statistic(self, metric: MetricName) -> Statistic:
        """The metric as a function of the rows' weights. Raises :class:`UnanswerableError` for one of another task."""
        ...

    def wrong(self) -> Mask:
        """Which rows are answered wrongly, as far as the task knows wrong from right."""
        ...


def pick(metric: MetricName, known: Metrics, kind: str) -> Statistic:
    """One of the metrics that a kind of task has. Raises :class:`UnanswerableError` that names the others."""
    if metric not in known:
        raise UnanswerableError(f"{metric} is no metric of {kind}; use {', '.join(known)}, or remove it")
    return known[metric]()
