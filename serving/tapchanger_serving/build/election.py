"""Who serves: the best candidate whose gates all hold, and how it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tapchanger_serving.build import choose, log
from tapchanger_serving.build.choose import Arrangement, Way
from tapchanger_serving.build.contest import Contest, Field, hold
from tapchanger_serving.build.failures import GATES_FIELD, StepError
from tapchanger_serving.build.gates.parity import parity
from tapchanger_serving.build.gates.results import sentence
from tapchanger_serving.build.gates.verdict import Judge, Verdict
from tapchanger_serving.build.open_engines import OpenEngines
from tapchanger_serving.build.textset import Encoded
from tapchanger_serving.build.trial import Trial
from tapchanger_serving.contract.messages import BuildRequest, Candidate, Shapes


@dataclass(frozen=True)
class Elected:
    """The candidate that serves, how it runs, what its gates said, and the contest that it won."""

    candidate: Candidate
    arrangement: Arrangement
    verdict: Verdict
    contest: Contest


@dataclass
class Election:
    """Races those that may win, judges the best of them, and goes on to the next where a gate fails."""

    request: BuildRequest
    trials: Sequence[Trial]
    texts: Encoded
    shapes: Shapes
    judge: Judge
    engines: OpenEngines
    _verdicts: dict[int, Verdict] = field(default_factory=dict)
    _fallen: dict[int, Candidate] = field(default_factory=dict)

    def run(self) -> Elected:
        """Raises `NoEngine` or `GateFailed` where nobody may serve."""
        faithful = [self._faithful(trial) for trial in self.trials]
        while True:
            passed = [one and index not in self._fallen for index, one in enumerate(faithful)]
            contest = hold(Field(self.trials, passed, self.texts, self.shapes), self.engines)
            candidates = contest.candidates
            for index, candidate in self._fallen.items():
                candidates[index] = candidate
            best = self._best(candidates)
            if best is not None:
                return Elected(candidates[best], self._arranged(best, contest), self._verdicts[best], contest)
            # All that raced fell. Others may be slower by far and hold: fp32 where no int8 engine is good enough.
            raced = {way.candidate for way in contest.ways}
            if not raced:
                raise self._refusal(candidates)
            self._fallen |= {index: candidates[index] for index in raced}

    def _faithful(self, trial: Trial) -> bool:
        return trial.error is None and parity(self.request.gates.parity, trial.fidelity).passed

    def _best(self, candidates: list[Candidate]) -> int | None:
        places = {id(candidate): index for index, candidate in enumerate(candidates)}
        for candidate in choose.preferred(candidates):
            index = places[id(candidate)]
            if self._holds(index, candidates):
                return index
        return None

    def _arranged(self, best: int, contest: Contest) -> Arrangement:
        candidates = contest.candidates
        ways = [way for way in contest.ways if way.candidate == best or self._may_help(way, best, candidates)]
        return next(
            found
            for found in choose.arrangements(best, ways)
            if all(self._holds(way.candidate, candidates) for way in (found.large, found.small) if way is not None)
        )

    def _may_help(self, way: Way, best: int, candidates: Sequence[Candidate]) -> bool:
        """A temperature is fitted for one engine, so with it another one takes no part. A text has one model's answer."""
        other = candidates[way.candidate]
        same_model = other.student_layers == candidates[best].student_layers
        return other.passed and same_model and not self.request.temperature_scaling

    def _holds(self, index: int, candidates: list[Candidate]) -> bool:
        """Whether all gates of a candidate hold; one that falls is marked."""
        if index not in self._verdicts:
            self._verdicts[index] = verdict = self._examine(index)
            if not verdict.passed:
                candidates[index] = candidates[index].model_copy(update={"passed": False})
        return self._verdicts[index].passed

    def _examine(self, index: int) -> Verdict:
        trial = self.trials[index]
        log.info("checking gates", candidate=trial.recipe.name)
        verdict = self.judge.verdict(self.engines.any(index).run, trial.fidelity)
        if not verdict.passed:
            log.warning("candidate fails a gate", candidate=trial.recipe.name, failed=sentence(verdict.gates))
        return verdict

    def _refusal(self, candidates: Sequence[Candidate]) -> StepError:
        """Why no candidate may serve: the gates of the best one, or what went wrong with all of them."""
        if self._verdicts:
            best, verdict = next(iter(self._verdicts.items()))
            return _gate_failed(f"{choose.title(candidates[best])}: {sentence(verdict.gates)}")
        measured = [index for index, candidate in enumerate(candidates) if candidate.texts_per_second is not None]
        if not measured:
            errors = "; ".join(f"{choose.title(candidate)}: {candidate.error}" for candidate in candidates)
            return StepError("NoEngine", f"no candidate could be built: {errors}", field="spec.engine")
        closest = max(measured, key=lambda index: candidates[index].cosine or candidates[index].agreement or 0.0)
        result = parity(self.request.gates.parity, self.trials[closest].fidelity)
        return _gate_failed(f"{choose.title(candidates[closest])}, the closest: {sentence([result])}")


def _gate_failed(message: str) -> StepError:
    return StepError(
        "GateFailed",
        f"no engine passes all gates; {message}",
        field=GATES_FIELD,
        remedy="loosen the bound that failed, allow another runtime or precision with auto, or train a better model",
    )
