"""Hands a sample of texts to the capturing sidecar (:mod:`tapchanger_serving.capture`), and never waits for it.

What can't be handed over at once is dropped and counted; the counts travel with the next text. Nothing here looks into a text.
"""

from __future__ import annotations

import json
import os
import queue
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from tapchanger_serving.backends.batch import Texts
from tapchanger_serving.contract import names
from tapchanger_serving.contract.capture import ENV_SAMPLING, LONGEST_TEXT, Sampling
from tapchanger_serving.engines.answers import Answers

_WAITING: Final = 256
_SEND_SECONDS: Final = 1.0
_LONGEST_LABEL: Final = 200


class Capturer:
    """Chooses texts of one model and hands them over from a thread of its own. `clock` gives seconds."""

    def __init__(
        self,
        sampling: Sampling,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._sampling = sampling
        self._clock = clock
        self._chance = chance
        self._allowed = self._burst = max(1.0, sampling.per_minute / 10)
        self._looked = clock()
        self._lost: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._queue: queue.Queue[dict[str, Any]] = queue.Queue(_WAITING)
        threading.Thread(target=self._hand_over, name="capture", daemon=True).start()

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Capturer | None:
        """As the pod's environment says; None where nothing is captured."""
        text = environ.get(ENV_SAMPLING)
        return cls(Sampling.model_validate_json(text)) if text else None

    def offer(self, parameters: str, texts: Texts, answers: Answers) -> None:
        """One answered request with its parameters as Triton gives them, in JSON. Each of its texts has the same chance."""
        rows = [row for row in range(len(texts.texts)) if self._chance() < self._sampling.share]
        try:
            self._offer(rows, parameters, texts, answers)
        except Exception:  # noqa: BLE001 - the answer is made already, and must not be lost for this; the count says that it happened
            self._lose("error", len(rows))

    def _offer(self, rows: Sequence[int], parameters: str, texts: Texts, answers: Answers) -> None:
        if not rows:
            return
        found = {name.lower(): value for name, value in json.loads(parameters).items()} if parameters else {}
        if names.REQUEST_START_HEADER not in found and names.TRACEPARENT_HEADER not in found:
            return  # a warm-up
        if found.get(names.MIRROR_HEADER) == self._sampling.revision:
            return  # the copy of a request, whose original is captured where it is answered
        if not self._sampling.consent.allows(found.get(self._sampling.consent.header)):
            self._lose("noConsent", len(rows))
            return
        for row in rows:
            self._take(found, texts, answers, row)

    def _take(self, found: Mapping[str, object], texts: Texts, answers: Answers, row: int) -> None:
        pair = texts.pairs[row] if texts.pairs else None
        if len(texts.texts[row]) + len(pair or "") > LONGEST_TEXT:
            self._lose("tooLong")
        elif not self._may():
            self._lose("rate")
        else:
            item = {
                "time": time.time(),
                "id": _trace_id(found.get(names.TRACEPARENT_HEADER)),
                "text": texts.texts[row],
                **({} if pair is None else {"textPair": pair}),
                **_answer(answers, row),
            }
            try:
                self._queue.put_nowait(item)
            except queue.Full:
                self._lose("serverFull")

    def _may(self) -> bool:
        """Whether a text is within the limit a minute, with bursts of a tenth of it."""
        now = self._clock()
        gained = (now - self._looked) * self._sampling.per_minute / 60
        self._allowed, self._looked = min(self._burst, self._allowed + gained), now
        if self._allowed < 1:
            return False
        self._allowed -= 1
        return True

    def _lose(self, reason: str, count: int = 1) -> None:
        with self._lock:
            self._lost[reason] += count

    def _hand_over(self) -> None:
        line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        line.settimeout(_SEND_SECONDS)
        while True:
            try:
                item = self._queue.get(timeout=_SEND_SECONDS)
            except queue.Empty:
                item = {}
            with self._lock:
                lost, self._lost = self._lost, Counter()
            if not item and not lost:
                continue
            try:
                line.sendto(
                    json.dumps({**item, "lost": lost}, ensure_ascii=False).encode(errors="replace"),
                    self._sampling.socket,
                )
            except OSError:
                # The sidecar is starting, busy or gone: said by the count, once it listens again.
                with self._lock:
                    self._lost += lost
                    self._lost["notTaken"] += 1 if item else 0


def _trace_id(traceparent: object) -> str:
    """The trace id of a W3C `traceparent`; empty where there is none."""
    parts = traceparent.split("-") if isinstance(traceparent, str) else []
    return parts[1] if len(parts) >= 4 and len(parts[1]) == 32 else ""


def _answer(answers: Answers, row: int) -> dict[str, Any]:
    """What a classifier answered; of entities only their kinds, since the words are the text's. Of embeddings nothing."""
    if names.LABEL in answers:
        label = answers[names.LABEL][row, 0].decode(errors="replace")[:_LONGEST_LABEL]
        return {"label": label, "confidence": round(float(answers[names.SCORE][row, 0]), 4)}
    if names.ENTITIES in answers:
        kinds = Counter(one["entity"] for one in json.loads(answers[names.ENTITIES][row, 0]))
        return {"entities": dict(kinds)}
    return {}
