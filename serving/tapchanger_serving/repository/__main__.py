"""Command line of the init container.

The answer to a failure is one JSON line on standard error; exit code 43 says that the artifact must be built again, 44 that
this node can't run the engine, 1 is for everything else.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tapchanger_serving.contract.names import (
    EXIT_ARTIFACT_DAMAGED,
    EXIT_ENGINE_INCOMPATIBLE,
    REPOSITORY_DIR,
    STORE_DIR,
)
from tapchanger_serving.ending import end_when_told
from tapchanger_serving.hardware import probe
from tapchanger_serving.repository.fetch import at_hand
from tapchanger_serving.repository.fit import IncompatibleError, require_fit
from tapchanger_serving.repository.layout import lay_out
from tapchanger_serving.repository.models import Serving
from tapchanger_serving.repository.verify import ArtifactError, DamagedError, read_manifest


def _at_least(least: int) -> Callable[[str], int]:
    def whole_number(text: str) -> int:
        if (value := int(text)) < least:
            raise argparse.ArgumentTypeError(f"found {text}; write a whole number of at least {least}")
        return value

    return whole_number


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tapchanger_serving.repository", description=__doc__)
    parser.add_argument("--store", default=STORE_DIR, help="the artifact volume, or the URI of a store elsewhere")
    parser.add_argument("--digest", required=True, help="sha256:… of the artifact's manifest")
    parser.add_argument("--name", required=True, help="name of the text model")
    parser.add_argument("--output", type=Path, default=Path(REPOSITORY_DIR), help="the repository to write")
    parser.add_argument("--max-batch", type=_at_least(1), required=True, help="most texts of one batch")
    parser.add_argument("--queue-delay-us", type=_at_least(0), required=True, help="how long a batch waits for more")
    parser.add_argument("--instances", type=_at_least(1), default=1, help="processes that answer texts")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Lays out the repository; returns the exit code."""
    arguments = _arguments(argv)
    serving = Serving(arguments.name, arguments.max_batch, arguments.queue_delay_us, arguments.instances)
    started = time.monotonic()
    try:
        with at_hand(arguments.store, arguments.digest) as store:
            artifact, _ = read_manifest(store, arguments.digest)
            require_fit(artifact, probe())
            configs = lay_out(store, arguments.digest, arguments.output, serving)
    except (ArtifactError, ValueError, OSError) as error:
        print(json.dumps({"level": "error", "msg": str(error), "digest": arguments.digest}), file=sys.stderr)  # noqa: T201
        return _exit_code(error)
    written = {
        "level": "info",
        "msg": "model repository written",
        "digest": arguments.digest,
        "models": [config.name for config in configs],
        "seconds": round(time.monotonic() - started, 3),
    }
    print(json.dumps(written), file=sys.stderr)  # noqa: T201
    return 0


def _exit_code(error: Exception) -> int:
    if isinstance(error, DamagedError):
        return EXIT_ARTIFACT_DAMAGED
    return EXIT_ENGINE_INCOMPATIBLE if isinstance(error, IncompatibleError) else 1


if __name__ == "__main__":
    end_when_told()
    sys.exit(main())
