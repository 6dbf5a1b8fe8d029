"""Asks a classifier that tapchanger serves, and tells the observer later what the true labels were.

    python examples/feedback/feedback.py --url http://10.96.0.12:8000 --name moderation --observer http://10.96.0.20:4319 \
        --token /var/run/secrets/observer/token --after 60 --slice source=test evaluation.csv

The file has the columns `text` and `label`. Each text is one request with a trace id of its own, which is all that has to be kept
until its label is known; here that is `--after` seconds. Needs nothing but Python.
"""

from __future__ import annotations

import argparse
import csv
import json
import secrets
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MOST = 1000
"""Labels that the observer takes at a time."""


@dataclass(frozen=True)
class Answer:
    """What was answered, and the trace id by which its label will be sent."""

    trace_id: str
    label: str
    score: float
    revision: str | None


def ask(url: str, name: str, text: str, seconds: float = 30.0) -> Answer:
    """Ask about one text, at `url` (http://HOST:PORT).

    A client that is traced already has the trace id in its own span: with OpenTelemetry,
    `format(trace.get_current_span().get_span_context().trace_id, "032x")`. Over gRPC the same header goes as metadata.
    Raises urllib.error.URLError.
    """
    trace_id = secrets.token_hex(16)
    tensor = {"name": "text", "datatype": "BYTES", "shape": [1, 1], "data": [text]}
    request = urllib.request.Request(
        f"{url}/v2/models/{name}/infer",
        data=json.dumps({"inputs": [tensor]}).encode(),
        headers={"content-type": "application/json", "traceparent": f"00-{trace_id}-{secrets.token_hex(8)}-01"},
    )
    with urllib.request.urlopen(request, timeout=seconds) as response:
        outputs = {output["name"]: output["data"] for output in json.load(response)["outputs"]}
        revision = response.headers.get("x-tapchanger-revision")
    return Answer(trace_id, str(outputs["label"][0]), float(outputs["score"][0]), revision)


def entry(
    namespace: str, name: str, answer: Answer, label: str, slices: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The label of one answer.

    `answered` and `confidence` are needed where the observer has no span of the server, since of busy servers it sees a sample.
    """
    return {
        "namespace": namespace,
        "deployment": name,
        "id": answer.trace_id,
        "label": label,
        "answered": answer.label,
        "confidence": answer.score,
        "slices": dict(slices or {}),
    }


def send(observer: str, token: str, entries: Sequence[Mapping[str, Any]], seconds: float = 30.0) -> dict[str, Any]:
    """Send labels to the observer at `observer` (http://HOST:PORT): how many counted, and in `refused` which didn't and why.

    `token` is a token of a service account of the deployment's namespace, for the audience `tapchanger-observer`.
    Raises urllib.error.URLError.
    """
    total: dict[str, Any] = {"counted": 0, "duplicates": 0, "refused": []}
    for start in range(0, len(entries), MOST):
        request = urllib.request.Request(
            f"{observer}/v1/feedback",
            data=json.dumps(list(entries[start : start + MOST])).encode(),
            headers={"content-type": "application/json", "authorization": f"Bearer {token}"},
        )
        try:
            with urllib.request.urlopen(request, timeout=seconds) as response:
                found = json.load(response)
        except urllib.error.HTTPError as problem:
            if problem.code not in (404, 422):
                raise
            found = json.load(problem)  # none of these counted
        total["counted"] += found.get("counted", 0)
        total["duplicates"] += found.get("duplicates", 0)
        total["refused"] += found.get("refused", [])
    return total


def main(arguments: Sequence[str] | None = None) -> int:
    """Asks about every text, waits, and sends the labels; 1 where somebody refused or could not be reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="CSV with the columns text and label")
    parser.add_argument(
        "--url", default="http://localhost:8000", help="the model, http://HOST:PORT (default: %(default)s)"
    )
    parser.add_argument("--observer", default="http://localhost:4319", help="the observer (default: %(default)s)")
    parser.add_argument("--namespace", default="default", help="the deployment's namespace (default: %(default)s)")
    parser.add_argument("--name", required=True, help="the TransformerDeployment's name")
    parser.add_argument("--token", type=Path, required=True, help="file with the token for the observer")
    parser.add_argument("--after", type=float, default=0.0, help="seconds until the labels are known (default: 0)")
    parser.add_argument(
        "--slice", action="append", default=[], metavar="NAME=VALUE", help="what these texts have in common"
    )
    options = parser.parse_args(arguments)
    slices = dict(one.split("=", 1) for one in options.slice if "=" in one)
    with options.file.open(encoding="utf-8", newline="") as file:
        rows = [(row["text"], row["label"]) for row in csv.DictReader(file)]
    try:
        answers = [ask(options.url, options.name, text) for text, _ in rows]
        time.sleep(options.after)
        entries = [
            entry(options.namespace, options.name, answer, label, slices)
            for answer, (_, label) in zip(answers, rows, strict=True)
        ]
        told = send(options.observer, options.token.read_text().strip(), entries)
    except urllib.error.HTTPError as problem:
        print(f"{problem.url}: HTTP {problem.code}: {problem.read().decode()}", file=sys.stderr)
        return 1
    except urllib.error.URLError as problem:
        print(f"nobody answered: {problem.reason}", file=sys.stderr)
        return 1
    right = sum(answer.label == label for answer, (_, label) in zip(answers, rows, strict=True))
    print(f"{right} of {len(rows)} right; {told['counted']} labels counted, {len(told['refused'])} refused")
    for one in told["refused"][:5]:
        print(f"{one['id']}: {one['why']}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
