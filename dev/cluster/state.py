"""Looks at the machine: which components run, and whether the cluster answers as it should."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dev.cluster import api, components, config, lockfile, network, processes, tools
from dev.cluster.components import Component
from dev.cluster.errors import ClusterError
from dev.cluster.paths import Paths


@dataclass(frozen=True)
class Node:
    """What the API server says. `problem` is empty when the API answers and the node is Ready."""

    problem: str
    version: str
    pods_not_ready: tuple[str, ...]


def wanted(paths: Paths) -> tuple[Component, ...]:
    """The components as they should run on this machine."""
    servers = config.name_servers(Path("/etc/resolv.conf").read_text()) if Path("/etc/resolv.conf").exists() else ()
    outside = tuple(server for server in servers if server not in (network.NODE_IP, network.DNS_SERVICE_IP))
    return components.all_components(paths, outside)


def recipe(component: Component, programs: Mapping[str, str]) -> str:
    """A digest of a component's command and files, and of its program's recipe in `programs` (name to recipe)."""
    program = programs.get(Path(component.argv[0]).name, "")
    return hashlib.sha256(repr((component, program)).encode()).hexdigest()


def recipes(parts: Sequence[Component]) -> dict[str, str]:
    """Every component's recipe by its name, as the lock file and this package want it now."""
    programs = {tool.name: lockfile.recipe(tool) for tool in lockfile.load(platform=tools.this_platform())}
    return {part.name: recipe(part, programs) for part in parts}


def records(paths: Paths, parts: Sequence[Component]) -> dict[str, processes.Record]:
    """The records of those components that run now, whatever their recipe."""
    found = {part.name: processes.read_record(paths.run, part.name) for part in parts}
    return {name: record for name, record in found.items() if record is not None and processes.is_alive(record)}


def current(parts: Sequence[Component], alive: Mapping[str, processes.Record]) -> frozenset[str]:
    """The names of components that run as they should."""
    return frozenset(name for name, text in recipes(parts).items() if name in alive and alive[name].recipe == text)


def node(paths: Paths) -> Node:
    """Asks the API server; an unreachable one is an answer, too."""
    try:
        client = api.connect(paths)
        nodes = client.get("/api/v1/nodes")["items"]
        pods = client.get("/api/v1/pods")["items"]
    except (api.UnreachableError, ClusterError, OSError) as error:
        return Node(f"the API server does not answer: {error}", "", ())
    ours = [item for item in nodes if item["metadata"]["name"] == network.NODE_NAME]
    if not ours:
        return Node(f"node {network.NODE_NAME} is not registered", "", ())
    status = ours[0]["status"]
    ready = condition(status, "Ready")
    problem = "" if ready == "True" else f"node {network.NODE_NAME} has Ready={ready}"
    return Node(problem, status["nodeInfo"]["kubeletVersion"], tuple(p for p in map(pod_problem, pods) if p))


def pod_problem(pod: Mapping[str, Any]) -> str:
    """`NAMESPACE/NAME: REASON` of a pod that is neither Ready nor finished, else an empty text."""
    metadata, status = pod["metadata"], pod.get("status", {})
    if status.get("phase") == "Succeeded" or condition(status, "Ready") == "True":
        return ""
    reasons = [
        state["waiting"]["reason"]
        for container in status.get("containerStatuses", [])
        if "waiting" in (state := container.get("state", {})) and "reason" in state["waiting"]
    ]
    return f"{metadata['namespace']}/{metadata['name']}: {', '.join(reasons) or status.get('phase', 'Unknown')}"


def condition(status: Mapping[str, Any], kind: str) -> str:
    """The status of a condition: True, False or Unknown."""
    found = (c["status"] for c in status.get("conditions", []) if c["type"] == kind)
    return str(next(found, "Unknown"))


def service_problem() -> str:
    """Whether DNS and the registry listen, asked with plain connections; an empty text when they do."""
    for address, port, name in ((network.NODE_IP, 53, "coredns"), ("127.0.0.1", network.REGISTRY_PORT, "registry")):
        if not processes.answers(address, port):
            return f"{name} does not answer on {address}:{port}"
    return ""
