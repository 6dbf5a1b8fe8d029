"""One build's measurement: try the candidates, time them beside PyTorch, judge them, store the one chosen."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tapchanger_serving.build import choose, log, stores, timing
from tapchanger_serving.build.answers import Floats, answers, compare
from tapchanger_serving.build.candidates import Bench, plan
from tapchanger_serving.build.choose import Arrangement, Way
from tapchanger_serving.build.contest import Contest, Field, hold
from tapchanger_serving.build.dataset import Rows
from tapchanger_serving.build.distill import student
from tapchanger_serving.build.distill.student import Student
from tapchanger_serving.build.drift_reference import reference_rows, write_reference
from tapchanger_serving.build.exported import REFERENCE, Exported
from tapchanger_serving.build.failures import GATES_FIELD, StepError
from tapchanger_serving.build.gates.evaluation import Examination
from tapchanger_serving.build.gates.parity import parity
from tapchanger_serving.build.gates.quality import judge, quality
from tapchanger_serving.build.gates.results import sentence
from tapchanger_serving.build.gates.verdict import Judge, Verdict
from tapchanger_serving.build.packing import pack, small_choice
from tapchanger_serving.build.places import Places
from tapchanger_serving.build.textset import Encoded, compared, load_calibration, load_texts
from tapchanger_serving.build.torch_model import TorchModel, load_torch
from tapchanger_serving.build.trial import Trial, attempt
from tapchanger_serving.contract.evidence import DataQuality
from tapchanger_serving.contract.messages import (
    BuildReport,
    BuildRequest,
    Candidate,
    GateResult,
    Shapes,
)
from tapchanger_serving.engines import EngineSpec, open_engine
from tapchanger_serving.engines.text import TOKENIZER_FILE, Tokenizer


@dataclass(frozen=True)
class Measurement:
    """What the measurement works on. `reference` holds PyTorch's answers to all `rows`.

    `calibration` are the texts for int8 ranges where the request names some, `student` the smaller model to try beside it.
    """

    request: BuildRequest
    places: Places
    model: Exported
    rows: Rows
    texts: Encoded
    reference: Floats
    calibration: Rows | None = None
    student: Student | None = None

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
        found = student.find(request, places)
        return cls(request, places, model, rows, texts, reference, calibration, found)

    def report(self) -> BuildReport:
        """Does it all and stores the artifact. Raises `EngineIncompatible` or `GateFailed`."""
        data, data_gates = self._data()
        trials = self._try_all()
        contest = self._contest(trials)
        chosen, arrangement, verdict = self._choose(contest, trials)
        digest, size = self._store(trials, arrangement, verdict.temperature)
        small, torch_speed = small_choice(arrangement, trials), contest.torch_texts_per_second
        return BuildReport(
            artifact=digest,
            size_bytes=size,
            runtime=chosen.runtime,
            precision=chosen.precision,
            student_layers=chosen.student_layers,
            why=choose.explain(chosen, contest.candidates, torch_speed, small, contest.waited),
            speedup=round((chosen.texts_per_second or 0.0) / torch_speed, 3),
            torch_texts_per_second=round(torch_speed, 2),
            candidates=tuple(contest.candidates),
            gates=(*verdict.gates, *data_gates),
            surface=contest.surface(arrangement),
            compared_texts=len(compared(len(self.texts))),
            seconds=0.0,
            small=small,
            waited=None if contest.waited is None else round(contest.waited, 3),
            calibration=verdict.calibration,
            robustness=verdict.robustness,
            data=data,
            distillation=self.student.record if self.student else None,
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
        reference = self._reference(picked)

        def faithful(spec: EngineSpec) -> bool:
            found = compare(answers(open_engine(spec).run, texts, self.model), reference, self.model)
            return parity(self.request.gates.parity, found).passed

        bench = Bench(
            self.places.exported, self.places.candidates, self.model, self.request.hardware, calibration, faithful,
            timings=self.places.timings, tensorrt=self.request.tensorrt_or_default,
        )  # fmt: skip
        feeds = timing.full_batch(self.texts, *timing.reference_point(self._shapes))
        recipes = student.recipes(plan(self.request, self.request.hardware), self.student)
        trials = []
        for number, recipe in enumerate(recipes, start=1):
            log.progress("trying candidate", number, len(recipes), candidate=recipe.name)
            trials.append(attempt(recipe, student.bench(bench, recipe, self.student), texts, reference, feeds))
        return trials

    def _encoded(self, rows: Rows) -> Encoded:
        apart = self.request.task == "feature-extraction"
        return Encoded.of(self.texts.tokenizer, rows, self.model.max_batch_size, apart=apart)

    def _reference(self, picked: npt.NDArray[np.intp]) -> Floats:
        # Token scores have one row per token; they are never thinned, so all of them are meant.
        return self.reference if self.model.task == "token-classification" else self.reference[picked]

    def _contest(self, trials: list[Trial]) -> Contest:
        passed = [bool(trial.engines) and parity(self.request.gates.parity, trial.fidelity).passed for trial in trials]
        return hold(Field(trials, passed, self._pytorch.on, self.texts, self._shapes))

    def _choose(self, contest: Contest, trials: list[Trial]) -> tuple[Candidate, Arrangement, Verdict]:
        """The best candidate whose gates all hold, and how to run it; candidates that fall are marked in the contest's list."""
        candidates = contest.candidates
        examined: dict[int, Verdict] = {}

        def holds(index: int) -> bool:
            if index not in examined:
                examined[index] = verdict = self._examine(trials[index])
                if not verdict.passed:
                    candidates[index] = candidates[index].model_copy(update={"passed": False})
            return examined[index].passed

        for best in choose.preferred(candidates):
            index = candidates.index(best)
            if holds(index):
                break
        else:
            raise self._refusal(examined, candidates, trials)
        ways = [
            way for way in contest.ways if way.candidate == index or self._may_help(way, candidates[index], candidates)
        ]
        arrangement = next(
            found
            for found in choose.arrangements(index, ways)
            if all(holds(way.candidate) for way in (found.large, found.small) if way is not None)
        )
        return candidates[index], arrangement, examined[index]

    def _may_help(self, way: Way, best: Candidate, candidates: list[Candidate]) -> bool:
        """A temperature is fitted for one engine, so with it another one takes no part. A text has one model's answer."""
        other = candidates[way.candidate]
        same_model = other.student_layers == best.student_layers
        return other.passed and same_model and not self.request.temperature_scaling

    def _examine(self, trial: Trial) -> Verdict:
        log.info("checking gates", candidate=trial.recipe.name)
        verdict = self._judge.verdict(trial.engine.run, trial.fidelity)
        if not verdict.passed:
            log.warning("candidate fails a gate", candidate=trial.recipe.name, failed=sentence(verdict.gates))
        return verdict

    @cached_property
    def _judge(self) -> Judge:
        examination = Examination(self.model, self.rows, self.texts.tokenizer)
        return Judge(self.request, examination, self.texts, self.reference, lambda: self._pytorch.run)

    def _refusal(self, examined: Mapping[int, Verdict], candidates: list[Candidate], trials: list[Trial]) -> StepError:
        """Why no candidate may serve: the gates of the best one, or what went wrong with all of them."""
        if examined:
            best, verdict = next(iter(examined.items()))
            return _gate_failed(f"{choose.title(candidates[best])}: {sentence(verdict.gates)}")
        measured = [index for index, candidate in enumerate(candidates) if candidate.texts_per_second is not None]
        if not measured:
            errors = "; ".join(f"{choose.title(candidate)}: {candidate.error}" for candidate in candidates)
            return StepError("NoEngine", f"no candidate could be built: {errors}", field="spec.engine")
        closest = max(measured, key=lambda index: candidates[index].cosine or candidates[index].agreement or 0.0)
        result = parity(self.request.gates.parity, trials[closest].fidelity)
        return _gate_failed(f"{choose.title(candidates[closest])}, the closest: {sentence([result])}")

    def _drift_reference(self, trial: Trial, temperature: float | None) -> dict[str, Path]:
        """The file by which servers tell what traffic is like; nothing where there are no texts to compare with."""
        rows = reference_rows(self.request, self.rows, self.places.drift_data())
        if rows is None:
            return {}
        texts = self.texts if rows is self.rows else self._encoded(rows)
        return write_reference(rows, trial.engine.run, self.model, texts, temperature, self.places.candidates)

    def _store(self, trials: list[Trial], arrangement: Arrangement, temperature: float | None) -> tuple[str, int]:
        trial = trials[arrangement.large.candidate]
        files = {
            TOKENIZER_FILE: self.places.exported / TOKENIZER_FILE,
            "config.json": student.config(self.places, trial.recipe, self.student),
            **self._drift_reference(trial, temperature),
        }
        packed = pack(arrangement, trials, self.model, self.request.hardware, temperature)
        with stores.opened(self.places) as store:
            return store.write_artifact(packed.files | files, packed.manifest)


def _gate_failed(message: str) -> StepError:
    return StepError(
        "GateFailed",
        f"no engine passes all gates; {message}",
        field=GATES_FIELD,
        remedy="loosen the bound that failed, allow another runtime or precision with auto, or train a better model",
    )
