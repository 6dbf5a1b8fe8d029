"""TensorRT on a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tapchanger_serving.engines.base import EngineSpec, UnsupportedRuntimeError
from tapchanger_serving.engines.cuda import Stream


def library() -> Any:
    """The TensorRT module, by either name its wheels give it. Raises :class:`UnsupportedRuntimeError`."""
    try:
        import tensorrt
    except ImportError:
        pass
    else:
        return tensorrt
    try:
        import tensorrt_bindings
    except (ImportError, OSError) as error:
        raise UnsupportedRuntimeError(f"TensorRT is not installed in this image: {error}") from error
    return tensorrt_bindings


class TensorRtEngine:
    """One execution context with one optimization profile on the first GPU."""

    def __init__(self, spec: EngineSpec, trt: Any = None, stream: Stream | None = None) -> None:
        trt = library() if trt is None else trt
        # The stream comes first: it makes the GPU's context, which the runtime then uses.
        self._stream = Stream() if stream is None else stream
        self._runtime = trt.Runtime(trt.Logger(trt.Logger.WARNING))
        self._engine = self._runtime.deserialize_cuda_engine(spec.file.read_bytes())
        if self._engine is None:
            raise RuntimeError(f"{spec.file.name} was built for another GPU or another release of TensorRT")
        self._context = self._engine.create_execution_context()
        self._inputs, self._output = spec.inputs, spec.output
        self._buffers = {name: self._stream.buffer() for name in (*spec.inputs, spec.output)}

    def run(self, feeds: Mapping[str, npt.NDArray[np.int64]]) -> npt.NDArray[np.float32]:
        """See :class:`tapchanger_serving.engines.base.Engine`."""
        data = {name: np.ascontiguousarray(feeds[name]) for name in self._inputs}
        for name, tensor in data.items():
            if not self._context.set_input_shape(name, tensor.shape):
                raise ValueError(f"{name} has shape {tensor.shape}, which is outside the engine's profile")
            self._stream.upload(self._buffers[name], tensor)
        answer = np.empty(tuple(self._context.get_tensor_shape(self._output)), dtype=np.float32)
        self._buffers[self._output].reserve(answer.nbytes)
        for name, buffer in self._buffers.items():
            self._context.set_tensor_address(name, buffer.address)
        if not self._context.execute_async_v3(self._stream.handle):
            raise RuntimeError("TensorRT could not run the engine; its log has the reason")
        self._stream.download(self._buffers[self._output], answer)
        self._stream.synchronize()
        return answer

    def close(self) -> None:
        """See :class:`tapchanger_serving.engines.base.Engine`."""
        del self._context, self._engine, self._runtime
        for buffer in self._buffers.values():
            buffer.close()
        self._stream.close()
