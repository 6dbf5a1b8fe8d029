"""Keeps the stack on which this thread's signal handlers run what it was.

OpenVINO gives the thread that compiles a model a stack of its own for signals, for CPUs whose registers are large, and frees it
with the model. Where several models are compiled and freed, the thread is left with one that is gone, and the next signal
that Python handles ends the process with a segmentation fault.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class _Stack(ctypes.Structure):
    """`stack_t` of `sigaltstack(2)` as Linux has it."""

    _fields_ = (("pointer", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextmanager
def same_signal_stack() -> Iterator[None]:
    """After the block, signals are handled on the stack that they were handled on before. Does nothing outside Linux."""
    if sys.platform != "linux":
        yield
        return
    library, before = ctypes.CDLL(None, use_errno=True), _Stack()
    library.sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        library.sigaltstack(ctypes.byref(before), None)
