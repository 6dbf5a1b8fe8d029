"""Steady requests to a router, sent on time whether or not earlier ones have been answered."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Sequence
from typing import Any

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from dev.common.inference import text_request
from dev.common.traffic import Answer
from tapchanger_serving.contract.names import REVISION_HEADER

CONNECTIONS = 4
"""So many clients, since one connection stays with one router."""
PATIENCE_SECONDS = 30.0


class Load:
    """Sends `texts` in turn, one a request, `rate` requests a second, from entering to leaving. `answers` is then complete."""

    def __init__(self, address: str, model: str, texts: Sequence[str], rate: float) -> None:
        self._requests = [text_request(model, [text]) for text in texts]
        self._rate = rate
        alone = [("grpc.use_local_subchannel_pool", 1)]
        self._channels = [grpc.insecure_channel(address, options=alone) for _ in range(CONNECTIONS)]
        self._stubs = [service_pb2_grpc.GRPCInferenceServiceStub(channel) for channel in self._channels]
        self._stop = threading.Event()
        self._open = 0
        self._all_ended = threading.Condition()
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._answers: list[Answer] = []

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        with self._all_ended:
            self._all_ended.wait_for(lambda: self._open == 0, PATIENCE_SECONDS + 5)
        for channel in self._channels:
            channel.close()

    @property
    def answers(self) -> list[Answer]:
        """The requests that have ended, in the order in which they were sent."""
        with self._all_ended:
            return sorted(self._answers, key=lambda answer: answer.sent)

    def go_on(self, seconds: float) -> None:
        """Lets the load run on while the caller waits."""
        time.sleep(seconds)

    def _send(self) -> None:
        began = time.monotonic()
        for number, request, stub in zip(
            itertools.count(), itertools.cycle(self._requests), itertools.cycle(self._stubs), strict=False
        ):
            if self._stop.wait(max(0.0, began + number / self._rate - time.monotonic())):
                return
            with self._all_ended:
                self._open += 1
            self._start(stub, request)

    def _start(self, stub: Any, request: service_pb2.ModelInferRequest) -> None:
        sent = time.time()
        call = stub.ModelInfer.future(request, timeout=PATIENCE_SECONDS)
        call.add_done_callback(lambda done: self._ended(sent, done))

    def _ended(self, sent: float, call: Any) -> None:
        ended = time.time()
        header = dict(call.initial_metadata() or ()).get(REVISION_HEADER)
        with self._all_ended:
            self._answers.append(Answer(sent, ended, header, call.code().name))
            self._open -= 1
            self._all_ended.notify_all()
