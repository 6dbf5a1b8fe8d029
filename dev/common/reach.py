"""How requests get from this machine to a router inside the cluster."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from dev.common.deployment import Deployment
from dev.common.waiting import until
from tapchanger_serving.contract.names import GRPC_PORT, HTTP_PORT


@contextmanager
def reached(deployment: Deployment, *, own: bool) -> Iterator[tuple[str, str]]:
    """gRPC's HOST:PORT and HTTP's URL of the router's Service.

    This machine's own cluster: the Service's own address, as the node is this machine. Else through `kubectl port-forward`, which
    ends at one of the routers.
    """
    if own:
        yield deployment.address()
        return
    grpc, http = _free_port(), _free_port()
    words = (
        "port-forward",
        "-n",
        deployment.namespace,
        f"service/{deployment.name}",
        f"{grpc}:{GRPC_PORT}",
        f"{http}:{HTTP_PORT}",
    )
    process = subprocess.Popen(
        deployment.kubectl.command(*words), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        until("kubectl port-forward", lambda: _listens(grpc) and _listens(http), 20, every=0.2)
        yield f"127.0.0.1:{grpc}", f"http://127.0.0.1:{http}"
    finally:
        process.terminate()
        process.wait()


def _free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return int(opened.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as opened:
        opened.settimeout(0.5)
        return opened.connect_ex(("127.0.0.1", port)) == 0
