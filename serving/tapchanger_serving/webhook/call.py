"""The call itself: which answers end it, and when it is tried again."""

from __future__ import annotations

import json
import random
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx

from tapchanger_serving.contract.messages import StepFailure
from tapchanger_serving.contract.retraining import AUTHORIZATION, CA, SIGNING_KEY, WEBHOOK_TYPE, RunInputs
from tapchanger_serving.webhook.signing import SigningKeyError, headers, key

CALLS: Final = 6
FIRST_WAIT: Final = 5.0
LONGEST_WAIT: Final = 120.0
_AGAIN: Final = frozenset({408, 425, 429})
REASON: Final = "WebhookFailed"
_SECRET_FIELD: Final = "spec.retraining.webhook.secretName"  # noqa: S105 - a field's name
_URL_FIELD: Final = "spec.retraining.webhook.url"


class CallError(Exception):
    """The service did not take the run. `final`: it would not at another try either."""

    def __init__(self, failure: StepFailure, *, final: bool) -> None:
        super().__init__(failure.message)
        self.failure = failure
        self.final = final


@dataclass(frozen=True)
class Credentials:
    """What the Secret holds."""

    signing_key: bytes | None = None
    authorization: str | None = None
    ca: Path | None = None


def credentials(folder: Path, name: str | None) -> Credentials:
    """What is mounted of the Secret `name`. Raises CallError where it is missing or can't be used."""
    if name is None:
        return Credentials()
    known = {entry for entry in (SIGNING_KEY, AUTHORIZATION, CA) if (folder / entry).is_file()}
    if not known:
        raise _refused(
            f"the Secret {name} is missing or has none of the keys {SIGNING_KEY}, {AUTHORIZATION} and {CA}",
            _SECRET_FIELD,
            f"kubectl create secret generic {name} --from-literal={SIGNING_KEY}=whsec_$(openssl rand -base64 32)",
        )
    try:
        signing = key((folder / SIGNING_KEY).read_bytes()) if SIGNING_KEY in known else None
    except SigningKeyError as problem:
        raise _refused(f"{SIGNING_KEY} in the Secret {name} can't be used: {problem}", _SECRET_FIELD) from problem
    authorization = (folder / AUTHORIZATION).read_text().strip() if AUTHORIZATION in known else None
    if authorization is not None and (not authorization.isascii() or not authorization.isprintable()):
        raise _refused(f"{AUTHORIZATION} in the Secret {name} is no header's value", _SECRET_FIELD)
    return Credentials(signing, authorization, folder / CA if CA in known else None)


def body(inputs: RunInputs, at: float) -> bytes:
    """The JSON that is posted: a Standard Webhooks payload with the run's inputs as its data."""
    time = datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    data = json.loads(inputs.dumps())
    return json.dumps({"type": WEBHOOK_TYPE, "timestamp": time, "data": data}, separators=(",", ":")).encode()


def client(known: Credentials, timeout: float) -> httpx.Client:
    """What calls. It follows no redirect: a signed call goes where the spec says, or nowhere."""
    context = ssl.create_default_context()
    if known.ca:
        context.load_verify_locations(known.ca)
    return httpx.Client(timeout=timeout, verify=context, follow_redirects=False, trust_env=True)


def post(
    session: httpx.Client,
    url: str,
    inputs: RunInputs,
    known: Credentials,
    *,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> int:
    """Calls until the service takes the run, and returns its status. Raises CallError where it does not."""
    problem: CallError | None = None
    for number in range(CALLS):
        if number:
            sleep(_wait(number, problem))
        try:
            return _once(session, url, inputs, known, clock())
        except CallError as found:
            if found.final:
                raise
            problem = found
    assert problem is not None
    raise problem


class _BusyError(CallError):
    """The service asks to be called again after `after` seconds."""

    def __init__(self, failure: StepFailure, after: float) -> None:
        super().__init__(failure, final=False)
        self.after = after


def _once(session: httpx.Client, url: str, inputs: RunInputs, known: Credentials, at: float) -> int:
    content, host = body(inputs, at), urlsplit(url).netloc
    sent = {"content-type": "application/json", "user-agent": "tapchanger"}
    sent |= headers(inputs.run, int(at), content, known.signing_key)
    if known.authorization:
        sent["authorization"] = known.authorization
    try:
        with session.stream("POST", url, content=content, headers=sent) as answer:
            status, after = answer.status_code, answer.headers.get("retry-after", "")
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as problem:
        raise _refused(f"the address can't be called: {problem}", _URL_FIELD) from problem
    except httpx.HTTPError as problem:
        why = f"{host} did not answer: {type(problem).__name__}: {problem}"
        raise CallError(StepFailure(reason=REASON, message=why[:500], field=_URL_FIELD), final=False) from problem
    if 200 <= status < 300:
        return status
    failure = StepFailure(reason=REASON, message=f"{host} answered {status}", field=_URL_FIELD)
    if status in _AGAIN or status >= 500:
        raise _BusyError(failure, float(after) if after.isdigit() else 0.0)
    raise CallError(failure, final=True)


def _wait(number: int, problem: CallError | None) -> float:
    """Seconds before call `number` (from 0): twice as long each time, with a quarter of chance, or what the service asks for."""
    asked = problem.after if isinstance(problem, _BusyError) else 0.0
    doubled = FIRST_WAIT * 2.0 ** (number - 1) * random.uniform(0.75, 1.25)  # noqa: S311 - spreads calls, keeps no secret
    return min(max(asked, doubled), LONGEST_WAIT)


def _refused(message: str, field: str, remedy: str | None = None) -> CallError:
    return CallError(StepFailure(reason=REASON, message=message[:500], field=field, remedy=remedy), final=True)
