"""Reads `tools.lock.json`: which program in which version, and how to prove that a file is that program."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dev.cluster.errors import ClusterError

LOCK = Path(__file__).with_name("tools.lock.json")
HEX_DIGITS = frozenset("0123456789abcdef")


@dataclass(frozen=True)
class Official:
    """A published release. Exactly one of `sha256` and `sha256_url` is set.

    `sha256_url` is the publisher's own list (`DIGEST  FILE` lines, or one bare digest). `member` is the path
    inside the archive; without it the download is the program.
    """

    url: str
    sha256: str | None
    sha256_url: str | None
    member: str | None


@dataclass(frozen=True)
class Build:
    """How Go makes the program: from a `module` folder of this package, or by `go install` of `package@version`."""

    package: str
    module: str | None
    ldflags: str
    tags: str = field(default="", repr=False)
    """Build tags. Not in `repr`, so that tools without them keep their recipe."""


@dataclass(frozen=True)
class Tool:
    """One program of `$TAPCHANGER_HOME/bin`."""

    name: str
    version: str
    official: Official | None
    build: Build


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def digest_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load(path: Path = LOCK, platform: str = "linux-amd64") -> tuple[Tool, ...]:
    """All tools of the lock file for `platform`, in the file's order.

    Raises:
        ClusterError: an entry is incomplete; the text names the entry and the field.
    """
    document = json.loads(path.read_text())
    return tuple(_tool(name, entry, platform) for name, entry in document["tools"].items())


def published_digest(text: str, file_name: str) -> str:
    """The digest of `file_name` in a publisher's checksum file.

    Raises:
        ClusterError: the file names neither this file nor a single bare digest.
    """
    lines = [line.split() for line in text.splitlines() if line.strip()]
    if len(lines) == 1 and len(lines[0]) == 1 and is_digest(lines[0][0]):
        return lines[0][0]
    for fields in lines:
        if len(fields) == 2 and fields[1].lstrip("*").rsplit("/", 1)[-1] == file_name and is_digest(fields[0]):
            return fields[0]
    raise ClusterError(f"the published checksums do not name {file_name}")


def is_digest(text: str) -> bool:
    return len(text) == 64 and set(text) <= HEX_DIGITS


def recipe(tool: Tool, folder: Path = LOCK.parent) -> str:
    """A digest over everything that decides what `tool` is: its entry and the sources of its module."""
    hasher = hashlib.sha256(repr(tool).encode() + tool.build.tags.encode())
    if tool.build.module is not None:
        for source in sorted((folder / tool.build.module).iterdir()):
            hasher.update(source.name.encode() + b"\0" + source.read_bytes())
    return hasher.hexdigest()


def _tool(name: str, entry: Mapping[str, Any], platform: str) -> Tool:
    version = _text(name, entry, "version")
    build = entry.get("build")
    if not isinstance(build, dict):
        raise ClusterError(f"tools.lock.json: {name}.build is missing; write how Go makes it")
    fill = {"version": version, "platform": platform, "os_arch": platform.replace("-", "/")}
    return Tool(
        name=name,
        version=version,
        official=_official(name, entry.get("official"), fill, platform),
        build=Build(
            package=_text(f"{name}.build", build, "package"),
            module=build.get("module"),
            ldflags=" ".join(build.get("ldflags", [])).format(**_version_parts(version)),
            tags=",".join(build.get("tags", [])),
        ),
    )


def _official(name: str, entry: Mapping[str, Any] | None, fill: dict[str, str], platform: str) -> Official | None:
    if entry is None:
        return None
    where = f"{name}.official"
    bare = fill | {"bare_version": fill["version"].removeprefix("v"), "platform_": platform.replace("-", "_")}
    sha256 = entry.get("sha256", {}).get(platform)
    sha256_url = entry.get("sha256_url")
    if sha256 is None and sha256_url is None:
        return None
    if sha256 is not None and not is_digest(sha256):
        raise ClusterError(f"tools.lock.json: {where}.sha256.{platform}: found {sha256!r}; write 64 hex digits")
    url = _https(where, _text(where, entry, "url").format(**bare))
    member = entry.get("member")
    return Official(
        url=url,
        sha256=sha256,
        sha256_url=None if sha256 is not None else _https(where, str(sha256_url).format(**bare)),
        member=None if member is None else member.format(**bare),
    )


def _https(where: str, url: str) -> str:
    if not url.startswith("https://"):
        raise ClusterError(f"tools.lock.json: {where}: found {url!r}; only https is downloaded")
    return url


def _text(where: str, entry: Mapping[str, Any], field: str) -> str:
    value = entry.get(field)
    if not isinstance(value, str) or not value:
        raise ClusterError(f"tools.lock.json: {where}.{field}: found {value!r}; write a text")
    return value


def _version_parts(version: str) -> dict[str, str]:
    major, minor, *_ = (*version.removeprefix("v").split("."), "0")
    return {"version": version, "major": major, "minor": minor}
