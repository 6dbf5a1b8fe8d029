"""The webhook's call: what is sent and signed, which answers end it, and what never leaves the pod.."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tapchanger_serving.contract.retraining import RunInputs, RunModel
from tapchanger_serving.webhook import __main__ as program
from tapchanger_serving.webhook import call
from tapchanger_serving.webhook.call import CallError, Credentials, client, credentials, post
from tapchanger_serving.webhook.signing import SigningKeyError, headers, key

RUN = RunInputs(
    run="r0123456ab",
    trigger="Manual",
    namespace="team-a",
    deployment="moderation",
    model=RunModel(uri="s3://a/b", digest=f"sha256:{'a' * 64}", task="text-classification", revision="x", build="eb-1"),
    output="s3://a/b",
)
SECRET = b"whsec_" + base64.b64encode(b"0123456789abcdef01234567")


@dataclass
class Service:
    """What was sent, and the answers that come next: a status, and how long to wait."""

    answers: list[tuple[int, str]] = field(default_factory=list)
    seen: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def service() -> Iterator[Service]:
    known = Service()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            known.seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            status, after = known.answers.pop(0) if known.answers else (202, "")
            self.send_response(status)
            if after:
                self.send_header("location" if status == 307 else "retry-after", after)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
            """Tests print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    known.url = f"http://127.0.0.1:{server.server_address[1]}/retrain"
    yield known
    server.shutdown()
    server.server_close()
    thread.join()


def called(service: Service, known: Credentials | None = None) -> tuple[int, list[float]]:
    waits: list[float] = []
    with client(known or Credentials(), 5.0) as session:
        status = post(
            session, service.url, RUN, known or Credentials(), clock=lambda: 1_700_000_000.5, sleep=waits.append
        )
    return status, waits


def test_the_run_is_posted_and_signed_as_standard_webhooks_does(service: Service) -> None:
    signing = key(SECRET)
    assert called(service, Credentials(signing, "Bearer token"))[0] == 202
    ((path, sent, body),) = service.seen
    assert path == "/retrain"
    assert sent["authorization"] == "Bearer token"
    assert sent["content-type"] == "application/json"
    assert (sent["webhook-id"], sent["webhook-timestamp"]) == (RUN.run, "1700000000")
    signed = hmac.new(b"0123456789abcdef01234567", b"r0123456ab.1700000000." + body, hashlib.sha256).digest()
    assert sent["webhook-signature"] == f"v1,{base64.b64encode(signed).decode()}"
    told = json.loads(body)
    assert (told["type"], told["timestamp"]) == ("tapchanger.retraining.requested", "2023-11-14T22:13:20Z")
    assert RunInputs.model_validate(told["data"]) == RUN


def test_the_signature_is_that_of_the_specifications_example() -> None:
    found = headers(
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
        key(b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
    )
    assert found["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_what_may_pass_is_tried_again_later_each_time_and_the_id_stays(service: Service) -> None:
    service.answers = [(503, ""), (429, "30"), (500, "")]
    status, waits = called(service)
    assert status == 202
    assert 3.7 <= waits[0] <= 6.3
    assert waits[1] == 30.0
    assert 15.0 <= waits[2] <= 25.0
    assert {sent["webhook-id"] for _, sent, _ in service.seen} == {RUN.run}


def test_it_ends_after_some_calls_and_no_wait_is_endless(service: Service) -> None:
    service.answers = [(503, "999999")] * 20
    with pytest.raises(CallError, match="answered 503") as refusal:
        called(service)
    assert len(service.seen) == call.CALLS
    assert not refusal.value.final


@pytest.mark.parametrize("status", [400, 401, 404, 307])
def test_a_refusal_is_final_and_a_redirect_is_one(service: Service, status: int) -> None:
    service.answers = [(status, "http://127.0.0.1:1/elsewhere" if status == 307 else "")]
    with pytest.raises(CallError, match=f"answered {status}") as refusal:
        called(service)
    assert refusal.value.final
    assert len(service.seen) == 1


def test_a_service_that_is_not_there_may_come() -> None:
    with (
        client(Credentials(), 1.0) as session,
        pytest.raises(CallError, match="did not answer") as refusal,
    ):
        post(session, "http://127.0.0.1:1/", RUN, Credentials(), clock=lambda: 0.0, sleep=lambda _: None)
    assert not refusal.value.final


def test_the_program_says_why_in_its_termination_message(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.json").write_text(RUN.dumps())
    (tmp_path / "signing-key").write_bytes(SECRET)
    for name, value in {
        "TAPCHANGER_RUN_FILE": str(tmp_path / "run.json"),
        "TAPCHANGER_WEBHOOK_URL": service.url,
        "TAPCHANGER_WEBHOOK_SECRET": "hook",
        "TAPCHANGER_WEBHOOK_SECRET_DIR": str(tmp_path),
        "TAPCHANGER_TERMINATION_LOG": str(tmp_path / "said"),
    }.items():
        monkeypatch.setenv(name, value)
    assert program.main() == 0
    service.answers = [(403, "")]
    assert program.main() == 42
    said = json.loads((tmp_path / "said").read_text())
    assert (said["reason"], said["field"]) == ("WebhookFailed", "spec.retraining.webhook.url")
    printed = capsys.readouterr()
    assert SECRET.decode() not in printed.out + printed.err + json.dumps(said)


def test_a_secret_that_is_not_there_or_holds_nothing_usable_is_told(tmp_path: Path) -> None:
    with pytest.raises(CallError, match="the Secret hook is missing") as missing:
        credentials(tmp_path, "hook")
    assert missing.value.final
    assert "kubectl create secret generic hook" in str(missing.value.failure.remedy)
    (tmp_path / "signing-key").write_text("short")
    with pytest.raises(CallError, match="it has 5 bytes"):
        credentials(tmp_path, "hook")
    (tmp_path / "signing-key").unlink()
    (tmp_path / "authorization").write_text("Bearer a\nx-evil: 1")
    with pytest.raises(CallError, match="is no header"):
        credentials(tmp_path, "hook")
    assert credentials(tmp_path / "none", None) == Credentials()


def test_a_key_may_be_plain_or_base64() -> None:
    assert key(b"0123456789abcdef\n") == b"0123456789abcdef"
    with pytest.raises(SigningKeyError, match="no base64"):
        key(b"whsec_***")
