"""Triton's entry to :mod:`tapchanger_serving.backends.engine`."""

from tapchanger_serving.backends.engine import TritonPythonModel

__all__ = ["TritonPythonModel"]
