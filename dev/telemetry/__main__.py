"""Command line of :mod:`dev.telemetry`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

from dev.telemetry import dashboards, rules

FILES: Final = Path(__file__).parents[2] / "charts" / "tapchanger" / "files"


def wanted() -> dict[Path, str]:
    """The files' paths and texts."""
    found = {FILES / "rules" / f"{name}.yaml": text for name, text in rules.files().items()}
    return found | {FILES / "dashboards" / f"{name}.json": text for name, text in dashboards.files().items()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m dev.telemetry", description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail where a file is not what would be written")
    check = parser.parse_args().check
    files = wanted()
    there = {*FILES.glob("rules/*"), *FILES.glob("dashboards/*")}
    stale = [path for path, text in files.items() if not path.exists() or path.read_text() != text]
    stale += sorted(there - files.keys())
    if check and stale:
        sys.exit(f"stale: {', '.join(path.name for path in stale)}; run `make generate`")
    for path in stale:
        if path in files:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(files[path])
        else:
            path.unlink()


if __name__ == "__main__":
    main()
