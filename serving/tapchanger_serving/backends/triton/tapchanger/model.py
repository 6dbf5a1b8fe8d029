"""Triton's entry to :mod:`tapchanger_serving.backends.text`."""

from tapchanger_serving.backends.text import TritonPythonModel

__all__ = ["TritonPythonModel"]
