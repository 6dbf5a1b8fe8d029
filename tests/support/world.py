"""A cluster in memory that plays Jobs, Deployments, the kubelet, Envoy and users, in simulated seconds."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tapchanger_operator import names
from tapchanger_operator.api.base import API_VERSION, timestamp, unix
from tapchanger_operator.apply.converge import Applied
from tapchanger_operator.errors import OperatorError
from tapchanger_operator.names import Ref
from tapchanger_operator.observe.nodes import node
from tapchanger_operator.reconcile import Tools, reconcile_build, reconcile_deployment
from tapchanger_operator.resolve.needs import CPUID, FLAGS
from tapchanger_operator.resolve.placing import eligible
from tapchanger_operator.snapshot import Silence
from tapchanger_serving.contract.drift import SETTLED, STEP, DriftStep, DriftWindow, Reference
from tapchanger_serving.contract.fit import dashed, driver_major, lacking
from tapchanger_serving.contract.messages import Hardware, StepFailure
from tapchanger_serving.contract.names import EXIT_ENGINE_INCOMPATIBLE
from tapchanger_serving.contract.windows import Windows
from tests.support.fake_kube import FakeKube, Killed, Object
from tests.support.history import Behaviour, Copies, History, Second
from tests.support.samples import HARDWARE, MODEL, SETTINGS, inspection, report
from tests.support.wakes import Wakes

START = 1_700_000_000.0
NAMESPACE = "team-a"
CONFIG_SECONDS = 60.0
"""How long a router that is not told takes to notice a new configuration."""


@dataclass
class World:
    """The cluster. `digests` and `failures` are what inspecting an address finds; `behaviours` goes by address."""

    now: float = START
    rate: float = 40.0
    kube: FakeKube = field(init=False)
    behaviours: dict[str, Behaviour] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    hardware: Hardware = HARDWARE
    machines: dict[str, Hardware] = field(default_factory=dict)
    """What each node really is, whatever its labels say. Without nodes, everything runs everywhere."""
    failures: dict[str, StepFailure] = field(default_factory=dict)
    build_failures: dict[str, StepFailure] = field(default_factory=dict)
    observer_silent: bool = False
    texts: list[DriftStep] = field(default_factory=list)
    """What the texts of the stable revision were like."""
    reference: Reference | None = None
    """What its servers announce."""
    trained: dict[str, Any] = field(default_factory=dict)
    """What a retraining run does: how many `seconds` it takes, what it `leaves` at which address, what it says at its end
    (`answer`), or how it `fails`.
    """
    routers_deaf: bool = False
    lost: Counter[str] = field(default_factory=Counter)
    weights_seen: list[dict[str, int]] = field(default_factory=list)
    seconds: History = field(default_factory=History)
    routers: dict[str, tuple[str, str]] = field(default_factory=dict)
    errors: list[BaseException] = field(default_factory=list)
    wakes: Wakes = field(default_factory=Wakes)
    begun: int = 0
    """How many calls had been made when the present pass began."""
    _left: dict[str, float] = field(default_factory=dict)
    _placed: dict[str, str | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.kube = FakeKube(lambda: self.now)
        self.tools = self.fresh_operator()
        self.kube.put(
            {
                "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "metadata": {"name": "models", "namespace": NAMESPACE},
            }
        )  # fmt: skip

    def fresh_operator(self) -> Tools:
        """An operator's process that has just started, and passes over everything."""
        self.wakes = Wakes()
        return Tools(self.kube, self, SETTINGS, Applied(), lambda: self.now)  # type: ignore[arg-type]

    # Users.

    def deploy(self, uri: str = "pvc://models/a", name: str = "moderation", **spec: Any) -> Ref:
        """`kubectl apply` of a TransformerDeployment."""
        ref = Ref("TransformerDeployment", NAMESPACE, name)
        self.kube.put(
            {
                "apiVersion": API_VERSION,
                "kind": ref.kind,
                "metadata": {"name": name, "namespace": NAMESPACE},
                "spec": {"model": {**MODEL, "uri": uri}, **spec},
            }
        )
        return ref

    def status(self, name: str = "moderation") -> dict[str, Any]:
        found: dict[str, Any] = self.kube.objects[Ref("TransformerDeployment", NAMESPACE, name)].get("status", {})
        return found

    def condition(self, kind: str, name: str = "moderation") -> dict[str, Any]:
        """One condition of a deployment; empty where there is none."""
        return next((c for c in self.status(name).get("conditions", []) if c["type"] == kind), {})

    # Nodes.

    def add_node(self, name: str, machine: Hardware = HARDWARE, *, labelled: bool = True, **spec: Any) -> None:
        """A node joins; `labelled` as node and GPU feature discovery do."""
        self.machines[name] = machine
        meta = {"name": name, "labels": _node_labels(name, machine, labelled)}
        self.kube.put({"apiVersion": "v1", "kind": "Node", "metadata": meta, "spec": spec})

    def change_node(self, name: str, machine: Hardware, *, labelled: bool = True) -> None:
        """The same node has another machine, driver or set of labels."""
        self.machines[name] = machine
        ref = Ref("Node", "", name)
        item = self.kube.objects[ref]
        meta = {**item["metadata"], "labels": _node_labels(name, machine, labelled)}
        self.kube.objects[ref] = {**item, "metadata": meta}

    def remove_node(self, name: str) -> None:
        del self.machines[name]
        self.kube.remove(Ref("Node", "", name))

    def _place(self, pod: Object) -> str | None:
        """The node that the scheduler takes for a pod's spec; empty where there are no nodes in this world, None for no node."""
        if not self.machines:
            return ""
        known = [node(item) for item in self.kube.of_kind("Node").values()]
        free = [one.name for one in eligible(known, pod) if not one.cordoned]
        return free[0] if free else None

    # Time.

    def run(self, seconds: float, until: Any = None, operator: bool = True) -> bool:
        """Lets seconds pass, each with a pass over every object that the operator would look at. True as soon as `until()`
        holds.
        """
        for _ in range(round(seconds)):
            self.tick()
            for ref in self.wakes.awake(self.kube.objects, self.now) if operator else ():
                self.one_pass(ref)
            if until is not None and until():
                return True
        return until is None

    def passes(self) -> None:
        """One pass over every object."""
        for ref in [r for r in self.kube.objects if r.kind in names.PASSED]:
            self.one_pass(ref)

    def one_pass(self, ref: Ref) -> None:
        """One pass; what it raises is kept, as the queue would come back to it."""
        self.begun = len(self.kube.calls)
        handle = reconcile_deployment if ref.kind == "TransformerDeployment" else reconcile_build
        wait: float | None = 0.0
        try:
            wait = handle(self.tools, ref)
        except Killed:
            self.tools = self.fresh_operator()
        except OperatorError as problem:
            self.errors.append(problem)
        self.wakes.passed(ref, None if wait is None else self.now + wait)

    def tick(self) -> None:
        """One second of everything but the operator."""
        self.now += 1.0
        for ref, item in list(self.kube.objects.items()):
            if ref.kind == "Job":
                self._play_job(item)
            if ref.kind == "Deployment":
                self._play_deployment(item)
        self._refresh_routers()
        self._send_requests()

    # Controllers.

    def _play_job(self, job: Object) -> None:
        age = self.now - unix(job["metadata"]["creationTimestamp"])
        labels = job["metadata"]["labels"]
        if job.get("status"):
            if self.now - unix(job["status"]["at"]) > job["spec"].get("ttlSecondsAfterFinished", 1e9):
                self.kube.remove(Ref.of(job))
            return
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": f"{job['metadata']['name']}-pod",
                "namespace": NAMESPACE,
                "labels": {**labels, "batch.kubernetes.io/job-name": job["metadata"]["name"]},
                "ownerReferences": [{"kind": "Job", "name": job["metadata"]["name"], "uid": job["metadata"]["uid"]}],
            },
        }
        steps = [
            *job["spec"]["template"]["spec"].get("initContainers", []),
            *job["spec"]["template"]["spec"]["containers"],
        ]
        step = int(age) - 1
        training = labels[names.LABEL_COMPONENT] == names.COMPONENT_RETRAIN
        if step < 0 or (training and age < self.trained.get("seconds", 0)):
            return
        states = [{"name": c["name"], "state": _container_state(index, step)} for index, c in enumerate(steps)]
        done = step >= len(steps)
        where = self._place(job["spec"]["template"]["spec"])
        if where is None:
            return
        failure, answer = self._answer(job, labels, self.machines.get(where, self.hardware))
        if done:
            states[-1]["state"] = {"terminated": {"exitCode": 42 if failure else 0, "message": answer}}
            outcome = "Failed" if failure else "Complete"
            said = {"conditions": [{"type": outcome, "status": "True"}], "at": timestamp(self.now)}
            self.kube.put({**job, "status": said})
        pod["status"] = {
            "phase": ("Failed" if failure else "Succeeded") if done else "Running",
            "initContainerStatuses": states[:-1],
            "containerStatuses": states[-1:],
        }
        self.kube.put(pod)

    def _answer(self, job: Object, labels: dict[str, str], machine: Hardware) -> tuple[bool, str]:
        container = job["spec"]["template"]["spec"]["containers"][0]
        if labels[names.LABEL_COMPONENT] == names.COMPONENT_RETRAIN:
            self.digests |= self.trained.get("leaves", {})
            return "fails" in self.trained, self.trained.get("fails", self.trained.get("answer", ""))
        if labels[names.LABEL_COMPONENT] == names.COMPONENT_RETAIN:
            return False, ""
        if labels[names.LABEL_COMPONENT] == names.COMPONENT_PROBE:
            failure = self.failures.get("probe")
            return bool(failure), (failure or machine).dumps()
        if labels[names.LABEL_COMPONENT] == names.COMPONENT_INSPECT:
            uri = container["args"][container["args"].index("--uri") + 1]
            failure = self.failures.get(uri)
            found = inspection(self.digests.get(uri, digest_of(uri))).model_copy(update={"hardware": machine})
            return bool(failure), (failure or found).dumps()
        request = json.loads(next(e["value"] for e in container["env"] if e["name"] == "TAPCHANGER_BUILD_REQUEST"))
        failure = self.build_failures.get(request["uri"])
        return bool(failure), (failure or report(artifact_of(request["digest"]))).dumps()

    def _play_deployment(self, deployment: Object) -> None:
        meta, spec = deployment["metadata"], deployment["spec"]
        age = self.now - unix(meta["creationTimestamp"])
        up = age >= 3 and self._starts(meta["labels"].get(names.LABEL_REVISION), meta["labels"])
        replicas = spec["replicas"]
        pods = [self._play_pod(f"{meta['name']}-{index}", deployment, up) for index in range(replicas)]
        ready = sum(pod["status"]["phase"] == "Running" for pod in pods)
        up = up and ready == replicas
        status = {
            "observedGeneration": meta["generation"],
            "readyReplicas": ready,
            "availableReplicas": ready,
            "conditions": [
                {
                    "type": "Available",
                    "status": "True" if up else "False",
                    "lastTransitionTime": timestamp(unix(meta["creationTimestamp"]) + (3 if up else 0)),
                }
            ],
        }
        self.kube.put({**deployment, "status": status})

    def _play_pod(self, name: str, deployment: Object, up: bool) -> Object:
        """A pod stays on its node as long as there is one; what its init container says depends on what that is."""
        meta, template = deployment["metadata"], deployment["spec"]["template"]
        where = self._placed.get(name)
        if where is None or (where and where not in self.machines):
            where = self._place(template["spec"])
        self._placed[name] = where
        status: dict[str, Any] = {"phase": "Pending", "conditions": [{"type": "Ready", "status": "False"}]}
        if where is None:
            said = f"0/{len(self.machines)} nodes are available: didn't match Pod's node affinity/selector."
            status["conditions"] += [{"type": "PodScheduled", "reason": "Unschedulable", "message": said}]
        elif not self._runs(name, where) and (missing := self._missing(meta["labels"], where)):
            ended = {"exitCode": EXIT_ENGINE_INCOMPATIBLE, "message": json.dumps({"msg": f"it needs {missing}"})}
            waits = {"waiting": {"reason": "CrashLoopBackOff"}}
            status["initContainerStatuses"] = [
                {"name": "repository", "state": waits, "lastState": {"terminated": ended}}
            ]
        elif up:
            status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
        return self.kube.put(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "name": name,
                    "namespace": NAMESPACE,
                    "labels": template["metadata"]["labels"],
                    "ownerReferences": [{"kind": "Deployment", "name": meta["name"], "uid": meta["uid"]}],
                },
                "spec": {"nodeName": where} if where else {},
                "status": status,
            }
        )

    def _runs(self, pod: str, where: str) -> bool:
        """Init containers ran when it was put there."""
        known = self.kube.objects.get(Ref("Pod", NAMESPACE, pod), {})
        return known.get("status", {}).get("phase") == "Running" and known["spec"].get("nodeName", "") == where

    def _missing(self, labels: dict[str, str], where: str) -> str:
        revision, deployment = labels.get(names.LABEL_REVISION), labels[names.LABEL_DEPLOYMENT]
        if revision is None or not where:
            return ""
        content = self.kube.objects[Ref("ControllerRevision", NAMESPACE, names.server(deployment, revision))]["data"]
        needed = Hardware.model_validate(content["hardware"])
        return ", ".join(lacking(content["runtime"], needed, self.machines[where]))

    def _starts(self, revision: str | None, labels: dict[str, str]) -> bool:
        return revision is None or self._behaviour(revision, labels[names.LABEL_DEPLOYMENT]).starts

    def _behaviour(self, revision: str, deployment: str = "moderation") -> Behaviour:
        stored = self.kube.objects.get(Ref("ControllerRevision", NAMESPACE, names.server(deployment, revision)))
        return self.behaviours.get(stored["data"]["uri"], Behaviour()) if stored else Behaviour(starts=False)

    # Routers: a pod reads the configuration when it starts, when it is told to, and otherwise once in a while.

    def _refresh_routers(self) -> None:
        config = self.kube.objects.get(Ref("ConfigMap", NAMESPACE, "moderation-router"))
        pods = {
            name: pod
            for name, pod in self.kube.of_kind("Pod").items()
            if pod["metadata"].get("labels", {}).get(names.LABEL_COMPONENT) == names.COMPONENT_ROUTER
            and pod["metadata"]["labels"][names.LABEL_DEPLOYMENT] == "moderation"
            and pod["status"]["phase"] == "Running"
        }
        self.routers = {name: known for name, known in self.routers.items() if name in pods}
        if config is None:
            return
        for name, pod in pods.items():
            told = pod["metadata"].get("annotations", {}).get(names.ANNOTATION_ROUTER_CONFIG, "")
            known = self.routers.get(name)
            late = self.now % CONFIG_SECONDS < 1.0
            if known is None or late or (known[0] != told and not self.routers_deaf):
                self.routers[name] = (told, config["data"]["routes-http.json"])

    def weights(self) -> dict[str, int]:
        """What the first router does at present."""
        return routed(next(iter(self.routers.values()))[1]) if self.routers else {}

    def _send_requests(self) -> None:
        second = Second(self.now)
        for revision, share in self._shares().items():
            count = self._whole(revision, share)
            behaviour = self._behaviour(revision)
            deployment = self.kube.objects.get(Ref("Deployment", NAMESPACE, names.server("moderation", revision)))
            if count and (deployment is None or not deployment.get("status", {}).get("readyReplicas")):
                self.lost[revision] += count
                second.failing[revision] += count
            else:
                failing = self._whole(f"{revision} failing", count * behaviour.failing)
                second.failing[revision] += failing
                second.slow[revision] += failing + self._whole(f"{revision} slow", count * behaviour.slow)
            second.requests[revision] += count
            labelled = self._whole(f"{revision} labelled", count * behaviour.labelled)
            second.labelled[revision] += labelled
            second.wrong[revision] += self._whole(f"{revision} wrong", labelled * behaviour.wrong)
        for revision, (canary, percent) in self._copied().items():
            second.copies[canary, revision] = self._copy(canary, second.requests[revision] * percent / 100)
        self.seconds.add(second)

    def _copied(self) -> dict[str, tuple[str, int]]:
        """By revision that serves, whom its requests are copied to and how many percent, as the first router has it."""
        mirror = mirrored(next(iter(self.routers.values()))[1]) if self.routers else None
        return {revision: mirror for revision, weight in self.weights().items() if weight and mirror}

    def _copy(self, canary: str, share: float) -> Copies:
        behaviour, count = self._behaviour(canary), self._whole(f"{canary} copies", share)
        failing = self._whole(f"{canary} copies failing", count * behaviour.failing)
        return Copies(
            count,
            failing + self._whole(f"{canary} copies slow", count * behaviour.slow),
            failing,
            self._whole(f"{canary} copies differing", (count - failing) * behaviour.differs),
        )

    def _shares(self) -> dict[str, float]:
        """Requests of this second by revision."""
        shares: dict[str, float] = {}
        for _, routes in self.routers.values():
            split = routed(routes)
            if self.weights_seen[-1:] != [split]:
                self.weights_seen.append(split)
            for revision, weight in split.items():
                shares[revision] = shares.get(revision, 0.0) + self.rate / len(self.routers) * weight / 100
        return shares

    def _whole(self, what: str, share: float) -> int:
        """A whole number of requests; what is left over counts in the next second."""
        total = self._left.get(what, 0.0) + share
        self._left[what] = total - int(total + 1e-9)
        return int(total + 1e-9)

    # The observer.

    delay = 0.0

    def mirrored(
        self, namespace: str, deployment: str, since: float, latencies: Sequence[float], until: float | None = None
    ) -> Windows | Silence:
        """As `observe.windows.Observer`."""
        return self.windows(namespace, deployment, since, latencies, until)

    def windows(
        self, namespace: str, deployment: str, since: float, latencies: Sequence[float], until: float | None = None
    ) -> Windows | Silence:
        """As `observe.windows.Observer`."""
        if self.observer_silent:
            return Silence("the observer did not answer: ConnectError: refused")
        end = self.now + 1 if until is None else until
        revisions, mirrors = self.seconds.windows(since, end, latencies, self._behaviour, self.now)
        return Windows(
            namespace=namespace,
            deployment=deployment,
            now=self.now,
            since=since,
            until=self.now if until is None else until,
            revisions=revisions,
            mirrors=mirrors,
        )

    def drift(self, namespace: str, deployment: str, revision: str, since: float) -> DriftWindow | Silence:
        """As `observe.windows.Observer`: the steps in `texts`, whichever revision answers."""
        if self.observer_silent:
            return Silence("the observer did not answer: ConnectError: refused")
        until = int(self.now - SETTLED) // STEP * STEP
        return DriftWindow(
            namespace=namespace,
            deployment=deployment,
            revision=revision,
            now=self.now,
            until=until,
            reference=self.reference,
            steps=tuple(step for step in self.texts if since <= step.start and step.start + STEP <= until),
        )


def _node_labels(name: str, machine: Hardware, labelled: bool) -> dict[str, str]:
    labels = {"kubernetes.io/os": "linux", "kubernetes.io/arch": machine.arch, "kubernetes.io/hostname": name}
    return {**labels, **(discovered(machine) if labelled else {})}


def discovered(machine: Hardware) -> dict[str, str]:
    """The labels that node feature discovery and GPU feature discovery give to a node."""
    flags = FLAGS.get(machine.arch, {})
    labels = {f"{CPUID}{flags[name]}": "true" for name in machine.instruction_sets if name in flags}
    if machine.gpu:
        major, minor = machine.gpu.compute_capability.split(".")
        labels |= {
            "nvidia.com/gpu.product": dashed(machine.gpu.product),
            "nvidia.com/gpu.compute.major": major,
            "nvidia.com/gpu.compute.minor": minor,
            "nvidia.com/cuda.driver-version.full": machine.gpu.driver,
            "nvidia.com/cuda.driver-version.major": driver_major(machine.gpu.driver),
            "nvidia.com/cuda.driver.major": driver_major(machine.gpu.driver),
        }
    return labels


def _container_state(index: int, step: int) -> dict[str, Any]:
    if index < step:
        return {"terminated": {"exitCode": 0}}
    return {"running": {}} if index == step else {"waiting": {"reason": "PodInitializing"}}


def digest_of(uri: str) -> str:
    """The digest that the content at `uri` has in this world: addresses that differ only in a query share it."""
    return f"sha256:{names.content_hash(uri.partition('?')[0], 64)}"


def artifact_of(digest: str) -> str:
    """The artifact that a build of a checkpoint gives."""
    return f"sha256:{names.content_hash(['artifact', digest], 64)}"


def routed(text: str) -> dict[str, int]:
    """Weights by revision of a routes file."""
    route = json.loads(text)["resources"][0]["virtual_hosts"][0]["routes"][0]
    clusters = route.get("route", {}).get("weighted_clusters", {}).get("clusters", [])
    shares: Counter[str] = Counter()
    for cluster in clusters:
        shares[cluster["name"].rsplit("-", 1)[0]] += cluster["weight"]
    percent = shares.total() // 100
    return {revision: weight // percent for revision, weight in shares.items()}


def mirrored(text: str) -> tuple[str, int] | None:
    """Whom requests are copied to by a routes file, and how many percent of them."""
    route = json.loads(text)["resources"][0]["virtual_hosts"][0]["routes"][0]
    copies = route.get("route", {}).get("request_mirror_policies")
    if not copies:
        return None
    return copies[0]["cluster"].rsplit("-", 1)[0], route["match"]["runtime_fraction"]["default_value"]["numerator"]


_VOLATILE = ("uid", "resourceVersion", "creationTimestamp", "generation")


def essence(world: World) -> Any:
    """Everything in the cluster but events, pods, and what differs from run to run: uids, versions and times."""

    def stripped(node: Any) -> Any:
        if isinstance(node, list):
            return [stripped(item) for item in node]
        if not isinstance(node, dict):
            return node
        return {key: stripped(value) for key, value in node.items() if key not in _VOLATILE and not _is_time(value)}

    kept = {
        f"{ref.kind}/{ref.name}": stripped(copy.deepcopy({k: v for k, v in item.items() if k != "status"}))
        for ref, item in world.kube.objects.items()
        if ref.kind not in ("Event", "Pod", "Job")
    }
    statuses = {
        name: _place(item.get("status", {})) for name, item in world.kube.of_kind("TransformerDeployment").items()
    }
    return kept, statuses


def _place(status: dict[str, Any]) -> Any:
    parts = {part: status[part]["revision"] for part in ("stable", "canary", "previous") if part in status}
    conditions = {c["type"]: (c["status"], c["reason"]) for c in status.get("conditions", []) if c["type"] != "SLOMet"}
    rejected = [(r["revision"], r["reason"]) for r in status.get("rejected", [])]
    return parts, conditions, rejected, status.get("target"), status.get("observedGeneration")


def _is_time(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 24 and value.endswith("Z") and value[10] == "T"
