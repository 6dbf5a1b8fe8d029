"""How one request goes out: by gRPC or by HTTP. Each returns (code, revision), the code being `OK` or the failure's."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any, Protocol, Self

import grpc
import httpx
from tritonclient.grpc import service_pb2_grpc

from dev.common.inference import text_request
from dev.load.plan import Plan
from tapchanger_serving.contract.names import REVISION_HEADER, TEXT

Outcome = tuple[str, str | None]


class Client(Protocol):
    """Sends the plan's text of a number."""

    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...
    async def send(self, text: int) -> Outcome:
        """What became of it; a failure is an outcome, not an exception."""
        ...


class GrpcClient:
    """gRPC on as many connections as the plan says, each used in turn."""

    def __init__(self, plan: Plan) -> None:
        self._patience = plan.patience
        self._headers = plan.headers
        self._requests = [text_request(plan.model, [text]) for text in plan.sent_texts()]
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        self._channels = [grpc.aio.insecure_channel(plan.address, options) for _ in range(plan.connections)]
        self._stubs = itertools.cycle(service_pb2_grpc.GRPCInferenceServiceStub(channel) for channel in self._channels)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(channel.close() for channel in self._channels))

    async def send(self, text: int) -> Outcome:
        """The status code's name, and the revision of the metadata: a failure without an answer has it in the trailers."""
        metadata = tuple(self._headers(text).items())
        call = next(self._stubs).ModelInfer(self._requests[text], timeout=self._patience, metadata=metadata)
        code = await call.code()
        headers = dict([*(await call.trailing_metadata() or ()), *(await call.initial_metadata() or ())])
        return str(code.name), _text(headers.get(REVISION_HEADER))


class StreamClient(GrpcClient):
    """gRPC with a stream of its own for each request, as clients of streaming APIs send them."""

    async def send(self, text: int) -> Outcome:
        """As :meth:`GrpcClient.send`; `stream/error` where the server answered with an error in the stream."""
        call = next(self._stubs).ModelStreamInfer(iter([self._requests[text]]), timeout=self._patience)
        answers = [answer async for answer in _until_end(call)]
        code = await call.code()
        headers = dict([*(await call.trailing_metadata() or ()), *(await call.initial_metadata() or ())])
        wrong = code is grpc.StatusCode.OK and (len(answers) != 1 or answers[0].error_message)
        return "stream/error" if wrong else str(code.name), _text(headers.get(REVISION_HEADER))


async def _until_end(call: Any) -> AsyncIterator[Any]:
    """The answers of a stream; how it ended is left to its code."""
    try:
        async for answer in call:
            yield answer
    except grpc.aio.AioRpcError:
        return


class HttpClient:
    """HTTP with JSON. The plan's number of connections are kept; while all are busy, more are opened, so nothing queues here."""

    def __init__(self, plan: Plan) -> None:
        self._patience = plan.patience
        self._headers = plan.headers
        self._bodies = [_body(text) for text in plan.sent_texts()]
        self._path = f"/v2/models/{plan.model}/infer"
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=plan.connections)
        host, port = plan.endpoint
        self._client = httpx.AsyncClient(
            base_url=httpx.URL(scheme="http", host=host, port=port),
            limits=limits,
            timeout=None,
            trust_env=False,
        )

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *details: Any) -> None:
        await self._client.__aexit__(*details)

    async def send(self, text: int) -> Outcome:
        """`http/STATUS` where the status is not 2xx, or the name of what went wrong with the connection."""
        try:
            async with asyncio.timeout(self._patience):
                response = await self._client.post(self._path, json=self._bodies[text], headers=self._headers(text))
        except (httpx.HTTPError, TimeoutError) as problem:
            return f"http/{type(problem).__name__}", None
        code = "OK" if response.is_success else f"http/{response.status_code}"
        return code, response.headers.get(REVISION_HEADER)


def client(plan: Plan) -> Client:
    """The client of the plan's protocol."""
    kinds: dict[str, Callable[[Plan], Client]] = {"grpc": GrpcClient, "grpc-stream": StreamClient, "http": HttpClient}
    return kinds[plan.protocol](plan)


def _body(text: str) -> dict[str, Any]:
    return {"inputs": [{"name": TEXT, "datatype": "BYTES", "shape": [1, 1], "data": [text]}]}


def _text(value: str | bytes | None) -> str | None:
    return value.decode() if isinstance(value, bytes) else value
