"""The command line: `python3 -m dev.cluster up|down|status|tools`, from the root of the checkout."""

import argparse
import fcntl
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from dev.cluster import paths as places
from dev.cluster import status as state_of
from dev.cluster import tools
from dev.cluster.down import down
from dev.cluster.errors import ClusterError
from dev.cluster.paths import Paths
from dev.cluster.report import Report
from dev.cluster.up import up


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0 done or healthy, 1 not healthy or failed, 2 wrong usage."""
    options = _parser().parse_args(arguments)
    report = Report()
    try:
        paths = places.from_environment()
        if options.command == "status":
            return _status(paths, options.output)
        with _alone(paths, report):
            if options.command == "tools":
                tools.ensure(paths.home, report)
            elif options.command == "down":
                down(paths, report, purge=options.purge, models=options.models)
            else:
                up(paths, report)
                report.say("the cluster is healthy")
                print(f"export KUBECONFIG={paths.kubeconfig}")
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 -m dev.cluster", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="start the cluster, or repair it; does nothing when it is healthy")
    ending = commands.add_parser("down", help="end the cluster; programs, models and registry data stay")
    ending.add_argument("--purge", action="store_true", help="remove programs and registry data, too")
    ending.add_argument("--models", action="store_true", help="remove the folder of models, too")
    looking = commands.add_parser("status", help="exit 0 only when healthy")
    looking.add_argument("-o", "--output", choices=("text", "json"), default="text")
    commands.add_parser("tools", help="only make the programs")
    return parser


def _status(paths: Paths, output: str) -> int:
    status = state_of.look(paths)
    print(state_of.as_json(status) if output == "json" else state_of.as_text(status))
    return 0 if status.healthy else 1


@contextmanager
def _alone(paths: Paths, report: Report) -> Iterator[None]:
    """Holds the lock file; the kernel lets go of it when this process ends, however it ends."""
    paths.home.mkdir(parents=True, exist_ok=True)
    with paths.lock.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            report.say(f"waiting for another command on this cluster (pid {lock.read().strip() or 'unknown'})")
            fcntl.flock(lock, fcntl.LOCK_EX)
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


if __name__ == "__main__":
    sys.exit(main())
