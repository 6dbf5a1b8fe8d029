"""One build's measurement: try the candidates, time them beside PyTorch, judge them, store the one chosen."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from tapchanger_serving.build import choose, log, store, timing
from tapchanger_serving.build.answers import Floats
from tapchanger_serving.build.candidates import Bench, artifact_files, plan
from tapchanger_serving.build.dataset import Rows
from tapchanger_serving.build.exported import REFERENCE, Exported
from tapchanger_serving.build.failures import GATES_FIELD, StepError
from tapchanger_serving.build.gates.evaluation import Examination
from tapchanger_serving.build.gates.parity import parity
from tapchanger_serving.build.gates.quality import judge, quality
from tapchanger_serving.build.gates.results import sentence
from tapchanger_serving.build.gates.verdict import Judge, Verdict
from tapchanger_serving.build.places import Places
from tapchanger_serving.build.textset import Encoded, compared, load_calibration, load_texts
from tapchanger_serving.build.torch_model import TorchModel, load_torch
from tapchanger_serving.build.trial import Trial, attempt, with_best_threads
from tapchanger_serving.contract.artifact import Artifact
from tapchanger_serving.contract.evidence import DataQuality
from tapchanger_serving.contract.messages import BuildReport, BuildRequest, Candidate, GateResult, Shapes, Timing
from tapchanger_serving.engines.text import TOKENIZER_FILE, Tokenizer

_TORCH = "torch"
_COMPARE_SPEED = timing.Effort()
_SURFACE = timing.Effort(min_rounds=20, max_rounds=200, seconds=1.0)


@dataclass(frozen=True)
class Measurement:
    """What the measurement works on. `reference` holds PyTorch's answers to all `rows`.

    `calibration` are the texts for int8 ranges where the request names some.
    """

    request: BuildRequest
    places: Places
    model: Exported
    rows: Rows
    texts: Encoded
    reference: Floats
    calibration: Rows | None = None

    @classmethod
    def prepare(cls, request: BuildRequest, places: Places) -> Measurement:
        """Reads what the earlier steps left."""
        model = Exported.read(places.exported)
        tokenizer = Tokenizer(places.exported / TOKENIZER_FILE, model.inputs, model.max_tokens)
        rows = load_texts(request, places.dataset(), tokenizer, model.max_tokens)
        with np.load(places.exported / REFERENCE, allow_pickle=False) as saved:
            reference = saved["answers"]
        apart = request.task == "feature-extraction"
        texts = Encoded.of(tokenizer, rows, model.max_batch_size, apart=apart)
        calibration = load_calibration(request, places.calibration_data())
        return cls(request, places, model, rows, texts, reference, calibration)

    def report(self) -> BuildReport:
        """Does it all and stores the artifact. Raises `EngineIncompatible` or `GateFailed`."""
        data, data_gates = self._data()
        trials = self._try_all()
        candidates, torch_speed = self._timed(trials)
        chosen, verdict = self._choose(candidates, trials)
        trial = trials[candidates.index(chosen)]
        surface = self._surface(trial)
        digest, size = self._store(trial, verdict.temperature)
        return BuildReport(
            artifact=digest,
            size_bytes=size,
            runtime=chosen.runtime,
            precision=chosen.precision,
            why=choose.explain(chosen, candidates, torch_speed),
            speedup=round((chosen.texts_per_second or 0.0) / torch_speed, 3),
            torch_texts_per_second=round(torch_speed, 2),
            candidates=tuple(candidates),
            gates=(*verdict.gates, *data_gates),
            surface=surface,
            compared_texts=len(compared(len(self.texts))),
            seconds=0.0,
            calibration=verdict.calibration,
            robustness=verdict.robustness,
            data=data,
        )

    def _data(self) -> tuple[DataQuality | None, list[GateResult]]:
        """What the evaluation data is like. Raises `GateFailed` before any engine is made if it is not as the gates want it."""
        if self.request.gates.evaluation is None:
            return None, []
        # The reference has a row per text only where texts are classified, which is where it is looked at.
        found = quality(self.rows, self.calibration, self.model, self.reference)
        log.info("examined evaluation data", **found.model_dump(exclude={"classes"}))
        results = judge(self.request.gates.data, found) if self.request.gates.data else []
        if not all(result.passed for result in results):
            raise StepError(
                "GateFailed",
                f"the evaluation data is not as the gates want it; {sentence(results)}",
                field=f"{GATES_FIELD}.data",
                remedy="look at the rows named and correct or remove them, or loosen the bound",
            )
        return found, results

    @cached_property
    def _pytorch(self) -> TorchModel:
        model = load_torch(self.places.checkpoint, self.request.task)
        return model.accelerated() if self.request.hardware.gpu is not None else model

    @property
    def _shapes(self) -> Shapes:
        return Shapes(max_batch_size=self.model.max_batch_size, max_tokens=self.model.max_tokens)

    def _try_all(self) -> list[Trial]:
        shutil.rmtree(self.places.candidates, ignore_errors=True)
        picked = compared(len(self.texts))
        texts = self.texts.take(picked)
        calibration = texts if self.calibration is None else self._encoded(self.calibration)
        bench = Bench(self.places.exported, self.places.candidates, self.model, self.request.hardware, calibration)
        reference = self._reference(picked)
        feeds = timing.full_batch(self.texts, *timing.reference_point(self._shapes))
        recipes = plan(self.request, self.request.hardware)
        trials = []
        for number, recipe in enumerate(recipes, start=1):
            log.progress("trying candidate", number, len(recipes), candidate=recipe.name)
            trials.append(attempt(recipe, bench, texts, reference, feeds))
        return trials

    def _encoded(self, rows: Rows) -> Encoded:
        apart = self.request.task == "feature-extraction"
        return Encoded.of(self.texts.tokenizer, rows, self.model.max_batch_size, apart=apart)

    def _reference(self, picked: npt.NDArray[np.intp]) -> Floats:
        # Token scores have one row per token; they are never thinned, so all of them are meant.
        return self.reference if self.model.task == "token-classification" else self.reference[picked]

    def _timed(self, trials: list[Trial]) -> tuple[list[Candidate], float]:
        """The candidates with their speed, and PyTorch's speed at the reference point."""
        batch, tokens = timing.reference_point(self._shapes)
        feeds = timing.full_batch(self.texts, batch, tokens)
        runners: dict[str, timing.Runner] = {
            trial.recipe.name: trial.engine.run for trial in trials if trial.engine is not None
        }
        runners[_TORCH] = with_best_threads(self._pytorch.on, feeds).run
        log.info("timing engines beside PyTorch", engines=list(runners), batch=batch, tokens=tokens)
        many = timing.interleave(runners, feeds, _COMPARE_SPEED)
        single = timing.interleave(runners, timing.full_batch(self.texts, 1, tokens), _COMPARE_SPEED)
        speeds = {name: batch / timing.median(seconds) for name, seconds in many.items()}
        delays = {name: timing.median(seconds) * 1e3 for name, seconds in single.items()}
        candidates = [self._candidate(trial, speeds, delays) for trial in trials]
        for candidate in candidates:
            log.info("measured candidate", torch_texts_per_second=round(speeds[_TORCH], 1), **candidate.model_dump())
        return candidates, speeds[_TORCH]

    def _candidate(self, trial: Trial, speeds: dict[str, float], delays: dict[str, float]) -> Candidate:
        recipe, found = trial.recipe, trial.fidelity
        if trial.engine is None:
            return Candidate(runtime=recipe.runtime, precision=recipe.precision, error=trial.error)
        return Candidate(
            runtime=recipe.runtime,
            precision=recipe.precision,
            texts_per_second=round(speeds[recipe.name], 2),
            p50_ms=round(delays[recipe.name], 3),
            memory_mib=trial.memory_mib,
            agreement=_rounded(found.agreement),
            cosine=_rounded(found.cosine),
            max_difference=_rounded(found.max_difference),
            passed=parity(self.request.gates.parity, found).passed,
        )

    def _choose(self, candidates: list[Candidate], trials: list[Trial]) -> tuple[Candidate, Verdict]:
        """The best candidate whose gates all hold; candidates that fall are marked in the list."""
        judge = Judge(
            self.request,
            Examination(self.model, self.rows, self.texts.tokenizer),
            self.texts,
            self.reference,
            lambda: self._pytorch.run,
        )
        failed: list[tuple[Candidate, Verdict]] = []
        for best in choose.preferred(candidates):
            index = candidates.index(best)
            log.info("checking gates", candidate=choose.title(best))
            trial = trials[index]
            if trial.engine is None:
                raise ValueError(trial.recipe.name)
            verdict = judge.verdict(trial.engine.run, trial.fidelity)
            if verdict.passed:
                return best, verdict
            log.warning("candidate fails a gate", candidate=choose.title(best), failed=sentence(verdict.gates))
            candidates[index] = best.model_copy(update={"passed": False})
            failed.append((best, verdict))
        raise self._refusal(failed, candidates, trials)

    def _refusal(
        self, failed: list[tuple[Candidate, Verdict]], candidates: list[Candidate], trials: list[Trial]
    ) -> StepError:
        """Why no candidate may serve: the gates of the best one, or what went wrong with all of them."""
        if failed:
            best, verdict = failed[0]
            return _gate_failed(f"{choose.title(best)}: {sentence(verdict.gates)}")
        measured = [index for index, candidate in enumerate(candidates) if candidate.texts_per_second is not None]
        if not measured:
            errors = "; ".join(f"{choose.title(candidate)}: {candidate.error}" for candidate in candidates)
            return StepError("NoEngine", f"no candidate could be built: {errors}", field="spec.engine")
        closest = max(measured, key=lambda index: candidates[index].cosine or candidates[index].agreement or 0.0)
        result = parity(self.request.gates.parity, trials[closest].fidelity)
        return _gate_failed(f"{choose.title(candidates[closest])}, the closest: {sentence([result])}")

    def _surface(self, trial: Trial) -> tuple[Timing, ...]:
        if trial.engine is None:
            return ()
        run = trial.engine.run
        timings = []
        grid = timing.grid(self._shapes)
        for number, (batch, tokens) in enumerate(grid, start=1):
            log.progress("measuring latency", number, len(grid), batch=batch, tokens=tokens)
            taken = timing.interleave({"": run}, timing.full_batch(self.texts, batch, tokens), _SURFACE)[""]
            timings.append(timing.timing(batch, tokens, taken))
        return tuple(timings)

    def _store(self, trial: Trial, temperature: float | None) -> tuple[str, int]:
        if trial.spec is None:
            raise ValueError(trial.recipe.name)
        files = artifact_files(trial.spec)
        files[TOKENIZER_FILE] = self.places.exported / TOKENIZER_FILE
        files["config.json"] = self.places.checkpoint / "config.json"
        manifest = Artifact(
            task=self.model.task,
            runtime=trial.recipe.runtime,
            precision=trial.recipe.precision,
            engine=trial.spec.file.name,
            inputs=self.model.inputs,
            output=self.model.output,
            dimensions=self.model.dimensions,
            max_tokens=self.model.max_tokens,
            max_batch_size=self.model.max_batch_size,
            labels=self.model.labels,
            activation=self.model.activation,
            temperature=temperature,
            pooling=self.model.pooling,
            threads=trial.spec.threads,
            options=dict(trial.spec.options),
            hardware=self.request.hardware,
            files=(),
        )
        return store.write_artifact(self.places, files, manifest)


def _gate_failed(message: str) -> StepError:
    return StepError(
        "GateFailed",
        f"no engine passes all gates; {message}",
        field=GATES_FIELD,
        remedy="loosen the bound that failed, allow another runtime or precision with auto, or train a better model",
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
