"""A server hands over a sample of texts whose senders agreed, and never waits for whoever takes them."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tapchanger_serving.backends.batch import Texts
from tapchanger_serving.backends.capture import Capturer
from tapchanger_serving.contract import names
from tapchanger_serving.contract.capture import ENV_SAMPLING, LONGEST_TEXT, Consent, Sampling
from tapchanger_serving.launcher.arguments import translate
from tests.support.patience import PATIENCE

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
HEADERS = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01", "x-request-start": "t=1.0", "X-Capture-Consent": "granted"}
ANSWERS = {
    names.LABEL: np.array([[b"toxic"], [b"fine"]], dtype=object),
    names.SCORE: np.array([[0.91234], [0.5]], dtype=np.float32),
}
TWO = Texts(("first", "second"))


class Sidecar:
    """The other end of the socket."""

    def __init__(self, path: Path) -> None:
        self.line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.line.bind(str(path))
        self.line.settimeout(PATIENCE)

    def texts(self, count: int) -> list[dict[str, Any]]:
        return [json.loads(self.line.recv(1 << 20)) for _ in range(count)]


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[Sidecar]:
    found = Sidecar(tmp_path / "texts.sock")
    yield found
    found.line.close()


def sampling(tmp_path: Path, **change: Any) -> Sampling:
    fields = {"revision": "aaaa", "share": 1.0, "per_minute": 6000, "socket": str(tmp_path / "texts.sock"), **change}
    return Sampling(**fields)


def test_a_text_goes_with_its_answer_and_its_trace(tmp_path: Path, sidecar: Sidecar) -> None:
    Capturer(sampling(tmp_path)).offer(json.dumps(HEADERS), TWO, ANSWERS)
    first, second = sidecar.texts(2)
    assert {key: first[key] for key in ("id", "text", "label", "confidence", "lost")} == {
        "id": TRACE,
        "text": "first",
        "label": "toxic",
        "confidence": 0.9123,
        "lost": {},
    }
    assert (second["text"], second["label"]) == ("second", "fine")
    assert abs(first["time"] - time.time()) < 60


def test_pairs_go_along_and_entities_go_without_their_words(tmp_path: Path, sidecar: Sidecar) -> None:
    entities = np.array(
        [[json.dumps([{"entity": "PER", "word": "Jane", "start": 0, "end": 4, "score": 0.9}]).encode()]], dtype=object
    )
    Capturer(sampling(tmp_path)).offer(json.dumps(HEADERS), Texts(("first",), ("pair",)), {names.ENTITIES: entities})
    (found,) = sidecar.texts(1)
    assert (found["textPair"], found["entities"]) == ("pair", {"PER": 1})
    assert "Jane" not in json.dumps(found)


@pytest.mark.parametrize(
    ("mode", "value", "taken"),
    [
        ("OptIn", "granted", True),
        ("OptIn", " Yes ", True),
        ("OptIn", None, False),
        ("OptIn", "denied", False),
        ("OptIn", "granted, denied", False),
        ("OptIn", 1, False),
        ("OptOut", None, True),
        ("OptOut", "granted", True),
        ("OptOut", "denied", False),
        ("OptOut", "", False),
    ],
)
def test_consent_is_what_the_header_says(mode: Any, value: object, taken: bool) -> None:
    assert Consent(mode=mode).allows(value) is taken


def test_a_request_without_consent_is_counted_and_stays(tmp_path: Path, sidecar: Sidecar) -> None:
    capturer = Capturer(sampling(tmp_path))
    refused = {key: value for key, value in HEADERS.items() if key != "X-Capture-Consent"}
    capturer.offer(json.dumps(refused), TWO, ANSWERS)
    (told,) = sidecar.texts(1)
    assert told == {"lost": {"noConsent": 2}}


def test_warm_ups_and_copies_are_not_captured(tmp_path: Path, sidecar: Sidecar) -> None:
    capturer = Capturer(sampling(tmp_path, consent=Consent(mode="OptOut")))
    capturer.offer("", TWO, ANSWERS)
    capturer.offer(json.dumps({**HEADERS, names.MIRROR_HEADER: "aaaa"}), TWO, ANSWERS)
    capturer.offer(json.dumps({**HEADERS, names.MIRROR_HEADER: "bbbb"}), TWO, ANSWERS)
    assert [found["text"] for found in sidecar.texts(2)] == ["first", "second"]


def test_each_text_has_the_same_chance(tmp_path: Path, sidecar: Sidecar) -> None:
    chances = iter([0.9, 0.1])
    Capturer(sampling(tmp_path, share=0.5), chance=lambda: next(chances)).offer(json.dumps(HEADERS), TWO, ANSWERS)
    assert sidecar.texts(1)[0]["text"] == "second"


def test_no_more_than_a_limit_goes_in_a_minute(tmp_path: Path, sidecar: Sidecar) -> None:
    now = 0.0
    capturer = Capturer(sampling(tmp_path, per_minute=60), clock=lambda: now)
    for _ in range(10):
        capturer.offer(json.dumps(HEADERS), TWO, ANSWERS)
    now = 1.0
    capturer.offer(json.dumps(HEADERS), TWO, ANSWERS)
    found = []
    while sum(sum(one["lost"].values()) + ("text" in one) for one in found) < 22:
        found += sidecar.texts(1)
    assert sum("text" in one for one in found) == 7
    assert {reason for one in found for reason in one["lost"]} == {"rate"}


def test_a_text_that_is_too_long_is_not_cut_but_left(tmp_path: Path, sidecar: Sidecar) -> None:
    Capturer(sampling(tmp_path)).offer(json.dumps(HEADERS), Texts(("x" * (LONGEST_TEXT + 1), "short")), ANSWERS)
    (found,) = sidecar.texts(1)
    assert (found["text"], found["lost"]) == ("short", {"tooLong": 1})


def test_without_anybody_who_takes_them_nothing_waits_and_all_is_counted(tmp_path: Path) -> None:
    capturer = Capturer(sampling(tmp_path, per_minute=100_000))
    started = time.monotonic()
    for _ in range(1000):
        capturer.offer(json.dumps(HEADERS), TWO, ANSWERS)
    assert time.monotonic() - started < 5
    sidecar = Sidecar(tmp_path / "texts.sock")
    found = []
    while sum(sum(one["lost"].values()) + ("text" in one) for one in found) < 2000:
        found += sidecar.texts(1)
    assert sum("text" in one for one in found) < 1000
    sidecar.line.close()


def test_what_goes_wrong_is_counted_and_never_reaches_the_answer(tmp_path: Path, sidecar: Sidecar) -> None:
    Capturer(sampling(tmp_path)).offer("{no json", TWO, ANSWERS)
    assert sidecar.texts(1) == [{"lost": {"error": 2}}]


def test_the_environment_turns_it_on(tmp_path: Path) -> None:
    assert Capturer.from_environment({}) is None
    assert Capturer.from_environment({ENV_SAMPLING: sampling(tmp_path).dumps()})


def test_triton_hands_the_consent_header_on_only_where_texts_are_captured(tmp_path: Path) -> None:
    own = sampling(tmp_path, consent=Consent(header="x-may-learn"))
    arguments = translate(["--http-port=8000"], {ENV_SAMPLING: own.dumps()}).arguments
    pattern = "(traceparent|x-request-start|x-tapchanger-mirror|x-may-learn)"
    assert arguments == (
        "--http-port=8000",
        f"--grpc-header-forward-pattern={pattern}",
        f"--http-header-forward-pattern={pattern}",
    )
    assert translate(["--http-port=8000"], {}).arguments == ("--http-port=8000",)
