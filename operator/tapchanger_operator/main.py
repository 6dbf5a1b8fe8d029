"""The operator's process: kopf watches and queues, a Lease decides who acts, workers run the passes.

Run as ``python -m tapchanger_operator``.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from typing import Any, Final

import kopf
from prometheus_client import start_http_server

from tapchanger_operator import kube, leadership, names, telemetry
from tapchanger_operator.api.base import GROUP, VERSION
from tapchanger_operator.apply.converge import Applied
from tapchanger_operator.errors import OperatorError
from tapchanger_operator.names import Ref
from tapchanger_operator.observe.prometheus import Prometheus
from tapchanger_operator.observe.windows import Observer, Source
from tapchanger_operator.reconcile import Tools, reconcile_build, reconcile_deployment
from tapchanger_operator.settings import Settings
from tapchanger_operator.settings import load as load_settings
from tapchanger_operator.workqueue import WorkQueue

log = logging.getLogger(__name__)

_PASSES: Final = {"TransformerDeployment": reconcile_deployment, "EngineBuild": reconcile_build}


class Operator:
    """What lives as long as the process: the queue, the tools and whether this replica leads."""

    def __init__(self, chosen: Settings) -> None:
        self.tools = Tools(
            kube=kube.connect(),
            observer=_source(chosen),
            settings=chosen,
            applied=Applied(),
            clock=time.time,
        )
        self.queue: WorkQueue[Ref] = WorkQueue(self._pass, time.monotonic)
        self._loop = asyncio.get_running_loop()
        self._work: asyncio.Task[None] | None = None

    def campaign(self) -> None:
        """Waits for the Lease in the background, then works."""
        leadership.campaign(self.tools.settings, self._won, self._lost)

    async def stop(self) -> None:
        """Ends the workers; a pass that is running comes to its end in its thread."""
        if self._work:
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)

    def _won(self) -> None:
        log.info("this replica leads", extra={"identity": self.tools.settings.identity})
        telemetry.LEADING.set(1)
        self._loop.call_soon_threadsafe(self._start)

    def _start(self) -> None:
        self._work = asyncio.create_task(self.queue.run(self.tools.settings.workers))

    def _lost(self) -> None:
        log.error("the Lease is lost; this replica ends", extra={"identity": self.tools.settings.identity})
        telemetry.LEADING.set(0)
        os.kill(os.getpid(), signal.SIGTERM)

    async def _pass(self, ref: Ref) -> float | None:
        telemetry.QUEUE_DEPTH.set(len(self.queue))
        with (
            telemetry.TRACER.start_as_current_span(f"reconcile {ref.kind}") as span,
            telemetry.PASS_SECONDS.labels(ref.kind).time(),
        ):
            span.set_attributes({"k8s.namespace.name": ref.namespace, f"tapchanger.{ref.kind.lower()}": ref.name})
            try:
                after = await asyncio.to_thread(_PASSES[ref.kind], self.tools, ref)
            except OperatorError as problem:
                telemetry.PASSES.labels(ref.kind, "retried").inc()
                fields = {"kind": ref.kind, "namespace": ref.namespace, "object": ref.name, "reason": problem.reason}
                log.warning("a pass will be repeated: %s", problem.message, extra=fields)
                raise
            except Exception:
                telemetry.PASSES.labels(ref.kind, "failed").inc()
                fields = {"kind": ref.kind, "namespace": ref.namespace, "object": ref.name}
                log.exception("a pass failed and will be repeated", extra=fields)
                raise
            telemetry.PASSES.labels(ref.kind, "done").inc()
            return after


def _source(chosen: Settings) -> Source:
    """What tells of users' requests. Raises OSError where Prometheus' authorities can't be read."""
    observer = Observer(chosen.observer_host, chosen.observer_token)
    prometheus = chosen.telemetry.prometheus
    return observer if prometheus is None else Prometheus(prometheus, observer, time.time)


@kopf.on.startup()
async def _start(settings: kopf.OperatorSettings, memo: kopf.Memo, **_: Any) -> None:
    settings.posting.enabled = False
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 330
    memo.operator = Operator(load_settings())
    memo.operator.campaign()


@kopf.on.cleanup()
async def _stop(memo: kopf.Memo, **_: Any) -> None:
    await memo.operator.stop()


async def _wake(memo: Any, ref: Ref, meta: kopf.Meta) -> None:
    for one in names.concerned(ref, meta):
        await memo.operator.queue.add(one)


@kopf.on.event(GROUP, VERSION, "transformerdeployments")
async def _deployment_changed(name: str, namespace: str | None, meta: kopf.Meta, memo: Any, **_: Any) -> None:
    await _wake(memo, Ref("TransformerDeployment", namespace or "", name), meta)


@kopf.on.event(GROUP, VERSION, "enginebuilds")
async def _build_changed(name: str, namespace: str | None, meta: kopf.Meta, memo: Any, **_: Any) -> None:
    await _wake(memo, Ref("EngineBuild", namespace or "", name), meta)


_OURS: Final = {names.LABEL_MANAGED_BY: names.MANAGER}


@kopf.on.event("apps", "v1", "deployments", labels=_OURS)
@kopf.on.event("batch", "v1", "jobs", labels=_OURS)
@kopf.on.event("", "v1", "pods", labels=_OURS)
@kopf.on.event("gateway.networking.k8s.io", "v1", "httproutes", labels=_OURS)
@kopf.on.event("gateway.networking.k8s.io", "v1", "grpcroutes", labels=_OURS)
async def _part_changed(
    name: str, namespace: str | None, meta: kopf.Meta, resource: kopf.Resource, memo: Any, **_: Any
) -> None:
    await _wake(memo, Ref(resource.kind or "", namespace or "", name), meta)


def run() -> None:
    """Runs the operator until it is told to end. Raises ValueError where a setting is missing."""
    telemetry.configure_logging(os.environ.get("TAPCHANGER_LOG_LEVEL", "INFO"))
    telemetry.configure_tracing()
    chosen = load_settings()
    start_http_server(chosen.metrics_port)
    kopf.run(
        clusterwide=True,
        standalone=True,
        liveness_endpoint=f"http://0.0.0.0:{chosen.health_port}/healthz",
    )
