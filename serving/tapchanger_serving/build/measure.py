"""Step `measure`: try every candidate on this machine, take the fastest that passes all gates, and store it."""

from __future__ import annotations

from tapchanger_serving.build import cache, durations, log, stores
from tapchanger_serving.build.failures import WrongNodeError
from tapchanger_serving.build.places import Places
from tapchanger_serving.build.report import report_text
from tapchanger_serving.contract.messages import BuildReport, BuildRequest
from tapchanger_serving.contract.software import software
from tapchanger_serving.hardware import probe


def measure(request: BuildRequest, places: Places) -> str:
    """Chooses and stores the engine; returns the report for the termination message.

    Raises `EngineIncompatible` and `GateFailed` for the user to act on, :class:`WrongNodeError` on other hardware.
    """
    if places.unchanged.exists():
        with stores.opened(places) as store:
            stored = store.finished(request.name)
        if stored is not None:
            log.info(
                "build is in the store already; repeating its report", build=request.name, artifact=stored.artifact
            )
            return report_text(stored)
    _require_hardware(request)
    from tapchanger_serving.build.measurement import Measurement

    report = Measurement.prepare(request, places).report()
    durations.remember(places, "measure")
    taken = durations.recall(places)
    report = report.model_copy(update={"seconds": round(sum(taken.values()), 1), "software": software()})
    report = _written(request, places, report)
    cache.forget(places, request.digest)
    log.info("stored engine", artifact=report.artifact, why=report.why, seconds=taken)
    return report_text(report)


def _written(request: BuildRequest, places: Places, report: BuildReport) -> BuildReport:
    from tapchanger_serving.build.pages import Built, card, page

    with stores.opened(places) as store:
        built = Built(request, store.read_manifest(report.artifact), report)
        return store.write_report(request.name, report, page.render(built), card.render(built))


def _require_hardware(request: BuildRequest) -> None:
    found = probe()
    if found != request.hardware:
        msg = f"the engine is for {request.hardware.dumps()}, and this node is {found.dumps()}"
        raise WrongNodeError(msg)
