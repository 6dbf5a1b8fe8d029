"""What pods tell: why they don't start, where a Job stands and what its containers said last."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from tapchanger_operator import names
from tapchanger_operator.api import reasons
from tapchanger_operator.api.base import unix
from tapchanger_operator.snapshot import Damage, JobState, Trouble
from tapchanger_serving.contract.messages import StepFailure
from tapchanger_serving.contract.names import EXIT_ARTIFACT_DAMAGED, EXIT_ENGINE_INCOMPATIBLE

Pod = Mapping[str, Any]

JOB_LABEL = "batch.kubernetes.io/job-name"
OTHER_NODES = "choose nodes that have it by serving.template.nodeSelector, or others, for which an engine is built then"
_CRASHING = "CrashLoopBackOff"
_WAITING_TROUBLE = {
    "ImagePullBackOff",
    "ErrImagePull",
    "InvalidImageName",
    "CrashLoopBackOff",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
}


def _waits_for_store(message: str) -> bool:
    """Whether a pod waits for the claim that the operator itself makes: it is new, or its predecessor is still going."""
    return f'persistentvolumeclaim "{names.STORE_CLAIM}"' in message


def of_job(pods: Iterable[Pod], job: str) -> tuple[Pod, ...]:
    """The pods of one Job, the newest last."""
    mine = [pod for pod in pods if pod["metadata"].get("labels", {}).get(JOB_LABEL) == job]
    return tuple(sorted(mine, key=lambda pod: str(pod["metadata"]["creationTimestamp"])))


def trouble(pods: Iterable[Pod], *, restarts: bool = True) -> Trouble | None:
    """The first reason for which one of `pods` does not start, in the words of the scheduler or the kubelet.

    `restarts`: their containers start again when they end, so that one which ended in failure is a reason too.
    """
    for pod in pods:
        status = pod.get("status", {})
        for condition in status.get("conditions", []):
            unschedulable = condition["type"] == "PodScheduled" and condition.get("reason") == "Unschedulable"
            if unschedulable and not _waits_for_store(str(condition.get("message", ""))):
                return Trouble(reasons.NO_NODE_FITS, str(condition.get("message", "")))
        for container in _containers(status):
            failed = _failed(container) if restarts else None
            if failed and failed.get("exitCode") == EXIT_ARTIFACT_DAMAGED:
                return Trouble(reasons.ARTIFACT_DAMAGED, _said_in_json(failed))
            if failed and failed.get("exitCode") == EXIT_ENGINE_INCOMPATIBLE:
                node = pod.get("spec", {}).get("nodeName", "")
                return Trouble(reasons.ENGINE_INCOMPATIBLE, f"node {node}: {_said_in_json(failed)}; {OTHER_NODES}")
            if failed:
                code = failed.get("exitCode")
                said = _said_in_json(failed) if failed.get("message") else failed.get("reason", "")
                return Trouble(_CRASHING, f"container {container['name']} ends with exit code {code}: {said}")
            waiting = container.get("state", {}).get("waiting", {})
            if waiting.get("reason") in _WAITING_TROUBLE:
                detail = _first_line(waiting.get("message", ""))
                return Trouble(waiting["reason"], f"container {container['name']}: {waiting['reason']}: {detail}")
    return None


def damage(pods: Iterable[Pod]) -> Damage | None:
    """What the last of `pods` said that found its artifact damaged."""
    found = []
    for pod in pods:
        for container in pod.get("status", {}).get("initContainerStatuses", []):
            for state in (container.get("state", {}), container.get("lastState", {})):
                ended = state.get("terminated", {})
                if ended.get("exitCode") == EXIT_ARTIFACT_DAMAGED and ended.get("finishedAt"):
                    found.append(Damage(unix(ended["finishedAt"]), _said_in_json(ended)))
    return max(found, key=lambda one: one.at, default=None)


def _said_in_json(ended: Mapping[str, Any]) -> str:
    """The `msg` of the JSON line that a container wrote last, else the line."""
    lines = str(ended.get("message", "")).strip().splitlines()
    try:
        return str(json.loads(lines[-1])["msg"])[:300] if lines else "without a word"
    except (ValueError, KeyError, TypeError):
        return lines[-1][:300]


def _failed(container: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """How a container ended that keeps failing: it has just ended, waits for its next start, or is not ready again yet."""
    state = container.get("state", {})
    ended: Mapping[str, Any] = state.get("terminated") or container.get("lastState", {}).get("terminated", {})
    waits = state.get("waiting", {}).get("reason", _CRASHING)
    again = waits == _CRASHING and not container.get("ready", False)
    return ended if again and ended.get("exitCode", 0) != 0 else None


def job_state(job: Mapping[str, Any], pods: Sequence[Pod], crashed: str) -> JobState:
    """Where `job` stands, given its `pods` (the newest last). `crashed` is the reason where it failed without a word."""
    conditions = {c["type"] for c in job.get("status", {}).get("conditions", []) if c.get("status") == "True"}
    newest = pods[-1].get("status", {}) if pods else {}
    # The end of its one pod's last container is known two seconds before the Job says so.
    done = bool(pods) and _has_succeeded(newest) and _is_of(pods[-1], job)
    if done or "Complete" in conditions or "SuccessCriteriaMet" in conditions:
        answers = [_said(container) for container in newest.get("containerStatuses", [])]
        return JobState("Succeeded", answer=answers[0] if answers else None)
    if "Failed" in conditions or "FailureTarget" in conditions:
        return JobState("Failed", failure=_failure(newest, job, crashed))
    running = [c["name"] for c in _containers(newest) if "running" in c.get("state", {})]
    if running:
        return JobState("Running", step=running[0])
    return JobState("Pending", trouble=trouble(pods[-1:], restarts=False))


def _has_succeeded(status: Mapping[str, Any]) -> bool:
    states = [container.get("state", {}) for container in status.get("containerStatuses", [])]
    return bool(states) and all(state.get("terminated", {}).get("exitCode") == 0 for state in states)


def _is_of(pod: Pod, job: Mapping[str, Any]) -> bool:
    """Whether `job` made it, and not one that had the same name before."""
    owners = pod["metadata"].get("ownerReferences", [])
    return any(reference["uid"] == job["metadata"].get("uid") for reference in owners)


def _failure(status: Mapping[str, Any], job: Mapping[str, Any], crashed: str) -> StepFailure:
    for container in _containers(status):
        state = container.get("state", {}).get("terminated", {})
        if state and state.get("exitCode") != 0:
            try:
                return StepFailure.model_validate(json.loads(state.get("message", "")))
            except (ValueError, ValidationError):
                said = _first_line(state.get("message", "")) or state.get("reason", "no message")
                return StepFailure(
                    reason=crashed,
                    message=f"step {container['name']} ended with exit code {state.get('exitCode')}: {said}",
                    remedy=f"see `kubectl logs job/{job['metadata']['name']} -c {container['name']}`",
                )
    for condition in job.get("status", {}).get("conditions", []):
        if condition["type"] in ("Failed", "FailureTarget"):
            return StepFailure(reason=crashed, message=f"{condition.get('reason')}: {condition.get('message')}")
    return StepFailure(reason=crashed, message="the Job failed without a message")


def _containers(status: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]


def _said(container: Mapping[str, Any]) -> str:
    return str(container.get("state", {}).get("terminated", {}).get("message", ""))


def _first_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""
