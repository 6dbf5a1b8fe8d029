"""What is going on with a deployment, in words for the person who runs `kubectl get`."""

from __future__ import annotations

from tapchanger_operator.errors import UserError
from tapchanger_operator.snapshot import Given, Servers
from tapchanger_operator.status import routes
from tapchanger_operator.status.situation import Situation


def sentence(situation: Situation) -> str:
    """What is going on, in one sentence for the person who runs `kubectl get`."""
    state, problem = situation.state, situation.problem
    serves = f"{state.stable.revision} serves" if state.stable and state.stable.since else None
    refusal = routes.refusal(situation.snapshot)
    if refusal and not isinstance(problem, UserError):
        return f"no requests are answered: {refusal.message}"
    if problem:
        return f"{problem.message}" + (f" ({serves} meanwhile)" if serves else "")
    if state.stable is None:
        return "starting"
    if state.stable.since is None:
        trouble = situation.stable_servers.trouble
        return f"servers of {state.stable.revision} are starting" + (f": {trouble}" if trouble else "")
    if not situation.serving:
        yet = "" if situation.routed else " yet"
        return f"no requests are answered{yet}: {why_not_serving(situation)}"
    if state.canary:
        return canary_sentence(situation)
    if situation.unfit:
        servers = situation.stable_servers
        return f"{serves} all requests with {servers.ready} of {servers.replicas} servers: {situation.unfit}"
    if situation.held:
        return f"{serves} all requests; {situation.target} waits, {_held(situation)}"
    if situation.target and state.is_rejected(situation.target):
        rejection = next(r for r in state.rejected if r.revision == situation.target)
        return f"rolled back to {state.stable.revision}: {rejection.message}"
    if state.previous:
        return f"{serves} all requests; {state.previous.revision} stays warm until {state.previous.until}"
    return f"{serves} all requests"


def canary_sentence(situation: Situation) -> str:
    """Where the canary stands; empty where there is none."""
    canary, snapshot = situation.state.canary, situation.snapshot
    if canary is None:
        return ""
    hold = f", {_held(situation)}" if situation.held else ""
    if canary.step < 0 and not canary.mirroring:
        trouble = snapshot.servers.get(canary.revision, Servers()).trouble
        return f"canary {canary.revision} is starting{hold}" + (f": {trouble}" if trouble else "")
    steps = len(snapshot.spec.rollout.steps)
    analysis = situation.analysis
    known = analysis is not None and analysis.revision == canary.revision and not analysis.watching
    verdict = f": {analysis.message}" if analysis and known else ""
    paused = ", paused" if canary.paused else ""
    rounded = 10 * int(canary.elapsed(snapshot.now) // 10)
    if canary.mirror and canary.mirroring:
        where = f"canary {canary.revision} gets copies of {canary.mirror.percent} % of the requests ({rounded} s{paused}{hold})"
    elif canary.suspicions:
        beside = situation.state.stable.revision if situation.state.stable else "nothing"
        where = f"suspect {canary.revision} at {canary.weight} % beside {beside} ({rounded} s{paused}{hold})"
    else:
        where = f"canary {canary.revision} at {canary.weight} % (step {canary.step + 1} of {steps}, {rounded} s{paused}{hold})"
    return f"{where}{verdict}"


def _held(situation: Situation) -> str:
    pause = situation.snapshot.steering.pause or Given("")
    by = f" by {pause.by}" if pause.by else ""
    return f"held{by}" + (f": {pause.value}" if pause.value.strip() else "")


def why_not_serving(situation: Situation) -> str:
    """What is missing while no request is answered."""
    servers = situation.stable_servers
    trouble = routes.trouble(situation.snapshot)
    if trouble:
        return trouble.message
    if servers.ready and not situation.routed:
        return "the routers are being told where the servers are"
    return servers.trouble or f"{servers.ready} of {servers.replicas} servers of the stable revision are ready"
