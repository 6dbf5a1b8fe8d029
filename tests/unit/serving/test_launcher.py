"""Triton's own tracer is never on, and a container whose model died does not go on as if it were ready."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tapchanger_serving.launcher.__main__ import watch
from tapchanger_serving.launcher.arguments import translate
from tapchanger_serving.launcher.processes import stubs

URL = "http://observer:4318/v1/traces"
TRACED = [
    "--trace-config=mode=opentelemetry",
    "--trace-config",
    "rate=10",
    f"--trace-config=opentelemetry,url={URL}",
    "--trace-config=opentelemetry,resource=tapchanger.deployment=moderation",
    "--trace-config=opentelemetry,resource=tapchanger.revision=a,b=c",
]


def test_tracing_becomes_the_environment_of_our_own_tracer_and_never_tritons() -> None:
    launch = translate(["--http-port=8000", *TRACED, "--grpc-port", "8001"])
    assert launch.arguments[:3] == ("--http-port=8000", "--grpc-port", "8001")
    assert not any("trace" in argument for argument in launch.arguments[:3])
    assert launch.environment["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] == URL
    assert launch.environment["OTEL_TRACES_SAMPLER_ARG"] == "0.1"
    assert launch.environment["OTEL_RESOURCE_ATTRIBUTES"] == (
        "tapchanger.deployment=moderation,tapchanger.revision=a%2Cb%3Dc"
    )


def test_triton_hands_the_headers_of_a_span_to_its_models() -> None:
    forwarding = translate(TRACED).arguments
    assert forwarding == (
        "--grpc-header-forward-pattern=(traceparent|x-request-start|x-tapchanger-mirror)",
        "--http-header-forward-pattern=(traceparent|x-request-start|x-tapchanger-mirror)",
    )


def test_without_a_receiver_nothing_is_traced() -> None:
    launch = translate(["--http-port=8000", "--trace-config=rate=1"])
    assert launch.arguments == ("--http-port=8000",)
    assert launch.environment == {}


def process(proc: Path, number: int, name: str, state: str, parent: int) -> None:
    (proc / str(number)).mkdir(parents=True)
    (proc / str(number) / "stat").write_text(f"{number} ({name}) {state} {parent} 1 1 0")


def test_live_model_processes_are_the_servers_children_of_that_name(tmp_path: Path) -> None:
    process(tmp_path, 10, "triton_python_b", "S", parent=7)
    process(tmp_path, 11, "triton_python_b", "Z", parent=7)
    process(tmp_path, 12, "triton_python_b", "S", parent=8)
    process(tmp_path, 13, "triton) S 7 (x", "S", parent=7)
    (tmp_path / "14").mkdir()
    (tmp_path / "meminfo").write_text("")
    assert stubs(7, tmp_path) == {10}


SERVER = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
print("up", flush=True)
signal.pause()
signal.pause()
"""


def started(code: str) -> subprocess.Popen[bytes]:
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert child.stdout
    with child.stdout:
        child.stdout.readline()
    return child


@pytest.fixture(autouse=True)
def own_signals() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_the_exit_code_is_the_servers() -> None:
    assert watch(started("raise SystemExit(3)"), frozenset) == 3
    assert watch(started("import os; os.abort()"), frozenset) == 128 + signal.SIGABRT


def test_termination_is_passed_on_and_models_that_end_with_it_are_no_failure() -> None:
    looks = iter([frozenset({1}), frozenset({1})])

    def living() -> frozenset[int]:
        found = next(looks, frozenset())
        if found:
            signal.raise_signal(signal.SIGTERM)
        return found

    assert watch(started(SERVER), living) == 7


def test_a_model_whose_process_died_ends_the_server(capsys: pytest.CaptureFixture[str]) -> None:
    looks = iter([frozenset({1, 2}), frozenset({1})])
    child = started(SERVER)
    assert watch(child, lambda: next(looks)) == 1
    assert child.returncode is not None
    assert json.loads(capsys.readouterr().err)["lost"] == 1
