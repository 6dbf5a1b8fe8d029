"""The little of CUDA's driver API that an engine needs: one stream and buffers that grow.

The driver's library is mounted into every GPU container, whereas the runtime's comes and goes with its version.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

from tapchanger_serving.engines.base import UnsupportedRuntimeError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_LIBRARY = "libcuda.so.1"
# CUdevice_attribute.
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76


class Stream:
    """A CUDA stream in the primary context of one GPU.

    Raises :class:`UnsupportedRuntimeError` where there is no GPU; other errors of the driver are raised as RuntimeError.
    """

    def __init__(self, device: int = 0, library: Any = None) -> None:
        self._cuda = _load() if library is None else library
        handle, context, stream = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_void_p()
        try:
            self._call("cuInit", 0)
            self._call("cuDeviceGet", ctypes.byref(handle), device)
        except RuntimeError as error:
            raise UnsupportedRuntimeError(f"tensorrt needs a GPU, and the driver finds none: {error}") from error
        self._device = handle
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), handle)
        self._call("cuCtxSetCurrent", context)
        self._call("cuStreamCreate", ctypes.byref(stream), 0)
        self._stream = stream

    @property
    def handle(self) -> int:
        """The stream as the number that libraries take."""
        return int(self._stream.value or 0)

    def compute_capability(self) -> str:
        """The GPU's compute capability, such as `8.9`."""
        major, minor = (self._attribute(number) for number in (_CAPABILITY_MAJOR, _CAPABILITY_MINOR))
        return f"{major}.{minor}"

    def free_memory(self) -> int:
        """Bytes of GPU memory that nobody uses."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self._call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return free.value

    def upload(self, buffer: Buffer, data: NDArray[Any]) -> None:
        """Queues a copy to the GPU; `data` must be contiguous and stay alive until :meth:`synchronize`."""
        buffer.reserve(data.nbytes)
        self._call(
            "cuMemcpyHtoDAsync_v2", buffer.pointer, data.ctypes.data_as(ctypes.c_void_p), _size(data), self._stream
        )

    def download(self, buffer: Buffer, data: NDArray[np.float32]) -> None:
        """Queues a copy from the GPU."""
        self._call(
            "cuMemcpyDtoHAsync_v2", data.ctypes.data_as(ctypes.c_void_p), buffer.pointer, _size(data), self._stream
        )

    def synchronize(self) -> None:
        """Waits until all that was queued is done."""
        self._call("cuStreamSynchronize", self._stream)

    def buffer(self) -> Buffer:
        """An empty buffer on this GPU."""
        return Buffer(self)

    def close(self) -> None:
        """Destroys the stream."""
        self._call("cuStreamDestroy_v2", self._stream)

    def allocate(self, size: int) -> ctypes.c_uint64:
        """GPU memory of `size` bytes."""
        pointer = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(pointer), ctypes.c_size_t(size))
        return pointer

    def free(self, pointer: ctypes.c_uint64) -> None:
        """Gives GPU memory back."""
        self._call("cuMemFree_v2", pointer)

    def _attribute(self, number: int) -> int:
        value = ctypes.c_int()
        self._call("cuDeviceGetAttribute", ctypes.byref(value), number, self._device)
        return value.value

    def _call(self, name: str, *arguments: object) -> None:
        code = getattr(self._cuda, name)(*arguments)
        if code != 0:
            raise RuntimeError(f"{name} failed with CUDA error {code}")


class Buffer:
    """GPU memory that grows to the largest size asked for."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._size = 0
        self.pointer = ctypes.c_uint64(0)

    @property
    def address(self) -> int:
        """The address on the GPU."""
        return int(self.pointer.value)

    def reserve(self, size: int) -> None:
        """Makes room for `size` bytes; what was inside is lost when it grows."""
        if size > self._size:
            self.close()
            self.pointer, self._size = self._stream.allocate(size), size

    def close(self) -> None:
        """Frees the memory."""
        if self._size:
            self._stream.free(self.pointer)
            self.pointer, self._size = ctypes.c_uint64(0), 0


def _size(data: NDArray[Any]) -> ctypes.c_size_t:
    return ctypes.c_size_t(data.nbytes)


def _load() -> ctypes.CDLL:
    try:
        return ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise UnsupportedRuntimeError(f"tensorrt needs a GPU, and its driver is not here: {error}") from error
