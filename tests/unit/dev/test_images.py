"""Images are built when, and only when, something that they are made of has changed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from dev.images import __main__ as command
from dev.images import records, registry, settings
from dev.images.targets import TARGETS, Target, content_key

ROOT = Path(__file__).parents[3]
TARGET = Target("small", ("Dockerfile", "code"))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout of two files."""
    (tmp_path / "code").mkdir()
    (tmp_path / "Dockerfile").write_text("FROM x")
    (tmp_path / "code" / "a.py").write_text("1")
    return tmp_path


def key(checkout: Path, base: str = "base@1", **arguments: str) -> str:
    return content_key(checkout, TARGET, base, arguments)


def test_the_same_content_has_the_same_key(checkout: Path) -> None:
    before = key(checkout)
    (checkout / "code" / "a.py").write_text("1")
    (checkout / "unrelated.py").write_text("2")
    (checkout / "code" / "__pycache__").mkdir()
    (checkout / "code" / "__pycache__" / "a.pyc").write_text("3")
    assert key(checkout) == before


def test_content_names_rights_base_and_arguments_change_the_key(checkout: Path) -> None:
    keys = [key(checkout), key(checkout, base="base@2"), key(checkout, TORCH="cuda")]
    (checkout / "code" / "a.py").chmod(0o755)
    keys.append(key(checkout))
    (checkout / "code" / "a.py").write_text("2")
    keys.append(key(checkout))
    (checkout / "code" / "a.py").rename(checkout / "code" / "b.py")
    keys.append(key(checkout))
    assert len(set(keys)) == len(keys)


def test_a_missing_source_is_named(checkout: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"lost\.txt is missing"):
        content_key(checkout, Target("small", ("lost.txt",)), "base", {})


def copied_sources() -> Iterator[str]:
    for line in (ROOT / "Dockerfile").read_text().splitlines():
        if match := re.match(r"COPY (?!--from)(.+) \S+$", line):
            yield from match[1].replace("${TORCH}", "cpu").split()


def test_every_file_that_the_dockerfile_copies_counts_for_some_target_and_may_be_read() -> None:
    known = [source for target in TARGETS.values() for source in target.sources]
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = list(copied_sources())
    assert copied
    for source in copied:
        assert any(source == name or source.startswith(f"{name}/") for name in known), source
        assert any(Path(source).match(name) or source.startswith(f"{name}/") or source == name for name in allowed), (
            source
        )


def test_every_target_is_one_of_the_dockerfiles() -> None:
    stages = set(re.findall(r"^FROM .+ AS (\S+)$", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE))
    assert set(TARGETS) <= stages


REFERENCE = "localhost:5000/tapchanger/router@sha256:1"


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> records.Home:
    """A home in which the router has been built from this checkout and the registry has it."""
    home = records.Home(tmp_path)
    home.write_base(records.Base(origin="base@1", reference="base"))
    home.write_records({"router": records.Record(content_key(ROOT, TARGETS["router"], "base@1", {}), REFERENCE)})
    monkeypatch.setattr(registry, "has", lambda reference: reference == REFERENCE)
    return home


def unchanged(home: records.Home, where: str = "localhost:5000/tapchanger", **arguments: str) -> bool:
    return command._unchanged("router", f"{where}/router", home.records().get("router"), arguments, home)


def test_what_was_built_and_is_in_the_registry_is_left_alone(built: records.Home) -> None:
    assert unchanged(built)


def test_another_registry_other_arguments_or_another_base_mean_building(built: records.Home) -> None:
    assert not unchanged(built, where="registry.example/team")
    assert not unchanged(built, TORCH="cuda")
    built.write_base(records.Base(origin="base@2", reference="base"))
    assert not unchanged(built)


def test_an_image_that_the_registry_lost_is_pushed_again(built: records.Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "has", lambda reference: False)
    assert not unchanged(built)


def test_records_survive_a_cut_and_name_the_charts_references(built: records.Home) -> None:
    assert json.loads(built.images.read_text()) == {"router": REFERENCE}
    (built.folder / "records.json").write_text('{"router": {"ke')
    assert built.records() == {}


@pytest.mark.parametrize(
    ("where", "local"), [("localhost:5000/x", True), ("127.0.0.1:5000", True), ("localhost.example/x", False)]
)
def test_only_this_machines_registry_is_spoken_to_in_plain_http(where: str, local: bool) -> None:
    assert registry.is_local(where) is local


def test_builds_get_the_hosts_certificates_and_index(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.write_text("CERTIFICATE")
    environment = {
        "SSL_CERT_FILE": str(bundle),
        "PIP_INDEX_URL": "https://mirror.example/simple",
        "XDG_CONFIG_HOME": str(tmp_path),
    }
    folder = settings.prepare(tmp_path / "settings", environment)
    assert (folder / "ca.crt").read_text() == "CERTIFICATE"
    assert (folder / "pip.conf").read_text() == "[global]\nindex-url = https://mirror.example/simple\n"
    assert (folder / "uv.toml").read_text() == 'index-url = "https://mirror.example/simple"\n'


def locked(name: str) -> dict[str, str]:
    """Package → version of one lock."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    return dict(re.findall(r"^([a-z0-9-]+)==([^ \n]+)", text, flags=re.MULTILINE))


@pytest.mark.parametrize("package", ["onnxruntime", "openvino", "tokenizers", "pydantic"])
def test_what_measures_engines_is_what_serves_them(package: str) -> None:
    assert locked("builder")[package] == locked("server")[package]


def test_the_two_builds_of_pytorch_are_one_version_and_the_builder_has_it() -> None:
    assert locked("torch-cpu")["torch"] == locked("torch-cuda")["torch"] == locked("builder")["torch"]
    assert locked("torch-cpu").items() <= locked("builder").items()


def test_the_server_reads_texts_with_numpy_1_and_can_download_nothing() -> None:
    server = locked("server")
    assert server["numpy"].startswith("1.")
    assert not {"huggingface-hub", "openvino-telemetry", "torch"} & set(server)


def test_no_image_reports_on_its_users() -> None:
    stages = (ROOT / "Dockerfile").read_text().split("\nFROM ")
    for name in ("builder", "server"):
        (stage,) = (stage for stage in stages if stage.splitlines()[0].endswith(f" AS {name}"))
        assert "ORT_DISABLE_TELEMETRY=1" in stage
        assert "openvino-telemetry" not in locked(name)


@pytest.mark.parametrize("lock", ["operator", "observer", "builder", "server", "router", "triton", "torch-cpu"])
def test_locks_hold_hashes_and_no_addresses(lock: str) -> None:
    text = (ROOT / "requirements" / f"{lock}.txt").read_text()
    assert "://" not in text
    assert all("--hash=sha256:" in block for block in re.split(r"\n(?=[a-z0-9-]+==)", text)[1:])
