"""A real Prometheus and a real Collector for tests, made once below `$TAPCHANGER_HOME`, and the chart's configuration."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import yaml

from dev.cluster import lockfile, paths, tools
from dev.cluster.report import Report
from tests.bench import collector as made_collector
from tests.support.patience import PATIENCE

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "tapchanger"
LOCK = lockfile.LOCK.with_name("telemetry.lock.json")
_GO: Final = "go.opentelemetry.io/collector"
_CONTRIB: Final = "github.com/open-telemetry/opentelemetry-collector-contrib"
_CORE: Final = made_collector.CORE
_LATER: Final = made_collector.CONTRIB
_EARLIER: Final = "v0.160.0"
"""Of the processors that speak the Transformation Language: later ones need modules that not every proxy has."""
_MODULES: Final = {
    "receivers": [f"{_GO}/receiver/otlpreceiver {_CORE}"],
    "processors": [
        f"{_GO}/processor/memorylimiterprocessor {_CORE}",
        f"{_CONTRIB}/processor/probabilisticsamplerprocessor {_EARLIER}",
        *(f"{_CONTRIB}/processor/{name}processor {_EARLIER}" for name in ("attributes", "filter", "transform")),
    ],
    "connectors": [
        f"{_GO}/connector/forwardconnector {_CORE}",
        f"{_CONTRIB}/connector/spanmetricsconnector {_LATER}",
    ],
    "exporters": [f"{_GO}/exporter/otlphttpexporter {_CORE}", f"{_CONTRIB}/exporter/prometheusexporter {_LATER}"],
    "extensions": [f"{_CONTRIB}/extension/oidcauthextension {_LATER}"],
    "providers": [f"{_GO}/confmap/provider/{name}provider {made_collector.CONFMAP}" for name in ("env", "file")],
}
MANIFEST: Final = (
    f"dist: {{name: otelcol, description: The parts of the chart's Collector, version: {_LATER[1:]}, output_path: OUTPUT}}\n"
    + "".join(
        f"{kind}: [{', '.join(f'{{gomod: {module}}}' for module in found)}]\n" for kind, found in _MODULES.items()
    )
)
"""What the chart's configuration names, and no more."""


def program(name: str) -> str:
    """Path of a program of the lock file, built where it is missing (some minutes, once).

    In a folder of its own: making the cluster's programs, or the stores', clears away what is half made in theirs.
    """
    home = paths.from_environment().home / "telemetry"
    home.mkdir(parents=True, exist_ok=True)
    with (home / ".lock").open("w") as alone:
        fcntl.flock(alone, fcntl.LOCK_EX)
        tools.ensure(home, Report(), LOCK, name)
    return str(home / "bin" / name)


def helm() -> str:
    """Path of Helm, made with the cluster's programs where it is missing."""
    home = paths.from_environment().home
    if not (home / "bin" / "helm").exists():
        tools.ensure(home, Report(), lockfile.LOCK, "helm")
    return str(home / "bin" / "helm")


def promtool(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Runs promtool; the result is not checked."""
    command = [program("promtool"), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=PATIENCE)


def chart_config(values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The Collector's configuration as the chart renders it with `values`."""
    file = folder / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    images = ROOT / "tests" / "golden" / "chart" / "images.values.yaml"
    command = [helm(), "template", "t", str(CHART), "--values", str(images), "--values", str(file)]
    done = subprocess.run(
        [*command, "--show-only", "templates/collector/configmap.yaml"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = yaml.safe_load(yaml.safe_load(done.stdout)["data"]["collector.yaml"])
    return found


@contextmanager
def collector(
    config: Mapping[str, Any], ports: Sequence[int], folder: Path, environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """A Collector; `ports` is where it answers when it has started."""
    folder.mkdir(exist_ok=True)
    file = folder / "collector.yaml"
    file.write_text(yaml.safe_dump(dict(config)))
    command = [str(made_collector.binary(MANIFEST)), f"--config={file}"]
    with running(command, ports, folder / "collector.log", environment) as process:
        yield process


@contextmanager
def prometheus(
    targets: Mapping[str, int], port: int, folder: Path, scrape: str = "1s"
) -> Iterator[subprocess.Popen[bytes]]:
    """A Prometheus that scrapes each of `targets` (job, port) every `scrape`."""
    folder.mkdir(exist_ok=True)
    jobs = [{"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{at}"]}]} for job, at in targets.items()]
    config = {"global": {"scrape_interval": scrape, "scrape_timeout": scrape}, "scrape_configs": jobs}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    command = [
        program("prometheus"), f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}", "--enable-feature=exemplar-storage", "--log.level=warn",
    ]  # fmt: skip
    with running(command, [port], folder / "prometheus.log", {}) as process:
        yield process


@contextmanager
def running(
    command: Sequence[str], ports: Sequence[int], log: Path, environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """A program that listens on `ports`, ended at the end unless it has ended before."""
    given = {"PATH": os.environ["PATH"], "HOME": str(log.parent), **environment}
    with log.open("ab") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, env=given)
    try:
        _wait(process, ports, log)
        yield process
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE)


def _wait(process: subprocess.Popen[bytes], ports: Sequence[int], log: Path) -> None:
    until = time.monotonic() + PATIENCE
    left = list(ports)
    while left and time.monotonic() < until and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", left[0]), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            left.pop(0)
    if left:
        raise RuntimeError(f"{process.args!r} does not answer at {left}: {log.read_text()[-3000:]}")
