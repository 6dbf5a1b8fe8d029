"""Asks a model that tapchanger serves, over gRPC or HTTP, with plain text.

    python examples/client/client.py --url 10.96.0.12:8001 --name moderation "some text" "another"
    echo "some text" | python examples/client/client.py --url 10.96.0.12:8000 --http --name embedding

Needs `tritonclient[grpc,http]` and NumPy.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import tritonclient.grpc as grpc
import tritonclient.http as http


def ask(url: str, name: str, texts: list[str], *, over_http: bool = False) -> Mapping[str, Any]:
    """Outputs by name, each `[len(texts), …]`.

    Raises InferenceServerException where the server refuses or can't be reached.
    """
    module = http if over_http else grpc
    rows = np.array([[text.encode()] for text in texts], dtype=np.object_)
    tensor = module.InferInput("text", list(rows.shape), "BYTES")
    tensor.set_data_from_numpy(rows)
    with module.InferenceServerClient(url) as client:
        result = client.infer(name, [tensor])
        response = result.get_response()
        outputs = response["outputs"] if over_http else response.outputs
        names = [output["name"] if over_http else output.name for output in outputs]
        return {output: result.as_numpy(output) for output in names}


def _line(outputs: Mapping[str, Any], row: int) -> str:
    if "label" in outputs:
        return f"{outputs['label'][row, 0].decode()}\t{float(outputs['score'][row, 0]):.4f}"
    if "entities" in outputs:
        return str(outputs["entities"][row, 0].decode())
    vector = outputs["embedding"][row]
    return f"[{', '.join(f'{value:.4f}' for value in vector[:4])}, …] ({len(vector)} dimensions)"


def main() -> int:
    """Prints one line for each text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", nargs="*", help="texts; without any, one from each line of standard input")
    parser.add_argument("--url", required=True, help="HOST:PORT, port 8001 for gRPC and 8000 for HTTP")
    parser.add_argument("--name", required=True, help="the TransformerDeployment's name")
    parser.add_argument("--http", action="store_true", help="speak HTTP instead of gRPC")
    options = parser.parse_args()
    texts = options.text or [line.rstrip("\n") for line in sys.stdin]
    outputs = ask(options.url, options.name, texts, over_http=options.http)
    for row, text in enumerate(texts):
        print(f"{_line(outputs, row)}\t{text[:70]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
