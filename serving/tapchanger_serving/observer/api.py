"""The API for the operator and for people: /v1/windows, /v1/feedback, /metrics, /healthz, /readyz; and /v1/part for peers."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web
from aiohttp.typedefs import Handler
from multidict import MultiMapping
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from tapchanger_serving.contract.windows import Windows
from tapchanger_serving.observer import part, question, windows
from tapchanger_serving.observer.asking import Asking
from tapchanger_serving.observer.feedback import Desk, FeedbackError, ForbiddenError, UnknownRevisionError
from tapchanger_serving.observer.gate import UnprovenError
from tapchanger_serving.observer.part import Part
from tapchanger_serving.observer.peers import FORWARDED, PART, Peers, PeersError
from tapchanger_serving.observer.question import QueryError, Question
from tapchanger_serving.observer.trust import TrustError


def answer(store: windows.Windows, query: MultiMapping[str], now: float, *, watch: bool = True) -> Windows:
    """Answer GET /v1/windows from one observer. With `watch`, thresholds that are asked about are counted exactly from the
    next second on.

    Raises QueryError.
    """
    asked = question.read(query, now, store.limits.max_thresholds)
    return part.tell(asked, own_part(store, asked, watch=watch), now)


def own_part(store: windows.Windows, asked: Question, *, watch: bool) -> Part:
    """What this observer has to answer with."""
    if asked.thresholds and watch:
        store.watch(asked.namespace, asked.deployment, asked.thresholds)
    return part.of(store, asked)


@web.middleware
async def _troubles(request: web.Request, handler: Handler) -> web.StreamResponse:
    """What is wrong with a question, with a credential or with a peer becomes an answer."""
    try:
        return await handler(request)
    except (QueryError, FeedbackError) as bad:
        return web.json_response({"error": str(bad)}, status=400)
    except TrustError as none:
        return web.json_response({"error": str(none)}, status=401, headers={"WWW-Authenticate": "Bearer"})
    except ForbiddenError as forbidden:
        return web.json_response({"error": str(forbidden)}, status=403)
    except UnknownRevisionError as unknown:
        return web.json_response({"error": str(unknown)}, status=404)
    except (UnprovenError, PeersError) as later:
        return web.json_response({"error": str(later)}, status=503, headers={"Retry-After": "1"})


def _json(text: str) -> web.Response:
    return web.Response(text=text, content_type="application/json")


def application(
    store: windows.Windows,
    registry: CollectorRegistry,
    clock: Callable[[], float],
    ready: Callable[[], bool],
    asking: Asking,
    peers: Peers | None = None,
) -> web.Application:
    """The application; `ready` says whether spans are being taken. With `peers` all observers answer together."""

    async def asked(request: web.Request) -> tuple[Question, bool]:
        """The question, and whether it may be remembered."""
        grant = await asking.grant(request.headers.get("Authorization"))
        found = question.read(request.query, clock(), store.limits.max_thresholds)
        return found, asking.may_watch(grant, found.namespace)

    async def get_windows(request: web.Request) -> web.Response:
        found, watch = await asked(request)
        if peers is None:
            own = own_part(store, found, watch=watch)
        else:
            own = part.merge(await peers.parts(found, watch=watch))
        return _json(part.tell(found, own, clock()).dumps())

    async def get_part(request: web.Request) -> web.Response:
        found, trusted = await asked(request)
        if not trusted:
            raise TrustError("a part is for the other observers; ask /v1/windows")
        return _json(part.encode(own_part(store, found, watch=request.path != PART)))

    desk = Desk(store)

    async def post_feedback(request: web.Request) -> web.Response:
        authorization, body = request.headers.get("Authorization"), await request.read()
        grant = await asking.grant(authorization)
        if grant is None:
            raise TrustError("no credential; send the header Authorization: Bearer TOKEN")
        try:
            return _json(desk.take(body, clock(), grant).dumps())
        except UnknownRevisionError:
            taken = None if peers is None or FORWARDED in request.headers else await peers.hand_on(body, authorization)
            if taken is None:
                raise
        return _json(taken)

    async def get_metrics(request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(registry), headers={"Content-Type": content_type})

    async def get_health(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def get_ready(_: web.Request) -> web.Response:
        if ready():
            return web.Response(text="ready\n")
        return web.Response(status=503, text="not taking spans: starting or stopping\n")

    app = web.Application(middlewares=[_troubles])
    app.router.add_get("/v1/windows", get_windows)
    app.router.add_get(PART, get_part)
    app.router.add_get(f"{PART}/watch", get_part)
    app.router.add_post("/v1/feedback", post_feedback)
    app.router.add_get("/metrics", get_metrics)
    app.router.add_get("/healthz", get_health)
    app.router.add_get("/readyz", get_ready)
    return app
