"""ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import onnxruntime as ort

from tapchanger_serving.engines.base import EngineSpec
from tapchanger_serving.engines.cpus import allowed_cpus

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_WARNINGS_OFF = 3


class OnnxRuntimeEngine:
    """One session. Its threads sleep between calls: spinning would eat the CPU quota of the container."""

    def __init__(self, spec: EngineSpec) -> None:
        settings = ort.SessionOptions()
        settings.intra_op_num_threads = spec.threads or allowed_cpus()
        settings.inter_op_num_threads = 1
        settings.log_severity_level = _WARNINGS_OFF
        settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        for key, value in spec.options.items():
            settings.add_session_config_entry(key, value)
        self._session = ort.InferenceSession(str(spec.file), settings, providers=["CPUExecutionProvider"])
        self._inputs = spec.inputs
        self._outputs = [spec.output]

    def run(self, feeds: Mapping[str, NDArray[np.int64]]) -> NDArray[np.float32]:
        """See :class:`tapchanger_serving.engines.base.Engine`."""
        answer: NDArray[np.float32] = self._session.run(self._outputs, {name: feeds[name] for name in self._inputs})[0]
        return answer

    def close(self) -> None:
        """See :class:`tapchanger_serving.engines.base.Engine`."""
        del self._session
