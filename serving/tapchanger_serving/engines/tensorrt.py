"""TensorRT on a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tapchanger_serving.contract.plans import PlanNeeds
from tapchanger_serving.engines.base import EngineSpec, UnsupportedRuntimeError
from tapchanger_serving.engines.cuda import Stream

Shape = tuple[int, ...]


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


@dataclass(frozen=True, slots=True)
class Profile:
    """One optimization profile: the shapes that it takes, and the context that runs them."""

    least: Shape
    most: Shape
    context: Any

    def takes(self, shape: Shape) -> bool:
        """Whether a batch `[batch, tokens]` lies within its bounds."""
        return all(low <= size <= high for low, size, high in zip(self.least, shape, self.most, strict=True))


class TensorRtEngine:
    """One execution context per optimization profile on the first GPU; a batch goes to the first profile that takes it."""

    def __init__(self, spec: EngineSpec, trt: Any = None, stream: Stream | None = None) -> None:
        trt = library() if trt is None else trt
        # The stream comes first: it makes the GPU's context, which the runtime then uses.
        self._stream = Stream() if stream is None else stream
        try:
            refusal = PlanNeeds.of(spec.options).refusal(trt.__version__, self._stream.compute_capability())
            if refusal is not None:
                raise UnsupportedRuntimeError(f"{spec.file.name} can't run here: {refusal}")
            self._runtime = trt.Runtime(trt.Logger(trt.Logger.WARNING))
            self._engine = self._runtime.deserialize_cuda_engine(spec.file.read_bytes())
            if self._engine is None:
                raise RuntimeError(
                    f"TensorRT did not load {spec.file.name}; it was built for another GPU or another release of TensorRT"
                )
            self._inputs, self._output = spec.inputs, spec.output
            self._profiles = [self._profile(trt, index) for index in range(self._engine.num_optimization_profiles)]
        except Exception:
            self._stream.close()
            raise
        self._buffers = {name: self._stream.buffer() for name in (*spec.inputs, spec.output)}

    def _profile(self, trt: Any, index: int) -> Profile:
        # A context takes no more memory than its own profile needs.
        strategy = trt.ExecutionContextAllocationStrategy.ON_PROFILE_CHANGE
        context = self._engine.create_execution_context(strategy=strategy)
        if context is None:
            raise RuntimeError("TensorRT made no execution context; the GPU's memory may be full")
        if not context.set_optimization_profile_async(index, self._stream.handle):
            raise RuntimeError(f"TensorRT did not take optimization profile {index}")
        self._stream.synchronize()
        # All inputs have the same shapes.
        least, _, most = self._engine.get_tensor_profile_shape(self._inputs[0], index)
        return Profile(tuple(least), tuple(most), context)

    def run(self, feeds: Mapping[str, npt.NDArray[np.int64]]) -> npt.NDArray[np.float32]:
        """See :class:`tapchanger_serving.engines.base.Engine`."""
        data = {name: np.ascontiguousarray(feeds[name]) for name in self._inputs}
        context = self._context(data[self._inputs[0]].shape)
        for name, tensor in data.items():
            if not context.set_input_shape(name, tensor.shape):
                raise ValueError(f"{name} has shape {tensor.shape}, which the engine's profile does not take")
            self._stream.upload(self._buffers[name], tensor)
        answer = np.empty(tuple(context.get_tensor_shape(self._output)), dtype=np.float32)
        self._buffers[self._output].reserve(answer.nbytes)
        for name, buffer in self._buffers.items():
            context.set_tensor_address(name, buffer.address)
        if not context.execute_async_v3(self._stream.handle):
            raise RuntimeError("TensorRT could not run the engine; its log has the reason")
        self._stream.download(self._buffers[self._output], answer)
        self._stream.synchronize()
        return answer

    def _context(self, shape: Shape) -> Any:
        for profile in self._profiles:
            if profile.takes(shape):
                return profile.context
        bounds = ", ".join(f"{profile.least} to {profile.most}" for profile in self._profiles)
        raise ValueError(f"a batch has shape {shape}, which is outside the engine's profiles: {bounds}")

    def close(self) -> None:
        """See :class:`tapchanger_serving.engines.base.Engine`."""
        del self._profiles, self._engine, self._runtime
        for buffer in self._buffers.values():
            buffer.close()
        self._stream.close()
