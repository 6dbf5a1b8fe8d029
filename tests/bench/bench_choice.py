"""Whether the builder chooses right: a model is built again and again, and the choices are held against a long measurement.

Each build measures on its own, with whatever else the machine does meanwhile. Afterwards every candidate that passes the
parity gate runs in turns with the others at each point of the surface, for much longer than a build takes. The last line is
JSON, for each model:

- `chosen`: how often which engine was chosen, with the one for small batches behind a plus sign;
- `worst`: the lowest score among the choices as a share of the best single engine's, by the long measurement (above 1 where
  two engines are better than any one);
- `within_3_percent`: how many of the builds are at 0.97 or more.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from dev.common import stack as stacks
from tapchanger_serving.build import choose, timing
from tapchanger_serving.build.choose import Arrangement, Way
from tapchanger_serving.build.places import Places
from tapchanger_serving.contract.artifact import MANIFEST, Artifact
from tapchanger_serving.contract.messages import BuildReport, BuildRequest
from tapchanger_serving.contract.stored import report_path
from tapchanger_serving.engines import EngineSpec, open_engine
from tests.bench.bench_build import GRID, SUBJECTS, Subject, probe_texts
from tests.support.small_builds import Build


def _built(subject: Subject, root: Path, times: int) -> tuple[Build, BuildReport, list[EngineSpec]]:
    """So many measurements of one export, the last one's report, and how each opens its engine, in stores of their own."""
    for folder in ("claims/models", "work"):
        (root / folder).mkdir(parents=True)
    subject.place(root / "claims" / "models" / subject.name)
    found = []
    for number in range(times):
        store = root / f"store{number}"
        store.mkdir()
        build = Build(Places(store, root / "claims", root / "work", root / "word"), f"bench-{subject.name}")
        if number == 0:
            request = build.request(f"pvc://models/{subject.name}", subject.task)
            for step in ("fetch", "export"):
                _done(build, step, request)
        _done(build, "measure", request)
        report = BuildReport.model_validate_json((store / report_path(request.name)).read_text())
        folder = store / "artifacts" / report.artifact.replace(":", "-")
        found.append(EngineSpec.of(Artifact.model_validate_json((folder / MANIFEST).read_text()), folder))
        print(f"  {number + 1}: {report.why}", flush=True)
    return build, report, found


def _done(build: Build, step: str, request: BuildRequest) -> None:
    done = build.step(step, request=request)
    if done.returncode:
        raise SystemExit(f"step {step} failed: {done.stdout[-2000:]}{done.stderr[-2000:]}")


def _candidates(build: Build, report: BuildReport, like: EngineSpec) -> list[EngineSpec]:
    """All that passed the parity gate in the last build, where it left them."""
    return [
        EngineSpec(
            one.runtime,
            build.places.candidates / f"{one.runtime}-{one.precision}" / one.engine,
            like.inputs,
            like.output,
            options=one.options or {},
        )
        for one in report.candidates
        if one.passed and one.engine
    ]


def _key(spec: EngineSpec) -> str:
    """Runtime and what the engine's bytes are, so that equal engines of several builds are measured once."""
    options = "".join(f" {value}" for value in spec.options.values())
    size = sum(path.stat().st_size for path in spec.file.parent.glob(f"{spec.file.stem}.*"))
    return f"{spec.runtime}{options} {size} on {spec.threads or 'all'}"


def _parts(spec: EngineSpec) -> list[EngineSpec]:
    return [dataclasses.replace(spec, small=None), *([spec.small.spec] if spec.small else [])]


def _measured(build: Build, specs: list[EngineSpec], seconds: float) -> dict[str, Way]:
    runners: dict[str, timing.Runner] = {}
    for spec in specs:
        for threads in (0, 1):
            opened = dataclasses.replace(spec, threads=threads)
            if _key(opened) not in runners:
                runners[_key(opened)] = open_engine(opened).run
    texts = probe_texts(build)
    effort = timing.Effort(min_rounds=20, max_rounds=1000, seconds=seconds, margin=2.0)
    speeds: dict[str, dict[timing.Point, float]] = {name: {} for name in runners}
    for point in GRID:
        for name, taken in timing.interleave(runners, timing.full_batch(texts, *point), effort).items():
            speeds[name][point] = point[0] / timing.undisturbed(taken)
    return {name: Way(index, 0, found) for index, (name, found) in enumerate(speeds.items())}


def _judged(build: Build, report: BuildReport, specs: list[EngineSpec], seconds: float) -> dict[str, Any]:
    parts = [part for spec in specs for part in _parts(spec)]
    ways = _measured(build, [*parts, *_candidates(build, report, specs[0])], seconds)
    best = choose.fastest(ways.values())
    highest = max(choose.score(way.speeds, best) for way in ways.values())
    shares = []
    for spec in specs:
        large, small = ways[_key(_parts(spec)[0])], spec.small and ways[_key(spec.small.spec)]
        arranged = Arrangement(large, small or None, spec.small.tokens if spec.small else 0)
        speeds = {point: arranged.at(point).speeds[point] for point in best}
        shares.append(choose.score(speeds, best) / highest)
    names = Counter(" + ".join(_key(part) for part in _parts(spec)) for spec in specs)
    return {
        "chosen": dict(names),
        "worst": round(min(shares), 3),
        "within_3_percent": sum(share >= 1 - choose.NOISE for share in shares),
        "builds": len(specs),
    }


def main() -> int:
    """Prints a line for each build, and JSON last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="*", default=["minilm", "bert-tiny"])
    parser.add_argument("--builds", type=int, default=10, help="of each model (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=20.0, help="of the long measurement, at each point")
    options = parser.parse_args()
    stacks.make_models(stacks.own_stack())
    found = {}
    for subject in (subject for subject in SUBJECTS if subject.name in options.models):
        print(f"== {subject.name}", flush=True)
        root = Path(tempfile.mkdtemp())
        try:
            found[subject.name] = _judged(*_built(subject, root, options.builds), options.seconds)
        finally:
            shutil.rmtree(root, ignore_errors=True)
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
