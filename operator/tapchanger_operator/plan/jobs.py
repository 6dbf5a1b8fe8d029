"""Jobs: one inspects a model, one builds an engine. Both run the builder image and answer by termination message."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tapchanger_operator import names
from tapchanger_operator.api.credentials import Credentials
from tapchanger_operator.api.enginebuild import EngineBuildSpec
from tapchanger_operator.api.spec import TransformerDeploymentSpec
from tapchanger_operator.names import Owner
from tapchanger_operator.plan import store as stores
from tapchanger_operator.plan.common import (
    CONTAINER_SECURITY,
    POD_SECURITY,
    Manifest,
    empty_dir,
    labels,
    metadata,
    mount,
    node_affinity,
    preferring,
)
from tapchanger_operator.resolve.identity import claims, inspection_key, placement
from tapchanger_operator.resolve.needs import preferences, requirements
from tapchanger_operator.settings import Images, Store
from tapchanger_serving.contract import names as contract
from tapchanger_serving.contract.messages import BuildRequest, Collection, Inspection

_FETCHING = ("inspect", "fetch")
"""The steps that reach out; the others run code on what was fetched and get no credentials."""
_STORING = ("fetch", "measure", "collect")
"""The steps that read or write the store of finished builds."""
_COMMAND = ["python3", "-m", "tapchanger_serving.build"]
_DEADLINE_SECONDS = {
    names.COMPONENT_INSPECT: 1800,
    names.COMPONENT_PROBE: 1800,
    names.COMPONENT_BUILD: 6 * 3600,
    names.COMPONENT_COLLECT: 900,
}
_KEPT_SECONDS = {
    names.COMPONENT_INSPECT: 120,
    names.COMPONENT_PROBE: 120,
    names.COMPONENT_BUILD: 3600,
    names.COMPONENT_COLLECT: 24 * 3600,
}
"""A finished inspection goes after this time; one that failed is then made again. A collection's log says what was removed."""


def inspect_job(
    owner: Owner, spec: TransformerDeploymentSpec, images: Images, store: Store = stores.VOLUME
) -> Manifest:
    """The Job that reads the checkpoint's metadata and the node's hardware."""
    key = inspection_key(spec)
    return _inspecting(owner, spec, images, store, names.inspection(owner.name, key))


def poll_job(
    owner: Owner,
    spec: TransformerDeploymentSpec,
    known: Inspection,
    name: str,
    images: Images,
    store: Store = stores.VOLUME,
) -> Manifest:
    """The Job that asks whether there is other content at the address than `known`."""
    return _inspecting(owner, spec, images, store, name, "--known", known.dumps())


def probe_job(
    owner: Owner, spec: TransformerDeploymentSpec, name: str, images: Images, store: Store = stores.VOLUME
) -> Manifest:
    """The Job that says what hardware the nodes have."""
    container = _container("probe", images)
    container["args"] = ["probe"]
    return _job(
        owner,
        name=name,
        component=names.COMPONENT_PROBE,
        containers=[container],
        claim_names=(),
        credentials=None,
        where=placement(spec.serving.template),
        store=store,
    )


def _inspecting(
    owner: Owner, spec: TransformerDeploymentSpec, images: Images, store: Store, name: str, *arguments: str
) -> Manifest:
    container = _container("inspect", images)
    container["args"] = ["inspect", "--uri", spec.model.uri, "--task", spec.model.task, *arguments]
    return _job(
        owner,
        name=name,
        component=names.COMPONENT_INSPECT,
        containers=[container],
        claim_names=claims(spec),
        credentials=spec.model.credentials,
        where=placement(spec.serving.template),
        store=store,
    )


def build_job(owner: Owner, spec: EngineBuildSpec, images: Images, store: Store = stores.VOLUME) -> Manifest:
    """The Job that builds an engine: all steps but the last as init containers, so that each shows as a step."""
    request = BuildRequest(
        name=owner.name,
        uri=spec.model.uri,
        digest=spec.model.digest,
        task=spec.model.task,
        runtime=spec.runtime,
        precision=spec.precision,
        shapes=spec.shapes,
        gates=spec.gates,
        calibration_data=spec.calibration_data,
        drift_data=spec.drift_data,
        temperature_scaling=spec.temperature_scaling,
        tensorrt=spec.tensorrt,
        distill=spec.distill,
        hardware=spec.hardware,
    )
    containers = []
    for step in request.steps:
        container = _container(step, images)
        container["args"] = [step]
        container["env"].append({"name": contract.ENV_BUILD_REQUEST, "value": request.dumps()})
        containers.append(container)
    job = _job(
        owner,
        name=owner.name,
        component=names.COMPONENT_BUILD,
        containers=containers,
        claim_names=claims(spec),
        credentials=spec.model.credentials,
        where={**spec.placement, "affinity": _like_inspected(spec)},
        store=store,
    )
    if spec.distill:
        job["spec"]["activeDeadlineSeconds"] += math.ceil(spec.distill.max_seconds)
    return job


def collect_job(owner: Owner, number: int, order: Collection, images: Images, store: Store = stores.VOLUME) -> Manifest:
    """The Job that removes from the namespace's store what `order` does not keep; `number` tells one day's from the next."""
    container = _container("collect", images)
    container["args"] = ["collect"]
    container["env"].append({"name": contract.ENV_COLLECTION, "value": order.dumps()})
    job = _job(
        owner,
        name=names.collection(number),
        component=names.COMPONENT_COLLECT,
        containers=[container],
        claim_names=(),
        credentials=None,
        where={},
        store=store,
    )
    # It serves the whole namespace: with the deployment's label it would be taken for one of the deployment's parts.
    own_labels = {names.LABEL_MANAGED_BY: names.MANAGER, names.LABEL_COMPONENT: names.COMPONENT_COLLECT}
    job["metadata"]["labels"] = job["spec"]["template"]["metadata"]["labels"] = own_labels
    return job


def _like_inspected(spec: EngineBuildSpec) -> Manifest:
    """Nodes that have what the inspected one has, and best those that have no more: measuring is refused on another kind."""
    hardware = spec.hardware
    affinity = node_affinity(requirements("auto", hardware), spec.placement.get("affinity", {}))
    alike = preferences(hardware)
    return preferring(alike, affinity) if alike else affinity


def _container(name: str, images: Images) -> Manifest:
    return {
        "name": name,
        "image": images.builder,
        "imagePullPolicy": images.pull_policy,
        "command": list(_COMMAND),
        "env": [{"name": "HOME", "value": "/tmp"}],  # noqa: S108 - a volume of the pod's own
        "securityContext": CONTAINER_SECURITY,
        "terminationMessagePath": contract.TERMINATION_LOG,
        "terminationMessagePolicy": "File",
    }


def _job(
    owner: Owner,
    *,
    name: str,
    component: str,
    containers: list[Manifest],
    claim_names: Sequence[str],
    credentials: Credentials | None,
    where: Manifest,
    store: Store,
) -> Manifest:
    own_labels = labels(owner, component)
    # A claim's name may have dots, a volume's may not.
    sources = {f"claim-{index}": claim for index, claim in enumerate(claim_names)}
    mounts = [
        *([] if store.uri else [mount("store", contract.STORE_DIR)]),
        mount("work", contract.WORK_DIR),
        mount("tmp", "/tmp"),  # noqa: S108 - a volume of the pod's own
        mount("shm", "/dev/shm"),  # noqa: S108 - a volume of the pod's own
        *[mount(volume, f"{contract.CLAIMS_DIR}/{claim}", read_only=True) for volume, claim in sources.items()],
        *where.get("volumeMounts", []),
    ]
    for container in containers:
        container["volumeMounts"] = mounts
        if credentials and container["name"] in _FETCHING:
            container["volumeMounts"] = [*mounts, mount("credentials", contract.CREDENTIALS_DIR, read_only=True)]
            container["env"].append({"name": contract.ENV_CREDENTIALS, "value": credentials.secret_name})
        if container["name"] in _STORING:
            container["volumeMounts"] = [*container["volumeMounts"], *stores.secret_mounts(store)]
            container["env"] += stores.environment(store, owner.namespace)
        if "resources" in where:
            container["resources"] = where["resources"]
    volumes = [
        *([] if store.uri else [{"name": "store", "persistentVolumeClaim": {"claimName": names.STORE_CLAIM}}]),
        empty_dir("work"),
        empty_dir("tmp"),
        empty_dir("shm", memory=True, size="1Gi"),
        *[
            {"name": volume, "persistentVolumeClaim": {"claimName": claim, "readOnly": True}}
            for volume, claim in sources.items()
        ],
        *([stores.secret_volume("credentials", credentials.secret_name)] if credentials else []),
        *stores.secret_volumes(store),
        *where.get("volumes", []),
    ]
    passed_on = {key: value for key, value in where.items() if key not in ("volumes", "volumeMounts", "resources")}
    pod = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": POD_SECURITY,
        **passed_on,
        **({"initContainers": containers[:-1]} if len(containers) > 1 else {}),
        "containers": containers[-1:],
        "volumes": volumes,
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata(owner, name, own_labels),
        "spec": {
            "backoffLimit": 2,
            "activeDeadlineSeconds": _DEADLINE_SECONDS[component],
            "ttlSecondsAfterFinished": _KEPT_SECONDS[component],
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {
                "rules": [
                    {
                        "action": "FailJob",
                        "onExitCodes": {"operator": "In", "values": [contract.EXIT_USER_ERROR]},
                    }
                ]
            },
            "template": {"metadata": {"labels": own_labels}, "spec": pod},
        },
    }
