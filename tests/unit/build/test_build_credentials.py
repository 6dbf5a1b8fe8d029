"""The mounted Secret, and what never gets out of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tapchanger_serving.build import credentials, log, termination
from tapchanger_serving.build.failures import StepError
from tapchanger_serving.build.redaction import redacted
from tapchanger_serving.contract.messages import StepFailure
from tapchanger_serving.contract.names import ENV_CREDENTIALS

SIGNED = "https://store.test/a?X-Amz-Credential=AKIA&X-Amz-Signature=0123456789abcdef&versionId=7"


def adopted(folder: Path, **keys: str) -> dict[str, str]:
    for name, value in keys.items():
        (folder / name.replace("__", ".")).write_text(value)
    environ = {ENV_CREDENTIALS: "store"}
    credentials.adopt(folder, environ)
    return environ


def test_keys_become_the_variables_that_the_clients_read(tmp_path: Path) -> None:
    environ = adopted(tmp_path, AWS_ACCESS_KEY_ID="a\n", __dockerconfigjson="{}", ca__crt="-", LD_PRELOAD="x.so")
    assert environ["AWS_ACCESS_KEY_ID"] == "a"
    assert environ["TAPCHANGER_DOCKER_CONFIG"] == str(tmp_path / ".dockerconfigjson")
    assert environ["AWS_CA_BUNDLE"] == environ["SSL_CERT_FILE"] == str(tmp_path / "ca.crt")
    assert "LD_PRELOAD" not in environ


@pytest.mark.parametrize(("keys", "word"), [({}, "does not exist or is empty"), ({"user": "me"}, "has user, and none")])
def test_a_secret_that_opens_nothing_is_explained(tmp_path: Path, keys: dict[str, str], word: str) -> None:
    with pytest.raises(StepError) as caught:
        adopted(tmp_path, **keys)
    failure = caught.value.failure
    assert failure.reason == "CredentialsInvalid"
    assert failure.field == "spec.model.credentials.secretName"
    assert word in failure.message
    assert "kubectl create secret generic store" in (failure.remedy or "")


def test_without_a_secret_nothing_is_asked_for(tmp_path: Path) -> None:
    environ: dict[str, str] = {}
    credentials.adopt(tmp_path / "none", environ)
    assert environ == {}


@pytest.mark.parametrize(
    ("text", "hidden", "kept"),
    [
        (f"GET {SIGNED} failed", ["AKIA", "0123456789abcdef"], ["versionId=7", "https://store.test/a"]),
        ("https://c.test/b?sv=1&sig=ab%2Fcd&se=2", ["ab%2Fcd"], ["sv=1", "se=2"]),
        ("https://me:hunter22@host/x", ["hunter22"], ["@host/x"]),
        ("Authorization: Bearer abcdef0123456789", ["abcdef0123456789"], ["Bearer"]),
        ("the key my-secret-value is wrong", ["my-secret-value"], ["is wrong"]),
        ("hf://org/name@v1@sha256:" + "a" * 64, [], ["hf://org/name@v1@sha256:aa"]),
    ],
)
def test_secrets_are_hidden_and_the_rest_is_kept(text: str, hidden: list[str], kept: list[str]) -> None:
    shown = redacted(text, {"AWS_SECRET_ACCESS_KEY": "my-secret-value"})
    assert not [word for word in hidden if word in shown]
    assert not [word for word in kept if word not in shown]


def test_neither_the_log_nor_the_last_word_tells_a_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_0123456789")
    try:
        raise ValueError(f"hf_0123456789 at {SIGNED}")
    except ValueError as error:
        log.crash("step crashed", error)
    told = capsys.readouterr().out
    said = termination.failure_text(StepFailure(reason="DownloadFailed", message=f"hf_0123456789 at {SIGNED}"))
    for text in (told, said):
        assert json.loads(text)
        assert "hf_0123456789" not in text
        assert "0123456789abcdef" not in text
