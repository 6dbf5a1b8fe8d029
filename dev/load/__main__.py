"""Command line of the load: writes a line when it starts, then one line of JSON for each request that has ended.

It stops at the plan's end, on SIGINT and SIGTERM, and, with `--plan -`, at the end of standard input.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from dev.load.clients import client
from dev.load.plan import LONGEST_SECONDS, Plan
from dev.load.records import Record, Records
from dev.load.sender import send


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one load and prints a summary to standard error."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        plan = Plan.loads(sys.stdin.readline()) if options.plan else _plan(options)
    except (ValueError, OSError) as problem:
        parser.error(str(problem))
    records = asyncio.run(_run(plan, follow_input=bool(options.plan)))
    print(json.dumps(records.summary()), file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m dev.load", description="Steady requests to a served model.")
    parser.add_argument("--plan", choices=["-"], help="read everything from a line of JSON on standard input")
    parser.add_argument("--address", default="127.0.0.1:8001", help="HOST:PORT (default: %(default)s)")
    parser.add_argument("--protocol", choices=["grpc", "grpc-stream", "http"], default="grpc")
    parser.add_argument("--model", help="name of the TransformerDeployment")
    parser.add_argument("--texts", type=Path, help="a JSON list of texts, or one text a line")
    parser.add_argument("--rate", type=float, default=20.0, help="requests a second (default: %(default)s)")
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument(
        "--seconds", type=float, default=60.0, help=f"at most {LONGEST_SECONDS:.0f} (default: %(default)s)"
    )
    parser.add_argument("--limit", type=int, help="at most so many requests")
    parser.add_argument("--patience", type=float, default=30.0, help="seconds until a request has failed")
    parser.add_argument("--arrivals", choices=["even", "poisson"], default="even")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mark", default="", help="what marked texts carry at their end")
    parser.add_argument(
        "--marked", type=float, default=0.0, help="the part of the texts that is marked (default: none)"
    )
    parser.add_argument("--user-header", default="", help="send each text as a user of its own, named in this header")
    parser.add_argument("--allow-remote", action="store_true", help="also send to other machines and to Services")
    return parser


def _plan(options: argparse.Namespace) -> Plan:
    if not options.model or not options.texts:
        raise ValueError("--model and --texts are needed")
    content = options.texts.read_text(encoding="utf-8")
    texts = json.loads(content) if options.texts.suffix == ".json" else content.splitlines()
    given = {**vars(options), "texts": tuple(texts)}
    return Plan(**{field.name: given[field.name] for field in fields(Plan)})


async def _run(plan: Plan, *, follow_input: bool) -> Records:
    stop, loop, noted = asyncio.Event(), asyncio.get_running_loop(), list[Record]()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if follow_input:
        threading.Thread(target=_stop_at_end_of_input, args=(loop, stop), daemon=True).start()

    def note(record: Record) -> None:
        noted.append(record)
        print(record.line(), flush=True)

    async with client(plan) as sending:
        print(json.dumps({"address": plan.address, "rate": plan.rate}), flush=True)
        await send(plan, sending, stop, note)
    return Records.of(noted)


def _stop_at_end_of_input(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    sys.stdin.read()
    if not loop.is_closed():
        loop.call_soon_threadsafe(stop.set)


if __name__ == "__main__":
    main()
