"""Tries a tokenizer in a process of its own, bounded in time and memory: `python -m tapchanger_serving.build.vocabulary`.

A tokenizer.json is a program: its patterns may backtrack without end, its normalizer may make much of little, its ids may
lie beyond the embedding. It is tried before anything else reads it.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tapchanger_serving.build import log
from tapchanger_serving.build.failures import StepError
from tapchanger_serving.build.files import invalid, present, read_json, shown

TOKENIZER = "tokenizer.json"
CPU_SECONDS = 10
_PATIENCE_SECONDS = 180
"""On a machine that has other things to do, CPU time passes slowly."""
_MEMORY = 1 << 30
_LENGTH = 300
_REMEDY = "give the tokenizer.json that save_pretrained wrote with these weights"
_RUNS = ("a", " ", "1", "-", "\n", "é", "漢", "aB", "a ", "a1", "a-", "\u200d", "\U0001f600", "'s ")
"""Each is repeated: patterns that backtrack do so on runs, with or without an end that doesn't fit."""


def try_tokenizer(file: Path, rows: int | None, max_tokens: int) -> None:
    """Tokenizes hard texts with `file`, in at most 10 s of CPU time and 1 GiB.

    `rows` is how many rows the embedding has, as far as that is known. Raises `CheckpointInvalid` where the file can't be
    read, takes longer or more, gives ids from `rows` on, or tokens of its own that fill all of `max_tokens`.
    """
    order = {"file": str(file), "max_tokens": max_tokens, "rows": rows}
    command = [sys.executable, "-m", __name__, json.dumps(order)]
    environment = os.environ | {"TOKENIZERS_PARALLELISM": "false", "RUST_BACKTRACE": "0"}
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            timeout=_PATIENCE_SECONDS,
            check=False,
            env=environment,
            text=True,
            errors="replace",
        )
    except subprocess.TimeoutExpired as error:
        raise _endless() from error
    if done.returncode == -signal.SIGXCPU:
        raise _endless()
    if done.returncode == 0:
        found = json.loads(done.stdout)
        if "refused" not in found:
            return
        raise invalid(found["refused"], _REMEDY)
    said = done.stderr.strip().splitlines()
    detail = shown(said[-1]) if said else f"the process that tried it ended with {done.returncode}"
    raise invalid(f"tokenizer.json can't be used: {detail}", _REMEDY)


def _endless() -> StepError:
    return invalid(
        f"tokenizer.json needs more than {CPU_SECONDS} s for {4 * len(_RUNS)} texts of {_LENGTH} characters",
        f"look for a pattern that backtracks, such as (a+)+, in its normalizer and pre_tokenizer; {_REMEDY}",
    )


def of_transformers(folder: Path) -> Any:
    """The tokenizer that transformers makes of a checkpoint; errors of its files are whatever transformers raises.

    Raises `CheckpointInvalid` where it would read files that lie elsewhere.
    """
    settings = read_json(folder, "tokenizer_config.json") if present(folder, "tokenizer_config.json") else {}
    elsewhere = sorted(key for key, value in settings.items() if key.endswith("_file") and value)
    if elsewhere:
        raise invalid(
            f"tokenizer_config.json has {shown(', '.join(elsewhere))}, which names files outside the checkpoint",
            f"remove {shown(', '.join(elsewhere))} from tokenizer_config.json",
        )
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)


def make_tokenizer(folder: Path, target: Path) -> None:
    """Makes tokenizer.json at `target` from a checkpoint's older vocabulary files.

    Raises `CheckpointInvalid` where transformers can't read them, or where they would have it read files that lie elsewhere.
    """
    try:
        tokenizer = of_transformers(folder)
    except StepError:
        raise
    except Exception as error:  # transformers raises whatever a strange file makes it run into
        raise invalid(
            f"the vocabulary files make no tokenizer: {type(error).__name__}: {shown(error)}", _REMEDY
        ) from error
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise invalid(f"{type(tokenizer).__name__} has no fast form, so no tokenizer.json can be made from it", _REMEDY)
    backend.save(str(target))
    log.info("made the tokenizer from older files", kind=type(tokenizer).__name__)


def _tried(file: Path, rows: int | None, max_tokens: int) -> str | None:
    """What is wrong with the tokenizer, in words."""
    from tapchanger_serving.engines.text import Tokenizer

    tokenizer = Tokenizer(file, ("input_ids",), max_tokens)
    if rows is not None and tokenizer.largest_id() >= rows:
        return f"tokenizer.json gives ids up to {tokenizer.largest_id()}, and the embedding has {rows} rows"
    own = len(tokenizer.tokenize([""], offsets=False)[0])
    if own >= max_tokens:
        return f"tokenizer.json puts {own} tokens around an empty text, and the model takes {max_tokens}"
    for run in _RUNS:
        text = (run * _LENGTH)[:_LENGTH]
        tokenizer.tokenize([text, text + "!"], [text, text], offsets=False)
    return None


def _main(order: dict[str, object]) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    rows = order["rows"]
    refused = _tried(Path(str(order["file"])), None if rows is None else int(str(rows)), int(str(order["max_tokens"])))
    sys.stdout.write(json.dumps({} if refused is None else {"refused": refused}))


if __name__ == "__main__":
    _main(json.loads(sys.argv[1]))
