"""The API for the operator and for people: /v1/windows, /v1/drift, /v1/feedback, /metrics, /healthz, /readyz."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from aiohttp import web
from multidict import MultiMapping
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from tapchanger_serving.contract.drift import DriftWindow
from tapchanger_serving.contract.windows import Windows
from tapchanger_serving.observer import drift, windows
from tapchanger_serving.observer.bucket import Bucket
from tapchanger_serving.observer.feedback import Desk, FeedbackError, UnknownRevisionError
from tapchanger_serving.observer.telling import mirror_window, revision_window, told

DEFAULT_SECONDS: Final = 3_600.0
_KNOWN: Final = ("namespace", "deployment", "since", "until", "latency")
_KNOWN_OF_DRIFT: Final = ("namespace", "deployment", "revision", "since")


class QueryError(ValueError):
    """A question that can't be answered. The message names the parameter, what was found and what to write."""


def answer(store: windows.Windows, query: MultiMapping[str], now: float) -> Windows:
    """Answer GET /v1/windows. Thresholds that are asked about are counted exactly from the next second on.

    Raises QueryError.
    """
    unknown = sorted(set(query) - set(_KNOWN))
    if unknown:
        raise QueryError(f"{unknown[0]}: no such parameter; there are {', '.join(_KNOWN)}")
    namespace, deployment = _name(query, "namespace"), _name(query, "deployment")
    since, until = _span(query, now)
    thresholds = _thresholds(query, store.limits.max_thresholds)
    if thresholds:
        store.watch(namespace, deployment, thresholds)
    found = store.window(namespace, deployment, since, until)
    scores = store.scores(namespace, deployment, since, until)
    sure = store.confidences(namespace, deployment, since, until)
    revisions = [
        revision_window(name, found.get(name, Bucket()), thresholds).model_copy(
            update={"feedback": told(scores.get(name)), "confidence": told(sure.get(name))}
        )
        for name in sorted({*found, *scores, *sure})
    ]
    return Windows(
        namespace=namespace,
        deployment=deployment,
        now=now,
        since=since,
        until=until,
        revisions=tuple(revisions),
        mirrors=tuple(
            mirror_window(canary, stable, tally, thresholds)
            for (canary, stable), tally in sorted(store.mirrors(namespace, deployment, since, until).items())
        ),
    )


def answer_drift(store: windows.Windows, query: MultiMapping[str], now: float) -> DriftWindow:
    """Answer GET /v1/drift. Raises QueryError."""
    unknown = sorted(set(query) - set(_KNOWN_OF_DRIFT))
    if unknown:
        raise QueryError(f"{unknown[0]}: no such parameter; there are {', '.join(_KNOWN_OF_DRIFT)}")
    key = windows.Key(*(_name(query, part) for part in ("namespace", "deployment", "revision")))
    return drift.answer(store.drift_of(key), key, _number(query, "since") or 0.0, now)


def _span(query: MultiMapping[str], now: float) -> tuple[float, float]:
    """Since and until. A caller whose clock is ahead may ask since a time that is yet to come: nothing ended then."""
    asked = _number(query, "since")
    until = _number(query, "until") or max(now, asked or 0.0)
    since = until - DEFAULT_SECONDS if asked is None else asked
    if since > until:
        raise QueryError(f"since: found {since}, which is after until ({until}); write an earlier Unix time in seconds")
    return since, until


def _name(query: MultiMapping[str], parameter: str) -> str:
    found = query.get(parameter, "")
    if not found or len(found) > 253:
        raise QueryError(f"{parameter}: found {found[:64]!r}; write the name, as in {parameter}=moderation")
    return found


def _number(query: MultiMapping[str], parameter: str) -> float | None:
    found = query.get(parameter)
    if found is None:
        return None
    value = _float(found)
    if value is None or value < 0:
        raise QueryError(f"{parameter}: found {found[:64]!r}; write Unix time in seconds, as in {parameter}=1767225600")
    return value


def _thresholds(query: MultiMapping[str], most: int) -> tuple[float, ...]:
    found = query.getall("latency", [])
    if len(found) > most:
        raise QueryError(f"latency: found {len(found)} of them; ask for at most {most} at a time")
    values = []
    for text in found:
        value = _float(text)
        if value is None or value <= 0:
            raise QueryError(f"latency: found {text[:64]!r}; write seconds, as in latency=0.05")
        values.append(value)
    return tuple(dict.fromkeys(values))


def _float(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def application(
    store: windows.Windows, registry: CollectorRegistry, clock: Callable[[], float], ready: Callable[[], bool]
) -> web.Application:
    """The application; `ready` says whether spans are being taken."""

    async def get_windows(request: web.Request) -> web.Response:
        try:
            body = answer(store, request.query, clock()).dumps()
        except QueryError as bad:
            return web.json_response({"error": str(bad)}, status=400)
        return web.Response(text=body, content_type="application/json")

    async def get_drift(request: web.Request) -> web.Response:
        try:
            body = answer_drift(store, request.query, clock()).dumps()
        except QueryError as bad:
            return web.json_response({"error": str(bad)}, status=400)
        return web.Response(text=body, content_type="application/json")

    desk = Desk(store)

    async def post_feedback(request: web.Request) -> web.Response:
        try:
            taken = desk.take(await request.read(), clock())
        except FeedbackError as bad:
            return web.json_response({"error": str(bad)}, status=400)
        except UnknownRevisionError as unknown:
            return web.json_response({"error": str(unknown)}, status=404)
        return web.Response(text=taken.dumps(), content_type="application/json")

    async def get_metrics(request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(registry), headers={"Content-Type": content_type})

    async def get_health(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def get_ready(_: web.Request) -> web.Response:
        if ready():
            return web.Response(text="ready\n")
        return web.Response(status=503, text="not taking spans: starting or stopping\n")

    app = web.Application()
    app.router.add_get("/v1/windows", get_windows)
    app.router.add_get("/v1/drift", get_drift)
    app.router.add_post("/v1/feedback", post_feedback)
    app.router.add_get("/metrics", get_metrics)
    app.router.add_get("/healthz", get_health)
    app.router.add_get("/readyz", get_ready)
    return app
