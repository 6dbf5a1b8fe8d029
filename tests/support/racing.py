"""Engines that take as long as they are told, by a clock of their own, for tests of who is chosen."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from tapchanger_serving.build.answers import Fidelity
from tapchanger_serving.build.candidates import Made, Recipe
from tapchanger_serving.build.cost import Cost
from tapchanger_serving.build.heats import Heats
from tapchanger_serving.build.open_engines import Key, OpenEngines
from tapchanger_serving.build.textset import Encoded
from tapchanger_serving.build.trial import Trial
from tapchanger_serving.contract.messages import Shapes
from tapchanger_serving.engines import EngineSpec
from tapchanger_serving.engines.text import Tensors

SHAPES = Shapes(max_batch_size=32, max_tokens=256)


class Engine:
    """Takes as long per token as it is told, by a clock of its own making."""

    def __init__(self, clock: SimpleNamespace, base: float, per_token: float) -> None:
        self.clock, self.base, self.per_token = clock, base, per_token
        self.shapes: set[tuple[int, ...]] = set()
        self.closed = False

    def run(self, feeds: Tensors) -> Any:
        tensor = next(iter(feeds.values()))
        self.shapes.add(tensor.shape)
        self.clock.now += self.base + self.per_token * tensor.size
        return np.zeros(1, dtype=np.float32)

    def close(self) -> None:
        self.closed = True


OPTIONS = {"INFERENCE_PRECISION_HINT": "f32"}
Ways = dict[int, Engine]


class Opened(OpenEngines):
    """Engines that are there already."""

    def __init__(self, ways: list[Ways]) -> None:
        self.ways = ways

    def any(self, index: int) -> Any:
        return next(iter(self.ways[index].values()))

    def get(self, key: Key) -> Any:
        return self.ways[key[0]][key[1]]

    def keep(self, keys: Any) -> None:
        for index, ways in enumerate(self.ways):
            for threads, engine in ways.items():
                engine.closed = (index, threads) not in keys


def trial(texts: Encoded, torch: Engine, runtime: str, precision: str, ways: Ways) -> Trial:
    spec = EngineSpec(runtime, Path("model"), ("input_ids",), "logits", options=OPTIONS)
    made = Recipe(runtime, precision, lambda _: Made(spec))
    heat = Heats(lambda _: torch, texts, SHAPES).hold({threads: engine.run for threads, engine in ways.items()})
    return Trial(made, spec, heat, Fidelity(agreement=0.99), Cost(10.0, 20.0), 1000)
