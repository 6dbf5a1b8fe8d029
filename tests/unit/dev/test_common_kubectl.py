"""kubectl and other programs as they are called: a stand-in says what it was asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from dev.common.kubectl import Kubectl, condition
from dev.common.shell import CommandError, run
from dev.common.waiting import LateError, until


@pytest.fixture
def kubectl(tmp_path: Path) -> Kubectl:
    binary = tmp_path / "kubectl"
    binary.write_text(
        "#!/bin/sh\n"
        f'echo "$@" > {tmp_path}/asked\n'
        'case "$*" in\n'
        '  *--watch*) printf \'{\\n "a": {\\n  "b": 1\\n }\\n}\\n{\\n "a": 2\\n}\\n\';;\n'
        "  *refused*) echo 'admission says no' >&2; exit 1;;\n"
        "  *diff*) cat; exit 1;;\n"
        '  *present*) echo \'{"kind": "Pod"}\';;\n'
        "esac\n"
    )
    binary.chmod(0o755)
    return Kubectl(binary, tmp_path / "kubeconfig", "somewhere")


def asked(kubectl: Kubectl) -> str:
    return (kubectl.binary.parent / "asked").read_text()


def test_the_cluster_is_named_in_every_call(kubectl: Kubectl, tmp_path: Path) -> None:
    kubectl("version")
    assert asked(kubectl) == f"--kubeconfig={tmp_path}/kubeconfig --context=somewhere version\n"


def test_an_object_that_is_missing_is_none(kubectl: Kubectl) -> None:
    assert kubectl.get("pod", "absent", "default") is None
    assert kubectl.get("pod", "present", "default") == {"kind": "Pod"}


def test_a_difference_is_an_answer_and_not_a_failure(kubectl: Kubectl) -> None:
    assert kubectl.diff({"a": 1}) == '{"a": 1}'


def test_a_refusal_is_told_in_the_servers_words(kubectl: Kubectl) -> None:
    assert "admission says no" in kubectl.attempt("refused")
    with pytest.raises(AssertionError, match="was not refused"):
        kubectl.attempt("version")


def test_a_watch_gives_one_object_after_the_other(kubectl: Kubectl) -> None:
    process, changes = kubectl.changes("tdep", "moderation", "default")
    assert list(changes) == [{"a": {"b": 1}}, {"a": 2}]
    assert process.wait() == 0
    assert process.stdout is not None
    process.stdout.close()


def test_a_condition_that_is_missing_is_empty() -> None:
    body = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    assert condition(body, "Ready") == {"type": "Ready", "status": "True"}
    assert condition(body, "Built") == {}


def test_a_program_that_takes_too_long_is_ended_and_quoted() -> None:
    with pytest.raises(CommandError, match=r"no answer in 0 s(.|\n)*begun"):
        run("sh", "-c", "echo begun; exec sleep 30", seconds=0.2)


def test_waiting_tells_what_was_seen_last() -> None:
    answers = iter([None, False, "there"])
    assert until("it", lambda: next(answers), 5, every=0.0) == "there"
    with pytest.raises(LateError, match="waited 0 s for it\nnothing yet"):
        until("it", lambda: None, 0.0, every=0.0, last=lambda: "nothing yet")
