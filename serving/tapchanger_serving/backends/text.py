"""The text model inside Triton: texts in, answers out, engine in the same process."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import triton_python_backend_utils as pb_utils

from tapchanger_serving.backends import log, place
from tapchanger_serving.backends.batch import Answered, Refusal, Texts, answer_each, read_texts, where
from tapchanger_serving.backends.capture import Capturer
from tapchanger_serving.backends.described import TextsTold
from tapchanger_serving.backends.tracing import Traced, Tracer, headers
from tapchanger_serving.contract import names
from tapchanger_serving.engines.answers import Answers, TextModel


class TritonPythonModel:
    """What Triton's Python backend calls."""

    def initialize(self, arguments: dict[str, str]) -> None:
        """Loads the artifact; an error here keeps the model, and so the pod, from getting ready."""
        started = time.monotonic()
        artifact, folder = place.read(arguments)
        self._model = TextModel.open(artifact, folder)
        self._tracer = Tracer.from_environment(arguments["model_name"])
        self._texts = TextsTold.of(self._model.tokenizer, folder)
        self._capturer = Capturer.from_environment()
        self._seen: set[str] = set()
        log.write(
            "info",
            "text model loaded",
            model=arguments["model_name"],
            task=artifact.task,
            runtime=artifact.runtime,
            precision=artifact.precision,
            seconds=round(time.monotonic() - started, 3),
        )

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """One response per request; a request that fails doesn't touch the others."""
        self._model.watch.start()
        read = [_read(request) for request in requests]
        answered = iter(answer_each(self._model, [texts for texts in read if isinstance(texts, Texts)], self._failed))
        answers = [next(answered) if isinstance(texts, Texts) else Answered(texts) for texts in read]
        if self._tracer:
            rows = sum(len(texts.texts) for texts in read if isinstance(texts, Texts))
            self._tracer.record(map(self._traced, requests, read, answers), self._model.watch.stop(), rows)
        if self._capturer:
            for request, texts, answer in zip(requests, read, answers, strict=True):
                if isinstance(texts, Texts) and not isinstance(answer.outcome, Refusal):
                    self._capturer.offer(request.parameters(), texts, answer.outcome)
        return [_respond(request, answer.outcome) for request, answer in zip(requests, answers, strict=True)]

    def finalize(self) -> None:
        """Frees the engine and sends the last spans."""
        self._model.close()
        if self._tracer:
            self._tracer.flush()

    def _traced(self, request: Any, texts: Texts | Refusal, answer: Answered) -> Traced:
        found = headers(request.parameters())
        if isinstance(answer.outcome, Refusal) or isinstance(texts, Refusal):
            client = isinstance(answer.outcome, Refusal) and answer.outcome.client
            return Traced(found, not client, answer.tokens)
        describe = partial(self._texts.attributes, texts.texts, answer.encodings, answer.outcome)
        return Traced(found, False, answer.tokens, answer.outcome, describe)

    def _failed(self, error: BaseException) -> None:
        place_of_error = where(error)
        if place_of_error not in self._seen:
            self._seen.add(place_of_error)
            log.write(
                "error", "a text could not be answered; further ones like it are not logged", error=place_of_error
            )


def _read(request: Any) -> Texts | Refusal:
    texts = read_texts(pb_utils.get_input_tensor_by_name(request, names.TEXT).as_numpy(), names.TEXT)
    if isinstance(texts, Refusal):
        return texts
    second = pb_utils.get_input_tensor_by_name(request, names.TEXT_PAIR)
    if second is None:
        return Texts(texts)
    pairs = read_texts(second.as_numpy(), names.TEXT_PAIR)
    return pairs if isinstance(pairs, Refusal) else Texts(texts, pairs)


def _respond(request: Any, answer: Answers | Refusal) -> Any:
    if isinstance(answer, Refusal):
        code = pb_utils.TritonError.INVALID_ARG if answer.client else pb_utils.TritonError.INTERNAL
        return pb_utils.InferenceResponse(error=pb_utils.TritonError(answer.message, code))
    wanted = request.requested_output_names()
    return pb_utils.InferenceResponse([pb_utils.Tensor(name, rows) for name, rows in answer.items() if name in wanted])
