"""A real API server with etcd and nothing else: it validates, applies and stores, and no controller acts on what it holds."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import urllib3
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from kubernetes import client

from tapchanger_operator.kube import Kube
from tests.support.ports import free_ports

BIN = Path(os.environ.get("TAPCHANGER_HOME", Path.home() / ".cache" / "tapchanger")) / "bin"
TOKEN = "test-token"
PATIENCE = 60.0


def is_there() -> bool:
    """Whether both programs were built (`make cluster-up` or `python3 -m dev.cluster tools`)."""
    return (BIN / "kube-apiserver").is_file() and (BIN / "etcd").is_file()


@contextmanager
def api_server(folder: Path) -> Iterator[Kube]:
    """A client of an API server that keeps everything below `folder` and ends with the context."""
    etcd_port, peer_port, port = free_ports(3)
    (folder / "tokens.csv").write_text(f'{TOKEN},tester,1,"system:masters"\n')
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "account.key").write_bytes(pem)
    etcd_url, peer_url = f"http://127.0.0.1:{etcd_port}", f"http://127.0.0.1:{peer_port}"
    etcd = [
        BIN / "etcd", "--data-dir", folder / "etcd", "--listen-client-urls", etcd_url, "--advertise-client-urls", etcd_url,
        "--listen-peer-urls", peer_url, "--initial-advertise-peer-urls", peer_url, "--initial-cluster",
        f"default={peer_url}", "--unsafe-no-fsync", "--log-level", "error",
    ]  # fmt: skip
    server = [
        BIN / "kube-apiserver", "--etcd-servers", etcd_url, "--secure-port", str(port), "--bind-address", "127.0.0.1",
        "--endpoint-reconciler-type", "none", "--cert-dir", folder / "certificates", "--token-auth-file",
        folder / "tokens.csv", "--authorization-mode", "RBAC", "--service-cluster-ip-range", "10.255.0.0/24",
        "--service-account-issuer", "https://kubernetes.default.svc", "--service-account-key-file",
        folder / "account.key", "--service-account-signing-key-file", folder / "account.key",
        "--disable-admission-plugins", "ServiceAccount", "--v", "0",
    ]  # fmt: skip
    processes: list[subprocess.Popen[bytes]] = []
    with (folder / "log").open("w") as log:
        try:
            processes.append(subprocess.Popen(list(map(str, etcd)), stdout=log, stderr=log))
            processes.append(subprocess.Popen(list(map(str, server)), stdout=log, stderr=log))
            yield _connected(port, folder / "log", processes)
        finally:
            # What they keep goes with the folder: there is nothing to end in order.
            for process in reversed(processes):
                process.kill()
                process.wait()


def _connected(port: int, log: Path, processes: list[subprocess.Popen[bytes]]) -> Kube:
    """A client, once the server is ready. Raises TimeoutError with the end of its log."""
    settings = client.Configuration()
    settings.host = f"https://127.0.0.1:{port}"
    settings.ssl_ca_cert = str(log.parent / "certificates" / "apiserver.crt")
    settings.api_key = {"authorization": TOKEN, "BearerToken": TOKEN}
    settings.api_key_prefix = {"authorization": "Bearer", "BearerToken": "Bearer"}
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and all(process.poll() is None for process in processes):
        if not Path(settings.ssl_ca_cert).exists():
            time.sleep(0.2)
            continue
        try:
            pool = urllib3.PoolManager(ca_certs=settings.ssl_ca_cert, retries=False)
            answer = pool.request("GET", f"{settings.host}/readyz", headers={"authorization": f"Bearer {TOKEN}"})
        except urllib3.exceptions.HTTPError:
            time.sleep(0.2)
            continue
        if answer.status == 200:
            pool.clear()
            return Kube(client.ApiClient(settings))
        time.sleep(0.2)
    raise TimeoutError(f"the API server did not become ready: {log.read_text()[-2000:]}")
