"""A raw engine inside Triton: token tensors in, the engine's output out. Triton batches requests of one shape."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from tapchanger_serving.backends import log, place
from tapchanger_serving.backends.batch import where
from tapchanger_serving.engines.base import EngineSpec, open_engine


class TritonPythonModel:
    """What Triton's Python backend calls."""

    def initialize(self, arguments: dict[str, str]) -> None:
        """Loads the engine; an error here keeps the model, and so the pod, from getting ready."""
        self._artifact, folder = place.read(arguments)
        self._engine = open_engine(EngineSpec.of(self._artifact, folder))
        self._failing = False

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """One response per request."""
        read = [
            [pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self._artifact.inputs]
            for request in requests
        ]
        feeds = {
            name: np.concatenate([tensors[index] for tensors in read])
            for index, name in enumerate(self._artifact.inputs)
        }
        try:
            output = self._engine.run(feeds)
        except Exception as error:  # noqa: BLE001 - the runtime's own exceptions; the answer must be one to the client
            return self._fail(error, len(requests))
        self._failing = False
        bounds = np.cumsum([0, *(len(tensors[0]) for tensors in read)])
        return [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor(self._artifact.output, np.ascontiguousarray(output[start:end]))]
            )
            for start, end in itertools.pairwise(bounds)
        ]

    def finalize(self) -> None:
        """Frees the engine."""
        self._engine.close()

    def _fail(self, error: BaseException, count: int) -> list[Any]:
        if not self._failing:
            log.write("error", "the engine failed; not logged again before it has worked", error=where(error))
        self._failing = True
        message = f"the engine could not run on these tensors ({type(error).__name__})"
        return [
            pb_utils.InferenceResponse(error=pb_utils.TritonError(message, pb_utils.TritonError.INTERNAL))
            for _ in range(count)
        ]
