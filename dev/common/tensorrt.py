"""TensorRT's own libraries, against which our calls are checked where no GPU is. They are fetched once and stay in the cache.

NVIDIA's wheel of them downloads from a server that not every machine reaches; Maven's central repository has them too. They
are NVIDIA's, under its licence: they are used here, and never passed on.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import shutil
import subprocess
import tempfile
import zipfile
from pathlib import Path

ARTIFACT = "org.bytedeco:tensorrt:11.2-1.5.14:jar:linux-x86_64-redist"
SHA256 = "909dea6c768a0db60ab53d76d9f089c78cada1b55ad5d3d78b308b140f669f6d"
LIBRARIES = ("libnvinfer.so.11", "libnvinfer_plugin.so.11", "libnvonnxparser.so.11")
"""In the order in which one needs the other."""

_GET = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:get"
_SECONDS = 900.0


class FetchError(Exception):
    """The libraries can't be had."""


def load(home: Path) -> None:
    """Loads the libraries into this process, so that `tensorrt_bindings` can be imported. Raises :class:`FetchError`."""
    folder = libraries(home)
    for name in LIBRARIES:
        ctypes.CDLL(str(folder / name), mode=ctypes.RTLD_GLOBAL)


def fetched(home: Path) -> bool:
    """Whether the libraries are below `home` already."""
    return _folder(home).exists()


def libraries(home: Path) -> Path:
    """The folder of the libraries below `home`; the first time 556 MB are downloaded. Raises :class:`FetchError`."""
    folder = _folder(home)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.parent.joinpath(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".part-") as part:
                made = _extracted(_downloaded(Path(part)), Path(part) / "made")
                made.rename(folder)
    return folder


def _folder(home: Path) -> Path:
    return home / "tensorrt" / SHA256[:12]


def _downloaded(part: Path) -> Path:
    maven = shutil.which("mvn")
    if maven is None:
        raise FetchError("TensorRT's libraries come through Maven, and there is no mvn: install the package maven")
    command = [maven, "-q", "-B", f"-Dmaven.repo.local={part}/repository", _GET, "-Dtransitive=false"]
    try:
        done = subprocess.run(
            [*command, f"-Dartifact={ARTIFACT}"],
            cwd=part, capture_output=True, text=True, check=False, timeout=_SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise FetchError(f"{ARTIFACT} did not come within {_SECONDS:.0f} s") from error
    found = sorted(part.glob("repository/org/bytedeco/tensorrt/**/*.jar"))
    if done.returncode != 0 or len(found) != 1:
        raise FetchError(f"{ARTIFACT} can't be downloaded: {(done.stdout + done.stderr)[-1000:].strip()}")
    return found[0]


def _extracted(jar: Path, target: Path) -> Path:
    with jar.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != SHA256:
        raise FetchError(f"{ARTIFACT}: the digest is {digest}, and {SHA256} was expected")
    target.mkdir()
    with zipfile.ZipFile(jar) as archive:
        members = {name.rpartition("/")[2]: name for name in archive.namelist()}
        for name in LIBRARIES:
            with archive.open(members[name]) as source, (target / name).open("wb") as copy:
                shutil.copyfileobj(source, copy, 1 << 20)
    return target
