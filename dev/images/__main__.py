"""Command line: `python3 -m dev.images build [--target NAME…] [--registry HOST[:PORT][/PREFIX]] [--build-arg NAME=VALUE…]`."""

from __future__ import annotations

import argparse
import fcntl
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from dev.images import base, records, registry
from dev.images.buildah import Buildah, BuildError
from dev.images.targets import TARGETS, content_key

ROOT = Path(__file__).resolve().parents[2]
REGISTRY = "localhost:5000/tapchanger"


def say(started: float, text: str) -> None:
    """One line of progress on standard error."""
    print(f"[{time.monotonic() - started:6.1f}s] {text}", file=sys.stderr, flush=True)


def build(targets: list[str], where: str, arguments: Mapping[str, str], home: records.Home) -> None:
    """Builds and pushes those of `targets` whose content changed or that the registry lost."""
    started = time.monotonic()
    buildah = Buildah(home.cache, home.folder / "logs")
    known = home.records()
    for target in targets:
        name = f"{where}/{target}"
        if _unchanged(target, name, known.get(target), arguments, home):
            say(started, f"{target}: unchanged")
            continue
        say(started, f"{target}: building")
        system = base.ensure(buildah, home)
        key = content_key(ROOT, TARGETS[target], system.origin, arguments)
        tag = f"localhost/tapchanger/{target}:built"
        buildah.build(ROOT, target, tag, {"BASE_IMAGE": system.reference, **arguments})
        say(started, f"{target}: pushing")
        digest = buildah.push(target, tag, name, secure=not registry.is_local(where))
        known[target] = records.Record(key, f"{name}@{digest}")
        home.write_records(known)
    home.write_records(known)
    say(started, f"references are in {home.images}")


def _unchanged(
    target: str, name: str, record: records.Record | None, arguments: Mapping[str, str], home: records.Home
) -> bool:
    """Whether the last build's image is of this content, at this name, and still in the registry."""
    system = home.base()
    if system is None or record is None or not record.reference.startswith(f"{name}@"):
        return False
    return record.key == content_key(ROOT, TARGETS[target], system.origin, arguments) and registry.has(record.reference)


def _argument(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not name or not separator:
        raise argparse.ArgumentTypeError(f"found {text!r}; write NAME=VALUE")
    return name, value


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python3 -m dev.images", description=__doc__)
    command = parser.add_subparsers(dest="command", required=True).add_parser(
        "build", help="build and push what changed"
    )
    command.add_argument("--target", action="append", choices=sorted(TARGETS), help="only this one; may be repeated")
    command.add_argument("--registry", default=REGISTRY, help=f"where to push, by default {REGISTRY}")
    command.add_argument("--build-arg", action="append", type=_argument, default=[], help="as the Dockerfile describes")
    chosen = parser.parse_args(argv)
    home = records.home()
    home.folder.mkdir(parents=True, exist_ok=True)
    with (home.folder / ".lock").open("w") as lock:
        # Two builds at once would do the same work twice and overwrite each other's records.
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            build(chosen.target or list(TARGETS), chosen.registry.rstrip("/"), dict(chosen.build_arg), home)
        except (BuildError, OSError) as error:
            print(error, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
