"""The sidecar's work: redact what came, pack it, and give it to the store from a thread of its own."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from tapchanger_serving.build import log
from tapchanger_serving.build.failures import StepError
from tapchanger_serving.build.redaction import redacted as without_secrets
from tapchanger_serving.capture.destination import Destination
from tapchanger_serving.capture.intake import Intake
from tapchanger_serving.capture.pack import MANIFEST, Batch, Seal, stamp
from tapchanger_serving.capture.redact import Redactor, UnsafeError
from tapchanger_serving.capture.spool import Spool
from tapchanger_serving.capture.state import State
from tapchanger_serving.contract.capture import Order

LAST_SECONDS = 8.0
"""How long a pod that ends tries to store what it has."""
_LOOK_SECONDS = 0.5
_FIRST_PAUSE, _LONGEST_PAUSE = 5.0, 300.0


class Recorder:
    """Makes records of texts and objects of records."""

    def __init__(self, order: Order, pod: str, redactor: Redactor, seal: Seal, spool: Spool, state: State) -> None:
        self._order = order
        self._pod = pod
        self._redactor = redactor
        self._seal = seal
        self._spool = spool
        self._state = state
        self._batch = Batch()

    def run(self, intake: Intake, stopping: threading.Event) -> None:
        """Until `stopping` is set and nothing waits any more."""
        while True:
            item = intake.next(_LOOK_SECONDS if not stopping.is_set() else 0)
            if item is not None:
                self.take(item)
            if self._batch and (self._batch.full or time.monotonic() - self._batch.began >= self._order.flush_seconds):
                self.flush()
            if item is None and stopping.is_set():
                self.flush()
                return

    def take(self, item: dict[str, Any]) -> None:
        """One text with what was answered."""
        try:
            record, redactions = self._record(item)
        except UnsafeError as error:
            self._state.dropped(error.reason)
        except Exception as error:  # noqa: BLE001 - what one text provokes must not end the sidecar; its message could quote the text
            self._state.dropped("error")
            log.warning("a text could not be redacted", error=type(error).__name__)
        else:
            self._batch.add(record, redactions, float(item["time"]))
            self._state.captured(redactions)

    def flush(self) -> None:
        """What is there becomes an object that waits for the store."""
        if not self._batch:
            return
        batch, self._batch = self._batch, Batch()
        packed = batch.pack(
            revision=self._order.revision,
            pod=self._pod,
            encryption=self._order.encryption,
            seal=self._seal,
            now=time.time(),
        )
        if not self._spool.keep(packed):
            self._state.dropped("spoolFull", packed.records)
        self._state.waiting(self._spool.size())

    def _record(self, item: dict[str, Any]) -> tuple[dict[str, Any], Counter[str]]:
        counts: Counter[str] = Counter()
        texts: dict[str, str] = {}
        for field in ("text", "textPair"):
            if field in item:
                cleaned = self._redactor.redact(item[field])
                texts[field] = cleaned.text
                counts.update(cleaned.counts)
        kept: dict[str, Any] = {field: item[field] for field in ("label", "confidence", "entities") if field in item}
        head = {"id": item["id"], "time": stamp(float(item["time"])), "revision": self._order.revision}
        return {**head, **texts, **kept, "redactions": dict(sorted(counts.items()))}, counts


class Deliverer:
    """Brings what is spooled to the destination, the oldest first, and waits longer after each failure."""

    def __init__(self, open_place: Callable[[], Destination], spool: Spool, state: State) -> None:
        self._open = open_place
        self._spool = spool
        self._state = state
        self._place: Destination | None = None

    def run(self, stopping: threading.Event) -> None:
        """Until `stopping` is set."""
        pause = _FIRST_PAUSE
        while not stopping.is_set():
            if self.deliver(stopping):
                pause = _FIRST_PAUSE
                stopping.wait(_LOOK_SECONDS)
            else:
                stopping.wait(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)

    def deliver(self, stopping: threading.Event | None = None) -> bool:
        """Stores all that waits; False where the store took something not. The manifest is written last."""
        try:
            for spooled in self._spool.waiting():
                if stopping and stopping.is_set():
                    break
                # Opened anew after a failure: the kubelet may have brought another Secret since.
                self._place = self._place or self._open()
                self._place.put(spooled.packed.path, spooled.packed.body)
                self._place.put(spooled.packed.path + MANIFEST, spooled.packed.manifest)
                self._spool.forget(spooled)
                self._state.stored(time.time())
        except StepError as error:
            self._place = None
            failure = error.failure
            told = f"{failure.reason}: {failure.message}{f'; {failure.remedy}' if failure.remedy else ''}"
            self._state.trouble(without_secrets(told))
            log.warning("nothing can be stored; it is tried again", reason=failure.reason, message=failure.message)
            return False
        finally:
            self._state.waiting(self._spool.size())
        return True
