"""The Gateway API's definitions: only those of the pinned digest are put on a cluster."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dev.cluster import gateway_api
from dev.cluster.errors import ClusterError
from dev.cluster.golang import Go


def go_that_says(folder: Path, answer: dict[str, str], status: int = 0) -> Go:
    program = folder / "go"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{json.dumps(answer)}\nEND\nexit {status}\n")
    program.chmod(0o755)
    return Go(str(program))


def test_a_module_of_the_pinned_digest_is_used(tmp_path: Path) -> None:
    go = go_that_says(tmp_path, {"Dir": "/cache/gateway-api", "Sum": "h1:right"})
    assert go.module("example.com/a", "v1.0.0", "h1:right") == Path("/cache/gateway-api")


def test_a_module_of_another_digest_is_refused(tmp_path: Path) -> None:
    go = go_that_says(tmp_path, {"Dir": "/cache/gateway-api", "Sum": "h1:wrong"})
    with pytest.raises(
        ClusterError, match=r"example\.com/a@v1\.0\.0: the digest is h1:wrong, and h1:right was expected"
    ):
        go.module("example.com/a", "v1.0.0", "h1:right")


def test_a_module_that_cannot_be_had_says_why(tmp_path: Path) -> None:
    go = go_that_says(tmp_path, {"Error": "no such host"}, status=1)
    with pytest.raises(ClusterError, match="no such host"):
        go.module("example.com/a", "v1.0.0", "h1:right")


def test_only_the_standard_channel_is_installed_by_the_server() -> None:
    said: list[tuple[str, ...]] = []

    def kubectl(*words: str, seconds: float = 60.0) -> str:
        said.append(words)
        return ""

    gateway_api.install(kubectl, (Path("/d/httproutes.yaml"),))
    assert said[0] == ("apply", "--server-side", "--force-conflicts", "--filename=/d/httproutes.yaml")
    assert "crd/grpcroutes.gateway.networking.k8s.io" in said[1]
