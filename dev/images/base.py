"""The base image: Debian's official slim image where a registry of images can be reached, else one made of its packages."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from dev.images.buildah import Buildah, BuildError
from dev.images.records import Base, Home

OFFICIAL = "docker.io/library/debian:bookworm-slim"
SUITE = "bookworm"
ARCHIVE = "http://deb.debian.org/debian"
SOURCES = f"""\
deb {ARCHIVE} {SUITE} main
deb {ARCHIVE} {SUITE}-updates main
deb http://deb.debian.org/debian-security {SUITE}-security main
"""
RECIPE = 1
"""Grows with every change of how the image is made of packages."""
LOCAL = f"localhost/tapchanger/base:{SUITE}-{RECIPE}"
UNUSED = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "var/cache/apt", "var/log")
REACH_SECONDS = 6.0


def ensure(buildah: Buildah, home: Home) -> Base:
    """The base image of the last build where buildah still has it, else a new one, whose origin is recorded."""
    known = home.base()
    if known and _present(buildah, known.reference):
        return known
    base = _official(buildah) or _from_packages(buildah, home)
    home.write_base(base)
    return base


def _present(buildah: Buildah, reference: str) -> bool:
    try:
        buildah.run("base", "buildah", "inspect", "--type", "image", "--format", "{{.FromImageID}}", reference)
    except BuildError:
        return False
    return True


def _official(buildah: Buildah) -> Base | None:
    """Pulled by digest; None where the registry can't be reached in a few seconds."""
    where = f"docker://{OFFICIAL}"
    try:
        digest = buildah.run("base", "skopeo", "inspect", "--format", "{{.Digest}}", where, seconds=REACH_SECONDS)
        reference = f"{OFFICIAL.partition(':')[0]}@{digest}"
        buildah.run("base", "buildah", "pull", "--quiet", reference, seconds=300)
    except BuildError:
        return None
    return Base(origin=f"{OFFICIAL}@{digest}", reference=reference)


def _from_packages(buildah: Buildah, home: Home) -> Base:
    """The same system from Debian's packages, which debootstrap checks against Debian's keys."""
    packages = home.root / "cache" / "debootstrap"
    packages.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_made(home.folder), prefix="base-") as scratch:
        system = Path(scratch) / "system"
        buildah.run(
            "base", "debootstrap", "--variant=minbase", "--include=ca-certificates", f"--cache-dir={packages}",
            SUITE, str(system), ARCHIVE,
        )  # fmt: skip
        _slim(system)
        archive = Path(scratch) / "system.tar"
        buildah.run("base", "tar", "--directory", str(system), "--create", "--file", str(archive), ".")
        container = buildah.run("base", "buildah", "from", "scratch")
        buildah.run("base", "buildah", "add", "--quiet", container, str(archive), "/")
        path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        buildah.run("base", "buildah", "config", "--cmd", "bash", "--env", path, container)
        image = buildah.run("base", "buildah", "commit", "--quiet", "--rm", container, LOCAL)
    return Base(origin=f"debootstrap {SUITE} {ARCHIVE} image {image}", reference=LOCAL)


def _slim(system: Path) -> None:
    for name in UNUSED:
        shutil.rmtree(system / name, ignore_errors=True)
        (system / name).mkdir(parents=True)
    shutil.rmtree(system / "var/lib/apt/lists")
    (system / "var/lib/apt/lists").mkdir()
    (system / "etc/apt/sources.list").write_text(SOURCES)
    for name in ("etc/resolv.conf", "etc/hostname"):
        (system / name).unlink(missing_ok=True)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
