"""The real Triton hands the consent header to its models, over HTTP and gRPC, and the text goes to the sidecar's socket."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.grpc as grpc

from dev.cluster import paths
from tapchanger_serving.contract.capture import ENV_SAMPLING, Sampling
from tapchanger_serving.launcher.arguments import translate
from tests.bench.drift.texts import pip
from tests.support.golden import ROOT
from tests.support.patience import PATIENCE
from tests.support.ports import free_ports

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
CONFIG = """
name: "echo"
backend: "python"
max_batch_size: 4
input { name: "x" data_type: TYPE_INT32 dims: [1] }
output { name: "x" data_type: TYPE_INT32 dims: [1] }
"""
MODEL = """
import sys
sys.path += {paths!r}
import triton_python_backend_utils as pb_utils
from tapchanger_serving.backends.batch import Texts
from tapchanger_serving.backends.capture import Capturer

class TritonPythonModel:
    def initialize(self, arguments):
        self.capturer = Capturer.from_environment()

    def execute(self, requests):
        for request in requests:
            self.capturer.offer(request.parameters(), Texts(("a text",)), {{}})
        tensors = [pb_utils.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("x", tensor)]) for tensor in tensors]
"""

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="Triton's wheel is for x86_64")


@dataclass(frozen=True)
class Triton:
    """A server with the model `echo`, which offers a text of each request; `line` is the sidecar's end."""

    http: int
    grpc: int
    line: socket.socket

    def taken(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.line.recv(1 << 20))
        return found

    def ask(self, **headers: str) -> None:
        tensor = {"name": "x", "datatype": "INT32", "shape": [1, 1], "data": [1]}
        body = {"inputs": [tensor], "outputs": [{"name": "x"}]}
        answer = httpx.post(
            f"http://127.0.0.1:{self.http}/v2/models/echo/infer", json=body, headers=headers, timeout=PATIENCE
        )
        assert answer.is_success, answer.text


def wheels() -> Path:
    """Triton's wheel and the NumPy that its Python reads, as the server's image has them."""
    folder = paths.from_environment().home / "cache" / "triton-wheel"
    if not folder.exists():
        part = folder.with_name(f".part-{os.getpid()}")
        numpy = re.search(r"^numpy==.*?(?=^\S)", (ROOT / "requirements/server.txt").read_text(), re.M | re.S)
        part.mkdir(parents=True)
        (part / "numpy.txt").write_text(numpy[0] if numpy else "")
        for pinned in (ROOT / "requirements/triton.txt", part / "numpy.txt"):
            words = ["install", "--quiet", "--no-deps", "--require-hashes", "--target", str(part), "-r", str(pinned)]
            subprocess.run([*pip(), *words], check=True)
        part.rename(folder)
    return folder


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    folder, wheel = tmp_path_factory.mktemp("triton"), wheels()
    server = wheel / "pytriton" / "tritonserver"
    backend = folder / "backends" / "python"
    shutil.copytree(server / "backends" / "python", backend)
    stub = backend / "triton_python_backend_stub"
    shutil.copy(server / "python_backend_stubs" / f"3.{sys.version_info.minor}" / stub.name, stub)
    for program in (stub, server / "bin" / "tritonserver"):
        program.chmod(0o755)
    for name in ("numpy", "numpy.libs"):
        (backend / name).symlink_to(wheel / name)
    (folder / "models" / "echo" / "1").mkdir(parents=True)
    (folder / "models" / "echo" / "config.pbtxt").write_text(CONFIG)
    found = [str(ROOT / "serving"), sysconfig.get_paths()["purelib"]]
    (folder / "models" / "echo" / "1" / "model.py").write_text(MODEL.format(paths=found))
    line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    line.bind(str(folder / "texts.sock"))
    line.settimeout(PATIENCE)
    sampling = Sampling(revision="aaaa", share=1.0, per_minute=6000, socket=str(folder / "texts.sock"))
    environment = {
        **os.environ,
        ENV_SAMPLING: sampling.dumps(),
        "LD_LIBRARY_PATH": f"{sysconfig.get_config_var('LIBDIR')}:{wheel / 'nvidia_pytriton.libs'}",
    }
    http, grpc_port, metrics = free_ports(3)
    given = [
        f"--model-repository={folder / 'models'}",
        f"--backend-directory={folder / 'backends'}",
        f"--http-port={http}",
        f"--grpc-port={grpc_port}",
        f"--metrics-port={metrics}",
    ]
    command = [str(server / "bin" / "tritonserver"), *translate(given, environment).arguments]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        _wait(process, http, folder / "log")
        yield Triton(http, grpc_port, line)
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE)
        line.close()


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and process.poll() is None:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/v2/health/ready").is_success:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    raise RuntimeError(f"Triton does not answer: {log.read_text()[-3000:]}")


def test_a_consent_by_http_is_understood_whatever_its_case(triton: Triton) -> None:
    triton.ask(**{"X-Capture-Consent": "Granted", "x-request-start": "t=1.0", "Traceparent": TRACEPARENT})
    assert {key: value for key, value in triton.taken().items() if key != "time"} == {
        "id": TRACE,
        "text": "a text",
        "lost": {},
    }


def test_a_consent_by_grpc_is_understood(triton: Triton) -> None:
    tensor = grpc.InferInput("x", [1, 1], "INT32")
    tensor.set_data_from_numpy(np.array([[1]], dtype=np.int32))
    client = grpc.InferenceServerClient(f"127.0.0.1:{triton.grpc}")
    client.infer("echo", [tensor], headers={"x-capture-consent": "granted", "x-request-start": "t=1.0"})
    client.close()
    assert triton.taken()["text"] == "a text"


def test_a_request_that_grants_nothing_is_only_counted(triton: Triton) -> None:
    triton.ask(**{"x-capture-consent": "denied", "x-request-start": "t=1.0"})
    assert triton.taken() == {"lost": {"noConsent": 1}}
    triton.ask(**{"x-request-start": "t=1.0"})
    assert triton.taken() == {"lost": {"noConsent": 1}}
