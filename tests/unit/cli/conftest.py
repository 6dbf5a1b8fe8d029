"""A fake API server, and the command run against it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tapchanger_cli.app import cli
from tests.support.fake_api_server import FakeApiServer, serving

Run = Callable[..., Result]


@pytest.fixture
def server() -> Iterator[FakeApiServer]:
    with serving() as fake:
        yield fake


@pytest.fixture
def run(server: FakeApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command in a pipe of no stated width; `program` is how it is called."""
    monkeypatch.delenv("COLUMNS", raising=False)
    config = server.kubeconfig(tmp_path)

    def run(*words: str, program: str = "tapchanger") -> Result:
        result = CliRunner().invoke(cli, ["--kubeconfig", str(config), *words], prog_name=program)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run
