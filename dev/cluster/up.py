"""`up`: brings the cluster from whatever state it is in to a healthy one."""

import base64
import json
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from dev.cluster import api, components, config, host, image, manifests, network, pki, processes, recover, state, tools
from dev.cluster.components import Component
from dev.cluster.errors import ClusterError
from dev.cluster.paths import Paths
from dev.cluster.recover import Action
from dev.cluster.report import Report

# With state from an earlier life, this long; then it is thrown away. A fresh start gets more.
PATIENCE = 60.0
FRESH_PATIENCE = 180.0
FIRST = ("etcd", "containerd", "registry", "registry-node", "kube-apiserver")


class UnhealthyError(ClusterError):
    """It does not become healthy in time; starting afresh may help."""


def up(paths: Paths, report: Report) -> None:
    """Idempotent. Returns when the node is Ready and a pod has resolved and reached a Service.

    Raises:
        ClusterError: says what is missing or did not become healthy.
    """
    host.require_root()
    action, why = assess(paths)
    report.say(f"found the cluster: {why}")
    if action is Action.KEEP:
        return
    host.ensure_packages(report)
    tools.ensure(paths.home, report)
    if action is Action.REPAIR:
        try:
            _bring_up(paths, report, PATIENCE)
            return
        except UnhealthyError as error:
            report.say(f"not healthy with the existing state; wiping it, and starting fresh. What was wrong: {error}")
            wipe(paths, report, keep_images=False)
    else:
        wipe(paths, report, keep_images=recover.read_boot(paths) == processes.boot_id())
    try:
        _bring_up(paths, report, FRESH_PATIENCE)
    except UnhealthyError as error:
        report.say(f"not healthy; wiping images, too, and trying once more. What was wrong: {error}")
        wipe(paths, report, keep_images=False)
        _bring_up(paths, report, FRESH_PATIENCE)


def assess(paths: Paths) -> tuple[Action, str]:
    """Looks at the machine and decides; changes nothing."""
    parts = state.wanted(paths)
    alive = state.records(paths, parts)
    current = state.current(parts, alive)
    names = frozenset(part.name for part in parts)
    whole = current == names
    return recover.decide(
        recover.Found(
            current=current,
            outdated=frozenset(alive) - current,
            wanted=names,
            same_boot=recover.read_boot(paths) == processes.boot_id(),
            healthy=whole and not state.node(paths).problem and not state.service_problem() and _was_finished(paths),
        )
    )


def wipe(paths: Paths, report: Report, *, keep_images: bool) -> None:
    """Ends and removes the earlier life; certificates, registry data, programs and models stay."""
    ended = recover.end_everything(paths)
    mounts = recover.unmount_everything(paths)
    recover.clear_state(paths, keep_images=keep_images)
    recover.wait_for_links()
    if ended or mounts:
        report.say(f"cleared an earlier life: {ended} processes, {mounts} mounts")


def _bring_up(paths: Paths, report: Report, patience: float) -> None:
    deadline = time.monotonic() + patience
    parts = state.wanted(paths)
    prepare(paths, parts)
    alive = _end_unwanted(paths, parts)
    missing = [part for part in parts if part.name not in alive]
    host.check_listeners([part.name for part in missing])
    client = api.connect(paths)

    _start(paths, [part for part in missing if part.name in FIRST], report)
    _import_pause_image(paths, deadline)
    _wait(paths, parts, client.is_ready, "the API server's /readyz", deadline, only=FIRST)
    report.say("the API server is ready")
    for document in manifests.base(paths):
        _retry(lambda document=document: client.apply(document), deadline)  # type: ignore[misc]
    _start(paths, [part for part in missing if part.name not in FIRST], report)
    _wait(paths, parts, lambda: not state.node(paths).problem, "the node to be Ready", deadline)
    report.say(f"node {network.NODE_NAME} is Ready")
    _prove(paths, parts, client, deadline)
    report.say("a pod became Ready, resolved a Service's name and reached it")
    _finished(paths).write_text(processes.boot_id())


def prepare(paths: Paths, parts: Sequence[Component]) -> None:
    """Makes folders, certificates, configuration files and the network; changes only what differs."""
    for folder, mode in components.folders(paths):
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(mode)
    processes.write_atomically(paths.generation, json.dumps({"boot": processes.boot_id()}) + "\n")
    pki.ensure(paths.pki)
    for name, text in (file for part in parts for file in part.files):
        target = paths.config / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists() or target.read_text() != text:
            processes.write_atomically(target, text, 0o600)
    processes.write_atomically(paths.kubeconfig, _admin_kubeconfig(paths), 0o600)
    host.set_up_network()


def _end_unwanted(paths: Paths, parts: Sequence[Component]) -> set[str]:
    """Ends components with an old recipe, and strays; returns the names of those that go on."""
    alive = state.records(paths, parts)
    current = state.current(parts, alive)
    recorded = {record.pid for name, record in alive.items() if name in current}
    programs = {Path(part.argv[0]).name for part in parts}
    found = processes.leftovers(paths.cluster)
    pids = set(recover.strays(found, recorded, programs))
    processes.end([(process.pid, process.started) for process in found if process.pid in pids])
    return set(current)


def _start(paths: Paths, parts: Sequence[Component], report: Report) -> None:
    environment, recipes = host.environment(), state.recipes(parts)
    for part in parts:
        processes.start(
            part.name,
            part.argv,
            run=paths.run,
            logs=paths.logs,
            recipe=recipes[part.name],
            environment=environment,
        )
    if parts:
        report.say(f"started {', '.join(part.name for part in parts)}")


def _wait(
    paths: Paths,
    parts: Sequence[Component],
    done: Callable[[], bool],
    what: str,
    deadline: float,
    only: Sequence[str] = (),
) -> None:
    watched = [part for part in parts if not only or part.name in only]
    while not done():
        dead = {part.name for part in watched} - state.records(paths, watched).keys()
        if dead:
            name = sorted(dead)[0]
            raise UnhealthyError(
                f"{name} ended; {paths.logs / name}.log says:\n{processes.tail(paths.logs / f'{name}.log')}"
            )
        if time.monotonic() > deadline:
            raise UnhealthyError(f"waited too long for {what}; logs are in {paths.logs}")
        time.sleep(0.1)


def _retry(step: Callable[[], None], deadline: float) -> None:
    """Some of the API server's checks become ready a moment after /readyz."""
    while True:
        try:
            step()
            return
        except (api.UnreachableError, ClusterError) as error:
            if time.monotonic() > deadline:
                raise UnhealthyError(str(error)) from error
            time.sleep(0.1)


def _import_pause_image(paths: Paths, deadline: float) -> None:
    program = (paths.bin / "pause").read_bytes()
    archive = image.archive(program, config.PAUSE_IMAGE, tools.this_platform())
    ctr = ["ctr", "--address", str(paths.containerd_socket), "--namespace", "k8s.io", "images", "import", "-"]
    while True:
        done = subprocess.run(ctr, input=archive, capture_output=True, env=host.environment())
        if done.returncode == 0:
            return
        if time.monotonic() > deadline:
            raise UnhealthyError(f"containerd does not import an image: {done.stderr.decode()[-500:].strip()}")
        time.sleep(0.1)


def _prove(paths: Paths, parts: Sequence[Component], client: api.Api, deadline: float) -> None:
    pod = manifests.probe_pod()
    path = api.object_path(pod)
    client.delete(pod)
    _wait(paths, parts, lambda: not client.exists(pod), "an earlier probe pod to go", deadline)
    _retry(lambda: client.apply(pod), deadline)
    _wait(
        paths,
        parts,
        lambda: state.condition(client.get(path).get("status", {}), "Ready") == "True",
        f"the pod {manifests.PROBE_POD} to resolve and reach a Service",
        deadline,
    )
    client.delete(pod)


def _admin_kubeconfig(paths: Paths) -> str:
    def encoded(name: str) -> str:
        return base64.b64encode((paths.pki / name).read_bytes()).decode()

    return config.embedded_kubeconfig(
        encoded("ca.crt"), encoded("admin.crt"), encoded("admin.key"), components.API_SERVER
    )


def _finished(paths: Paths) -> Path:
    return paths.run / "finished"


def _was_finished(paths: Paths) -> bool:
    """Whether a start reached its end: one that was killed half-way may have left objects out."""
    note = _finished(paths)
    return note.exists() and note.read_text() == processes.boot_id()
