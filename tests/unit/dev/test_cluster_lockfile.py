"""The lock file, and what proves a program."""

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from dev.cluster import golang, lockfile, tools
from dev.cluster.errors import ClusterError
from dev.cluster.lockfile import Official

DIGEST = "a" * 64


def lock_with(tmp_path: Path, **entry: Any) -> Path:
    path = tmp_path / "lock.json"
    path.write_text(json.dumps({"tools": {"thing": entry}}))
    return path


def test_every_tool_is_pinned_and_its_sources_are_proven() -> None:
    for tool in lockfile.load():
        assert tool.version.startswith("v"), tool.name
        if tool.build.module is None:
            assert "." in tool.build.package, f"{tool.name} needs a module path that Go's checksum database knows"
        else:
            sums = lockfile.LOCK.parent / tool.build.module / "go.sum"
            assert tool.name == "pause" or sums.stat().st_size > 0, f"{tool.name} has no go.sum"


def test_official_addresses_are_filled_in() -> None:
    by_name = {tool.name: tool for tool in lockfile.load(platform="linux-arm64")}
    kubectl, helm = by_name["kubectl"].official, by_name["helm"].official
    assert kubectl is not None
    assert helm is not None
    assert kubectl.url == f"https://dl.k8s.io/release/{by_name['kubectl'].version}/bin/linux/arm64/kubectl"
    assert helm.member == "linux-arm64/helm"
    assert all("{" not in f"{tool.official}" for tool in by_name.values())


def test_kubernetes_programs_carry_their_version() -> None:
    kubelet = next(tool for tool in lockfile.load() if tool.name == "kubelet")
    assert f"k8s.io/component-base/version.gitVersion={kubelet.version}" in kubelet.build.ldflags


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        ({"build": {"package": "p"}}, r"thing\.version"),
        ({"version": "v1"}, r"thing\.build"),
        ({"version": "v1", "build": {}}, r"thing\.build\.package"),
        (
            {"version": "v1", "build": {"package": "p"}, "official": {"url": "http://x", "sha256_url": "https://x"}},
            "only https",
        ),
        (
            {
                "version": "v1",
                "build": {"package": "p"},
                "official": {"url": "https://x", "sha256": {"linux-amd64": "1"}},
            },
            "64 hex digits",
        ),
    ],
)
def test_an_incomplete_entry_is_refused_by_name(tmp_path: Path, entry: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ClusterError, match=complaint):
        lockfile.load(lock_with(tmp_path, **entry))


def test_a_recorded_digest_takes_precedence_over_a_published_one(tmp_path: Path) -> None:
    official = {"url": "https://x/y", "sha256": {"linux-amd64": DIGEST}, "sha256_url": "https://x/y.sha256"}
    path = lock_with(tmp_path, version="v1", build={"package": "p"}, official=official)
    (here,) = lockfile.load(path, "linux-amd64")
    (elsewhere,) = lockfile.load(path, "linux-arm64")
    assert here.official == Official("https://x/y", DIGEST, None, None)
    assert elsewhere.official == Official("https://x/y", None, "https://x/y.sha256", None)


def test_published_digests_are_read_in_every_common_form() -> None:
    assert lockfile.published_digest(f"{DIGEST}\n", "any") == DIGEST
    assert lockfile.published_digest(f"{'b' * 64}  other\n{DIGEST} *dir/file.tgz\n", "file.tgz") == DIGEST
    with pytest.raises(ClusterError, match=r"file\.tgz"):
        lockfile.published_digest(f"{DIGEST}  file.tgz.sig\n", "file.tgz")


def test_a_download_with_another_digest_is_refused() -> None:
    answers = {"https://x/y.sha256": DIGEST.encode(), "https://x/y": b"something else"}
    with pytest.raises(ClusterError, match="was expected"):
        tools.download(Official("https://x/y", None, "https://x/y.sha256", None), lambda url, _: answers[url])


def test_a_member_of_a_proven_archive_is_the_program() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        member = tarfile.TarInfo("dir/helm")
        member.size = 4
        tar.addfile(member, io.BytesIO(b"helm"))
    data = buffer.getvalue()
    sha256 = hashlib.sha256(data).hexdigest()
    assert tools.download(Official("https://x/a.tgz", sha256, None, "dir/helm"), lambda *_: data) == b"helm"
    with pytest.raises(ClusterError, match="holds no file dir/other"):
        tools.download(Official("https://x/a.tgz", sha256, None, "dir/other"), lambda *_: data)


def made_in(folder: Path) -> tuple[lockfile.Tool, dict[str, tools.Made]]:
    tool = next(tool for tool in lockfile.load() if tool.name == "pause")
    (folder / "pause").write_bytes(b"program")
    return tool, {"pause": tools.Made(lockfile.recipe(tool), lockfile.digest_of(b"program"), "test")}


def test_a_program_is_proven_by_its_recipe_and_its_bytes(tmp_path: Path) -> None:
    tool, made = made_in(tmp_path)
    assert tools.is_proven(tool, tmp_path, made)
    assert not tools.is_proven(tool, tmp_path, {})
    assert not tools.is_proven(tool, tmp_path, {"pause": tools.Made("old recipe", made["pause"].sha256, "test")})
    (tmp_path / "pause").write_bytes(b"progra")
    assert not tools.is_proven(tool, tmp_path, made)
    (tmp_path / "pause").unlink()
    assert not tools.is_proven(tool, tmp_path, made)


def test_another_version_or_source_is_another_recipe(tmp_path: Path) -> None:
    tool = next(tool for tool in lockfile.load() if tool.name == "pause")
    source = tmp_path / "go" / "pause"
    source.mkdir(parents=True)
    (source / "main.go").write_text("package main")
    before = lockfile.recipe(tool, tmp_path)
    (source / "main.go").write_text("package main // changed")
    assert lockfile.recipe(tool, tmp_path) != before


@pytest.mark.parametrize("text", ["", "{", "[]", '{"etcd": {"sha256": "x"}}'])
def test_half_written_digests_prove_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / ".digests.json").write_text(text)
    assert tools.read_made(tmp_path) == {}


def test_kubernetes_programs_are_built_together_and_the_rest_alone() -> None:
    groups = [tuple(tool.name for tool in group) for group in tools.groups(lockfile.load())]
    assert ("coredns",) in groups
    assert any({"kubelet", "kubectl", "kube-apiserver"} <= set(group) for group in groups)


@pytest.mark.parametrize(
    ("version", "enough"),
    [("go1.26.0", True), ("go1.27rc1", True), ("go2.0", True), ("go1.25.9", False), ("", False), ("devel", False)],
)
def test_an_old_go_is_not_used(version: str, enough: bool) -> None:
    assert golang.is_new_enough(version) is enough
