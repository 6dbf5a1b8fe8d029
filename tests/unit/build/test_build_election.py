"""The election: gates decide among the fast ones, and what is slow serves where nothing fast is good enough."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tapchanger_serving.build.answers import Fidelity
from tapchanger_serving.build.election import Election
from tapchanger_serving.build.failures import StepError
from tapchanger_serving.build.gates.verdict import Verdict
from tapchanger_serving.build.textset import Encoded
from tapchanger_serving.contract.gates import Gates
from tapchanger_serving.contract.messages import GateResult
from tests.support.racing import SHAPES, Engine, Opened, Ways, trial

SPEEDS = {"int8": 1e-3, "bf16": 1.2e-3, "fp32": 5e-3}
"""Seconds for a token; fp32 is too slow for the race."""


class Judge:
    """Lets some engines pass, by what they run, and remembers whom it judged."""

    def __init__(self, good: list[Engine]) -> None:
        self.good = good
        self.judged: list[Any] = []

    def verdict(self, forward: Any, fidelity: Fidelity) -> Verdict:
        self.judged.append(forward.__self__)
        passed = forward.__self__ in self.good
        return Verdict((GateResult(name="accuracy", value=0.5, bound=">= 0.9", passed=passed),))


def election(clock: SimpleNamespace, texts: Encoded, *good: str) -> tuple[Election, Judge, dict[str, Engine]]:
    engines = {precision: Engine(clock, 0, seconds) for precision, seconds in SPEEDS.items()}
    ways: list[Ways] = [{0: engine} for engine in engines.values()]
    torch = Engine(clock, 0, 4e-3)
    trials = [trial(texts, torch, "openvino", precision, {0: engine}) for precision, engine in engines.items()]
    judge = Judge([engines[name] for name in good])
    asked: Any = SimpleNamespace(gates=Gates(parity={"minAgreement": 0.9}), temperature_scaling=None)
    return Election(asked, trials, texts, SHAPES, judge, Opened(ways)), judge, engines  # type: ignore[arg-type]


def test_the_fastest_whose_gates_hold_serves_and_the_slow_ones_are_not_even_opened(
    clock: SimpleNamespace, texts: Encoded
) -> None:
    found, judge, engines = election(clock, texts, "bf16", "fp32")
    elected = found.run()
    assert elected.candidate.precision == "bf16"
    assert judge.judged == [engines["int8"], engines["bf16"]]
    by = {one.precision: one for one in elected.contest.candidates}
    assert {name: (one.passed, one.score is None) for name, one in by.items()} == {
        "int8": (False, False),
        "bf16": (True, False),
        "fp32": (True, True),
    }
    assert by["fp32"].texts_per_second is not None


def test_where_all_that_are_fast_fall_the_slow_ones_race(clock: SimpleNamespace, texts: Encoded) -> None:
    found, judge, engines = election(clock, texts, "fp32")
    elected = found.run()
    assert elected.candidate.precision == "fp32"
    assert judge.judged == [engines["int8"], engines["bf16"], engines["fp32"]]
    by = {one.precision: one for one in elected.contest.candidates}
    assert {name: one.passed for name, one in by.items()} == {"int8": False, "bf16": False, "fp32": True}
    assert all(one.score is not None for one in by.values()), "those that fell keep their figures"
    assert len(elected.contest.surface(elected.arrangement)) == 9


def test_where_nobody_s_gates_hold_the_best_one_s_are_told(clock: SimpleNamespace, texts: Encoded) -> None:
    found, judge, _ = election(clock, texts)
    with pytest.raises(StepError, match="openvino int8: accuracy"):
        found.run()
    assert len(judge.judged) == 3
