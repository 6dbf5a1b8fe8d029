"""The example client reads answers of every task, over both protocols, and says why it got none."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import serialize_byte_tensor

from examples.client import client


class Model(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]  # generated without types
    """Labels each text with itself, in capitals."""

    def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802 - the name is the protocol's
        if request.model_name != "moderation":
            context.abort(grpc.StatusCode.NOT_FOUND, "no such model")
        context.send_initial_metadata((("x-tapchanger-revision", "r1"),))
        texts = list(request.inputs[0].contents.bytes_contents)
        response = service_pb2.ModelInferResponse(model_name=request.model_name)
        labels = np.array([[text.decode().upper().encode()] for text in texts], dtype=np.object_)
        scores = np.full((len(texts), 1), 0.5, dtype=np.float32)
        for name, kind, raw in (
            ("label", "BYTES", serialize_byte_tensor(labels).item()),
            ("score", "FP32", scores.tobytes()),
        ):
            response.outputs.add(name=name, datatype=kind, shape=[len(texts), 1])
            response.raw_output_contents.append(raw)
        return response


class Handler(BaseHTTPRequestHandler):
    """Gives each text the same embedding."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        count = asked["inputs"][0]["shape"][0]
        found = self.path == "/v2/models/embedding/infer"
        output = {"name": "embedding", "datatype": "FP32", "shape": [count, 5], "data": [0.25] * 5 * count}
        self.send_response(200 if found else 404)
        self.send_header("x-tapchanger-revision", "r2")
        self.end_headers()
        self.wfile.write(json.dumps({"outputs": [output]} if found else {"error": "no such model"}).encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the library's
        """Says nothing."""


@pytest.fixture
def grpc_url() -> Iterator[str]:
    server = grpc.server(futures.ThreadPoolExecutor(2))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Model(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


@pytest.fixture
def http_url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_labels_over_grpc(grpc_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert client.main(["--url", grpc_url, "--name", "moderation", "größe", "b"]) == 0
    assert capsys.readouterr().out == "GRÖSSE 0.5000\tr1\tgröße\nB 0.5000\tr1\tb\n"


def test_embeddings_over_http(http_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert client.main(["--url", http_url, "--name", "embedding", "--http", "a"]) == 0
    assert capsys.readouterr().out == "[0.2500, 0.2500, 0.2500, 0.2500, …] (5 numbers)\tr2\ta\n"


def test_entities_are_shown_as_they_come() -> None:
    reply = client.Reply({"entities": np.array([['[{"word": "x"}]']])}, None)
    assert client.described(reply, 0) == '[{"word": "x"}]'


def test_a_refusal_is_told(grpc_url: str, http_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert client.main(["--url", grpc_url, "--name", "other", "a"]) == 1
    assert "NOT_FOUND: no such model" in capsys.readouterr().err
    assert client.main(["--url", http_url, "--http", "--name", "other", "a"]) == 1
    assert "HTTP 404" in capsys.readouterr().err
    assert client.main(["--url", "127.0.0.1:1", "--http", "--name", "other", "a"]) == 1
    assert "refused" in capsys.readouterr().err
