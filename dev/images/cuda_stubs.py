"""Lets PyTorch's CUDA build run on a CPU without NVIDIA's libraries, which are three times its size.

PyTorch's own libraries are linked against cuBLAS, cuDNN and others, so that it can't be imported without them, though
none of their functions is called where there is no GPU. This script puts small libraries in their places that define
the symbols PyTorch asks for; a call of one ends the process with an illegal instruction. Libraries that PyTorch calls
without a GPU (cudart, to find that there is none, and cupti, to learn the same for its profiler) must be the real ones.

Run with the site-packages folder as its argument, in an image that is for CPUs only. Needs binutils.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

FAMILIES = ("libcu", "libnv", "libnccl")
DRIVER = "libcuda.so.1"
"""The driver's library is only ever opened by hand."""
PREFIXES = ("cu", "nccl", "nv")
VERSIONS = {"libnvshmem_host.so.3": "NVSHMEM"}
"""Names of symbol versions that aren't the library's name."""


def run(*command: str | Path) -> str:
    """Standard output of a command; a failure raises with what it said."""
    return subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True).stdout


def missing_libraries(libraries: Iterable[Path], present: set[str]) -> list[str]:
    """NVIDIA libraries that some of `libraries` is linked against and that aren't there."""
    lines = [line for line in run("readelf", "-d", *libraries).splitlines() if "(NEEDED)" in line]
    needed = {line.split("[")[1].rstrip("]") for line in lines}
    return sorted(name for name in needed - present if name.startswith(FAMILIES) and name != DRIVER)


def undefined_symbols(libraries: Iterable[Path], others: Iterable[Path]) -> Mapping[str, set[str]]:
    """Symbols by version ("" for those without one) that `libraries` need and none of all libraries defines."""
    libraries = list(libraries)
    defined = {
        line.split()[-1].partition("@")[0]
        for line in run("nm", "--dynamic", "--defined-only", *libraries, *others).splitlines()
        if " " in line
    }
    needed = defaultdict(set)
    for line in run("nm", "--dynamic", "--undefined-only", *libraries).splitlines():
        kind, _, symbol = line.strip().partition(" ")
        name, _, version = symbol.partition("@")
        if kind == "U" and name not in defined and (version or name.startswith(PREFIXES)):
            needed[version.strip("@")].add(name)
    return needed


def write_stub(file: Path, version: str, symbols: Iterable[str]) -> None:
    """A shared library that defines `symbols` as functions which must not be called."""
    with tempfile.TemporaryDirectory() as folder:
        source, compiled, script = (Path(folder) / name for name in ("stub.s", "stub.o", "stub.map"))
        body = "".join(f".globl {name}\n.type {name}, @function\n{name}: ud2\n" for name in sorted(symbols))
        source.write_text(f".text\n{body}")
        script.write_text(f"{version} {{ }};\n")
        run("as", "-o", compiled, source)
        run("ld", "-shared", "-soname", file.name, "--version-script", script, "-o", file, compiled)


def main(site: Path) -> None:
    """Writes the stubs that PyTorch in `site` needs beside its own libraries."""
    folder = site / "torch" / "lib"
    libraries = sorted(folder.glob("*.so*"))
    real = sorted((site / "nvidia").rglob("lib*.so*"))
    names = missing_libraries(libraries, {file.name for file in (*libraries, *real)})
    symbols = undefined_symbols(libraries, real)
    unversioned = symbols.get("", set())
    for name in names:
        version = VERSIONS.get(name, name)
        # Symbols without a version are found in whichever library comes first.
        write_stub(folder / name, version, symbols.get(version, set()) | (unversioned if name == names[0] else set()))
    print(f"stand-ins written for {', '.join(names) or 'no library'}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
