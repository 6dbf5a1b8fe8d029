"""Asks a Prometheus what users felt, by the span metrics of OpenTelemetry Collectors, and the observer for the rest.

A request counts in the first sample after its end, so a window of requests is one of samples that begins and ends `delay`
seconds later: no request from before it is in it, though the first ones of it may be in the sample before.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import httpx

from tapchanger_operator.observe import promql, spanmetrics
from tapchanger_operator.observe.promql import AnswerError, Span
from tapchanger_operator.observe.windows import Observer
from tapchanger_operator.snapshot import Silence
from tapchanger_operator.sources import PrometheusSettings
from tapchanger_serving.contract.credential import bearer
from tapchanger_serving.contract.drift import DriftWindow
from tapchanger_serving.contract.windows import RevisionWindow, Windows

_COUNTED: Final = (
    "requests",
    "unavailable",
    "codes",
    "over",
    "latency",
    "exemplars",
    "first_seen",
    "last_seen",
    "first_bad",
)


class Prometheus:
    """The same questions as :class:`~tapchanger_operator.observe.windows.Observer` answers. `clock` gives Unix seconds."""

    def __init__(
        self,
        settings: PrometheusSettings,
        observer: Observer,
        clock: Callable[[], float],
        http: httpx.Client | None = None,
    ) -> None:
        """Raises OSError or ssl.SSLError where the file of authorities can't be read."""
        self._settings = settings
        self._observer = observer
        self._clock = clock
        verify: Any = httpx.create_ssl_context(verify=str(settings.ca)) if settings.ca else True
        self._http = http or httpx.Client(timeout=settings.timeout, verify=verify)

    @property
    def delay(self) -> float:
        """Seconds after the end of a request by which it is counted."""
        return self._settings.delay

    def windows(
        self, namespace: str, deployment: str, since: float, latencies: Sequence[float], until: float | None = None
    ) -> Windows | Silence:
        """Counts per revision from Prometheus; stages, copies, feedback and all else from the observer.

        What the observer does not tell is named in :attr:`Windows.missing`.
        """
        now, delay = self._clock(), self._settings.delay
        if until is not None and until + delay > now:
            return Silence(f"Prometheus has counted all requests until then in {until + delay - now:.0f} s")
        end = now if until is None else until + delay
        span = Span(min(since + delay, end), end, self._settings.lookback)
        try:
            counted, missing = self._counted(namespace, deployment, span, latencies)
        except (AnswerError, httpx.HTTPError, ValueError, OSError) as problem:
            return _silence(problem)
        rest = self._observer.windows(namespace, deployment, since, latencies, until)
        if isinstance(rest, Silence):
            missing.append(f"where the time went, answers to copies and feedback are not known: {rest.why}")
            rest = Windows(namespace=namespace, deployment=deployment, now=now, since=since, until=until or now)
        return rest.model_copy(
            update={
                "now": now,
                "since": since,
                "until": until or now,
                "revisions": _merged(counted, rest),
                "missing": "; ".join(missing),
            }
        )

    def mirrored(
        self, namespace: str, deployment: str, since: float, latencies: Sequence[float], until: float | None = None
    ) -> Windows | Silence:
        """What servers told of copied requests, which the observer alone compares."""
        return self._observer.mirrored(namespace, deployment, since, latencies, until)

    def drift(self, namespace: str, deployment: str, revision: str, since: float) -> DriftWindow | Silence:
        """What the texts of a revision were like, which the observer alone knows."""
        return self._observer.drift(namespace, deployment, revision, since)

    def _counted(
        self, namespace: str, deployment: str, span: Span, latencies: Sequence[float]
    ) -> tuple[list[RevisionWindow], list[str]]:
        """The revisions' counts, and in words what is missing. Raises AnswerError, httpx.HTTPError, ValueError, OSError."""
        where = (self._settings, namespace, deployment, span)
        reading = spanmetrics.read(
            promql.vector(self._ask("query", query=promql.counts(*where), time=f"{span.end:.3f}"))
        )
        _complete(reading, span, self._settings)
        counts = spanmetrics.simple(reading)
        if counts is None:
            answer = self._ask("query", query=promql.samples(*where), time=f"{span.end:.3f}")
            counts = spanmetrics.thorough(promql.matrix(answer), span, scraped=reading.scraped)
        refusal = spanmetrics.without_bucket(reading, latencies)
        if refusal:
            raise AnswerError(refusal)
        found = spanmetrics.windows(counts, latencies)
        if not any(one.unavailable or any(over.bad for over in one.over) for one in found):
            return found, []
        try:
            named = spanmetrics.exemplars(self._exemplars(*where[1:]))
        except (AnswerError, httpx.HTTPError) as problem:
            return found, [f"traces of bad requests are not known: {_silence(problem).why}"]
        return [one.model_copy(update={"exemplars": named.get(one.revision, ())}) for one in found], []

    def _exemplars(
        self, namespace: str, deployment: str, span: Span
    ) -> list[tuple[dict[str, str], list[tuple[str, float]]]]:
        query = promql.selector(self._settings, namespace, deployment)
        answer = self._ask("query_exemplars", query=query, start=f"{span.start:.3f}", end=f"{span.end:.3f}")
        return promql.exemplars(answer)

    def _ask(self, path: str, **form: str) -> dict[str, Any]:
        """Raises httpx.HTTPError, ValueError, OSError."""
        url = f"{self._settings.url}/api/v1/{path}"
        answer = self._http.post(url, data=form, headers={**self._settings.headers, **self._credential()})
        if answer.status_code not in (400, 422, 503):  # with these Prometheus says in words what is wrong
            answer.raise_for_status()
        found = answer.json()
        if not isinstance(found, dict):
            raise AnswerError(f"found {answer.text[:100]!r}, expected an answer of Prometheus")
        return found

    def _credential(self) -> Mapping[str, str]:
        """Read anew each time, since what mounts it renews it. Raises OSError."""
        folder = self._settings.credentials
        if folder is None:
            return {}
        if (folder / "token").exists():
            return {"Authorization": bearer(folder / "token")}
        name, password = ((folder / part).read_text(encoding="utf-8").strip() for part in ("username", "password"))
        return {"Authorization": f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}"}


def _complete(reading: spanmetrics.Reading, span: Span, settings: PrometheusSettings) -> None:
    """Raises AnswerError where samples are missing that others would have to be judged without."""
    if not reading.series:
        raise AnswerError(
            f"it has no {settings.metric} of this deployment from the last {span.reach:.0f} s: no request has come, or the"
            " Collector isn't told of them, or isn't scraped (docs/scale.md)"
        )
    if reading.down:
        raise AnswerError(f"{reading.down} of the Collectors that counted requests can't be scraped now")
    age = math.inf if reading.fresh is None else span.end - reading.fresh
    if age > settings.delay:
        told = (
            "it had no sample that was newer than five minutes"
            if math.isinf(age)
            else f"its newest sample was {age:.0f} s old"
        )
        raise AnswerError(
            f"{told} at that time; set telemetry.prometheus.delay (now {settings.delay:g} s) above"
            " the scrape interval, the Collector's flush and what lies between"
        )


def _merged(counted: Sequence[RevisionWindow], rest: Windows) -> tuple[RevisionWindow, ...]:
    """Counts of the one, everything else of the other, whose own counts are of a sample."""
    told = {one.revision: one for one in rest.revisions}
    known = {one.revision: one for one in counted}
    return tuple(
        told.get(revision, RevisionWindow(revision=revision)).model_copy(
            update={field: getattr(known.get(revision, RevisionWindow(revision=revision)), field) for field in _COUNTED}
        )
        for revision in sorted({*told, *known})
    )


def _silence(problem: Exception) -> Silence:
    words = (
        str(problem)[:400] if isinstance(problem, AnswerError) else f"{type(problem).__name__}: {str(problem)[:200]}"
    )
    return Silence(f"Prometheus gave no counts: {words}")
