"""TransformerDeployments as an API server gives them, in the situations that the command must show."""

from __future__ import annotations

import copy
from typing import Any, Final

from tapchanger_operator.api.base import timestamp, unix
from tests.support.samples import inspection, report

NOW: Final = unix("2026-11-24T10:00:00Z")
OLD, NEW = "3f9d0c81aa", "8fa1e2077b"
BUILDS = {OLD: "eb-4f6c0a1b2c3d", NEW: "eb-9d31c07e5f20"}
MODELS = {OLD: "pvc://models/moderation-v1", NEW: "pvc://models/moderation-v2"}

Object = dict[str, Any]

SPEC: Final[Object] = {
    "model": {"uri": MODELS[NEW], "task": "text-classification"},
    "slo": {"objectives": [{"latency": "50ms", "target": 0.99}, {"availability": 0.999}], "window": "1h"},
    "rollout": {
        "steps": [{"weight": 5, "hold": "0s"}, {"weight": 25, "hold": "0s"}, {"weight": 50, "hold": "0s"}],
        "analysis": {"falseAlarm": 0.01, "minRequests": 100, "timeout": "15m", "onInconclusive": "Pause"},
        "watch": "30m",
    },
}
EVIDENCE: Final = [
    {
        "objective": "latency 50ms", "requests": 240, "bad": 4, "stableRequests": 760, "stableBad": 6,
        "eValue": 2.9, "threshold": 200,
    },
    {
        "objective": "availability", "requests": 240, "bad": 0, "stableRequests": 760, "stableBad": 0,
        "eValue": 0.79, "threshold": 200,
    },
]  # fmt: skip
BREACH: Final = (
    "12 of 40 requests took longer than 50 ms (30 %); the objective allows 1 %; stable has 0.789 %; "
    "e-value 3.1e+10 against 200"
)


def ago(seconds: float) -> str:
    """The time `seconds` before now."""
    return timestamp(NOW - seconds)


def revision(name: str, weight: int, seconds: float, ready: int = 2, **more: Any) -> Object:
    """A revision with two servers, `seconds` old."""
    known = {"revision": name, "build": BUILDS[name], "uri": MODELS[name], "weight": weight}
    return {**known, "replicas": 2, "ready": ready, "since": ago(seconds), **more}


def canary(weight: int, step: int, **more: Any) -> Object:
    """The new revision under test; its step began 90 s ago."""
    times = {"createdAt": ago(400), "availableAt": ago(380), "stepStartedAt": ago(90)}
    return revision(NEW, weight, 370, step=step, **times, **more)


def condition(kind: str, status: str, reason: str, message: str = "") -> Object:
    """A condition two minutes old."""
    known = {"type": kind, "status": status, "reason": reason, "message": message}
    return {**known, "observedGeneration": 3, "lastTransitionTime": ago(120)}


def conditions(ready: str, reason: str, message: str, *others: Object) -> list[Object]:
    """Ready, Serving and Stalled of a deployment that answers, and others."""
    moving = reason in ("CanaryStarting", "CanaryMirroring", "CanaryStep", "Suspected")
    stalled = reason in ("Held", "CanaryPaused", "RolledBack")
    return [
        condition("Ready", ready, reason, message),
        condition("Serving", "True", "Available", f"2 of 2 servers of {OLD} are ready"),
        condition("Progressing", "True" if moving else "False", reason, message),
        *others,
        condition(
            "Stalled", "True" if stalled else "False", reason if stalled else "NotStalled", message if stalled else ""
        ),
    ]


def analysis(verdict: str, reason: str, message: str, **more: Any) -> Object:
    """A verdict on the new revision, with its evidence."""
    known = {"revision": NEW, "verdict": verdict, "reason": reason, "message": message, "requests": 240}
    return {**known, "evidence": EVIDENCE, "at": ago(1), "state": {"memory": [1, 2, 3]}, **more}


SLO: Final = {
    "requests": 10233, "p50": "4.2ms", "p99": "12.4ms",
    "objectives": ["latency 50ms: 99.9 % (99 % wanted)", "availability: 100 % (99.9 % wanted)"],
}  # fmt: skip
HISTORY: Final = [
    {"at": ago(259200), "event": "Started", "revision": OLD, "uri": MODELS[OLD], "message": f"revision {OLD} serves"},
    {
        "at": ago(86400), "event": "RolledBack", "revision": NEW, "uri": MODELS[NEW], "by": "anna@example.org",
        "message": "ordered by anna@example.org: wrong labels",
    },
    {
        "at": ago(400), "event": "Retried", "revision": NEW, "uri": MODELS[NEW], "by": "system:serviceaccount:ci:deploy",
        "message": f"revision {NEW} may be tried again, ordered by system:serviceaccount:ci:deploy",
    },
]  # fmt: skip


def body(status: Object, annotations: dict[str, str] | None = None, name: str = "moderation", **meta: Any) -> Object:
    """The whole object."""
    metadata = {
        "name": name, "namespace": "team-a", "generation": 3, "creationTimestamp": ago(262800),
        "resourceVersion": "100", "annotations": annotations or {}, **meta,
    }  # fmt: skip
    seen = {"observedGeneration": 3, "target": {"build": BUILDS[NEW], "revision": NEW}, **status}
    if status:
        found = inspection().model_dump(mode="json", by_alias=True, exclude_none=True)
        # A newer operator may write fields that this command does not know.
        seen["model"] = {"uri": MODELS[NEW], "digest": "sha256:0", "key": "k", "inspection": {**found, "newer": 1}}
        seen["newer"] = {"field": 1}
    return {
        "apiVersion": "tapchanger.dev/v1alpha1",
        "kind": "TransformerDeployment",
        "metadata": metadata,
        "spec": copy.deepcopy(SPEC),
        "status": copy.deepcopy(seen) if status else {},
    }


def stepping() -> Object:
    """A canary in its second step."""
    message = f"canary {NEW} at 25 % (step 2 of 3, 90 s): 66 of 100 requests seen in this step"
    return body(
        {
            "message": message,
            "conditions": conditions(
                "False", "CanaryStep", message, condition("Analysis", "Unknown", "TooFewRequests", f"{NEW}: 66 of 100")
            ),
            "stable": revision(OLD, 75, 259200),
            "canary": canary(25, 1),
            "analysis": analysis("Inconclusive", "TooFewRequests", "66 of 100 requests seen in this step"),
            "history": HISTORY,
            "slo": SLO,
        }
    )


def held() -> Object:
    """The same, held by a person."""
    found = stepping()
    message = (
        f"canary {NEW} at 25 % (step 2 of 3, 60 s, held by anna@example.org: release freeze): 66 of 100 requests seen"
    )
    found["metadata"]["annotations"] = {
        "tapchanger.dev/pause": "release freeze",
        "tapchanger.dev/pause-by": "anna@example.org",
    }
    found["status"]["canary"]["heldAt"] = ago(30)
    return {
        **found,
        "status": {**found["status"], "message": message, "conditions": conditions("False", "Held", message)},
    }


def undecided() -> Object:
    """A step that waits for a person."""
    found = stepping()
    message = f"canary {NEW} at 25 % (step 2 of 3, 900 s, paused): 66 of 100 requests seen in this step"
    found["status"]["canary"] |= {"paused": True, "stepStartedAt": ago(903)}
    return {
        **found,
        "status": {**found["status"], "message": message, "conditions": conditions("False", "CanaryPaused", message)},
    }


def starting() -> Object:
    """A canary whose servers start."""
    found = stepping()
    del found["status"]["analysis"]
    found["status"]["canary"] |= {"weight": 0, "step": -1, "ready": 0, "since": None, "stepStartedAt": None}
    found["status"]["stable"]["weight"] = 100
    message = f"canary {NEW} is starting"
    return {
        **found,
        "status": {**found["status"], "message": message, "conditions": conditions("False", "CanaryStarting", message)},
    }


def mirroring() -> Object:
    """A canary that gets copies of requests before its first step."""
    found = starting()
    mirror = {
        "percent": 20, "since": ago(75), "requests": 64, "failed": 1,
        "agreement": 0.96875, "agreementLow": 0.84411, "agreementHigh": 0.99632, "p99": "11.2ms", "stableP99": "9.8ms",
        "flips": [{"stable": "toxic", "canary": "ok", "texts": 2}],
        "slices": [{"name": "toxic", "texts": 21, "agreement": 0.90476}, {"name": "<=128", "texts": 30, "agreement": 0.93333}],
        "exemplars": ["4bf92f3577b34da6a3ce929d0e0e4736"],
    }  # fmt: skip
    found["status"]["canary"] |= {"ready": 2, "mirror": mirror}
    few = "64 of 100 copied requests compared"
    message = f"canary {NEW} gets copies of 20 % of the requests (70 s): {few}"
    found["status"]["analysis"] = analysis("Inconclusive", "TooFewRequests", few, mirroring=True)
    known = {"message": message, "conditions": conditions("False", "CanaryMirroring", message)}
    return {**found, "status": {**found["status"], **known}}


def undecided_mirroring() -> Object:
    """A mirroring that was not decided in its own time."""
    found = mirroring()
    few = "64 of 100 copied requests compared"
    message = f"canary {NEW} gets copies of 20 % of the requests (600 s, paused): undecided after 10m: {few}"
    found["spec"]["rollout"] = found["spec"].get("rollout", {}) | {"mirror": 20, "mirrorGate": {"timeout": "10m"}}
    found["status"]["canary"] |= {"paused": True}
    found["status"]["canary"]["mirror"] |= {"since": ago(605)}
    known = {"message": message, "conditions": conditions("False", "CanaryPaused", message)}
    return {**found, "status": {**found["status"], **known}}


def rolled_back() -> Object:
    """The spec's content was rejected."""
    message = f"rolled back to {OLD}: {BREACH}"
    evidence = [{**EVIDENCE[0], "requests": 40, "bad": 12, "eValue": 3.1e10}, EVIDENCE[1]]
    return body(
        {
            "message": message,
            "conditions": conditions(
                "False", "RolledBack", message, condition("Analysis", "False", "ObjectiveBreached", f"{NEW}: {BREACH}")
            ),
            "stable": revision(OLD, 100, 259200),
            "retiring": [revision(NEW, 0, 60, until=timestamp(NOW + 5))],
            "analysis": analysis(
                "Fail", "ObjectiveBreached", BREACH, evidence=evidence,
                exemplars=["4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b74bf92f3577b34da6"],
                blame={
                    "stage": "Compute", "objective": "99% within 50ms", "share": 0.92,
                    "message": "compute took 61 ms, stable 5 ms", "exemplars": ["4bf92f3577b34da6a3ce929d0e0e4736"],
                },
            ),
            "rejected": [
                {
                    "revision": NEW, "build": BUILDS[NEW], "uri": MODELS[NEW], "at": ago(20),
                    "reason": "ObjectiveBreached", "message": BREACH, "firstBadAt": ago(24),
                }
            ],
            "controls": [
                {
                    "order": "promote", "value": f"{NEW} seen in staging", "by": "anna@example.org", "at": ago(10),
                    "done": False, "message": f"{NEW} is not the canary: there is no canary",
                }
            ],
            "history": HISTORY,
            "slo": SLO,
        }
    )  # fmt: skip


def watched() -> Object:
    """Promoted, with the previous revision warm."""
    message = f"{NEW} serves all requests; {OLD} stays warm until {timestamp(NOW + 1200)}"
    return body(
        {
            "message": message,
            "conditions": conditions("True", "Stable", message, condition("SLOMet", "True", "ObjectivesMet", "kept")),
            "stable": revision(NEW, 100, 600),
            "previous": revision(OLD, 0, 259200, until=timestamp(NOW + 1200)),
            "analysis": analysis("Pass", "ObjectivesMet", "in this step all objectives were kept", watching=True),
            "history": HISTORY,
            "slo": SLO,
        }
    )


def drifting() -> Object:
    """All is well but the texts, which are no longer like the reference."""
    message = f"{NEW} serves all requests"
    moved = (
        f"vocabulary moved since {ago(900)}: share of tokens that the reference hardly has, PSI 0.81 "
        "(14 % to 20 %: 7.9 % → 25 %)"
    )
    figures = [
        {"feature": "vocabulary", "signal": "rare", "psi": 0.8123, "ks": 0.31, "chiSquare": 412.6, "pValue": 1.2e-80},
        {"feature": "labels", "signal": "label", "psi": 0.021, "chiSquare": 9.4, "pValue": 0.0022},
    ]
    buckets = [
        {"name": "14 % to 20 %", "reference": 0.079, "now": 0.25},
        {"name": "at most 0.5 %", "reference": 0.4, "now": 0.12},
    ]
    accuracy = {
        "estimate": 0.881,
        "low": 0.862,
        "high": 0.9,
        "reliable": False,
        "message": "the texts themselves have changed",
    }
    drift = {
        "verdict": "vocabulary", "message": moved, "revision": NEW, "reference": "2101 texts", "feature": "vocabulary",
        "signal": "rare", "since": ago(900), "evidence": 4.1e6, "threshold": 259200.0, "texts": 81200, "repeats": 412,
        "mmd": 0.0713, "figures": figures, "buckets": buckets, "accuracy": accuracy, "at": ago(12), "state": {"until": 1},
    }  # fmt: skip
    return body(
        {
            "message": message,
            "conditions": conditions("True", "Stable", message, condition("DriftFree", "False", "Drifted", moved)),
            "stable": revision(NEW, 100, 777600),
            "slo": SLO,
            "drift": drift,
        }
    )


def retrained() -> Object:
    """A run trained the model anew, and its content serves."""
    message = f"{NEW} serves all requests"
    digest = f"sha256:{'9d31c07e5f20' * 5}abcd"
    run = {
        "name": "r0123456ab", "trigger": "Drift", "why": f"vocabulary moved since {ago(9000)}", "started": ago(7200),
        "ended": ago(7080), "closed": ago(6000), "phase": "Ended",
        "inputs": {
            "model": f"sha256:{'4f6c0a1b2c3d' * 5}abcd", "uri": "pvc://models/moderation", "revision": OLD,
            "content": f"sha256:{'4f6c0a1b2c3d' * 5}abcd", "build": "eb-4f6c0a1b2c3d",
        },
        "figures": {"accuracy_new": 0.9977, "accuracy_old": 0.9881},
        "data": [{"uri": "pvc://models/new.csv", "digest": digest, "rows": 2100}],
        "digest": digest, "build": "eb-9d31c07e5f20", "revision": NEW, "outcome": "Promoted",
        "message": f"revision {NEW} serves what the run left",
    }  # fmt: skip
    told = f"run r0123456ab (Drift) ended as Promoted: {run['message']}; the next one is due at {ago(-90000)}"
    return body(
        {
            "message": message,
            "conditions": conditions(
                "True", "Stable", message, condition("Retraining", "False", "RetrainingPromoted", told)
            ),
            "stable": revision(NEW, 100, 6000),
            "slo": SLO,
            "retraining": {"message": told, "runs": [run]},
        }
    )


def suspected() -> Object:
    """Promoted, and put beside its predecessor again."""
    message = f"suspect {NEW} at 50 % beside {OLD} (90 s): 66 of 100 requests seen in this step"
    return body(
        {
            "message": message,
            "conditions": conditions("False", "Suspected", message),
            "stable": revision(OLD, 50, 259200),
            "canary": canary(50, 2, suspicions=1),
            "analysis": analysis("Inconclusive", "TooFewRequests", "66 of 100 requests seen in this step"),
            "history": HISTORY,
        }
    )


def experimenting() -> Object:
    """Two variants beside the base spec, the better of which is not certain yet."""
    told = "int8 is ahead of control; 80 of 100 by the chance of being best, no winner yet"
    figure = {"metric": "availability", "count": 5200, "mean": 0.9991, "low": 0.9978, "high": 0.9997}
    arms = [
        {
            "name": "control",
            "revision": OLD,
            "build": BUILDS[OLD],
            "uri": MODELS[OLD],
            "weight": 80,
            "replicas": 2,
            "ready": 2,
            "since": ago(7200),
            "requests": 5200,
            "best": 0.2,
            "figures": [figure],
        },
        {
            "name": "int8",
            "revision": NEW,
            "build": BUILDS[NEW],
            "uri": MODELS[OLD],
            "weight": 20,
            "replicas": 2,
            "ready": 1,
            "since": ago(7100),
            "requests": 1310,
            "best": 0.8,
            "figures": [{**figure, "count": 1310}],
            "difference": {"estimate": 0.0004, "low": -0.0011, "high": 0.0019},
        },
        {
            "name": "next",
            "uri": MODELS[NEW],
            "weight": 0,
            "reason": "ArmStarting",
            "message": "servers of 0c1d2e3f4a are starting",
        },
    ]
    message = f"{OLD} serves control; variant next: servers of 0c1d2e3f4a are starting"
    return body(
        {
            "message": message,
            "conditions": conditions("False", "ArmStarting", message),
            "stable": revision(OLD, 100, 259200),
            "arms": arms,
            "experiment": {
                "verdict": "Running", "metric": "availability", "message": told, "since": ago(7100),
                "countedUntil": ago(10), "key": "0", "compared": "0",
                "slots": [{"arm": "control", "from": 0, "to": 800}, {"arm": "int8", "from": 800, "to": 1000}],
            },
            "history": HISTORY[:1],
            "slo": SLO,
        }
    )  # fmt: skip


def gate_failed() -> Object:
    """An engine that passed no gate, while nothing serves yet."""
    message = "accuracy is 0.871; the gate asks for at least 0.9"
    found = body({"message": message, "target": {"build": BUILDS[NEW]}})
    found["status"]["conditions"] = [
        condition("Ready", "False", "GateFailed", message),
        condition("Built", "False", "GateFailed", message),
        condition("Serving", "False", "NotStarted", "there is no revision yet"),
        condition("Stalled", "True", "GateFailed", message),
    ]
    return found


def unseen() -> Object:
    """Created this moment: the operator has not looked."""
    found = body({}, creationTimestamp=ago(2), generation=1, name="fresh")
    return {**found, "status": {"observedGeneration": -1}}


def build(name: str = BUILDS[NEW]) -> Object:
    """The engine that the spec asks for."""
    found = report().model_dump(mode="json", by_alias=True, exclude_none=True)
    slow = {"runtime": "onnxruntime", "precision": "fp32", "textsPerSecond": 240.0, "p50Ms": 31.0, "agreement": 1.0}
    failed = {"runtime": "openvino", "precision": "int8", "passed": False, "error": "the compiler refuses the graph"}
    found["candidates"] += [{**slow, "memoryMiB": 912.5, "passed": True}, failed]
    found["gates"] += [{"name": "accuracy", "bound": "min 0.9", "passed": False, "detail": "no evaluation data"}]
    return {
        "apiVersion": "tapchanger.dev/v1alpha1",
        "kind": "EngineBuild",
        "metadata": {"name": name, "namespace": "team-a"},
        "spec": {},
        "status": {
            "phase": "Ready",
            "message": found["why"],
            "report": {**found, "digest": "sha256:" + "9" * 64},
            "artifactUri": f"pvc://tapchanger-artifacts/artifacts/{str(found['artifact']).replace(':', '-')}",
            "reportUri": f"pvc://tapchanger-artifacts/reports/{name}.json",
        },
    }


def failed_build() -> Object:
    """The engine of :func:`gate_failed`."""
    found = build()
    return {**found, "status": {"phase": "Failed", "message": "accuracy is 0.871; the gate asks for at least 0.9"}}


ALL: Final = {
    "stepping": stepping,
    "held": held,
    "undecided": undecided,
    "starting": starting,
    "mirroring": mirroring,
    "undecided-mirroring": undecided_mirroring,
    "rolled-back": rolled_back,
    "watched": watched,
    "suspected": suspected,
    "experimenting": experimenting,
    "gate-failed": gate_failed,
    "unseen": unseen,
    "drifting": drifting,
    "retrained": retrained,
}
