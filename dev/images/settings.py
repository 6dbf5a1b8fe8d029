"""How this machine reaches package registries, for builds to use without keeping it in an image."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

CA_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")


def prepare(folder: Path, environment: Mapping[str, str] = os.environ) -> Path:
    """Fills `folder`, which is mounted at /run/build, with `ca.crt`, `pip.conf` and `uv.toml` where there is need."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    bundles = (environment.get("SSL_CERT_FILE"), *CA_BUNDLES)
    if bundle := next((path for path in bundles if path and Path(path).is_file()), None):
        shutil.copyfile(bundle, folder / "ca.crt")
    if index := _index(environment):
        (folder / "pip.conf").write_text(f"[global]\nindex-url = {index}\n")
        (folder / "uv.toml").write_text(f"index-url = {json.dumps(index)}\n")
    for source, name in _files(environment):
        if source.is_file() and not (folder / name).exists():
            shutil.copyfile(source, folder / name)
    for file in folder.iterdir():
        file.chmod(0o600)
    return folder


def _index(environment: Mapping[str, str]) -> str | None:
    names = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL")
    return next((environment[name] for name in names if environment.get(name)), None)


def _files(environment: Mapping[str, str]) -> list[tuple[Path, str]]:
    configuration = Path(environment.get("XDG_CONFIG_HOME") or "~/.config").expanduser()
    return [
        (configuration / "uv" / "uv.toml", "uv.toml"),
        (Path("/etc/uv/uv.toml"), "uv.toml"),
        (configuration / "pip" / "pip.conf", "pip.conf"),
        (Path("/etc/pip.conf"), "pip.conf"),
    ]
