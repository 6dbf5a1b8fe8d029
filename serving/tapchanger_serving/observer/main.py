"""Starts the observer's three servers in one event loop and ends them on SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable, Set
from pathlib import Path
from typing import Final

import grpc.aio
from aiohttp import web

from tapchanger_serving.observer import api, logs, metrics, otlp_grpc, otlp_http, settings, snapshot
from tapchanger_serving.observer.api import Api
from tapchanger_serving.observer.asking import Asking
from tapchanger_serving.observer.events import Events
from tapchanger_serving.observer.gate import Gate, Keys, from_cluster
from tapchanger_serving.observer.ingest import Ingest
from tapchanger_serving.observer.intake import Intake
from tapchanger_serving.observer.logs import fields
from tapchanger_serving.observer.reception import Reception
from tapchanger_serving.observer.settings import Settings
from tapchanger_serving.observer.skew import NOTABLE_SECONDS
from tapchanger_serving.observer.windows import Windows

log = logging.getLogger("tapchanger.observer")
TIDY_SECONDS: Final = 5.0
GRACE_SECONDS: Final = 2.0
_REST_FACTOR: Final = 20
"""A snapshot is made in turns with counting, and takes at most one part in so many of the time."""


class Observer:
    """The running observer. `clock` gives Unix seconds."""

    def __init__(self, options: Settings, clock: Callable[[], float] = time.time) -> None:
        self.options = options
        self.windows = load(options, clock)
        self.ingest = Ingest(self.windows, clock)
        self.gate = gate(options, clock)
        self.intake = Intake(self.ingest, self.gate, options.max_waiting, options.max_waiting_bytes)
        self.reception = Reception(self.windows, clock, options.together)
        self.events = Events(self.intake, self.reception)
        self._clock = clock
        self._grpc: grpc.aio.Server | None = None
        self._runners: list[web.AppRunner] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._ready = False
        self._skewed: Set[str] = set()
        self._refused: set[tuple[str, str]] = set()
        self.ports: dict[str, int] = {}
        """Ports that are listened on, by `grpc`, `http` and `api`; useful where a setting says 0."""

    async def start(self) -> None:
        """Listen on all ports. Raises OSError when one is taken."""
        options = self.options
        await self.gate.refresh()
        registry = metrics.registry(
            self.ingest.account, self.windows, lambda: self.intake.waiting, self.reception.desk.refused
        )
        self.ports["api"] = await self._serve(
            api.application(
                Api(
                    self.windows,
                    registry,
                    self._clock,
                    lambda: self._ready,
                    Asking(self.gate, options.namespace),
                    options.together,
                    self.reception,
                )
            ),
            options.api_port,
        )
        self.ports["http"] = await self._serve(
            otlp_http.application(self.intake, options.max_payload_bytes, self.events),
            options.http_port,
            auto_decompress=False,
        )
        self.ports["grpc"] = await self._serve_grpc(options.grpc_port)
        self._tasks.append(asyncio.create_task(self._every(lambda: TIDY_SECONDS, self._tidy)))
        if options.state is not None:
            self._tasks.append(asyncio.create_task(self._every(self._rest, self._save)))
        self._ready = True
        log.info("taking spans", extra=fields(host=options.host, **self.ports, state=options.state))

    async def stop(self) -> None:
        """Take what is under way, save the windows, close."""
        self._ready = False
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._grpc is not None:
            await self._grpc.stop(GRACE_SECONDS)
            # Its destructor schedules work on the event loop, so it must run while there is one.
            self._grpc = None
            await asyncio.sleep(0)
        for runner in self._runners:
            await runner.cleanup()
        if self.options.state is not None:
            await self._save()
        received = dict(self.ingest.account.received)
        log.info("stopped", extra=fields(received=received))

    async def _serve(self, app: web.Application, port: int, *, auto_decompress: bool = True) -> int:
        runner = web.AppRunner(app, access_log=None, auto_decompress=auto_decompress, shutdown_timeout=GRACE_SECONDS)
        await runner.setup()
        self._runners.append(runner)
        await web.TCPSite(runner, self.options.host, port).start()
        return int(runner.addresses[0][1])

    async def _serve_grpc(self, port: int) -> int:
        self._grpc = otlp_grpc.server(self.intake, self.options.max_payload_bytes, self.events)
        host = f"[{self.options.host}]" if ":" in self.options.host else self.options.host
        try:
            bound = self._grpc.add_insecure_port(f"{host}:{port}")
        except RuntimeError as error:
            raise OSError(str(error)) from None
        await self._grpc.start()
        return bound

    async def _every(self, rest: Callable[[], float], work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(rest())
            try:
                await work()
            except Exception:
                log.exception("a periodic task failed; it is tried again")

    async def _tidy(self) -> None:
        await self.gate.refresh()
        self._tell_skews()
        self._tell_refusals()
        before = self.windows.squeezed
        self.windows.tidy(self._clock())
        if self.windows.squeezed > before:
            squeezed = self.windows.squeezed - before
            why = (
                "more buckets than TAPCHANGER_OBSERVER_MAX_BUCKETS: the oldest minutes were coarsened or dropped early"
            )
            log.warning(why, extra=fields(minutes=squeezed, max_buckets=self.options.max_buckets))

    def _tell_skews(self) -> None:
        """A node whose clock differs is worth a word once; one that was put right may be told of again."""
        clocks = self.windows.clocks
        clocks.age(self._clock())
        notable = {node: skew for node, skew in clocks.skews().items() if abs(skew) >= NOTABLE_SECONDS}
        for node in sorted(notable.keys() - self._skewed):
            why = "a node's clock differs from the routers': waiting and network of its requests are off by that"
            log.warning(why, extra=fields(node=node, seconds=round(notable[node], 3)))
        self._skewed = notable.keys()

    def _tell_refusals(self) -> None:
        """Each kind of refusal is worth a word the first time; how many there are is in the metrics."""
        for kind in sorted(self.ingest.account.payloads_refused.keys() - self._refused):
            transport, reason = kind
            why = "payloads are refused; not logged again, see tapchanger_observer_payloads_refused_total"
            log.warning(why, extra=fields(transport=transport, reason=reason))
        self._refused |= self.ingest.account.payloads_refused.keys()

    _encoding_seconds = 0.0

    def _rest(self) -> float:
        return max(self.options.state_seconds, _REST_FACTOR * self._encoding_seconds)

    async def _save(self) -> None:
        if self.options.state is None:
            return
        began = time.perf_counter()
        pieces = []
        for piece in snapshot.encode(self.windows):
            pieces.append(piece)
            await asyncio.sleep(0)
        self._encoding_seconds = time.perf_counter() - began
        try:
            await asyncio.to_thread(snapshot.write, pieces, self.options.state)
        except OSError as error:
            log.error("the windows could not be saved", extra=fields(path=self.options.state, error=str(error)))


def gate(options: Settings, clock: Callable[[], float]) -> Gate:
    """The gate that the settings want. The keys are kept beside the windows."""
    if options.auth == "open":
        log.warning("whoever reaches the ports is believed: TAPCHANGER_OBSERVER_AUTH is open")
        return Gate(None, clock)
    kept = None if options.state is None else options.state.with_name("keys.json")
    return Gate(Keys(from_cluster(options.keys_url, options.account), clock, kept), clock, options.senders)


def load(options: Settings, clock: Callable[[], float]) -> Windows:
    """The windows of the last run, or empty ones where there are none to be had."""
    windows = Windows(options.limits)
    path = options.state
    if path is None:
        return windows
    try:
        snapshot.decode(path.read_text(encoding="utf-8"), windows)
    except FileNotFoundError:
        log.info("no saved windows; starting empty", extra=fields(path=path))
        return windows
    except (OSError, UnicodeDecodeError, snapshot.SnapshotError) as error:
        log.warning("the saved windows can't be read; starting empty", extra=fields(path=path, error=str(error)))
        _set_aside(path)
        return Windows(options.limits)
    windows.tidy(clock())
    log.info("loaded the saved windows", extra=fields(path=path, deployments=len(windows.deployments)))
    return windows


def _set_aside(path: Path) -> None:
    try:
        path.replace(path.with_name(f"{path.name}.corrupt"))
    except OSError as error:
        log.warning("it could not be set aside either", extra=fields(path=path, error=str(error)))


async def run(options: Settings) -> None:
    """Run until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    observer = Observer(options)
    try:
        await observer.start()
        await stop.wait()
    finally:
        await observer.stop()


def main() -> int:
    """Entry point; the exit code is 2 for settings that can't be used and 1 for ports that can't be had."""
    try:
        options = settings.from_environment(os.environ)
    except settings.SettingsError as error:
        logs.configure("INFO")
        log.error(str(error))
        return 2
    logs.configure(options.log_level)
    try:
        asyncio.run(run(options))
    except OSError as error:
        log.error("can't listen", extra=fields(error=str(error)))
        return 1
    return 0
