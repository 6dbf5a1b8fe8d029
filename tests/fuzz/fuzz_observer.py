"""Fuzzes what the observer reads, spans and feedback in logs: real payloads with bytes changed, and hypothesis' odd ones.

`--cases` and `--minutes` set it, `--seed` repeats a run. A payload that ends in an error other than a refusal is written to
`fuzz-failure.bin` below the temporary folder, and the program ends with 1. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings

from tests.bench.payloads import feedback_payloads, router_payloads, triton_payloads
from tests.support import hostile_otlp
from tests.support.hostile_otlp import NOW
from tests.support.receiver import Receiver

MOST_MIB = 400
"""What the process may hold in memory; it begins with about 100."""
TOKENS = (
    b"NaN", b"-Infinity", b"1e999", b"null", b"[]", b"{}", b"[[[[", b'"', b"\\u0000", b"\\ud800", b"-1", b"9" * 25,
    b"\xff\xff\xff\xff\x0f", b"\x00", b"\x0a\xff\x01", b"\x80" * 10, b"true", b"18446744073709551616", b"\xc3\x28",
)  # fmt: skip


def seeds() -> tuple[list[bytes], list[bytes], list[bytes], list[bytes]]:
    """Real payloads, small enough to try many: protobuf of routers, JSON of servers, and logs in both."""
    spans = [("b", "r", NOW - 1, 0.01), ("b", "r", NOW - 2, 0.2)]
    protobuf = [next(router_payloads(spans[:count])) for count in (1, 2)]
    whole = json.loads(next(triton_payloads(64, NOW)))
    scope = whole["resourceSpans"][0]["scopeSpans"][0]
    texts = []
    for count in (1, 3):
        cut = {
            **whole,
            "resourceSpans": [{**whole["resourceSpans"][0], "scopeSpans": [{"spans": scope["spans"][:count]}]}],
        }
        texts.append(json.dumps(cut).encode())
    return protobuf, texts, *feedback_payloads((1, 3))


def mutated(rng: random.Random, body: bytes) -> bytes:
    """`body` with a few changes, mostly one: with many, little would get past the decoders."""
    changed = bytearray(body)
    for _ in range(rng.choice((1, 1, 1, 2, 6))):
        place, size = rng.randrange(len(changed) + 1), rng.choice((1, 1, 1, 2, 8, 64))
        way = rng.choice((0, 0, 0, 1, 2, 3, 4))
        if way == 0:
            changed[place : place + size] = rng.randbytes(size)
        elif way == 1:
            del changed[place : place + size]
        elif way == 2:
            changed[place:place] = rng.choice(TOKENS)
        elif way == 3:
            changed[place:place] = changed[place : place + size] * rng.choice((1, 2, 200))
        else:
            changed[place : place + size] = rng.choice(TOKENS)
    return bytes(changed)


def rss_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class Run:
    """Counts cases until there are enough or the time is over."""

    def __init__(self, cases: int, seconds: float) -> None:
        self.receiver = Receiver(NOW)
        self.cases = 0
        self._most = cases
        self._until = time.monotonic() + seconds

    def over(self) -> bool:
        return self.cases >= self._most or time.monotonic() > self._until

    def try_one(self, take: Callable[[bytes], None], body: bytes) -> None:
        self.cases += 1
        try:
            take(body)
            if self.cases % 10_000 == 0:
                self.receiver.ask()
                assert rss_mib() < MOST_MIB, f"{rss_mib():.0f} MiB after {self.cases} cases"
        except BaseException:
            path = Path(tempfile.gettempdir()) / "fuzz-failure.bin"
            path.write_bytes(body)
            print(f"case {self.cases}, by {take.__name__}: the payload is in {path}", file=sys.stderr)
            raise


def of_hypothesis(run: Run, examples: int) -> None:
    """Payloads of the right shape with odd fields, which no change of bytes would find."""
    bounds = settings(
        max_examples=examples,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    bounds(given(hostile_otlp.as_json())(lambda body: run.try_one(run.receiver.take_json, body)))()
    bounds(given(hostile_otlp.as_protobuf())(lambda body: run.try_one(run.receiver.take_protobuf, body)))()
    bounds(given(hostile_otlp.logs_as_json())(lambda body: run.try_one(run.receiver.take_json_logs, body)))()
    bounds(given(hostile_otlp.logs_as_protobuf())(lambda body: run.try_one(run.receiver.take_protobuf_logs, body)))()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1_000_000)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    random.seed(options.seed)
    protobuf, texts, protobuf_logs, json_logs = seeds()
    run = Run(options.cases, 60 * options.minutes)
    began = time.monotonic()
    of_hypothesis(run, min(5_000, options.cases // 100))
    while not run.over():
        run.try_one(run.receiver.take_protobuf, mutated(rng, rng.choice(protobuf)))
        text = mutated(rng, rng.choice(texts))
        run.try_one(run.receiver.take_json, text)
        if run.cases % 4 == 0:
            run.try_one(run.receiver.take_protobuf_logs, mutated(rng, rng.choice(protobuf_logs)))
            run.try_one(run.receiver.take_json_logs, mutated(rng, rng.choice(json_logs)))
        if run.cases % 20 == 0:
            body = gzip.compress(text, 1)
            run.try_one(lambda packed: run.receiver.take_packed("gzip", packed), mutated(rng, body))
    account = run.receiver.ingest.account
    result = {
        "cases": run.cases,
        "payloads_refused": run.receiver.refused,
        "spans": sum(account.received.values()),
        "spans_refused": sum(account.refused.values()),
        "feedback": dict(run.receiver.feedback),
        "seconds": round(time.monotonic() - began, 1),
        "rss_mib": round(rss_mib(), 1),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
