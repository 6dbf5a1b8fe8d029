"""Finds the deployment that a user names, and says what is near where there is none of that name."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from tapchanger_cli.errors import CliError, NotFoundError
from tapchanger_cli.subject import Subject, read

if TYPE_CHECKING:
    from tapchanger_cli.cluster import Cluster


def find(cluster: Cluster, namespace: str, name: str) -> Subject:
    """The deployment `name`. Raises NotFoundError with names that are like it."""
    try:
        return read(cluster.deployment(namespace, name))
    except NotFoundError as problem:
        raise NotFoundError(problem.message, _instead(cluster, namespace, name)) from None


def _instead(cluster: Cluster, namespace: str, name: str) -> str:
    try:
        here = sorted(item["metadata"]["name"] for item in cluster.deployments(namespace))
        if here:
            near = difflib.get_close_matches(name, here, n=3) or here[:10]
            return f"in namespace {namespace} are: {', '.join(near)}"
        elsewhere = [
            f"{item['metadata']['name']} -n {item['metadata']['namespace']}" for item in cluster.deployments(None)
        ]
    except CliError as problem:
        return f"what else there is can't be listed: {problem.message}"
    if not elsewhere:
        return "there is none in any namespace; `kubectl apply` a TransformerDeployment first"
    near = difflib.get_close_matches(name, elsewhere, n=3, cutoff=0.4) or sorted(elsewhere)[:10]
    return f"namespace {namespace} has none; elsewhere are: {', '.join(near)}"
