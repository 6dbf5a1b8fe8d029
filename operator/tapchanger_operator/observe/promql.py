"""Questions to Prometheus about a Collector's span metrics, and its answers as values. Nothing here reads a clock or a socket.

PromQL's own `increase` extrapolates to the edges of its range, which gives no counts of requests. So the samples themselves
are asked for: the last one at the end of a window, and the last one at its start.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from tapchanger_operator.sources import PrometheusSettings
from tapchanger_serving.contract import names

REVISION: Final = "tapchanger_revision"
HTTP_STATUS: Final = "http_status_code"
GRPC_STATUS: Final = "grpc_status_code"
FLAGS: Final = "response_flags"
GRPC: Final = "tapchanger_grpc"
"""`true` where the request was a gRPC call, which the Collector's configuration sets: paths would be a label without end."""
EDGE: Final = "le"
TERM: Final = "tapchanger_term"
GROUP: Final = (REVISION, HTTP_STATUS, GRPC_STATUS, FLAGS, GRPC)

START, END, SERIES, RESETS, SCRAPED, DOWN, FRESH = "start", "end", "series", "resets", "scraped", "down", "fresh"


class AnswerError(ValueError):
    """An answer that is none to what was asked; the message says what was found."""


class Sample(NamedTuple):
    """One value of an instant vector."""

    labels: Mapping[str, str]
    value: float


class Line(NamedTuple):
    """One series of a range: its labels and (Unix seconds, value), in order of time."""

    labels: Mapping[str, str]
    points: Sequence[tuple[float, float]]


class Span(NamedTuple):
    """Samples after `start` and up to `end` (Unix seconds) count; the one that they start from is looked for in `lookback`
    seconds before.
    """

    start: float
    end: float
    lookback: float

    @property
    def reach(self) -> float:
        """Seconds from the earliest sample that is looked for to `end`."""
        return self.end - self.start + self.lookback


def selector(settings: PrometheusSettings, namespace: str, deployment: str, **more: str) -> str:
    """The series of what routers told of one deployment."""
    wanted = {
        **settings.matchers,
        "tapchanger_component": names.COMPONENT_ROUTER,
        "tapchanger_namespace": namespace,
        "tapchanger_deployment": deployment,
        **more,
    }
    pairs = [f"{label}={_quoted(value)}" for label, value in wanted.items()]
    # A router's span of kind client is of its own request to a server; without a revision no route took the request.
    inner = ",".join([*pairs, f'{REVISION}!=""', 'span_kind!="SPAN_KIND_CLIENT"'])
    return f"{settings.metric}_bucket{{{inner}}}"


def counts(settings: PrometheusSettings, namespace: str, deployment: str, span: Span) -> str:
    """One expression, to be evaluated at the end of `span`, for all that a window needs; its terms have the label :data:`TERM`.

    `start` and `end`: the counters there, in sum over the Collectors; `series`: how many Collectors count that; `resets`:
    where a counter began anew; `scraped`: targets of the same jobs that were scraped at the start; `down`: Collectors that
    told something and can't be reached now; `fresh`: when the newest sample was taken (Unix seconds).
    """
    series = selector(settings, namespace, deployment)
    groups = ", ".join((*GROUP, EDGE))
    long, before = f"[{_ms(span.reach)}]", f"[{_ms(span.lookback)}] @ {span.start:.3f}"
    edge = selector(settings, namespace, deployment, le="+Inf")
    # Where a scrape failed or a target is gone, what it told last is what it had counted.
    targets = f"group by (job, instance) (last_over_time({edge}{long}))"
    alive = f"timestamp(up) and on (job, instance) (up == 1) and on (job) group by (job) ({targets})"
    terms = {
        START: f"sum by ({groups}) (last_over_time({series}{before}))",
        END: f"sum by ({groups}) (last_over_time({series}{long}))",
        SERIES: f"count by ({groups}) (last_over_time({series}{long}))",
        RESETS: f"sum(resets({series}{long})) > 0",
        SCRAPED: f"count(last_over_time(up{before}) and on (job) group by (job) ({targets}))",
        DOWN: f"count((up == 0) and on (job, instance) {targets})",
        FRESH: f"max({alive} or timestamp({edge}))",
    }
    return " or ".join(f'label_replace({text}, "{TERM}", "{name}", "", "")' for name, text in terms.items())


def samples(settings: PrometheusSettings, namespace: str, deployment: str, span: Span) -> str:
    """Every sample of a window, for counters that began anew in it."""
    return f"{selector(settings, namespace, deployment)}[{_ms(span.reach)}]"


def vector(answer: Mapping[str, Any]) -> list[Sample]:
    """The instant vector in an answer. Raises AnswerError."""
    return [Sample(_labels(item), _number(item["value"][1])) for item in _result(answer, "vector", "value")]


def matrix(answer: Mapping[str, Any]) -> list[Line]:
    """The range vector in an answer. Raises AnswerError."""
    return [
        Line(_labels(item), [(float(at), _number(value)) for at, value in item["values"]])
        for item in _result(answer, "matrix", "values")
    ]


def exemplars(answer: Mapping[str, Any]) -> list[tuple[dict[str, str], list[tuple[str, float]]]]:
    """The labels of each series and its exemplars' trace ids and seconds. Raises AnswerError."""
    if answer.get("status") != "success":
        raise AnswerError(f"{answer.get('errorType', 'no success')}: {str(answer.get('error', ''))[:300]}")
    return [
        (
            {str(key): str(value) for key, value in item.get("seriesLabels", {}).items()},
            [
                (str(one["labels"]["trace_id"]), float(one["value"]))
                for one in item["exemplars"]
                if "trace_id" in one["labels"]
            ],
        )
        for item in answer.get("data") or ()
    ]


def _result(answer: Mapping[str, Any], kind: str, field: str) -> list[dict[str, Any]]:
    if answer.get("status") != "success":
        raise AnswerError(f"{answer.get('errorType', 'no success')}: {str(answer.get('error', ''))[:300]}")
    data = answer.get("data", {})
    if data.get("resultType") != kind:
        raise AnswerError(f"found a {data.get('resultType')!r}, expected a {kind}")
    for item in data["result"]:
        if field not in item:
            raise AnswerError(
                "found a native histogram, whose buckets end at no objective's latency: let the Collector make explicit ones"
            )
    return list(data["result"])


def _labels(item: Mapping[str, Any]) -> dict[str, str]:
    return {str(key): str(value) for key, value in item.get("metric", {}).items()}


def _number(text: Any) -> float:
    value = float(text)
    if math.isnan(value):
        raise AnswerError("found NaN where a count was expected")
    return value


def _ms(seconds: float) -> str:
    return f"{max(1, round(seconds * 1000))}ms"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
