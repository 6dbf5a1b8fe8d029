"""Puts every program of the lock file into `$TAPCHANGER_HOME/bin`, downloaded or built, and proves it before use."""

import fcntl
import io
import json
import os
import platform
import shutil
import tarfile
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from dev.cluster import golang, lockfile, processes
from dev.cluster.errors import ClusterError
from dev.cluster.lockfile import Build, Official, Tool
from dev.cluster.report import Report

PROBE_SECONDS = 3.0
DOWNLOAD_SECONDS = 60.0
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}

Fetch = Callable[[str, float], bytes]


@dataclass(frozen=True)
class Made:
    """What `.digests.json` remembers of one program."""

    recipe: str
    sha256: str
    source: str


def ensure(home: Path, report: Report, lock: Path = lockfile.LOCK, only: str | None = None) -> None:
    """Downloads or builds what is missing, altered or of another version; returns when all are proven.

    These are the tools of the file `lock`, or the one of them that is named `only`.

    Raises:
        ClusterError: a program can neither be downloaded nor built.
    """
    folder = home / "bin"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as turn:
        # Of two commands that need tools at once the second one finds what the first one made.
        fcntl.flock(turn, fcntl.LOCK_EX)
        _ensure(folder, home, report, lock, only)


def _ensure(folder: Path, home: Path, report: Report, lock: Path, only: str | None) -> None:
    for partial in folder.glob(".partial-*"):
        shutil.rmtree(partial, ignore_errors=True)
    tools = tuple(tool for tool in lockfile.load(lock, platform=this_platform()) if only in (None, tool.name))
    made = read_made(folder)
    missing = tuple(tool for tool in tools if not is_proven(tool, folder, made))
    if not missing:
        report.say(f"{len(tools)} programs in {folder} have the recorded digests")
        return
    report.say(f"to make: {', '.join(tool.name for tool in missing)}")
    for tool in _download_all(missing, folder, report):
        report.say(f"downloaded {tool.name} {tool.version}")
    missing = tuple(tool for tool in missing if not is_proven(tool, folder, read_made(folder)))
    if missing:
        _build_all(missing, folder, golang.find(home, report), report)


def this_platform() -> str:
    machine = platform.machine()
    if platform.system() != "Linux" or machine not in MACHINES:
        raise ClusterError(
            f"found {platform.system()} on {machine}; the cluster runs on Linux on {', '.join(MACHINES)}"
        )
    return f"linux-{MACHINES[machine]}"


def read_made(folder: Path) -> dict[str, Made]:
    """The remembered digests; nothing where a crash left the file unreadable, so that all is made again."""
    try:
        document = json.loads((folder / ".digests.json").read_text())
        return {name: Made(**entry) for name, entry in document.items()}
    except (FileNotFoundError, ValueError, TypeError, AttributeError):
        return {}


def is_proven(tool: Tool, folder: Path, made: Mapping[str, Made]) -> bool:
    """Whether `folder` holds `tool` as it was made from today's recipe, byte for byte."""
    entry, path = made.get(tool.name), folder / tool.name
    if entry is None or entry.recipe != lockfile.recipe(tool) or not path.is_file():
        return False
    return lockfile.digest_of_file(path) == entry.sha256


def groups(tools: Sequence[Tool]) -> tuple[tuple[Tool, ...], ...]:
    """Tools that one `go build` makes together: same module, same flags."""
    together: dict[tuple[str, str, str], list[Tool]] = {}
    for tool in tools:
        together.setdefault((tool.build.module or tool.name, tool.build.ldflags, tool.build.tags), []).append(tool)
    return tuple(tuple(group) for group in together.values())


def fetch(url: str, timeout: float) -> bytes:
    with urllib.request.urlopen(url, timeout=timeout) as response:
        data: bytes = response.read()
        return data


def download(official: Official, get: Fetch = fetch) -> bytes:
    """The program's bytes, after the download has been proven.

    Raises:
        ClusterError: the digest differs, or the archive lacks the member.
        OSError: the server does not answer.
    """
    expected = official.sha256
    name = official.url.rsplit("/", 1)[-1]
    if expected is None:
        assert official.sha256_url is not None
        expected = lockfile.published_digest(get(official.sha256_url, DOWNLOAD_SECONDS).decode(), name)
    data = get(official.url, DOWNLOAD_SECONDS)
    if lockfile.digest_of(data) != expected:
        raise ClusterError(f"{official.url}: the digest is {lockfile.digest_of(data)}, and {expected} was expected")
    if official.member is None:
        return data
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        try:
            member = archive.extractfile(official.member)
        except KeyError:
            member = None
        if member is None:
            raise ClusterError(f"{official.url}: holds no file {official.member}")
        return member.read()


def _download_all(tools: Sequence[Tool], folder: Path, report: Report) -> list[Tool]:
    candidates = [(tool, tool.official) for tool in tools if tool.official is not None]
    if not candidates:
        return []
    first = candidates[0][1]
    try:
        fetch(first.sha256_url or first.url, PROBE_SECONDS)
    except OSError as error:
        report.say(f"official releases cannot be reached ({error}): building from source")
        return []
    done = []
    for tool, official in candidates:
        try:
            _keep(tool, download(official), official.url, folder)
        except (OSError, ClusterError) as error:
            report.say(f"{tool.name} is built from source, because its download failed: {error}")
            continue
        done.append(tool)
    return done


def _build_all(tools: Sequence[Tool], folder: Path, go: golang.Go, report: Report) -> None:
    for group in groups(tools):
        names = ", ".join(tool.name for tool in group)
        patience = " (several minutes the first time)" if len(group) > 1 else ""
        report.say(f"building {names} {group[0].version}{patience}")
        partial = folder / f".partial-{os.getpid()}"
        partial.mkdir()
        try:
            _go_build([tool.build for tool in group], group[0].version, partial, go)
            if len(group) == 1:
                (built,) = partial.iterdir()
                built.rename(partial / group[0].name)
            for tool in group:
                _keep(tool, (partial / tool.name).read_bytes(), f"go {tool.build.package}", folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _go_build(builds: Sequence[Build], version: str, target: Path, go: golang.Go) -> None:
    flags = ["-trimpath", "-ldflags", builds[0].ldflags, *(["-tags", builds[0].tags] if builds[0].tags else [])]
    packages = [build.package for build in builds]
    module = builds[0].module
    if module is None:
        go.run(["install", *flags, f"{packages[0]}@{version}"], cwd=target, environment={"GOBIN": str(target)})
    else:
        source = lockfile.LOCK.parent / module
        go.run(["build", "-mod=readonly", *flags, "-o", f"{target}/", *packages], cwd=source, environment={})


def _keep(tool: Tool, data: bytes, source: str, folder: Path) -> None:
    partial = folder / f".{tool.name}.{os.getpid()}"
    partial.write_bytes(data)
    partial.chmod(0o755)
    partial.replace(folder / tool.name)
    made = read_made(folder) | {tool.name: Made(lockfile.recipe(tool), lockfile.digest_of(data), source)}
    text = json.dumps({name: asdict(entry) for name, entry in sorted(made.items())}, indent=1)
    processes.write_atomically(folder / ".digests.json", text + "\n")
