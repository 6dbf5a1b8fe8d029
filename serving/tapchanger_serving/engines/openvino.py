"""OpenVINO on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import openvino as ov

from tapchanger_serving.engines.altstack import same_signal_stack
from tapchanger_serving.engines.base import EngineSpec
from tapchanger_serving.engines.cpus import allowed_cpus

if TYPE_CHECKING:
    from numpy.typing import NDArray


class OpenVinoEngine:
    """One compiled model with one stream, so that all its threads work on the batch at hand."""

    def __init__(self, spec: EngineSpec) -> None:
        properties = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": str(spec.threads or allowed_cpus()),
            # Without this a CPU with bf16 instructions would silently compute in bf16.
            "INFERENCE_PRECISION_HINT": "f32",
        } | dict(spec.options)
        with same_signal_stack():
            self._model = ov.Core().compile_model(str(spec.file), "CPU", properties)
            self._request = self._model.create_infer_request()
        self._inputs = spec.inputs

    def run(self, feeds: Mapping[str, NDArray[np.int64]]) -> NDArray[np.float32]:
        """See :class:`tapchanger_serving.engines.base.Engine`."""
        answers = self._request.infer({name: feeds[name] for name in self._inputs}, share_inputs=True)
        return np.asarray(answers[0], dtype=np.float32)

    def close(self) -> None:
        """See :class:`tapchanger_serving.engines.base.Engine`."""
        del self._request, self._model
