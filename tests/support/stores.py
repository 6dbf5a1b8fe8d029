"""Real stores and registries for the tests of sources: built once into `$TAPCHANGER_HOME/bin`, started in empty folders."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dev.cluster import lockfile, paths, tools
from dev.cluster.report import Report
from tests.support.patience import PATIENCE
from tests.support.ports import free_ports

LOCK = lockfile.LOCK.with_name("stores.lock.json")
KEY, SECRET = "test-access-key", "test-secret-key-0123456789"


@dataclass(frozen=True)
class Server:
    """A server of this machine, and where it keeps its log."""

    port: int
    log: Path
    host: str = "127.0.0.1"

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://{self.host}:{self.port}"


@contextmanager
def s3_store(folder: Path, host: str = "127.0.0.1") -> Iterator[Server]:
    """An S3 store without buckets at an address of this machine; :data:`KEY` and :data:`SECRET` open it."""
    (port,) = free_ports(1)
    for name in ("objects", "metadata"):
        (folder / name).mkdir(parents=True)
    command = [
        _program("versitygw"), "--port", f"{host}:{port}", "--access", KEY, "--secret", SECRET,
        "posix", "--sidecar", str(folder / "metadata"), str(folder / "objects"),
    ]  # fmt: skip
    with _running(command, Server(port, folder / "log", host)) as server:
        yield server


@contextmanager
def gcs_store(folder: Path) -> Iterator[Server]:
    """Google's storage API without buckets, for anyone."""
    (port,) = free_ports(1)
    folder.mkdir()
    command = [
        _program("fake-gcs-server"), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-backend", "memory",
        "-public-host", f"127.0.0.1:{port}", "-external-url", f"http://127.0.0.1:{port}",
    ]  # fmt: skip
    with _running(command, Server(port, folder / "log")) as server:
        yield server


@contextmanager
def oci_registry(folder: Path, password_file: Path | None = None, *, deletes: bool = False) -> Iterator[Server]:
    """An OCI registry without repositories; `password_file` is what htpasswd writes, for one that asks for a login.

    `deletes`: it lets manifests be removed.
    """
    (port,) = free_ports(1)
    folder.mkdir()
    auth = f"auth: {{htpasswd: {{realm: test, path: {password_file}}}}}\n" if password_file else ""
    config = folder / "config.yml"
    delete = f"delete: {{enabled: {str(deletes).lower()}}}"
    config.write_text(
        f"version: 0.1\nlog: {{level: warn}}\n{auth}"
        f"storage: {{filesystem: {{rootdirectory: {folder}/data}}, {delete}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n"
    )
    # The one that the development cluster installs will do as well.
    program = shutil.which("docker-registry") or _program("registry")
    with _running([program, "serve", str(config)], Server(port, folder / "log")) as server:
        yield server


def _program(name: str) -> str:
    home = paths.from_environment().home
    tools.ensure(home, Report(), LOCK, name)
    return str(home / "bin" / name)


@contextmanager
def _running(command: Sequence[str], server: Server) -> Iterator[Server]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(server.log.parent), "OTEL_TRACES_EXPORTER": "none"}
    with server.log.open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        _wait(process, server)
        yield server
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE)


def _wait(process: subprocess.Popen[bytes], server: Server) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and process.poll() is None:
        try:
            socket.create_connection((server.host, server.port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"{process.args!r} does not answer: {server.log.read_text()[-2000:]}")
