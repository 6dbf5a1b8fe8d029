"""The API for the operator and for people: windows, drift, feedback, metrics and health; and /v1/part for peers."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web
from aiohttp.typedefs import Handler
from multidict import MultiMapping
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from tapchanger_serving.contract.windows import Windows
from tapchanger_serving.observer import drift, part, question, windows
from tapchanger_serving.observer.asking import Asking
from tapchanger_serving.observer.feedback import FeedbackError, ForbiddenError, parsed
from tapchanger_serving.observer.gate import UnprovenError
from tapchanger_serving.observer.labelling import UnknownError
from tapchanger_serving.observer.part import Part
from tapchanger_serving.observer.peers import DRIFT, FORWARDED, PART, Peers, PeersError
from tapchanger_serving.observer.question import QueryError, Question
from tapchanger_serving.observer.reception import Reception
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
    except (UnprovenError, PeersError) as later:
        return web.json_response({"error": str(later)}, status=503, headers={"Retry-After": "1"})


def _json(text: str) -> web.Response:
    return web.Response(text=text, content_type="application/json")


class Api:
    """What the application answers with. `ready` says whether spans are being taken; with `peers` all observers answer
    together.
    """

    def __init__(
        self,
        store: windows.Windows,
        registry: CollectorRegistry,
        clock: Callable[[], float],
        ready: Callable[[], bool],
        asking: Asking,
        peers: Peers | None = None,
        reception: Reception | None = None,
    ) -> None:
        self._store = store
        self._registry = registry
        self._clock = clock
        self._ready = ready
        self._asking = asking
        self._peers = peers
        self._reception = reception or Reception(store, clock, peers)

    async def windows(self, request: web.Request) -> web.Response:
        """GET /v1/windows: what all observers know."""
        asked, watch = await self._asked(request)
        if self._peers is None:
            found = own_part(self._store, asked, watch=watch)
        else:
            found = part.merge(await self._peers.parts(asked, watch=watch))
        return _json(part.tell(asked, found, self._clock()).dumps())

    async def part(self, request: web.Request) -> web.Response:
        """GET /v1/part: what this one knows, for another one."""
        asked, trusted = await self._asked(request)
        if not trusted:
            raise TrustError("a part is for the other observers; ask /v1/windows")
        return _json(part.encode(own_part(self._store, asked, watch=request.path != PART)))

    async def feedback(self, request: web.Request) -> web.Response:
        """POST /v1/feedback: scores and later labels."""
        authorization, body = request.headers.get("Authorization"), await request.read()
        grant = await self._asking.grant(authorization)
        if grant is None:
            raise TrustError("no credential; send the header Authorization: Bearer TOKEN")
        items = parsed(body)
        taken = await self._reception.take(items, grant, authorization, alone=FORWARDED in request.headers)
        answer = taken.answer(items)
        if taken.fates:
            return _json(answer.dumps())
        first = taken.refused[taken.unknown[0]]
        status = 404 if all(isinstance(one, UnknownError) for one in taken.refused.values()) else 422
        told = [one.model_dump(by_alias=True) for one in answer.refused or ()]
        return web.json_response({"error": str(first), "refused": told}, status=status)

    async def drift(self, request: web.Request) -> web.Response:
        """GET /v1/drift: what the texts of a revision were like, as all observers were told; as this one was, for another."""
        key, since = question.read_drift(request.query)
        if self._peers is not None and FORWARDED not in request.headers:
            return _json(drift.merge(await self._peers.drift(key, since)).dumps())
        known = self._store.of(key).drift if self._store.knows(key) else None
        return _json(drift.answer(known, key, since, self._clock()).dumps())

    async def metrics(self, request: web.Request) -> web.Response:
        """GET /metrics, for Prometheus."""
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(self._registry), headers={"Content-Type": content_type})

    async def health(self, _: web.Request) -> web.Response:
        """GET /healthz."""
        return web.Response(text="ok\n")

    async def ready(self, _: web.Request) -> web.Response:
        """GET /readyz."""
        if self._ready():
            return web.Response(text="ready\n")
        return web.Response(status=503, text="not taking spans: starting or stopping\n")

    async def _asked(self, request: web.Request) -> tuple[Question, bool]:
        """The question, and whether it may be remembered."""
        grant = await self._asking.grant(request.headers.get("Authorization"))
        found = question.read(request.query, self._clock(), self._store.limits.max_thresholds)
        return found, self._asking.may_watch(grant, found.namespace)


def application(api: Api) -> web.Application:
    """The routes to an API."""
    app = web.Application(middlewares=[_troubles])
    app.router.add_get("/v1/windows", api.windows)
    app.router.add_get(DRIFT, api.drift)
    app.router.add_get(PART, api.part)
    app.router.add_get(f"{PART}/watch", api.part)
    app.router.add_post("/v1/feedback", api.feedback)
    app.router.add_get("/metrics", api.metrics)
    app.router.add_get("/healthz", api.health)
    app.router.add_get("/readyz", api.ready)
    return app
