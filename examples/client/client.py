"""Asks a model that tapchanger serves, over gRPC or HTTP, with plain text.

    python examples/client/client.py --url 10.96.0.12:8001 --name moderation "some text" "another"
    echo "some text" | python examples/client/client.py --url 10.96.0.12:8000 --http --name embedding

Prints a line for each text: the answer, the revision that gave it, the text. Needs `tritonclient[grpc]`.
"""

from __future__ import annotations

import argparse
import json
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass

import grpc
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import InferResult, service_pb2, service_pb2_grpc

REVISION = "x-tapchanger-revision"


@dataclass(frozen=True)
class Reply:
    """Outputs by name, each `[texts, …]` and text as `str`, and the revision that gave them."""

    outputs: dict[str, NDArray[np.generic]]
    revision: str | None


def ask_grpc(url: str, name: str, texts: Sequence[str], seconds: float = 30.0) -> Reply:
    """One batch to port 8001. Raises grpc.RpcError."""
    request = service_pb2.ModelInferRequest(model_name=name)
    tensor = request.inputs.add(name="text", datatype="BYTES", shape=[len(texts), 1])
    tensor.contents.bytes_contents.extend(text.encode() for text in texts)
    with grpc.insecure_channel(url) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        response, call = stub.ModelInfer.with_call(request, timeout=seconds)
    result = InferResult(response)
    outputs = {output.name: _readable(result.as_numpy(output.name)) for output in response.outputs}
    return Reply(outputs, dict(call.initial_metadata()).get(REVISION))


def _readable(values: NDArray[np.generic]) -> NDArray[np.generic]:
    if values.dtype != np.object_:
        return values
    return np.array([value.decode() for value in values.ravel().tolist()]).reshape(values.shape)


def ask_http(url: str, name: str, texts: Sequence[str], seconds: float = 30.0) -> Reply:
    """One batch to port 8000, as JSON. Raises urllib.error.HTTPError, whose body says why, or URLError."""
    tensor = {"name": "text", "datatype": "BYTES", "shape": [len(texts), 1], "data": list(texts)}
    request = urllib.request.Request(
        f"http://{url}/v2/models/{name}/infer",
        data=json.dumps({"inputs": [tensor]}).encode(),
        headers={"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=seconds) as response:
        outputs, revision = json.load(response)["outputs"], response.headers.get(REVISION)
    return Reply({output["name"]: np.array(output["data"]).reshape(output["shape"]) for output in outputs}, revision)


def described(reply: Reply, row: int) -> str:
    """The answer to one text, for people."""
    outputs = {name: values[row].ravel() for name, values in reply.outputs.items()}
    if "label" in outputs:
        return f"{outputs['label'][0]} {float(outputs['score'][0]):.4f}"
    if "entities" in outputs:
        return str(outputs["entities"][0])
    vector = outputs["embedding"]
    return f"[{', '.join(f'{value:.4f}' for value in vector[:4])}, …] ({len(vector)} numbers)"


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints one line for each text; 1 where the server refused or could not be reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", nargs="*", help="texts; without any, one from each line of standard input")
    parser.add_argument(
        "--url", default="localhost:8001", help="HOST:PORT (default: %(default)s); 8001 is gRPC, 8000 HTTP"
    )
    parser.add_argument("--name", required=True, help="the TransformerDeployment's name")
    parser.add_argument("--http", action="store_true", help="speak HTTP instead of gRPC")
    options = parser.parse_args(arguments)
    texts = options.text or [line.rstrip("\n") for line in sys.stdin]
    try:
        reply = (ask_http if options.http else ask_grpc)(options.url, options.name, texts)
    except grpc.RpcError as problem:
        print(f"{options.url}: {problem.code().name}: {problem.details()}", file=sys.stderr)
        return 1
    except urllib.error.HTTPError as problem:
        print(f"{options.url}: HTTP {problem.code}: {problem.read().decode()}", file=sys.stderr)
        return 1
    except urllib.error.URLError as problem:
        print(f"{options.url}: {problem.reason}", file=sys.stderr)
        return 1
    for row, text in enumerate(texts):
        print(f"{described(reply, row)}\t{reply.revision}\t{text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
