"""The OpenTelemetry Collector with its span metrics connector, built by its own builder from Go modules.

The program is kept below `$TAPCHANGER_HOME`, by its recipe: it is built once (some minutes) and again when a version changes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Final

from dev.cluster import golang, paths
from dev.cluster.report import Report

CORE: Final = "v0.165.0"
CONTRIB: Final = "v0.165.1"
CONFMAP: Final = "v1.71.0"
_GO: Final = "go.opentelemetry.io/collector"
_CONTRIB: Final = "github.com/open-telemetry/opentelemetry-collector-contrib"
MANIFEST: Final = f"""\
dist: {{name: otelcol, description: OTLP receiver and span metrics, version: {CONTRIB[1:]}, output_path: OUTPUT}}
receivers: [{{gomod: {_GO}/receiver/otlpreceiver {CORE}}}]
connectors: [{{gomod: {_CONTRIB}/connector/spanmetricsconnector {CONTRIB}}}]
exporters: [{{gomod: {_CONTRIB}/exporter/prometheusexporter {CONTRIB}}}]
providers:
  - {{gomod: {_GO}/confmap/provider/envprovider {CONFMAP}}}
  - {{gomod: {_GO}/confmap/provider/fileprovider {CONFMAP}}}
"""
CONFIG: Final = """\
receivers:
  otlp: {protocols: {grpc: {endpoint: "127.0.0.1:GRPC_PORT"}, http: {endpoint: "127.0.0.1:HTTP_PORT"}}}
connectors:
  spanmetrics:
    dimensions:
      - {name: tapchanger.namespace}
      - {name: tapchanger.deployment}
      - {name: tapchanger.revision}
      - {name: http.status_code}
      - {name: grpc.status_code}
      - {name: response_flags}
    metrics_flush_interval: 1s
exporters:
  prometheus: {endpoint: "127.0.0.1:METRICS_PORT"}
service:
  telemetry: {metrics: {level: none}, logs: {level: error}}
  pipelines:
    traces: {receivers: [otlp], exporters: [spanmetrics]}
    metrics: {receivers: [spanmetrics], exporters: [prometheus]}
"""


def binary(manifest: str = MANIFEST, core: str = CORE) -> Path:
    """The program of a builder's manifest, built by the builder of version `core` where the cache lacks it."""
    home = paths.from_environment().home
    folder = home / "collector" / sha256(manifest.encode()).hexdigest()[:16]
    program = folder / "otelcol"
    if program.exists():
        return program
    print(f"building the Collector {core} in {folder} (some minutes, once)", file=sys.stderr)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.yaml").write_text(manifest.replace("OUTPUT", str(folder)))
    builder = f"{_GO}/cmd/builder@{core}"
    go = golang.find(home, Report())
    search = os.pathsep.join((str(Path(go.program).parent), os.environ["PATH"]))
    go.run(["run", builder, "--config=manifest.yaml"], cwd=folder, environment={"PATH": search})
    return program


def start(ports: dict[str, int], folder: Path, core: int) -> subprocess.Popen[bytes]:
    """The Collector on one core. Go counts the cores when it starts, so it is bound to its own before that."""
    text = CONFIG
    for name, port in ports.items():
        text = text.replace(name, str(port))
    config = folder / "collector.yaml"
    config.write_text(text)
    return subprocess.Popen(["taskset", "-c", str(core), str(binary()), f"--config={config}"])
