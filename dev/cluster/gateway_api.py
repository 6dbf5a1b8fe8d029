"""The Gateway API's definitions, as its makers publish them: read from its Go module, proven by digest, put on a cluster.

Only definitions: no gateway comes with them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Protocol

from dev.cluster import golang
from dev.cluster.report import Report

MODULE: Final = "sigs.k8s.io/gateway-api"
VERSION: Final = "v1.6.3"
DIGEST: Final = "h1:lKpJa5bGlraC/QeACvCpsHLdmO6y0iKfzVl6gzaFEYc="
PLURALS: Final = ("gatewayclasses", "gateways", "httproutes", "grpcroutes", "referencegrants")


class Kubectl(Protocol):
    """Runs `kubectl WORDS`; raises where it fails."""

    def __call__(self, *words: str, seconds: float = 60.0) -> str: ...


def definitions(home: Path, report: Report) -> tuple[Path, ...]:
    """The files of the standard channel that routes need.

    Raises:
        ClusterError: the module can't be downloaded, or is another one.
    """
    folder = golang.find(home, report).module(MODULE, VERSION, DIGEST) / "config" / "crd" / "standard"
    return tuple(folder / f"gateway.networking.k8s.io_{plural}.yaml" for plural in PLURALS)


def install(kubectl: Kubectl, files: tuple[Path, ...]) -> None:
    """Puts the definitions on the cluster and waits until they are served."""
    kubectl("apply", "--server-side", "--force-conflicts", *[f"--filename={file}" for file in files])
    names = [f"crd/{plural}.gateway.networking.k8s.io" for plural in PLURALS]
    kubectl("wait", "--for=condition=Established", "--timeout=60s", *names, seconds=70.0)


def remove(kubectl: Kubectl) -> None:
    """Removes the definitions and every route; those that are not there count as removed."""
    names = [f"{plural}.gateway.networking.k8s.io" for plural in PLURALS]
    kubectl("delete", "crd", "--ignore-not-found", "--timeout=60s", *names, seconds=70.0)
