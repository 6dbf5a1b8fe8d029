"""Where content comes from: every kind of URI, and what is refused."""

from __future__ import annotations

import contextlib
import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tapchanger_serving.build.failures import StepError
from tapchanger_serving.build.sources import source_of
from tapchanger_serving.build.sources.https import HttpsSource
from tapchanger_serving.build.sources.hub import HubSource

PIN = "a" * 64


def reason(uri: str, claims: Path = Path("/claims")) -> str:
    with pytest.raises(StepError) as caught:
        source_of(uri, claims=claims)
    assert caught.value.failure.remedy
    return caught.value.failure.reason


@pytest.fixture
def claims(tmp_path: Path) -> Path:
    (tmp_path / "claims/models/a/b").mkdir(parents=True)
    (tmp_path / "claims/models/a/data.csv").write_text("text,label\n")
    return tmp_path / "claims"


def test_a_claim_is_read_where_it_is_mounted(claims: Path, tmp_path: Path) -> None:
    source = source_of(f"pvc://models/a/b@sha256:{PIN}", claims=claims)
    assert source.folder(tmp_path) == claims / "models/a/b"
    assert source.tree_pin == f"sha256:{PIN}"
    assert not source.remote
    assert source_of("pvc://models/a/data.csv", claims=claims).file(tmp_path) == claims / "models/a/data.csv"


def test_a_path_of_the_container_is_read_as_it_is(claims: Path, tmp_path: Path) -> None:
    assert source_of(f"file://{claims}/models/a", claims=Path("/none")).folder(tmp_path) == claims / "models/a"


def test_a_missing_folder_tells_what_lies_beside_it(claims: Path, tmp_path: Path) -> None:
    with pytest.raises(StepError) as caught:
        source_of("pvc://models/a/c", claims=claims).folder(tmp_path)
    assert caught.value.failure.reason == "ModelNotFound"
    assert "b, data.csv" in caught.value.failure.message


def test_a_claim_that_is_not_mounted_is_named(claims: Path) -> None:
    assert reason("pvc://other/a", claims) == "ModelNotFound"


def test_a_link_may_stay_in_its_volume_and_not_leave_it(claims: Path, tmp_path: Path) -> None:
    (claims / "models/inside").symlink_to("a/b")
    (claims / "models/outside").symlink_to(tmp_path)
    assert source_of("pvc://models/inside", claims=claims).folder(tmp_path) == claims / "models/a/b"
    with pytest.raises(StepError, match="UriInvalid"):
        source_of("pvc://models/outside", claims=claims).folder(tmp_path)


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("pvc://models/../secrets", "UriInvalid"),
        ("file://relative/path", "UriInvalid"),
        ("models/a", "UriInvalid"),
        ("pvc://models/a@sha256:ABC", "UriInvalid"),
        ("hf://a/b/c/d", "UriInvalid"),
        ("s3://bucket/../model", "UriInvalid"),
        ("s3://b/model", "UriInvalid"),
        ("gs://bucket/model?version=1", "UriInvalid"),
        ("az:///model", "UriInvalid"),
        ("oci://registry", "UriInvalid"),
        ("oci://registry/Upper:1", "UriInvalid"),
        ("ftp://host/model", "SourceUnsupported"),
        ("http://host/model.tar.gz", "SourceUnsupported"),
    ],
)
def test_what_can_not_be_read_is_refused_with_a_remedy(uri: str, expected: str) -> None:
    assert reason(uri) == expected


def test_a_hub_uri_has_a_name_and_a_revision() -> None:
    source = source_of(f"hf://org/name@v1.2@sha256:{PIN}", claims=Path("/claims"))
    assert isinstance(source, HubSource)
    assert (source.name, source.revision, source.tree_pin) == ("org/name", "v1.2", f"sha256:{PIN}")
    plain = source_of("hf://org/name", claims=Path("/claims"))
    assert isinstance(plain, HubSource)
    assert plain.revision is None


class Files(BaseHTTPRequestHandler):
    """Serves the bytes in `content`; everything else is missing."""

    content: bytes = b""

    def do_GET(self) -> None:
        found = self.path.startswith("/model")
        self.send_response(200 if found else 404)
        self.end_headers()
        if found:
            self.wfile.write(self.content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Keeps the test's output clean."""


@pytest.fixture
def host() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Files)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def archive(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for info, data in members:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def download(host: str, content: bytes, path: str = "/model.tar.gz", pin: str | None = None) -> HttpsSource:
    Files.content = content
    digest = pin or f"sha256:{hashlib.sha256(content).hexdigest()}"
    return HttpsSource(f"https://host{path}", f"{host}{path}", digest, "spec.model.uri")


def test_an_archive_with_the_right_digest_is_unpacked(host: str, tmp_path: Path) -> None:
    content = archive(
        (tarfile.TarInfo("top/config.json"), b"{}"), (tarfile.TarInfo("top/1_Pooling/config.json"), b"{}")
    )
    folder = download(host, content).folder(tmp_path / "new")
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*.json")) == [
        "1_Pooling/config.json",
        "config.json",
    ]


def test_an_archive_with_another_digest_is_not_unpacked(host: str, tmp_path: Path) -> None:
    source = download(host, archive((tarfile.TarInfo("config.json"), b"{}")), pin=f"sha256:{PIN}")
    with pytest.raises(StepError) as caught:
        source.folder(tmp_path)
    assert caught.value.failure.reason == "DigestMismatch"
    assert PIN in caught.value.failure.message
    assert not (tmp_path / "unpacked").exists()


def link(name: str, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info


@pytest.mark.parametrize(
    "member",
    [tarfile.TarInfo("../escape"), tarfile.TarInfo("/etc/escape"), link("escape", "/etc/passwd")],
    ids=["climbs", "absolute", "link"],
)
def test_an_archive_can_not_write_outside_its_folder(host: str, tmp_path: Path, member: tarfile.TarInfo) -> None:
    source = download(host, archive((member, b"x" if member.isfile() else b"")))
    before = set(tmp_path.rglob("*"))
    with contextlib.suppress(StepError):
        source.folder(tmp_path / "new")
    written = set(tmp_path.rglob("*")) - before
    assert all(path.is_relative_to(tmp_path / "new") for path in written)
    assert not Path("/etc/escape").exists()


def test_a_download_and_what_it_unpacks_to_are_bounded(
    host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAPCHANGER_MAX_DOWNLOAD_BYTES", "1000")
    bomb = archive((tarfile.TarInfo("zeros"), b"\0" * 100_000))
    assert len(bomb) < 1000
    with pytest.raises(StepError, match="ArchiveInvalid"):
        download(host, bomb).folder(tmp_path / "one")
    with pytest.raises(StepError, match="DownloadTooLarge"):
        download(host, b"x" * 2000, "/model.csv").file(tmp_path / "two")


def test_garbage_is_no_archive(host: str, tmp_path: Path) -> None:
    with pytest.raises(StepError, match="ArchiveInvalid"):
        download(host, b"not a tar").folder(tmp_path)


def test_a_missing_page_is_reported(host: str, tmp_path: Path) -> None:
    with pytest.raises(StepError, match="404"):
        download(host, b"", "/none.csv").file(tmp_path)


def test_nothing_is_downloaded_without_a_digest(tmp_path: Path) -> None:
    with pytest.raises(StepError) as caught:
        source_of("https://host.invalid/model.tar.gz", claims=tmp_path).folder(tmp_path)
    assert caught.value.failure.reason == "DigestMissing"
    assert "curl -sL https://host.invalid/model.tar.gz | sha256sum" in (caught.value.failure.remedy or "")


def test_a_page_that_is_no_archive_is_refused_before_the_download(tmp_path: Path) -> None:
    with pytest.raises(StepError, match="SourceUnsupported"):
        source_of(f"https://host.invalid/model.zip@sha256:{PIN}", claims=tmp_path).folder(tmp_path)
