"""Shells and kubectl complete commands, options, and names from the cluster."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest

from tapchanger_cli import completion
from tapchanger_cli.app import cli
from tests.support import cli_samples as samples
from tests.support.fake_api_server import FakeApiServer
from tests.support.golden import ROOT
from tests.unit.cli.conftest import Run

ENTRIES = {
    "tapchanger": "tapchanger",
    "kubectl-tapchanger": "kubectl",
    "kubectl_complete-tapchanger": "kubectl_complete",
}


@pytest.fixture
def programs(tmp_path: Path, server: FakeApiServer) -> dict[str, str]:
    """An environment whose PATH begins with the console scripts, and whose cluster is the fake one."""
    server.put(samples.stepping(), samples.unseen(), samples.body({}, name="elsewhere", namespace="team-b"))
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, function in ENTRIES.items():
        script = folder / name
        script.write_text(f"#!{sys.executable}\nfrom tapchanger_cli.entry import {function}\n{function}()\n")
        script.chmod(0o755)
    rooms = os.pathsep.join(str(ROOT / room) for room in ("operator", "serving"))
    return {
        **os.environ,
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": rooms,
        "KUBECONFIG": str(server.kubeconfig(tmp_path)),
    }


def test_the_console_scripts_are_those_that_kubectl_looks_for() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {name: f"tapchanger_cli.entry:{function}" for name, function in ENTRIES.items()}


def completed(*words: str) -> list[str]:
    """What kubectl would offer, without descriptions; the directive comes last."""
    return [line.split("\t")[0] for line in completion.for_kubectl(cli, list(words)).splitlines()]


def test_commands_and_options_complete_without_a_cluster() -> None:
    assert completed("re") == ["resume", "retrain", "retry", ":4"]
    assert completed("promote", "--rea") == ["--reason", ":4"]
    assert completed("status", "-o", "") == ["json", "yaml", ":4"]
    assert completed("completion", "") == ["bash", "zsh", ":4"]
    assert completed("status", "--kubeconfig", "") == [":0"]
    assert completed() == completed("")


def test_names_complete_from_the_cluster(server: FakeApiServer, tmp_path: Path) -> None:
    server.put(samples.stepping(), samples.unseen(), samples.body({}, name="elsewhere", namespace="team-b"))
    place = ("--kubeconfig", str(server.kubeconfig(tmp_path)))
    assert completed("promote", *place, "") == ["moderation", "fresh", ":4"]
    assert completed(*place, "promote", "mod") == ["moderation", ":4"]
    assert completed("promote", *place, "-n", "team-b", "") == ["elsewhere", ":4"]
    assert completed("promote", *place, "--context", "other", "") == ["elsewhere", ":4"]
    assert completed("status", *place, "-n", "team") == ["team-a", "team-b", ":4"]
    assert completed("status", *place, "--context", "") == ["here", "other", ":4"]


def test_a_cluster_that_does_not_answer_completes_nothing(server: FakeApiServer, tmp_path: Path) -> None:
    server.status = 500
    assert completed("promote", "--kubeconfig", str(server.kubeconfig(tmp_path)), "") == [":4"]
    missing = str(tmp_path / "missing")
    assert completed("promote", "--kubeconfig", missing, "--context", "") == [":4"]
    assert completed("promote", "--kubeconfig", missing, "") == [":4"]


def test_bash_evaluates_the_script_and_completes(programs: dict[str, str]) -> None:
    if not shutil.which("bash"):
        pytest.skip("there is no bash here")
    script = """
        eval "$(tapchanger completion bash)"
        ask() {
          COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
          _tapchanger_completion tapchanger
          echo "${COMPREPLY[*]}"
        }
        complete -p tapchanger
        ask tapchanger st
        ask tapchanger promote mo
    """
    found = subprocess.run(["bash", "-ec", script], env=programs, capture_output=True, text=True, check=True)
    lines = found.stdout.splitlines()
    assert "_tapchanger_completion" in lines[0]
    assert lines[1:] == ["status", "moderation"]


def test_the_script_for_zsh_asks_the_program(run: Run) -> None:
    text = run("completion", "zsh", program="kubectl tapchanger").stdout
    assert text.startswith("#compdef tapchanger\n")
    assert "_TAPCHANGER_COMPLETE=zsh_complete tapchanger" in text
    if shutil.which("zsh"):
        subprocess.run(["zsh", "-n"], input=text, text=True, check=True)


def test_kubectl_finds_the_plugin_and_what_completes_it(programs: dict[str, str]) -> None:
    if not shutil.which("kubectl", path=programs["PATH"]):
        pytest.skip("there is no kubectl here")

    def kubectl(*words: str) -> str:
        return subprocess.run(["kubectl", *words], env=programs, capture_output=True, text=True, check=True).stdout

    assert "Usage: kubectl tapchanger promote" in kubectl("tapchanger", "promote", "--help")
    assert "moderation" in kubectl("tapchanger", "status")
    offered = kubectl("__complete", "tapchanger", "promote", "mo").splitlines()
    assert [line.split("\t")[0] for line in offered] == ["moderation", ":4"]


def test_without_the_extra_the_scripts_say_what_to_install(programs: dict[str, str]) -> None:
    # -S leaves the installed packages out.
    code = "from tapchanger_cli.entry import tapchanger; tapchanger()"
    found = subprocess.run(
        [sys.executable, "-S", "-c", code], env=programs, capture_output=True, text=True, check=False
    )
    assert found.returncode == 1
    assert found.stderr == (
        "error: the package click is missing\n  install tapchanger with its extra: tapchanger[cli]\n"
    )


def test_every_command_has_help_and_the_options_that_all_have() -> None:
    for name, command in cli.commands.items():
        assert command.help, name
        options = {option for param in command.params if isinstance(param, click.Option) for option in param.opts}
        if name not in ("completion", "build"):  # they need no cluster
            assert {"--namespace", "--context", "--kubeconfig", "--output"} <= options, name
