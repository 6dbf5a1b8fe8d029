"""The images, what each is made of, and the key that changes exactly when one of them must be built again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

SERVING = "serving/tapchanger_serving"
COMMON = ("Dockerfile", ".dockerignore", "dev/images/installing", "requirements/tools.txt")
FETCHING = tuple(
    f"{SERVING}/build/{name}"
    for name in (
        "__init__.py", "credentials.py", "digest.py", "failures.py", "limits.py", "log.py", "places.py", "redaction.py",
        "scratch.py", "stores", "transport",
    )
)  # fmt: skip
CONTRACT = (f"{SERVING}/__init__.py", f"{SERVING}/contract")


@dataclass(frozen=True)
class Target:
    """One target of the Dockerfile and the files and folders that its stages copy."""

    name: str
    sources: tuple[str, ...]


TARGETS = {
    target.name: target
    for target in (
        Target("operator", (*COMMON, *CONTRACT, "requirements/operator.txt", "operator/tapchanger_operator")),
        Target("observer", (*COMMON, *CONTRACT, "requirements/observer.txt", f"{SERVING}/observer")),
        Target(
            "server",
            (
                *COMMON,
                *CONTRACT,
                "requirements/server.txt",
                "requirements/triton.txt",
                *FETCHING,
                f"{SERVING}/engines",
                f"{SERVING}/repository",
                f"{SERVING}/backends",
                f"{SERVING}/launcher",
            ),
        ),
        Target("capture", (*COMMON, *CONTRACT, "requirements/capture.txt", *FETCHING, f"{SERVING}/capture")),
        Target("router", (*COMMON, "requirements/router.txt")),
        Target(
            "builder",
            (
                *COMMON,
                "requirements/torch-cpu.txt",
                "requirements/torch-cuda.txt",
                "requirements/builder.txt",
                "dev/images/cuda_stubs.py",
                "dev/images/torch_check.py",
                SERVING,
            ),
        ),
    )
}


def content_key(root: Path, target: Target, base: str, arguments: Mapping[str, str]) -> str:
    """Hex SHA-256 over the base image, the build arguments and every source file's path, mode and content."""
    key = hashlib.sha256()
    for part in (target.name, base, *(f"{name}={value}" for name, value in sorted(arguments.items()))):
        key.update(f"{part}\0".encode())
    for path in _files(root, target.sources):
        key.update(f"{path.relative_to(root)}\0{path.stat().st_mode & 0o111:o}\0".encode())
        key.update(hashlib.sha256(path.read_bytes()).digest())
    return key.hexdigest()


def _files(root: Path, sources: Iterable[str]) -> list[Path]:
    found: set[Path] = set()
    for source in sources:
        path = root / source
        if not path.exists():
            raise FileNotFoundError(f"{source} is missing from the checkout; its image can't be built without it")
        found.update([path] if path.is_file() else (file for file in path.rglob("*") if file.is_file()))
    return sorted(file for file in found if "__pycache__" not in file.parts)
