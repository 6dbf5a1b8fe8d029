"""One build's measurement: try the candidates, time them beside PyTorch, judge them, store the one chosen."""

from __future__ import annotations

import shutil
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tapchanger_serving.build import choose, gates, log, store, timing
from tapchanger_serving.build.answers import Floats, answers
from tapchanger_serving.build.candidates import Bench, artifact_files, plan
from tapchanger_serving.build.dataset import Rows
from tapchanger_serving.build.exported import REFERENCE, Exported
from tapchanger_serving.build.failures import GATES_FIELD, StepError
from tapchanger_serving.build.places import Places
from tapchanger_serving.build.textset import Encoded, compared, load_texts
from tapchanger_serving.build.torch_model import load_torch
from tapchanger_serving.build.trial import Trial, attempt, with_best_threads
from tapchanger_serving.contract.artifact import Artifact
from tapchanger_serving.contract.messages import BuildReport, BuildRequest, Candidate, GateResult, Shapes, Timing
from tapchanger_serving.engines.text import TOKENIZER_FILE, Tokenizer

_TORCH = "torch"
_COMPARE_SPEED = timing.Effort()
_SURFACE = timing.Effort(min_rounds=20, max_rounds=200, seconds=1.0)


@dataclass(frozen=True)
class Measurement:
    """What the measurement works on. `reference` holds PyTorch's answers to all `rows`."""

    request: BuildRequest
    places: Places
    model: Exported
    rows: Rows
    texts: Encoded
    reference: Floats

    @classmethod
    def prepare(cls, request: BuildRequest, places: Places) -> Measurement:
        """Reads what the earlier steps left."""
        model = Exported.read(places.exported)
        tokenizer = Tokenizer(places.exported / TOKENIZER_FILE, model.inputs, model.max_tokens)
        rows = load_texts(request, places.dataset(), tokenizer, model.max_tokens)
        with np.load(places.exported / REFERENCE, allow_pickle=False) as saved:
            reference = saved["answers"]
        return cls(request, places, model, rows, Encoded.of(tokenizer, rows, model.max_batch_size), reference)

    def report(self) -> BuildReport:
        """Does it all and stores the artifact. Raises `EngineIncompatible` or `GateFailed`."""
        trials = self._try_all()
        candidates, torch_speed = self._timed(trials)
        chosen, results = self._choose(candidates, trials)
        trial = trials[candidates.index(chosen)]
        surface = self._surface(trial)
        digest, size = self._store(trial)
        return BuildReport(
            artifact=digest,
            size_bytes=size,
            runtime=chosen.runtime,
            precision=chosen.precision,
            why=choose.explain(chosen, candidates, torch_speed),
            speedup=round((chosen.texts_per_second or 0.0) / torch_speed, 3),
            torch_texts_per_second=round(torch_speed, 2),
            candidates=tuple(candidates),
            gates=tuple(results),
            surface=surface,
            compared_texts=len(compared(self.rows)),
            seconds=0.0,
        )

    @property
    def _shapes(self) -> Shapes:
        return Shapes(max_batch_size=self.model.max_batch_size, max_tokens=self.model.max_tokens)

    def _try_all(self) -> list[Trial]:
        shutil.rmtree(self.places.candidates, ignore_errors=True)
        picked = compared(self.rows)
        texts = self.texts.take(picked)
        bench = Bench(self.places.exported, self.places.candidates, self.model, self.request.hardware, texts)
        reference = self._reference(picked)
        feeds = timing.full_batch(self.texts, *timing.reference_point(self._shapes))
        recipes = plan(self.request, self.request.hardware)
        trials = []
        for number, recipe in enumerate(recipes, start=1):
            log.progress("trying candidate", number, len(recipes), candidate=recipe.name)
            trials.append(attempt(recipe, bench, texts, reference, feeds))
        return trials

    def _reference(self, picked: npt.NDArray[np.intp]) -> Floats:
        # Token scores have one row per token; they are never thinned, so all of them are meant.
        return self.reference if self.model.task == "token-classification" else self.reference[picked]

    def _timed(self, trials: list[Trial]) -> tuple[list[Candidate], float]:
        """The candidates with their speed, and PyTorch's speed at the reference point."""
        batch, tokens = timing.reference_point(self._shapes)
        feeds = timing.full_batch(self.texts, batch, tokens)
        model = load_torch(self.places.checkpoint, self.request.task)
        if self.request.hardware.gpu is not None:
            model = model.accelerated()
        runners: dict[str, timing.Runner] = {
            trial.recipe.name: trial.engine.run for trial in trials if trial.engine is not None
        }
        runners[_TORCH] = with_best_threads(model.on, feeds).run
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
            passed=gates.parity(self.request.gates.parity, found).passed,
        )

    def _choose(self, candidates: list[Candidate], trials: list[Trial]) -> tuple[Candidate, list[GateResult]]:
        """The best candidate whose gates all hold; candidates that fall are marked in the list."""
        failed: list[tuple[Candidate, list[GateResult]]] = []
        for best in choose.preferred(candidates):
            index = candidates.index(best)
            log.info("checking gates", candidate=choose.title(best))
            results = self._gates(trials[index])
            if all(result.passed for result in results):
                return best, results
            log.warning("candidate fails a gate", candidate=choose.title(best), failed=gates.sentence(results))
            candidates[index] = best.model_copy(update={"passed": False})
            failed.append((best, results))
        raise self._refusal(failed, candidates, trials)

    def _gates(self, trial: Trial) -> list[GateResult]:
        results = [gates.parity(self.request.gates.parity, trial.fidelity)]
        evaluation = self.request.gates.evaluation
        if evaluation is not None and trial.engine is not None:
            scores = answers(trial.engine.run, self.texts, self.model) if evaluation.metrics else self.reference
            results += gates.evaluation(evaluation, self.model, self.rows, scores, self.reference)
        return results

    def _refusal(
        self, failed: list[tuple[Candidate, list[GateResult]]], candidates: list[Candidate], trials: list[Trial]
    ) -> StepError:
        """Why no candidate may serve: the gates of the best one, or what went wrong with all of them."""
        if failed:
            best, results = failed[0]
            return _gate_failed(f"{choose.title(best)}: {gates.sentence(results)}")
        measured = [index for index, candidate in enumerate(candidates) if candidate.texts_per_second is not None]
        if not measured:
            errors = "; ".join(f"{choose.title(candidate)}: {candidate.error}" for candidate in candidates)
            return StepError("NoEngine", f"no candidate could be built: {errors}", field="spec.engine")
        closest = max(measured, key=lambda index: candidates[index].cosine or candidates[index].agreement or 0.0)
        result = gates.parity(self.request.gates.parity, trials[closest].fidelity)
        return _gate_failed(f"{choose.title(candidates[closest])}, the closest: {gates.sentence([result])}")

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

    def _store(self, trial: Trial) -> tuple[str, int]:
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
