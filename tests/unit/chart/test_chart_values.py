"""Values: what is refused, and what each switch does."""

from __future__ import annotations

import re
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tapchanger_operator import settings as operator_settings
from tapchanger_serving.contract import names as contract
from tapchanger_serving.observer import settings as observer_settings

Manifest = dict[str, Any]
Render = Callable[..., list[Manifest]]
Helm = Callable[..., subprocess.CompletedProcess[str]]

ROOT = Path(__file__).parents[3]
CHART = ROOT / "charts" / "tapchanger"
GOLDEN = ROOT / "tests" / "golden" / "chart"


KUBERNETES_FIELDS = {"resources", "podSecurityContext", "securityContext"}


def leaves(values: Manifest, prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, dict) and value and key not in KUBERNETES_FIELDS:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def kinds(manifests: list[Manifest]) -> list[str]:
    return [item["kind"] for item in manifests]


def crds(manifests: list[Manifest]) -> list[Manifest]:
    return [item for item in manifests if item["kind"] == "CustomResourceDefinition"]


def named(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    return next(item for item in manifests if item["kind"] == kind and item["metadata"]["name"] == name)


def test_lint_is_clean(helm: Helm) -> None:
    for extra in ([], ["--values", str(GOLDEN / "everything.values.yaml")]):
        done = helm("lint", "--strict", str(CHART), "--values", str(GOLDEN / "images.values.yaml"), *extra)
        assert done.returncode == 0, done.stdout + done.stderr


def test_chart_and_project_have_one_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert (chart["version"], chart["appVersion"]) == (project, project)


def test_every_value_is_in_the_charts_readme() -> None:
    rows = re.findall(r"^\| `([^`]+)` \|", (CHART / "README.md").read_text(), re.MULTILINE)
    assert rows == list(leaves(yaml.safe_load((CHART / "values.yaml").read_text())))


@pytest.mark.parametrize("role", ["operator", "builder", "server", "router", "observer"])
def test_a_missing_image_is_named_with_the_remedy(template: Helm, role: str) -> None:
    done = template("--set", f"images.{role}=")
    assert done.returncode != 0
    assert f"images.{role} is empty" in done.stderr
    assert f"--set images.{role}=" in done.stderr


@pytest.mark.parametrize(
    ("setting", "path"),
    [
        ("operator.replicas=many", "/operator/replicas"),
        ("operator.replica=2", "operator"),
        ("store.size=lots", "/store/size"),
        ("store.accessMode=ReadOnlyMany", "/store/accessMode"),
        ("store.type=NFS", "/store/type"),
        ("store.uri=https://minio/engines", "/store/uri"),
        ("store.endpoint=minio:9000", "/store/endpoint"),
        ("images.server=registry.example/tapchanger/server", "/images/server"),
        ("images.server=registry.example/server@sha256:abc", "/images/server"),
        ("typo=1", "typo"),
        ("networkPolicy.apiServerPorts={0}", "/networkPolicy/apiServerPorts/0"),
    ],
)
def test_a_wrong_value_is_refused_by_its_path(template: Helm, setting: str, path: str) -> None:
    done = template("--set", setting)
    assert done.returncode != 0
    # Helm 3 writes paths with dots, Helm 4 with slashes.
    assert path in done.stderr or path.strip("/").replace("/", ".") in done.stderr


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["store.type=S3"], "begins with s3://"),
        (["store.type=OCI", "store.uri=s3://engines/production"], "begins with oci://"),
        (["store.uri=s3://engines/production"], "store.type=S3"),
    ],
)
def test_type_and_address_of_the_store_must_agree(template: Helm, settings: list[str], words: str) -> None:
    done = template(*(word for setting in settings for word in ("--set", setting)))
    assert done.returncode != 0
    assert words in done.stderr


def test_the_chart_can_be_a_dependency_of_another(render: Render) -> None:
    assert kinds(render("--set", "global.anything=1"))


def test_definitions_are_those_that_the_api_generates(render: Render) -> None:
    sources = {path.name: yaml.safe_load(path.read_text()) for path in (ROOT / "crds").glob("*.yaml")}
    assert len(sources) == 2
    rendered = {item["metadata"]["name"]: item for item in crds(render())}
    for source in sources.values():
        assert rendered[source["metadata"]["name"]]["spec"] == source["spec"]
        assert rendered[source["metadata"]["name"]]["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert len(rendered) == len(sources)


def test_definitions_go_with_the_release_unless_kept(render: Render) -> None:
    for item in crds(render("--set", "crds.keep=false")):
        assert "helm.sh/resource-policy" not in item["metadata"].get("annotations", {})


def test_definitions_can_be_left_to_others(render: Render) -> None:
    assert not crds(render("--set", "crds.install=false"))


def test_one_replica_needs_no_disruption_budget(render: Render) -> None:
    assert "PodDisruptionBudget" in kinds(render())
    assert "PodDisruptionBudget" not in kinds(render("--set", "operator.replicas=1"))
    assert "PodDisruptionBudget" not in kinds(render("--set", "operator.podDisruptionBudget.enabled=false"))


def test_switches_remove_what_they_name(render: Render) -> None:
    off = kinds(render("--set", "networkPolicy.enabled=false", "--set", "rbac.aggregate=false"))
    assert "NetworkPolicy" not in off
    assert off.count("ClusterRole") == 1
    assert "ServiceMonitor" not in off
    assert "PersistentVolumeClaim" not in off


def test_the_observer_keeps_its_state_on_a_claim_when_asked(render: Render) -> None:
    manifests = render("--set", "observer.persistence.enabled=true")
    claim = named(manifests, "PersistentVolumeClaim", "tapchanger-observer")
    assert "storageClassName" not in claim["spec"], "an empty class must mean the cluster's default"
    volumes = named(manifests, "Deployment", "tapchanger-observer")["spec"]["template"]["spec"]["volumes"]
    assert {"name": "state", "persistentVolumeClaim": {"claimName": "tapchanger-observer"}} in volumes


def test_several_observers_know_of_each_other(render: Render, template: Helm) -> None:
    manifests = render("--set", "observer.replicas=3", "--namespace", "observing")
    settings = observer_settings.from_environment(
        environment(manifests, "observer") | {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
    )
    service = named(manifests, "Service", "tapchanger-observer-peers")
    assert settings.together is not None
    assert settings.together.hosts == (
        f"tapchanger-observer-peers.{service['metadata']['namespace']}.svc.cluster.local",
    )
    assert settings.together.replicas == named(manifests, "Deployment", "tapchanger-observer")["spec"]["replicas"] == 3
    assert settings.together.token == Path(contract.OBSERVER_TOKEN_DIR) / "token"
    assert (service["spec"]["clusterIP"], service["spec"]["publishNotReadyAddresses"]) == ("None", True)
    policy = named(manifests, "NetworkPolicy", "tapchanger-observer")["spec"]
    peer = {"podSelector": {"matchLabels": service["spec"]["selector"]}}
    assert any(peer in rule.get("from", ()) for rule in policy["ingress"])
    assert any(peer in rule.get("to", ()) for rule in policy["egress"])
    done = template("--set", "observer.replicas=2", "--set", "observer.persistence.enabled=true")
    assert done.returncode != 0
    assert "observer.replicas is more than 1 and observer.persistence.enabled is true" in done.stderr
    assert "tapchanger-observer-peers" not in str(render())


def environment(manifests: list[Manifest], component: str) -> dict[str, str]:
    """Variables of a component's container; those from pod fields hold the field's path."""
    container = named(manifests, "Deployment", f"tapchanger-{component}")["spec"]["template"]["spec"]["containers"][0]
    return {
        item["name"]: item["value"] if "value" in item else item["valueFrom"]["fieldRef"]["fieldPath"]
        for item in container["env"]
    }


def ports(manifests: list[Manifest], component: str) -> set[int]:
    return {port["port"] for port in named(manifests, "Service", f"tapchanger-{component}")["spec"]["ports"]}


def test_the_operator_reads_what_the_chart_writes(render: Render) -> None:
    manifests = render("--values", str(GOLDEN / "everything.values.yaml"), "--set", "operator.workers=3")
    given = environment(manifests, "operator")
    settings = operator_settings.load(given)
    images = yaml.safe_load((GOLDEN / "images.values.yaml").read_text())["images"]
    assert settings.images == operator_settings.Images(
        builder=images["builder"],
        server=images["server"],
        router=images["router"],
        capture="registry.example/tapchanger/capture:0.1.0",
        pull_policy="Always",
    )
    assert settings.store == operator_settings.Store(
        storage_class="shared", size="500Gi", access_mode="ReadWriteMany", uri="s3://engines/production",
        endpoint="https://minio.example:9000", secret="engine-store", peers=({"ipBlock": {"cidr": "10.20.0.0/16"}},),
    )  # fmt: skip
    assert (settings.namespace, settings.identity) == ("metadata.namespace", "metadata.name")
    assert settings.workers == 3
    assert ports(manifests, "operator") == {settings.metrics_port}


def test_the_operator_is_told_where_the_observer_is(render: Render) -> None:
    manifests = render("--set", "clusterDomain=cluster.example")
    settings = operator_settings.load(environment(manifests, "operator"))
    assert (settings.observer_auth, settings.observer_token) == (True, Path(contract.OBSERVER_TOKEN_DIR) / "token")
    off = operator_settings.load(environment(render("--set", "observer.auth.required=false"), "operator"))
    assert (off.observer_auth, off.observer_token) == (False, None)
    service = named(manifests, "Service", "tapchanger-observer")["metadata"]
    assert settings.observer_host == f"{service['name']}.{service['namespace']}.svc.cluster.example"
    assert settings.cluster_domain == "cluster.example"


def test_the_observer_reads_what_the_chart_writes(render: Render) -> None:
    manifests = render("--values", str(GOLDEN / "everything.values.yaml"))
    kubernetes = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
    settings = observer_settings.from_environment(environment(manifests, "observer") | kubernetes)
    pod = named(manifests, "Deployment", "tapchanger-observer")["spec"]["template"]["spec"]
    mounts = {Path(mount["mountPath"]) for mount in pod["containers"][0]["volumeMounts"]}
    assert settings.state is not None
    assert settings.state.parent in mounts - {Path("/tmp")}
    assert settings.senders in mounts
    assert (settings.auth, settings.namespace) == ("required", "metadata.namespace")
    assert ports(manifests, "observer") == {settings.grpc_port, settings.http_port, settings.api_port}
    assert settings.api_port == contract.OBSERVER_API_PORT


def test_names_do_not_follow_the_release(helm: Helm) -> None:
    values = str(GOLDEN / "images.values.yaml")
    done = helm("template", "other", str(CHART), "--values", values, "--kube-version", "1.34.0")
    assert done.returncode == 0, done.stderr
    names = {d["metadata"]["name"] for d in yaml.safe_load_all(done.stdout) if d and d["kind"] == "Deployment"}
    assert names == {"tapchanger-operator", "tapchanger-observer"}
