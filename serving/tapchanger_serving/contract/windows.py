"""What the observer tells of a deployment's revisions: `GET /v1/windows` on :data:`names.OBSERVER_API_PORT`.

Query: `namespace`, `deployment` (both required), `since` and `until` (Unix seconds, default: the last hour and now) and
`latency` (seconds, repeatable: thresholds to count against). The answer is JSON of :class:`Windows`.
"""

from __future__ import annotations

from tapchanger_serving.contract.base import Message
from tapchanger_serving.contract.labels import LabelWindow


class LatencyCount(Message):
    """How many requests took longer than `threshold` seconds, or failed: the bad ones of a latency objective."""

    threshold: float
    bad: int


class Interval(Message):
    """Seconds between which a quantile lies with 95 %, whatever the distribution; None where there are too few requests
    for a bound on that side.
    """

    low: float | None = None
    high: float | None = None


class Quantiles(Message):
    """Latency quantiles in seconds, each with its interval; None where nothing was seen."""

    p50: float | None = None
    p90: float | None = None
    p99: float | None = None
    p50_interval: Interval | None = None
    p90_interval: Interval | None = None
    p99_interval: Interval | None = None


class Exemplar(Message):
    """A real request that was slow or failed."""

    trace_id: str
    seconds: float
    code: str | None = None


class Stages(Message):
    """Mean seconds per request, of the requests whose server spans were seen (`spans`, a sample); None where none were.

    `queue` goes from the router's receipt of the request to the beginning of the work, so it holds the way to the server.
    `pre` is reading, tokenizing and padding, `compute` the engine's work, `post` the making of answers; they are those of
    the whole batch, since every request of it waits for all of it. `network` is what neither accounts for of what the
    user waited (`seconds`): the way back and the client's reading; both are over the `joined` requests, those whose
    router's span was seen too. `tokens` and `batch` (texts) are means; None where no server told them.
    """

    queue: float | None = None
    compute: float | None = None
    spans: int = 0
    pre: float | None = None
    post: float | None = None
    network: float | None = None
    seconds: float | None = None
    joined: int = 0
    tokens: float | None = None
    batch: float | None = None


class SlowStages(Message):
    """The stages of the requests that took longer than `threshold` seconds and did not fail."""

    threshold: float
    stages: Stages


class LengthCount(Message):
    """Requests of at most `up_to` tokens and more than half of that: how many of the joined ones did not fail, and their
    mean `seconds` from request to answer.
    """

    up_to: int
    requests: int
    seconds: float


class NodeCount(Message):
    """Requests that servers on one node answered, of the joined ones: how many, those that failed by the server's fault,
    and the mean `seconds` from request to answer.
    """

    node: str
    requests: int
    failed: int
    seconds: float


class Scores(Message):
    """Numbers from 0 to 1: how many, their sum and the sum of their squares."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0


class Slice(Message):
    """Texts of one kind in both answers: how many, and how many were answered alike."""

    name: str
    texts: int
    alike: int


class Flip(Message):
    """Texts that the stable revision gave one label and the canary another."""

    stable: str
    canary: str
    texts: int


class MirrorWindow(Message):
    """Copied requests that `canary` and `stable` both told of, by the time at which the second of them did.

    `requests` counts pairs, `canary_failed` and `stable_failed` those that one of both did not answer while the other did.
    `compared` pairs were answered by both; `agreement` sums over them which share of their texts was answered alike.
    `canary_over` and `stable_over` count for each threshold which requests took longer than that from the router's receipt
    to the answer, or failed. `flips` are the most frequent ones. `lengths` are slices by tokens of a request (`<=64`: at most
    64 and more than 32), `labels` by the stable revision's label. `exemplars` are trace ids of requests that were answered
    differently.
    """

    canary: str
    stable: str
    requests: int = 0
    canary_failed: int = 0
    stable_failed: int = 0
    compared: int = 0
    agreement: float = 0.0
    texts: int = 0
    alike: int = 0
    canary_over: tuple[LatencyCount, ...] = ()
    stable_over: tuple[LatencyCount, ...] = ()
    canary_latency: Quantiles = Quantiles()
    stable_latency: Quantiles = Quantiles()
    flips: tuple[Flip, ...] = ()
    lengths: tuple[Slice, ...] = ()
    labels: tuple[Slice, ...] = ()
    exemplars: tuple[str, ...] = ()


class RevisionWindow(Message):
    """What users felt of one revision between `since` and `until`, from the router's spans.

    `requests` counts all that ended; `unavailable` those that failed by the server's fault (HTTP 5xx, a reset, gRPC
    UNKNOWN, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS). `codes` counts
    failures by code (`grpc/13`, `http/503`). A client's own mistakes (HTTP 4xx, INVALID_ARGUMENT) are not bad. `feedback`
    counts users' scores at the time at which they came, `confidence` how sure a classifier was, a number for each request whose
    server's span was seen; both in steps of ten seconds. `labels` is about the answers that have been labelled, by the time of
    the answer, in steps of a minute; `labels_came` counts 1 for a right one and 0 for a wrong one at the time at which its label
    came, in steps of ten seconds.

    `stages` says where the time of all requests went, `slow` that of the slow ones, for each threshold asked about that
    some request exceeded while it was watched. `lengths` and `nodes` split the requests by tokens and by node.
    """

    revision: str
    requests: int = 0
    unavailable: int = 0
    codes: dict[str, int] = {}
    over: tuple[LatencyCount, ...] = ()
    latency: Quantiles = Quantiles()
    stages: Stages = Stages()
    slow: tuple[SlowStages, ...] = ()
    lengths: tuple[LengthCount, ...] = ()
    nodes: tuple[NodeCount, ...] = ()
    exemplars: tuple[Exemplar, ...] = ()
    feedback: Scores = Scores()
    confidence: Scores = Scores()
    labels: LabelWindow = LabelWindow()
    labels_came: Scores = Scores()
    first_seen: float | None = None
    last_seen: float | None = None
    first_bad: float | None = None


class ClockSkew(Message):
    """A node whose clock certainly differs from the routers': `seconds` ahead, or behind where negative, at least."""

    node: str
    seconds: float


class Windows(Message):
    """Everything known about one deployment between `since` and `until` (Unix seconds).

    `missing` says in words what isn't known here that the observer would tell: empty from the observer itself.
    """

    namespace: str
    deployment: str
    now: float
    since: float
    until: float
    revisions: tuple[RevisionWindow, ...] = ()
    mirrors: tuple[MirrorWindow, ...] = ()
    skews: tuple[ClockSkew, ...] = ()
    missing: str = ""
