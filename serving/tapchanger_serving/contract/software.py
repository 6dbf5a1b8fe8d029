"""The versions of what makes and measures engines."""

from __future__ import annotations

from importlib import metadata

_DISTRIBUTIONS = (
    "tapchanger", "torch", "transformers", "tokenizers", "onnx", "onnxscript", "onnxruntime", "openvino", "nncf", "tensorrt",
)  # fmt: skip


def software() -> dict[str, str]:
    """Version by distribution, of those that are installed."""
    installed = {}
    for name in _DISTRIBUTIONS:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return installed
