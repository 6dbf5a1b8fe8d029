"""Asks a served model by the Open Inference Protocol, on gRPC and on HTTP, and reads who answered."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor, triton_to_np_dtype

from tapchanger_serving.contract.names import REVISION_HEADER, TEXT

Tensor = NDArray[Any]


@dataclass(frozen=True)
class Reply:
    """Outputs by name, and the revision that the router named. BYTES outputs are arrays of str."""

    outputs: dict[str, Tensor]
    revision: str | None


class GrpcClient:
    """One connection to a router, `address` being HOST:PORT."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(address)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    def __enter__(self) -> GrpcClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def ask(self, model: str, texts: Sequence[str], *, seconds: float = 30.0) -> Reply:
        """Answers to a batch of texts. Raises grpc.RpcError."""
        return self._call(text_request(model, texts), seconds)

    def infer(self, model: str, inputs: dict[str, Tensor], seconds: float = 30.0) -> Reply:
        """Outputs for any inputs; arrays of objects travel as BYTES. Raises grpc.RpcError."""
        return self._call(_request(model, inputs), seconds)

    def _call(self, request: Any, seconds: float) -> Reply:
        response, call = self._stub.ModelInfer.with_call(request, timeout=seconds)
        header = dict(call.initial_metadata()).get(REVISION_HEADER)
        outputs = {
            output.name: _decoded(output.datatype, list(output.shape), raw)
            for output, raw in zip(response.outputs, response.raw_output_contents, strict=True)
        }
        return Reply(outputs, header)

    def metadata(self, model: str) -> Any:
        """The model's inputs and outputs. Raises grpc.RpcError."""
        return self._stub.ModelMetadata(service_pb2.ModelMetadataRequest(name=model), timeout=30)


def ask_http(base: str, model: str, texts: Sequence[str], *, seconds: float = 30.0) -> Reply:
    """Answers to a batch of texts from `base` (http://HOST:PORT), as JSON.

    Raises:
        RuntimeError: the server answered with an error; the text is its own.
    """
    asked = {"inputs": [{"name": TEXT, "datatype": "BYTES", "shape": [len(texts), 1], "data": list(texts)}]}
    request = urllib.request.Request(
        f"{base}/v2/models/{model}/infer",
        data=json.dumps(asked).encode(),
        headers={"content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=seconds) as answer:
            body, header = json.loads(answer.read()), answer.headers.get(REVISION_HEADER)
    except urllib.error.HTTPError as problem:
        raise RuntimeError(f"{request.full_url}: HTTP {problem.code}: {problem.read().decode()}") from problem
    outputs = {output["name"]: np.array(output["data"]).reshape(output["shape"]) for output in body["outputs"]}
    return Reply(outputs, header)


def text_request(model: str, texts: Sequence[str]) -> Any:
    """A ModelInferRequest for a batch of texts."""
    return _request(model, {TEXT: np.array([[text.encode()] for text in texts], dtype=np.object_)})


def _request(model: str, inputs: dict[str, Tensor]) -> Any:
    request = service_pb2.ModelInferRequest(model_name=model)
    for name, values in inputs.items():
        datatype, raw = _encoded(values)
        request.inputs.add(name=name, datatype=datatype, shape=values.shape)
        request.raw_input_contents.append(raw)
    return request


def _encoded(values: Tensor) -> tuple[str, bytes]:
    if values.dtype == np.object_:
        return "BYTES", serialize_byte_tensor(values).item()
    return {"int64": "INT64", "int32": "INT32", "float32": "FP32"}[values.dtype.name], values.tobytes()


def _decoded(datatype: str, shape: list[int], raw: bytes) -> Tensor:
    if datatype == "BYTES":
        return np.array([value.decode() for value in deserialize_bytes_tensor(raw)]).reshape(shape)
    return np.frombuffer(raw, dtype=triton_to_np_dtype(datatype)).reshape(shape)
