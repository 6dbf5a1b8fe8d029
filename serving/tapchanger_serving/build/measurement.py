"""One build's measurement: try the candidates, time them beside PyTorch, judge them, store the one chosen."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tapchanger_serving.build import choose, log, stores
from tapchanger_serving.build.answers import Floats, answers, compare
from tapchanger_serving.build.candidates import Bench, plan
from tapchanger_serving.build.dataset import Rows
from tapchanger_serving.build.distill import student
from tapchanger_serving.build.distill.student import Student
from tapchanger_serving.build.drift_reference import reference_rows, write_reference
from tapchanger_serving.build.election import Elected, Election
from tapchanger_serving.build.exported import REFERENCE, Exported
from tapchanger_serving.build.failures import GATES_FIELD, StepError
from tapchanger_serving.build.gates.evaluation import Examination
from tapchanger_serving.build.gates.parity import parity
from tapchanger_serving.build.gates.quality import judge, quality
from tapchanger_serving.build.gates.results import sentence
from tapchanger_serving.build.gates.verdict import Judge
from tapchanger_serving.build.heats import Heats
from tapchanger_serving.build.open_engines import OpenEngines, give_back
from tapchanger_serving.build.packing import pack, small_choice
from tapchanger_serving.build.places import Places
from tapchanger_serving.build.textset import Encoded, compared, load_calibration, load_texts
from tapchanger_serving.build.torch_model import TorchModel, load_torch
from tapchanger_serving.build.trial import Trial, attempt
from tapchanger_serving.contract.evidence import DataQuality
from tapchanger_serving.contract.messages import (
    BuildReport,
    BuildRequest,
    GateResult,
    Shapes,
)
from tapchanger_serving.engines import Engine, EngineSpec, open_engine
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
        """Does it all and stores the artifact. Raises `NoEngine` or `GateFailed`."""
        data, data_gates = self._data()
        trials = self._try_all()
        engines = OpenEngines(trials)
        elected = Election(self.request, trials, self.texts, self._shapes, self._judge, engines).run()
        chosen, verdict, contest = elected.candidate, elected.verdict, elected.contest
        digest, size = self._store(trials, engines, elected)
        small, torch_speed = small_choice(elected.arrangement, trials), contest.torch_texts_per_second
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
            surface=contest.surface(elected.arrangement),
            compared_texts=len(compared(len(self.texts))),
            seconds=0.0,
            small=small,
            waited=contest.waited,
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
        heats = Heats(self._pytorch.on, self.texts, self._shapes)
        recipes = student.recipes(plan(self.request, self.request.hardware), self.student)
        trials = []
        for number, recipe in enumerate(recipes, start=1):
            log.progress("trying candidate", number, len(recipes), candidate=recipe.name)
            trials.append(attempt(recipe, student.bench(bench, recipe, self.student), texts, reference, heats))
            give_back()
        return trials

    def _encoded(self, rows: Rows) -> Encoded:
        apart = self.request.task == "feature-extraction"
        return Encoded.of(self.texts.tokenizer, rows, self.model.max_batch_size, apart=apart)

    def _reference(self, picked: npt.NDArray[np.intp]) -> Floats:
        # Token scores have one row per token; they are never thinned, so all of them are meant.
        return self.reference if self.model.task == "token-classification" else self.reference[picked]

    @cached_property
    def _judge(self) -> Judge:
        examination = Examination(self.model, self.rows, self.texts.tokenizer)
        return Judge(self.request, examination, self.texts, self.reference, lambda: self._pytorch.run)

    def _drift_reference(self, engine: Engine, temperature: float | None) -> dict[str, Path]:
        """The file by which servers tell what traffic is like; nothing where there are no texts to compare with."""
        rows = reference_rows(self.request, self.rows, self.places.drift_data())
        if rows is None:
            return {}
        texts = self.texts if rows is self.rows else self._encoded(rows)
        return write_reference(rows, engine.run, self.model, texts, temperature, self.places.candidates)

    def _store(self, trials: list[Trial], engines: OpenEngines, elected: Elected) -> tuple[str, int]:
        arrangement, temperature = elected.arrangement, elected.verdict.temperature
        index = arrangement.large.candidate
        files = {
            TOKENIZER_FILE: self.places.exported / TOKENIZER_FILE,
            "config.json": student.config(self.places, trials[index].recipe, self.student),
            **self._drift_reference(engines.any(index), temperature),
        }
        packed = pack(arrangement, trials, self.model, self.request.hardware, temperature)
        with stores.opened(self.places) as store:
            return store.write_artifact(packed.files | files, packed.manifest)
