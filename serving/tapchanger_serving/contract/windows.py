"""What the observer tells of a deployment's revisions: `GET /v1/windows` on :data:`names.OBSERVER_API_PORT`.

Query: `namespace`, `deployment` (both required), `since` and `until` (Unix seconds, default: the last hour and now) and
`latency` (seconds, repeatable: thresholds to count against). The answer is JSON of :class:`Windows`.
"""

from __future__ import annotations

from tapchanger_serving.contract.messages import Message


class LatencyCount(Message):
    """How many requests took longer than `threshold` seconds, or failed: the bad ones of a latency objective."""

    threshold: float
    bad: int


class Quantiles(Message):
    """Latency quantiles in seconds; None where nothing was seen."""

    p50: float | None = None
    p90: float | None = None
    p99: float | None = None


class Exemplar(Message):
    """A real request that was slow or failed."""

    trace_id: str
    seconds: float
    code: str | None = None


class Stages(Message):
    """Mean seconds per request in Triton's queue and engine, from the server spans seen; None where none were."""

    queue: float | None = None
    compute: float | None = None
    spans: int = 0


class Scores(Message):
    """Users' scores that came in: how many, their sum and the sum of their squares."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0


class RevisionWindow(Message):
    """What users felt of one revision between `since` and `until`, from the router's spans.

    `requests` counts all that ended; `unavailable` those that failed by the server's fault (HTTP 5xx, a reset, gRPC
    UNKNOWN, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS). `codes` counts
    failures by code (`grpc/13`, `http/503`). A client's own mistakes (HTTP 4xx, INVALID_ARGUMENT) are not bad. `feedback`
    counts scores at the time at which they came, in steps of ten seconds.
    """

    revision: str
    requests: int = 0
    unavailable: int = 0
    codes: dict[str, int] = {}
    over: tuple[LatencyCount, ...] = ()
    latency: Quantiles = Quantiles()
    stages: Stages = Stages()
    exemplars: tuple[Exemplar, ...] = ()
    feedback: Scores = Scores()
    first_seen: float | None = None
    last_seen: float | None = None
    first_bad: float | None = None


class Windows(Message):
    """Everything known about one deployment between `since` and `until` (Unix seconds)."""

    namespace: str
    deployment: str
    now: float
    since: float
    until: float
    revisions: tuple[RevisionWindow, ...] = ()
