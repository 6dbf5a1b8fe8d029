"""The engines worth trying on a machine: one module per runtime, one function that plans what to try."""

from tapchanger_serving.build.candidates.base import Bench, Made, Recipe, artifact_files
from tapchanger_serving.build.candidates.plan import plan

__all__ = ["Bench", "Made", "Recipe", "artifact_files", "plan"]
