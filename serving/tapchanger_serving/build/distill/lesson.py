"""From the verified checkpoint to a trained student, exported."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import torch

from tapchanger_serving.build import log
from tapchanger_serving.build.conversion import export_graphs
from tapchanger_serving.build.distill import student
from tapchanger_serving.build.distill.layers import layer_count, make_student, parameters
from tapchanger_serving.build.distill.losses import Objective
from tapchanger_serving.build.distill.pick import picked_layers
from tapchanger_serving.build.distill.room import Sizes, free_bytes, texts_at_once
from tapchanger_serving.build.distill.teacher import Teacher
from tapchanger_serving.build.distill.texts import Corpus, read_corpus
from tapchanger_serving.build.distill.training import Budget, Trained, Training
from tapchanger_serving.build.exported import Exported
from tapchanger_serving.build.places import Places
from tapchanger_serving.build.textset import Encoded, load_texts
from tapchanger_serving.build.torch_model import Headed, load_torch
from tapchanger_serving.contract.distill import Distill, Distillation
from tapchanger_serving.contract.messages import BuildRequest
from tapchanger_serving.engines.cpus import allowed_cpus
from tapchanger_serving.engines.text import TOKENIZER_FILE, Tokenizer

_CONFIG = "config.json"


def teach(request: BuildRequest, wanted: Distill, places: Places) -> None:
    """Trains the student, writes its graph, and says how it came about."""
    started = time.monotonic()
    part = student.begin(places)
    model = Exported.read(places.exported)
    teacher = load_torch(places.checkpoint, request.task)
    layers = picked_layers(layer_count(teacher.headed.model), wanted.layers)
    tokenizer = Tokenizer(places.exported / TOKENIZER_FILE, model.inputs, model.max_tokens)
    judged = load_texts(request, places.dataset(), tokenizer, model.max_tokens)
    corpus = read_corpus(request, wanted, places, judged)
    log.info(
        "read texts for the student",
        texts=len(corpus.texts),
        left_out_as_evaluation_data=corpus.in_evaluation,
        left_out_as_duplicates=corpus.duplicates,
        held_out=len(corpus.held_out),
    )
    pupil = Headed(make_student(teacher.headed.model, layers), teacher.headed.inputs)
    device = "cuda" if request.hardware.gpu is not None and torch.cuda.is_available() else "cpu"
    torch.set_num_threads(allowed_cpus())
    texts = Encoded.of(tokenizer, corpus.rows, model.max_batch_size)
    objective = Objective(model, wanted.temperature)
    training = Training(
        pupil.to(device),
        Teacher(teacher.headed.to(device), texts, objective, device),
        corpus,
        wanted,
        _at_once(teacher.headed, pupil, layers, texts, wanted, device),
        Budget(wanted.max_seconds),
    )
    log.info("training student", layers=list(layers), parameters=parameters(pupil), texts_at_once=training.at_once)
    trained = training.run()
    _write(request, places, part, model, pupil)
    record = _record(teacher.headed, pupil, layers, corpus, wanted, trained, time.monotonic() - started)
    student.finish(places, record)
    log.info("made student", **record.model_dump(exclude={"epochs"}))


def _at_once(
    teacher: Headed, pupil: Headed, layers: tuple[int, ...], texts: Encoded, wanted: Distill, device: str
) -> int:
    config = pupil.model.config
    hidden = int(getattr(config, "hidden_size", 0) or 1024)
    sizes = Sizes(
        teacher_parameters=parameters(teacher),
        parameters=parameters(pupil),
        layers=len(layers),
        hidden=hidden,
        heads=int(getattr(config, "num_attention_heads", 0) or max(1, hidden // 64)),
        tokens=int(texts.lengths().max()),
    )
    return texts_at_once(sizes, wanted.batch_size, free_bytes(device))


def _write(request: BuildRequest, places: Places, part: Path, model: Exported, pupil: Headed) -> None:
    """The student goes the way that the model went: it becomes a checkpoint and is read again, with all checks."""
    saved, trained = part / "checkpoint", pupil.cpu().model
    trained.save_pretrained(saved)  # type: ignore[operator] # a transformers model
    read = load_torch(saved, request.task, attention="eager")
    export_graphs(request, part, read, model.output, max_tokens=model.max_tokens)
    model.model_copy(update={"parameters": parameters(read.headed)}).write(part)
    shutil.copyfile(places.exported / TOKENIZER_FILE, part / TOKENIZER_FILE)
    shutil.copyfile(saved / _CONFIG, part / _CONFIG)
    shutil.rmtree(saved)


def _record(
    teacher: Headed,
    pupil: Headed,
    layers: tuple[int, ...],
    corpus: Corpus,
    wanted: Distill,
    trained: Trained,
    seconds: float,
) -> Distillation:
    return Distillation(
        teacher_layers=layer_count(teacher.model),
        teacher_parameters=parameters(teacher),
        layers=layers,
        parameters=parameters(pupil),
        rows=corpus.read,
        in_evaluation=corpus.in_evaluation,
        duplicates=corpus.duplicates,
        held_out=len(corpus.held_out),
        trained_on=len(corpus.training),
        epochs=trained.epochs,
        best=trained.best,
        asked_epochs=wanted.epochs,
        stopped_by_budget=trained.stopped_by_budget,
        seconds=round(seconds, 2),
    )
