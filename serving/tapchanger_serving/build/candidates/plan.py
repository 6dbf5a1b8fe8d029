"""Which engines are worth trying for a request on this machine."""

from __future__ import annotations

from tapchanger_serving.build.candidates import onnxruntime, openvino, tensorrt
from tapchanger_serving.build.candidates.base import Recipe
from tapchanger_serving.build.failures import ENGINE_FIELD, StepError
from tapchanger_serving.contract.messages import BuildRequest, Hardware


def plan(request: BuildRequest, hardware: Hardware) -> tuple[Recipe, ...]:
    """The candidates, by the request's pins and what the machine can do.

    Raises `EngineIncompatible` when the pins leave nothing that this machine can run.
    """
    possible = _possible(request, hardware)
    wanted = tuple(
        recipe
        for recipe in possible
        if request.runtime in ("auto", recipe.runtime) and request.precision in ("auto", recipe.precision)
    )
    if not wanted:
        raise StepError(
            "EngineIncompatible",
            f"runtime {request.runtime} with precision {request.precision} can't run on {_described(hardware)}",
            field=ENGINE_FIELD,
            remedy="write one of these pairs or auto: " + ", ".join(recipe.name for recipe in possible),
        )
    return wanted


def _possible(request: BuildRequest, hardware: Hardware) -> tuple[Recipe, ...]:
    recipes = [
        Recipe("onnxruntime", "fp32", onnxruntime.fp32),
        Recipe("onnxruntime", "int8", onnxruntime.int8),
        Recipe("openvino", "fp32", openvino.fp32),
        Recipe("openvino", "int8", openvino.int8),
    ]
    if openvino.has_bf16(hardware):
        recipes.append(Recipe("openvino", "bf16", openvino.bf16))
    if hardware.gpu is not None:
        recipes += tensorrt.recipes(request, hardware.gpu)
    return tuple(recipes)


def _described(hardware: Hardware) -> str:
    if hardware.gpu is not None:
        return f"{hardware.gpu.product} (driver {hardware.gpu.driver})"
    return (
        f"a CPU of architecture {hardware.arch} with {', '.join(hardware.instruction_sets) or 'no vector extensions'}"
    )
