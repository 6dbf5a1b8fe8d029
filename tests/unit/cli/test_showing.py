"""What is shown comes from the cluster that was named, and what goes wrong is said in words that help."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.support import cli_samples as samples
from tests.support.fake_api_server import FakeApiServer
from tests.unit.cli.conftest import Run


def test_status_is_drawn_on_lines_that_a_pipe_does_not_break(server: FakeApiServer, run: Run) -> None:
    server.put(samples.rolled_back())
    result = run("status", "moderation")
    assert result.exit_code == 0
    assert f"rolled back to {samples.OLD}: {samples.BREACH}\n" in result.stdout
    assert "\x1b" not in result.stdout


def test_all_deployments_of_the_contexts_namespace_or_of_all(server: FakeApiServer, run: Run) -> None:
    server.put(samples.stepping(), samples.body({}, name="elsewhere", namespace="team-b"))
    assert "elsewhere" not in run("status").stdout
    assert "moderation" in run("status").stdout
    assert "elsewhere" in run("status", "-A").stdout
    assert "elsewhere" in run("status", "-n", "team-b").stdout
    assert "elsewhere" in run("-n", "team-b", "status").stdout
    assert "elsewhere" in run("status", "--context", "other").stdout
    assert run("status", "-n", "team-c").stdout == "there is no TransformerDeployment in namespace team-c\n"


def test_documents_are_json_and_yaml_of_the_same_shape(server: FakeApiServer, run: Run) -> None:
    server.put(samples.rolled_back(), samples.build())
    for words in (
        ["status"],
        ["status", "moderation"],
        ["history", "moderation"],
        ["explain", "moderation"],
        ["version"],
    ):
        as_json, as_yaml = run(*words, "-o", "json"), run(*words, "-o", "yaml")
        assert (as_json.exit_code, as_yaml.exit_code) == (0, 0)
        assert json.loads(as_json.stdout) == yaml.safe_load(as_yaml.stdout)
    explained = json.loads(run("explain", "moderation", "-o", "json", program="kubectl tapchanger").stdout)
    assert explained["build"]["report"]["gates"][0]["name"] == "parity"
    assert "kubectl tapchanger retry moderation -n team-a" in [entry["command"] for entry in explained["next"]]
    assert "state" not in explained["analysis"]


def test_history_and_explanation_are_drawn(server: FakeApiServer, run: Run) -> None:
    server.put(samples.rolled_back(), samples.build())
    assert "ordered by anna@example.org: wrong labels" in run("history", "moderation").stdout
    text = run("explain", "moderation").stdout
    assert "once in 3.1e+10 rollouts" in text
    assert "the compiler refuses the graph" in text


def test_an_explanation_without_a_readable_build(server: FakeApiServer, run: Run) -> None:
    server.put(samples.stepping())
    assert "Engine" not in run("explain", "moderation").stdout
    build = samples.build()
    build["status"]["report"]["newer"] = 1
    server.put(build)
    assert "its report is of another release" in run("explain", "moderation").stdout


def test_a_name_that_is_not_there_brings_names_like_it(server: FakeApiServer, run: Run) -> None:
    server.put(samples.stepping(), samples.unseen())
    result = run("status", "moderatoin")
    assert result.exit_code == 1
    assert result.stderr == (
        "error: there is no TransformerDeployment moderatoin in namespace team-a\n"
        "  in namespace team-a are: moderation\n"
    )
    result = run("status", "moderation", "-n", "team-b")
    assert "namespace team-b has none; elsewhere are: moderation -n team-a" in result.stderr


def test_without_the_definitions_it_says_how_to_install(server: FakeApiServer, run: Run) -> None:
    server.installed = False
    for words in (["status"], ["status", "moderation"], ["promote", "moderation"]):
        result = run(*words)
        assert result.exit_code == 1
        assert "tapchanger is not installed" in result.stderr
        assert "helm install tapchanger" in result.stderr


def test_without_a_right_it_says_which_verb(server: FakeApiServer, run: Run) -> None:
    server.put(samples.stepping())
    server.refused = {("PATCH", "transformerdeployments")}
    result = run("promote", "moderation")
    assert result.exit_code == 1
    assert "you may not patch transformerdeployments moderation in namespace team-a: User" in result.stderr
    assert "ask for the verb patch on transformerdeployments.tapchanger.dev" in result.stderr
    assert "tapchanger-edit" in result.stderr


def test_a_server_that_is_broken_or_away(server: FakeApiServer, run: Run, tmp_path: Path) -> None:
    server.status = 503
    assert (
        "the API server can't list transformerdeployments in namespace team-a: 503 it is broken" in run("status").stderr
    )
    server.status = 401
    assert "does not accept your credentials" in run("status").stderr
    config = tmp_path / "away"
    config.write_text((tmp_path / "kubeconfig").read_text().replace(server.url, "http://127.0.0.1:9"))
    result = run("status", "--kubeconfig", str(config))
    assert result.exit_code == 1
    assert "the API server http://127.0.0.1:9 can't be reached" in result.stderr
    assert "Traceback" not in result.output


def test_a_kubeconfig_or_context_that_is_not_there(run: Run, tmp_path: Path) -> None:
    result = run("status", "--context", "nowhere")
    assert result.exit_code == 1
    assert "the kubeconfig has no context nowhere" in result.stderr
    assert "write one of here, other" in result.stderr
    result = run("status", "--kubeconfig", str(tmp_path / "nothing"))
    assert result.exit_code == 1
    assert "no kubeconfig can be read" in result.stderr
    (tmp_path / "rubbish").write_text("{[")
    assert run("status", "--kubeconfig", str(tmp_path / "rubbish")).exit_code == 1


def test_a_status_of_another_release_is_named(server: FakeApiServer, run: Run) -> None:
    situation = samples.stepping()
    situation["status"]["analysis"]["verdict"] = "Perhaps"
    server.put(situation)
    result = run("status", "moderation")
    assert result.exit_code == 1
    assert "status.analysis.verdict of moderation can't be read" in result.stderr


def test_what_others_wrote_does_not_steer_the_terminal(server: FakeApiServer, run: Run) -> None:
    situation = samples.held()
    situation["metadata"]["annotations"]["tapchanger.dev/pause"] = "\x1b[2Jfreeze [bold]now[/bold]"
    situation["status"]["message"] = "\x1b]0;title\x07serves\r"
    server.put(situation)
    for words in (["status", "moderation"], ["explain", "moderation"], ["status"]):
        text = run(*words).stdout
        assert not set(text) & {"\x1b", "\x07", "\r"}
        assert "]0;title" in text
    assert "freeze [bold]now[/bold]" in run("status", "moderation").stdout


def test_a_name_and_all_namespaces_do_not_go_together(run: Run) -> None:
    assert run("status", "moderation", "-A").exit_code == 2


def test_help_says_how_the_command_was_called(run: Run) -> None:
    for program in ("tapchanger", "kubectl tapchanger"):
        for name in ("status", "history", "explain", "promote", "abort", "pause", "resume", "retry", "skip"):
            text = run(name, "--help", program=program).stdout
            assert f"Usage: {program} {name} [OPTIONS]" in text
            assert f"\n  {program} {name} moderation" in text
            assert "Exit codes: 0 done, 1 not carried out or not found, 2 wrong usage." in text


@pytest.mark.parametrize("unwanted", ["kopf", "torch", "kubernetes"])
def test_help_loads_neither_the_operator_nor_a_client(unwanted: str) -> None:
    code = (
        "import sys; import tapchanger_cli.app; "
        "print([m for m in sys.modules if m.startswith('tapchanger_operator.') and not m.startswith('tapchanger_operator.api')]"
        f" + [m for m in sys.modules if m.split('.')[0] == {unwanted!r}])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


def test_captured_texts_are_told_with_what_was_dropped_and_what_is_still_to_be_deleted(
    server: FakeApiServer, run: Run
) -> None:
    found = samples.stepping()
    prefix = "s3://captures/texts/team-a/moderation"
    found["status"]["capture"] = {
        "destination": prefix,
        "message": f"1 % of the texts are kept at {prefix} for 30d",
        "captured": 12,
        "dropped": 3,
        "reasons": ["without consent: 3"],
        "askedAt": "2026-11-29T12:00:00Z",
        "trouble": "AccessDenied: the store refuses",
        "places": [{"prefix": "s3://old/texts", "retention": "7d", "until": "2026-11-20T12:00:00Z"}],
    }
    server.put(found)
    shown = " ".join(run("status", "moderation").stdout.split())
    assert f"1 % of the texts are kept at {prefix} for 30d" in shown
    assert "12 captured, 3 dropped (without consent: 3)" in shown
    assert "AccessDenied: the store refuses" in shown
    assert "s3://old/texts: until 2026-11-20T12:00:00Z; deleted after 7d" in shown
    assert json.loads(run("status", "moderation", "-o", "json").stdout)["capture"]["captured"] == 12
