"""`status`: one screen about the cluster's health."""

import json
from dataclasses import asdict, dataclass

from dev.cluster import host, network, state
from dev.cluster.paths import Paths


@dataclass(frozen=True)
class Line:
    """One process. `state` is up, down or outdated (it runs, but not with today's configuration)."""

    name: str
    state: str
    pid: int | None
    log: str


@dataclass(frozen=True)
class Status:
    """Everything that `status` says; `problems` is empty exactly when the cluster is healthy."""

    healthy: bool
    kubeconfig: str
    node: str
    version: str
    processes: tuple[Line, ...]
    pods_not_ready: tuple[str, ...]
    problems: tuple[str, ...]


def look(paths: Paths) -> Status:
    host.require_root()
    parts = state.wanted(paths)
    alive = state.records(paths, parts)
    current = state.current(parts, alive)
    lines = tuple(
        Line(
            part.name,
            "up" if part.name in current else "outdated" if part.name in alive else "down",
            alive[part.name].pid if part.name in alive else None,
            str(paths.logs / f"{part.name}.log"),
        )
        for part in parts
    )
    node = state.node(paths) if "kube-apiserver" in alive else state.Node("the API server is down", "", ())
    problems = [f"{line.name} is {line.state}" for line in lines if line.state != "up"]
    problems += [text for text in (node.problem, state.service_problem()) if text]
    return Status(
        healthy=not problems,
        kubeconfig=str(paths.kubeconfig),
        node=network.NODE_NAME,
        version=node.version,
        processes=lines,
        pods_not_ready=node.pods_not_ready,
        problems=tuple(problems),
    )


def as_json(status: Status) -> str:
    return json.dumps(asdict(status), indent=2)


def as_text(status: Status) -> str:
    """One screen; at most twenty pods are named."""
    rows = [f"{line.name:<26}{line.state:<10}{line.pid or '-':<9}{line.log}" for line in status.processes]
    pods = status.pods_not_ready
    more = [f"  … and {len(pods) - 20} more"] if len(pods) > 20 else []
    return "\n".join(
        [
            f"{'PROCESS':<26}{'STATE':<10}{'PID':<9}LOG",
            *rows,
            "",
            f"node {status.node}: {status.version or 'unknown'}",
            f"pods not ready: {len(pods)}",
            *(f"  {pod}" for pod in pods[:20]),
            *more,
            *(f"problem: {problem}" for problem in status.problems),
            f"export KUBECONFIG={status.kubeconfig}" if status.healthy else "not healthy: `up` repairs it",
        ]
    )
