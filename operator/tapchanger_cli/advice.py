"""What a person can do next, as commands. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tapchanger_cli.subject import Subject
from tapchanger_operator.api import reasons
from tapchanger_operator.api.base import GROUP


@dataclass(frozen=True)
class Advice:
    """A command and what it does."""

    command: str
    effect: str


def advise(subject: Subject, program: str) -> list[Advice]:
    """The commands that make sense now, the likeliest first. `program` is how this command is called."""
    return [
        *_unwell(subject),
        *(
            Advice(f"{program} {words} {subject.name} -n {subject.namespace}{rest}", effect)
            for words, rest, effect in _steer(subject)
        ),
    ]


def _steer(subject: Subject) -> Iterator[tuple[str, str, str]]:
    """(command, what follows the name, effect)."""
    status, canary = subject.status, subject.status.canary
    if subject.hold is not None:
        yield "resume", "", "takes the hold away"
    elif canary and canary.paused:
        policy = subject.policy
        what = f"step {canary.step + 1} its {policy.timeout}"
        if canary.mirroring:
            what = f"the mirroring its {policy.mirror_timeout}"
        yield "resume", "", f"gives {what} again, once requests come"
    if canary:
        if canary.mirroring:
            yield "skip", " --reason '…'", "gives the first step to a canary whose answers were not compared"
        elif canary.step >= 0 and not canary.suspicions:
            yield "skip", " --reason '…'", f"passes step {canary.step + 1} without a verdict"
        yield "promote", "", f"gives {canary.revision} all requests at once"
        beside = status.stable.revision if status.stable else "the stable revision"
        yield "abort", "", f"rolls {canary.revision} back; {beside} gets all requests"
        if subject.hold is None:
            yield "pause", " --reason '…'", "holds everything where it is; rollbacks go on"
    elif status.previous and status.stable:
        yield "abort", "", f"returns to {status.previous.revision}, which is still warm"
    if subject.rejection:
        yield "retry", "", f"has {subject.rejection.revision} tried again, if what made it fail is over"
    yield "status", " --watch", "shows every change as it happens"
    if status.history:
        yield "history", "", "shows who served when, and who ordered it"


def _unwell(subject: Subject) -> Iterator[Advice]:
    """What else than an order helps."""
    name, space = subject.name, f"-n {subject.namespace}"
    stalled, serving = subject.condition(reasons.STALLED), subject.condition(reasons.SERVING)
    steerable = (reasons.HELD, reasons.CANARY_PAUSED)
    if stalled and stalled.status == "True" and stalled.reason not in steerable:
        yield Advice(
            f"kubectl edit tdep {name} {space}", "changes the spec: to something better, or back to what serves"
        )
    if reasons.ENGINE_INCOMPATIBLE in {found.reason for found in (stalled, serving) if found}:
        yield Advice("kubectl get nodes --show-labels", "shows what the nodes have, where discovery labels them")
    built = subject.condition(reasons.BUILT)
    if built and built.status != "True" and subject.status.target:
        yield Advice(f"kubectl describe eb {subject.status.target.build} {space}", "shows the build")
    if serving and serving.status != "True" and subject.status.stable:
        yield Advice(f"kubectl get pods -l {GROUP}/deployment={name} {space}", "shows the servers and routers")
    if subject.outdated:
        yield Advice("kubectl get pods -A -l app.kubernetes.io/component=operator", "shows whether the operator runs")
