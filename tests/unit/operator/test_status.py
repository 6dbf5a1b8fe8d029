"""What a person and a deployer read in the status, moment by moment."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tapchanger_operator.api import reasons
from tapchanger_operator.api.analysis import AnalysisStatus
from tapchanger_operator.api.base import timestamp
from tapchanger_operator.api.status import (
    CanaryStatus,
    ModelStatus,
    PreviousStatus,
    Rejection,
    RevisionStatus,
    TransformerDeploymentStatus,
)
from tapchanger_operator.decide.state import State
from tapchanger_operator.errors import OperatorError, UserError, Waiting
from tapchanger_operator.resolve.identity import RevisionContent, build_name, engine_build, inspection_key, revision
from tapchanger_operator.resolve.resolution import Resolution
from tapchanger_operator.snapshot import RouterSeen, Servers, Silence, Snapshot, Steering
from tapchanger_operator.status.compose import compose, refused_spec
from tapchanger_operator.status.conditions import condition, merged
from tapchanger_operator.status.situation import Situation
from tapchanger_serving.contract.windows import Interval, LatencyCount, Quantiles, RevisionWindow, Windows
from tests.support import kstatus
from tests.support.samples import IMAGES, OWNER, inspection, spec
from tests.support.schemas import problems, schema_of

T0 = 1_700_000_000.0
SPEC = spec()
BUILD = engine_build(SPEC, inspection(), IMAGES.builder)
CONTENT = revision(SPEC, BUILD, build_name(BUILD), "sha256:" + "c" * 64, "openvino", IMAGES.server)
TARGET, OTHER = CONTENT.revision, "0123456789"
MODEL = ModelStatus(uri=SPEC.model.uri, digest=BUILD.model.digest, key=inspection_key(SPEC), inspection=inspection())
UP = Servers(1, 1, available=True)


def served(name: str, weight: int = 100, since: float | None = T0 - 900) -> RevisionStatus:
    return RevisionStatus(
        revision=name, build="eb-x", uri="pvc://models/x", weight=weight, since=timestamp(since) if since else None
    )


def canary(step: int = 0, **fields: Any) -> CanaryStatus:
    weight = 5 if step >= 0 else 0
    started = timestamp(T0 - 47) if step >= 0 else None
    known = served(TARGET, weight, T0 - 47 if step >= 0 else None).model_dump()
    return CanaryStatus(**known, step=step, created_at=timestamp(T0 - 60), step_started_at=started, **fields)


REJECTION = Rejection(
    revision=TARGET,
    build="eb-x",
    uri="pvc://models/x",
    at=timestamp(T0),
    reason="ObjectiveBreached",
    message="too slow",
)
WINDOWS = Windows(
    namespace="team-a",
    deployment="moderation",
    now=T0,
    since=T0 - 3600,
    until=T0,
    revisions=(
        RevisionWindow(
            revision=TARGET,
            requests=1000,
            over=(LatencyCount(threshold=0.25, bad=1),),
            latency=Quantiles(
                p50=0.0041,
                p90=0.0123,
                p99=0.0234,
                p50_interval=Interval(low=0.0039, high=0.0044),
                p90_interval=Interval(high=0.02),
                p99_interval=Interval(low=0.0199),
            ),
        ),
    ),
)
KNOWN = Resolution(model=MODEL, build=(build_name(BUILD), BUILD), content=CONTENT)


def situation(
    state: State,
    problem: OperatorError | None = None,
    *,
    resolution: Resolution = KNOWN,
    servers: dict[str, Servers] | None = None,
    routers: int = 2,
    analysis: AnalysisStatus | None = None,
    refused: UserError | None = None,
    slo: Windows | Silence | None = WINDOWS,
    before: TransformerDeploymentStatus | None = None,
    steering: Steering | None = None,
) -> Situation:
    snapshot = Snapshot(
        now=T0,
        owner=OWNER,
        generation=3,
        spec=SPEC,
        status=before or TransformerDeploymentStatus(),
        live={},
        contents={},
        builds={},
        servers={TARGET: UP, OTHER: UP} if servers is None else servers,
        router=RouterSeen(routers),
        inspection=None,
        missing_claims=(),
        canary_windows=None,
        step_windows=None,
        watch_windows=None,
        slo_windows=slo,
        steering=steering or Steering(),
    )
    if problem:
        resolution = replace(resolution, content=None, problem=problem)
    return Situation(snapshot, resolution, state, analysis, refused)


UNSURE = AnalysisStatus(
    revision=TARGET, verdict="Inconclusive", reason="TooFewRequests", message="3 of 100 requests seen", at=timestamp(T0)
)
WAITING = Waiting(reasons.BUILDING, "engine eb-1: exporting the model")
PICKLE = UserError(reasons.PICKLE_CHECKPOINT, "the weights are pickled; convert them")
REFUSED = UserError(reasons.REFUSED, "exceeded quota: cpu")
NO_NODE = Servers(1, 0, trouble="NoNodeFits: 0/1 nodes are available: 1 Insufficient cpu.", reason="NoNodeFits")
UNFIT = "no node can run the engine (openvino): of 2 nodes that the template allows, 2 lack amx_int8"
UNFIT_SERVERS = Servers(2, 1, trouble=f"EngineIncompatible: {UNFIT}", reason="EngineIncompatible")

# moment → (situation, sentence, kstatus, Ready's reason)
MOMENTS: dict[str, tuple[Situation, str, str, str]] = {
    "the model is being read": (
        situation(State(), Waiting(reasons.INSPECTING, "reading pvc://models/a"), resolution=Resolution()),
        "reading pvc://models/a",
        "InProgress",
        reasons.INSPECTING,
    ),
    "the engine is being built": (
        situation(State(), WAITING), "engine eb-1: exporting the model", "InProgress", reasons.BUILDING,
    ),
    "the first servers start": (
        situation(State(stable=served(TARGET, 0, None)), servers={}),
        f"servers of {TARGET} are starting",
        "InProgress",
        reasons.STARTING,
    ),
    "no node takes the first servers": (
        situation(State(stable=served(TARGET, 0, None)), servers={TARGET: NO_NODE}),
        f"servers of {TARGET} are starting: NoNodeFits: 0/1 nodes are available: 1 Insufficient cpu.",
        "InProgress",
        reasons.STARTING,
    ),
    "no node can run the first servers": (
        situation(State(stable=served(TARGET, 0, None)), servers={TARGET: replace(UNFIT_SERVERS, ready=0)}),
        f"servers of {TARGET} are starting: EngineIncompatible: {UNFIT}",
        "Failed",
        reasons.ENGINE_INCOMPATIBLE,
    ),
    "no node can run one of the servers": (
        situation(State(stable=served(TARGET)), servers={TARGET: UNFIT_SERVERS}),
        f"{TARGET} serves all requests with 1 of 2 servers: {UNFIT}",
        "Failed",
        reasons.ENGINE_INCOMPATIBLE,
    ),
    "an engine is built for nodes that can't run the present one": (
        situation(State(stable=served(TARGET)), WAITING, servers={TARGET: UNFIT_SERVERS}),
        f"{WAITING.message} ({TARGET} serves meanwhile)",
        "InProgress",
        reasons.BUILDING,
    ),
    "the routers hear of the first servers": (
        situation(State(stable=served(TARGET, since=T0 - 0.5))),
        "no requests are answered yet: the routers are being told where the servers are",
        "InProgress",
        reasons.STARTING,
    ),
    "all is well": (
        situation(State(stable=served(TARGET))), f"{TARGET} serves all requests", "Current", reasons.STABLE,
    ),
    "the previous one is still warm": (
        situation(
            State(
                stable=served(TARGET),
                previous=PreviousStatus(**served(OTHER, 0).model_dump(), until=timestamp(T0 + 600)),
            )
        ),
        f"{TARGET} serves all requests; {OTHER} stays warm until {timestamp(T0 + 600)}",
        "Current",
        reasons.STABLE,
    ),
    "a change is being built": (
        situation(State(stable=served(OTHER)), WAITING),
        f"engine eb-1: exporting the model ({OTHER} serves meanwhile)",
        "InProgress",
        reasons.BUILDING,
    ),
    "a change cannot be built": (
        situation(State(stable=served(OTHER)), PICKLE),
        f"the weights are pickled; convert them ({OTHER} serves meanwhile)",
        "Failed",
        reasons.PICKLE_CHECKPOINT,
    ),
    "the cluster refuses an object": (
        situation(State(stable=served(OTHER)), refused=REFUSED),
        f"exceeded quota: cpu ({OTHER} serves meanwhile)",
        "Failed",
        reasons.REFUSED,
    ),
    "a canary starts": (
        situation(State(stable=served(OTHER), canary=canary(-1))),
        f"canary {TARGET} is starting",
        "InProgress",
        reasons.CANARY_STARTING,
    ),
    "no node takes the canary": (
        situation(State(stable=served(OTHER), canary=canary(-1)), servers={OTHER: UP, TARGET: NO_NODE}),
        f"canary {TARGET} is starting: NoNodeFits: 0/1 nodes are available: 1 Insufficient cpu.",
        "InProgress",
        reasons.CANARY_STARTING,
    ),
    "a canary is at a step": (
        situation(State(stable=served(OTHER, 95), canary=canary()), analysis=UNSURE),
        f"canary {TARGET} at 5 % (step 1 of 3, 40 s): 3 of 100 requests seen",
        "InProgress",
        reasons.CANARY_STEP,
    ),
    "a canary waits for someone": (
        situation(State(stable=served(OTHER, 95), canary=canary(paused=True)), analysis=UNSURE),
        f"canary {TARGET} at 5 % (step 1 of 3, 40 s, paused): 3 of 100 requests seen",
        "Failed",
        reasons.CANARY_PAUSED,
    ),
    "a canary was rolled back": (
        situation(State(stable=served(OTHER), rejected=(REJECTION,))),
        f"rolled back to {OTHER}: too slow",
        "Failed",
        reasons.ROLLED_BACK,
    ),
    "the stable servers are gone": (
        situation(State(stable=served(TARGET)), servers={TARGET: Servers(2, 0)}),
        "no requests are answered: 0 of 2 servers of the stable revision are ready",
        "InProgress",
        reasons.UNAVAILABLE,
    ),
    "no router is ready": (
        situation(State(stable=served(TARGET)), routers=0),
        "no requests are answered: no router is ready",
        "InProgress",
        reasons.UNAVAILABLE,
    ),
}  # fmt: skip


def wire(moment: Situation) -> dict[str, Any]:
    return {"metadata": {"generation": moment.snapshot.generation}, "status": compose(moment).wire()}


def by_type(moment: Situation) -> dict[str, Any]:
    return {c.type: c for c in compose(moment).conditions}


@pytest.mark.parametrize("moment", MOMENTS)
def test_the_sentence_says_what_is_going_on(moment: str) -> None:
    found, sentence, _, _ = MOMENTS[moment]
    assert compose(found).message == sentence


@pytest.mark.parametrize("moment", MOMENTS)
def test_deployers_read_true_health(moment: str) -> None:
    found, _, health, _ = MOMENTS[moment]
    assert kstatus.health(wire(found)) == health


@pytest.mark.parametrize("moment", MOMENTS)
def test_ready_is_computed_from_the_others(moment: str) -> None:
    found, _, health, reason = MOMENTS[moment]
    conditions = by_type(found)
    assert conditions["Ready"].reason == reason
    assert (conditions["Ready"].status == "True") == (health == "Current")
    if conditions["Ready"].status == "True":
        assert conditions["Serving"].status == "True"
        assert conditions["Progressing"].status == "False"
        assert conditions["Stalled"].status == "False"
    else:
        assert conditions["Ready"].message


@pytest.mark.parametrize("moment", MOMENTS)
def test_every_condition_is_there_with_a_documented_reason(moment: str) -> None:
    found = MOMENTS[moment][0]
    constants = {value for name, value in vars(reasons).items() if name.isupper()}
    constants |= {"TooFewRequests"}
    conditions = by_type(found)
    assert set(conditions) == {
        "Ready", "Built", "Serving", "Progressing", "Analysis", "SLOMet", "DriftFree", "Stalled",
    }  # fmt: skip
    assert {c.reason for c in conditions.values()} <= constants
    assert all(c.observed_generation == 3 for c in conditions.values())
    assert not (conditions["Stalled"].status == "True" and conditions["Progressing"].status == "True")


@pytest.mark.parametrize("moment", MOMENTS)
def test_every_status_fits_the_schema_and_reads_back(moment: str) -> None:
    status = compose(MOMENTS[moment][0])
    assert problems(schema_of("TransformerDeployment", "status"), status.wire()) == []
    assert TransformerDeploymentStatus.model_validate(status.wire()) == status


def test_a_change_of_spec_is_in_progress_before_the_operator_has_seen_it() -> None:
    body = wire(MOMENTS["all is well"][0])
    body["metadata"]["generation"] += 1
    assert kstatus.health(body) == "InProgress"


def test_what_stalls_says_what_to_do() -> None:
    assert "change the spec to try again" in by_type(MOMENTS["a canary was rolled back"][0])["Stalled"].message
    assert "send it requests" in by_type(MOMENTS["a canary waits for someone"][0])["Stalled"].message


def test_applications_are_told_where_to_go() -> None:
    endpoints = compose(MOMENTS["all is well"][0]).endpoints
    assert endpoints is not None
    assert (endpoints.grpc, endpoints.http, endpoints.model) == (
        "moderation.team-a.svc:8001",
        "http://moderation.team-a.svc:8000",
        "moderation",
    )


def test_objectives_are_told_with_quantiles_of_the_stable_revision() -> None:
    status = compose(MOMENTS["all is well"][0])
    assert status.slo is not None
    assert (status.slo.requests, status.slo.p50, status.slo.p90, status.slo.p99) == (1000, "4.1ms", "12.3ms", "23.4ms")
    intervals = (status.slo.p50_interval, status.slo.p90_interval, status.slo.p99_interval)
    assert intervals == ("3.9ms–4.4ms", "under 20ms", "over 19.9ms")
    assert {c.type: c.status for c in status.conditions}["SLOMet"] == "True"


def test_a_silent_observer_leaves_the_last_figures_and_says_that_it_is_silent() -> None:
    before = compose(MOMENTS["all is well"][0])
    silent = situation(State(stable=served(TARGET)), slo=Silence("no answer"), before=before)
    status = compose(silent)
    assert status.slo == before.slo
    conditions = {c.type: c for c in status.conditions}
    assert (conditions["SLOMet"].status, conditions["SLOMet"].reason) == ("Unknown", reasons.OBSERVER_SILENT)
    assert conditions["Ready"].status == "True"


def test_an_observer_that_counted_something_else_counts_as_silent() -> None:
    (window,) = WINDOWS.revisions
    other = window.model_copy(update={"over": (LatencyCount(threshold=9.0, bad=0),)})
    moment = situation(State(stable=served(TARGET)), slo=WINDOWS.model_copy(update={"revisions": (other,)}))
    assert by_type(moment)["SLOMet"].reason == reasons.OBSERVER_SILENT


def test_the_model_that_was_known_stays_while_another_is_read() -> None:
    before = compose(MOMENTS["all is well"][0])
    reading = situation(
        State(stable=served(TARGET)),
        Waiting(reasons.INSPECTING, "reading"),
        resolution=Resolution(),
        before=before,
    )
    assert compose(reading).model == before.model
    assert compose(reading).target is None


def test_a_spec_that_cannot_be_read_leaves_everything_else_as_it_is() -> None:
    before = compose(MOMENTS["all is well"][0])
    problem = UserError(reasons.INVALID_SPEC, "spec.engine.runtime: no")
    status = refused_spec(before, problem, 4, T0 + 10)
    assert (status.stable, status.model, status.endpoints) == (before.stable, before.model, before.endpoints)
    body = {"metadata": {"generation": 4}, "status": status.wire()}
    assert kstatus.health(body) == "Failed"
    assert status.message == problem.message
    assert {c.type for c in status.conditions} == {c.type for c in before.conditions}


def test_transition_times_change_only_with_the_status() -> None:
    first = merged([], [condition("Ready", "False", "Starting", "a")], 1, T0)
    same = merged(first, [condition("Ready", "False", "Building", "b")], 2, T0 + 10)
    turned = merged(same, [condition("Ready", "True", "Stable", "c")], 2, T0 + 20)
    assert [c[0].last_transition_time for c in (first, same, turned)] == [
        timestamp(T0),
        timestamp(T0),
        timestamp(T0 + 20),
    ]
    assert same[0].reason == "Building"


def test_messages_stay_within_what_conditions_hold() -> None:
    assert len(condition("Ready", "False", "X", "y" * 100_000).message) <= 32768


def test_the_content_of_a_revision_is_told_by_its_engine() -> None:
    assert isinstance(CONTENT, RevisionContent)
    target = compose(MOMENTS["all is well"][0]).target
    assert target is not None
    assert (target.build, target.revision) == (build_name(BUILD), TARGET)
