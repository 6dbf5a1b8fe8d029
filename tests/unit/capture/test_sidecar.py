"""The sidecar loses texts rather than time or memory, counts what it lost, and stores only what is redacted."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyrage
import pytest

from tapchanger_serving.build.failures import StepError, TransientStepError
from tapchanger_serving.capture.destination import Entry, Folder, opened
from tapchanger_serving.capture.intake import Intake
from tapchanger_serving.capture.pack import MANIFEST, Batch, Packed, sealing
from tapchanger_serving.capture.redact import Redactor
from tapchanger_serving.capture.retain import retain
from tapchanger_serving.capture.spool import Spool
from tapchanger_serving.capture.state import State
from tapchanger_serving.capture.worker import Deliverer, Recorder
from tapchanger_serving.contract.capture import Encryption, Order, Redaction
from tests.support.patience import PATIENCE

ORDER = Order(
    prefix="pvc://captures/texts/team-a/moderation",
    revision="5f3a9c1b2d",
    encryption=Encryption(type="None"),
    retention_seconds=86400,
)
TEXT = "Please write to jane.doe@example.com about the order."
ITEM = {
    "time": 1_700_000_000.5,
    "id": "4bf92f3577b34da6a3ce929d0e0e4736",
    "text": TEXT,
    "label": "toxic",
    "confidence": 0.91,
}


@pytest.fixture(scope="module")
def redactor() -> Redactor:
    return Redactor(Redaction())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "spool").mkdir()
    return tmp_path


class Place(Folder):
    """A folder that refuses as long as `trouble` is set."""

    trouble: StepError | None = None

    def put(self, path: str, body: bytes) -> None:
        if Place.trouble:
            raise Place.trouble
        super().put(path, body)


@pytest.fixture(autouse=True)
def _no_trouble() -> Iterator[None]:
    Place.trouble = None
    yield
    Place.trouble = None


def recorder(folder: Path, redactor: Redactor, state: State, order: Order = ORDER, most: int = 1 << 20) -> Recorder:
    spool = Spool(folder / "spool", most)
    return Recorder(order, "moderation-0", redactor, sealing(order.encryption), spool, state)


def lines(folder: Path) -> list[dict[str, Any]]:
    files = sorted(
        path for path in (folder / "place").rglob("*") if path.is_file() and not path.name.endswith(MANIFEST)
    )
    return [json.loads(line) for path in files for line in gzip.decompress(path.read_bytes()).splitlines()]


def test_a_text_is_stored_without_personal_data_with_what_was_answered(folder: Path, redactor: Redactor) -> None:
    state = State()
    work = recorder(folder, redactor, state)
    work.take(dict(ITEM))
    work.flush()
    deliverer = Deliverer(lambda: Place(folder / "place"), Spool(folder / "spool"), state)
    assert deliverer.deliver()
    assert lines(folder) == [
        {
            "id": ITEM["id"],
            "time": "2023-11-14T22:13:20Z",
            "revision": ORDER.revision,
            "text": "Please write to <EMAIL> about the order.",
            "label": "toxic",
            "confidence": 0.91,
            "redactions": {"email": 1},
        }
    ]
    told = state.told()
    assert (told.captured, told.stored, told.waiting, told.trouble) == (1, 1, 0, "")
    assert not any((folder / "spool").iterdir())


def test_the_manifest_says_what_the_object_holds(folder: Path, redactor: Redactor) -> None:
    state = State()
    work = recorder(folder, redactor, state)
    for _ in range(3):
        work.take(dict(ITEM))
    work.flush()
    Deliverer(lambda: Place(folder / "place"), Spool(folder / "spool"), state).deliver()
    (manifest,) = (folder / "place").rglob(f"*{MANIFEST}")
    told = json.loads(manifest.read_text())
    body = (folder / "place" / told["object"]).read_bytes()
    assert told["sha256"] == hashlib.sha256(body).hexdigest()
    assert told["contentSha256"] == hashlib.sha256(gzip.decompress(body)).hexdigest()
    assert (told["records"], told["redactions"], told["revision"]) == (3, {"email": 3}, ORDER.revision)
    assert told["object"].split("/")[1] == ORDER.revision
    assert "jane" not in manifest.read_text()


def test_only_the_private_key_opens_what_was_sealed_for_it(folder: Path, redactor: Redactor) -> None:
    identity, stranger = pyrage.x25519.Identity.generate(), pyrage.x25519.Identity.generate()
    order = ORDER.model_copy(update={"encryption": Encryption(type="Age", recipients=(str(identity.to_public()),))})
    state = State()
    work = recorder(folder, redactor, state, order)
    work.take(dict(ITEM))
    work.flush()
    spooled = next((folder / "spool").glob("*.body"))
    assert b"order" not in spooled.read_bytes()
    Deliverer(lambda: Place(folder / "place"), Spool(folder / "spool"), state).deliver()
    (stored,) = (folder / "place").rglob("*.jsonl.gz.age")
    record = json.loads(gzip.decompress(pyrage.decrypt(stored.read_bytes(), [identity])))
    assert record["text"] == "Please write to <EMAIL> about the order."
    with pytest.raises(pyrage.DecryptError):
        pyrage.decrypt(stored.read_bytes(), [stranger])


def test_a_bad_recipient_is_named() -> None:
    with pytest.raises(ValueError, match=r"destination\.encryption\.recipients"):
        sealing(Encryption(type="Age", recipients=("age1nonsense",)))


def test_a_store_that_is_away_is_told_and_loses_nothing_until_the_spool_is_full(
    folder: Path, redactor: Redactor, capsys: pytest.CaptureFixture[str]
) -> None:
    state = State()
    work = recorder(folder, redactor, state, most=4000)
    Place.trouble = TransientStepError("StoreUnreachable", "s3://captures: nobody answers", remedy="check the endpoint")
    deliverer = Deliverer(lambda: Place(folder / "place"), Spool(folder / "spool"), state)
    for _ in range(30):
        work.take(dict(ITEM))
        work.flush()
        time.sleep(0.002)
        assert not deliverer.deliver()
    told = state.told()
    assert told.trouble == "StoreUnreachable: s3://captures: nobody answers; check the endpoint"
    assert 0 < told.waiting <= 4000
    assert told.captured == 30
    lost = told.dropped["spoolFull"]
    assert 0 < lost < 30
    Place.trouble = None
    assert deliverer.deliver()
    assert len(lines(folder)) == 30 - lost
    assert state.told().trouble == ""
    assert "jane" not in capsys.readouterr().out


def test_what_a_killed_process_left_in_the_spool_is_stored_by_the_next(folder: Path, redactor: Redactor) -> None:
    work = recorder(folder, redactor, State())
    work.take(dict(ITEM))
    work.flush()
    (folder / "spool" / "2026-01-01~x~half.half").write_bytes(b"left")
    state = State()
    assert Deliverer(lambda: Place(folder / "place"), Spool(folder / "spool"), state).deliver()
    assert len(lines(folder)) == 1


def test_a_text_that_can_not_be_redacted_is_dropped_and_not_quoted(
    folder: Path, redactor: Redactor, capsys: pytest.CaptureFixture[str]
) -> None:
    state = State()
    work = recorder(folder, redactor, state)
    work.take({**ITEM, "text": "THIS IS JANE DOE SHOUTING"})
    work.take({**ITEM, "text": 7})
    assert state.told().dropped == {"unclear": 1, "error": 1}
    assert state.told().captured == 0
    assert "JANE" not in capsys.readouterr().out


def test_the_line_is_bounded_and_what_it_has_no_room_for_is_counted(tmp_path: Path) -> None:
    state = State()
    sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sender.settimeout(PATIENCE)
    with Intake(tmp_path / "texts.sock", state) as intake:
        for _ in range(700):
            sender.sendto(json.dumps(ITEM).encode(), str(tmp_path / "texts.sock"))
        until = time.monotonic() + PATIENCE
        while state.told().dropped.get("sidecarFull", 0) < 188 and time.monotonic() < until:
            time.sleep(0.01)
        assert intake.next(1.0) == ITEM
        sender.sendto(b'{"lost": {"rate": 3}}', str(tmp_path / "texts.sock"))
        sender.sendto(b"no json", str(tmp_path / "texts.sock"))
        until = time.monotonic() + PATIENCE
        while "malformed" not in state.told().dropped and time.monotonic() < until:
            time.sleep(0.01)
    sender.close()
    assert state.told().dropped == {"sidecarFull": 188, "rate": 3, "malformed": 1}


def test_the_recorder_ends_when_it_is_told_and_nothing_waits(folder: Path, redactor: Redactor) -> None:
    state, stopping = State(), threading.Event()
    work = recorder(folder, redactor, state)
    sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    with Intake(folder / "texts.sock", state) as intake:
        sender.sendto(json.dumps(ITEM).encode(), str(folder / "texts.sock"))
        while intake._line.empty():
            time.sleep(0.01)
        stopping.set()
        work.run(intake, stopping)
    sender.close()
    assert state.told().captured == 1
    assert list((folder / "spool").glob("*.body"))


def test_retention_deletes_what_is_too_old_and_nothing_else(tmp_path: Path) -> None:
    place = Folder(tmp_path)
    for name in ("2026-01-01/a/old.jsonl.gz", "2026-01-01/a/old.jsonl.gz.manifest.json", "2026-02-01/a/new.jsonl.gz"):
        place.put(name, b"x")
        if "old" in name:
            then = time.time() - 2 * 86400
            os.utime(tmp_path / name, (then, then))
    assert retain(place, 86400) == 2
    assert [entry.path for entry in place.entries()] == ["2026-02-01/a/new.jsonl.gz"]
    assert not (tmp_path / "2026-01-01").exists()


def test_a_deployment_reaches_no_other_part_of_the_destination(tmp_path: Path) -> None:
    with pytest.raises(StepError, match="names no place"):
        opened(ORDER.model_copy(update={"prefix": "pvc://captures/texts/../others"}), mounted=tmp_path)
    found = opened(ORDER, mounted=tmp_path)
    found.put("2026-01-01/r/x.jsonl.gz", b"x")
    assert (tmp_path / "texts/team-a/moderation/2026-01-01/r/x.jsonl.gz").is_file()
    assert [type(entry) for entry in found.entries()] == [Entry]


def test_objects_of_a_pod_have_names_of_their_own() -> None:
    def packed(now: float) -> Packed:
        batch = Batch()
        batch.add({"text": "x"}, {}, now)
        return batch.pack(revision="r", pod="p", encryption=ORDER.encryption, seal=bytes, now=now)

    assert packed(1_700_000_000.0).path == "2023-11-14/r/p-1700000000000.jsonl.gz"
    assert packed(1_700_000_000.0).path != packed(1_700_000_000.01).path
