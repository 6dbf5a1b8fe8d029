"""What the chart promises to a cluster's administrator."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]
Render = Callable[..., list[Manifest]]
Helm = Callable[..., subprocess.CompletedProcess[str]]

ROOT = Path(__file__).parents[3]
GOLDEN = ROOT / "tests" / "golden" / "chart"

# (group, resource) → verbs, cluster-wide. A wider right is a decision: change it here and in docs/security.md.
MANAGED = {"get", "list", "watch", "create", "patch", "delete"}
READ = {"get", "list", "watch"}
OPERATOR_RIGHTS = {
    ("tapchanger.dev", "transformerdeployments"): READ,
    ("tapchanger.dev", "transformerdeployments/status"): {"get", "patch", "update"},
    ("tapchanger.dev", "enginebuilds"): MANAGED,
    ("tapchanger.dev", "enginebuilds/status"): {"get", "patch", "update"},
    ("apiextensions.k8s.io", "customresourcedefinitions"): READ,
    ("", "namespaces"): READ,
    ("apps", "deployments"): MANAGED,
    ("apps", "controllerrevisions"): MANAGED,
    ("batch", "jobs"): MANAGED,
    ("", "services"): MANAGED,
    ("", "configmaps"): MANAGED,
    ("", "persistentvolumeclaims"): MANAGED,
    ("policy", "poddisruptionbudgets"): MANAGED,
    ("networking.k8s.io", "networkpolicies"): MANAGED,
    ("gateway.networking.k8s.io", "httproutes"): MANAGED,
    ("gateway.networking.k8s.io", "grpcroutes"): MANAGED,
    ("", "pods"): READ | {"patch", "delete"},
    ("", "nodes"): {"list"},
    ("", "events"): {"create", "patch"},
    ("events.k8s.io", "events"): {"create", "patch"},
}


def rights(rules: list[Manifest]) -> dict[tuple[str, str], set[str]]:
    found: dict[tuple[str, str], set[str]] = {}
    for rule in rules:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                found.setdefault((group, resource), set()).update(rule["verbs"])
    return found


def named(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    return next(item for item in manifests if item["kind"] == kind and item["metadata"]["name"] == name)


def containers(pod_specs: list[Manifest]) -> list[Manifest]:
    return [c for spec in pod_specs for c in (*spec.get("initContainers", ()), *spec["containers"])]


def test_no_role_has_a_wildcard(render: Render) -> None:
    roles = [item for item in render() if item["kind"] in {"ClusterRole", "Role"}]
    assert len(roles) == 4
    for rule in (rule for role in roles for rule in role["rules"]):
        assert "nonResourceURLs" not in rule
        for values in (rule["apiGroups"], rule["resources"], rule["verbs"]):
            assert values
            assert not any("*" in value for value in values)


def test_the_operator_has_exactly_the_rights_that_are_documented(render: Render) -> None:
    manifests = render()
    assert rights(named(manifests, "ClusterRole", "tapchanger-operator")["rules"]) == OPERATOR_RIGHTS
    own = named(manifests, "Role", "tapchanger-operator")["rules"]
    assert rights(own) == {("coordination.k8s.io", "leases"): {"get", "create", "update", "patch"}}
    assert all(rule.get("resourceNames") == ["tapchanger-operator"] for rule in own if rule["verbs"] != ["create"])


def test_every_right_is_explained_in_the_security_document() -> None:
    text = (ROOT / "docs" / "security.md").read_text()
    for (_, resource), verbs in OPERATOR_RIGHTS.items():
        row = next((line for line in text.splitlines() if line.startswith("|") and f"`{resource}`" in line), None)
        assert row is not None, f"docs/security.md has no row for {resource}"
        missing = {verb for verb in verbs if verb not in row}
        assert not missing, f"docs/security.md doesn't explain {missing} on {resource}"


def test_nobody_but_the_operator_gets_rights_bound_but_to_read_the_keys_of_tokens(render: Render) -> None:
    bindings = [item for item in render() if item["kind"] in {"ClusterRoleBinding", "RoleBinding"}]
    bound = [(item["roleRef"]["name"], [subject["name"] for subject in item["subjects"]]) for item in bindings]
    assert sorted(bound) == [
        ("system:service-account-issuer-discovery", ["tapchanger-observer"]),
        ("tapchanger-operator", ["tapchanger-operator"]),
        ("tapchanger-operator", ["tapchanger-operator"]),
    ]


def test_users_rights_join_the_standard_roles_and_never_reach_status(render: Render) -> None:
    manifests = render()
    view, edit = (named(manifests, "ClusterRole", f"tapchanger-{name}") for name in ("view", "edit"))
    prefix = "rbac.authorization.k8s.io/aggregate-to-"
    assert {key for key in view["metadata"]["labels"] if key.startswith(prefix)} == {
        f"{prefix}{role}" for role in ("view", "edit", "admin")
    }
    assert {key for key in edit["metadata"]["labels"] if key.startswith(prefix)} == {
        f"{prefix}{role}" for role in ("edit", "admin")
    }
    assert all(verbs == READ for verbs in rights(view["rules"]).values())
    assert not [resource for _, resource in rights(edit["rules"]) if "/" in resource]


def test_pods_meet_the_restricted_pod_security_standard(pod_specs: list[Manifest]) -> None:
    for spec in pod_specs:
        context = spec["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["runAsUser"] == 65532
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        allowed = {"configMap", "emptyDir", "persistentVolumeClaim", "projected", "secret"}
        assert all(volume.keys() - {"name"} <= allowed for volume in spec["volumes"])


def test_containers_have_a_read_only_root_and_no_privileges(pod_specs: list[Manifest]) -> None:
    for container in containers(pod_specs):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"mountPath": "/tmp", "name": "tmp"} in container["volumeMounts"]


def test_containers_have_probes_and_resources(pod_specs: list[Manifest]) -> None:
    for container in containers(pod_specs):
        assert {"startupProbe", "livenessProbe", "readinessProbe"} <= container.keys()
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
        assert "memory" in container["resources"]["limits"]


def test_the_observer_has_a_token_only_to_prove_others(render: Render) -> None:
    def token(manifests: list[Manifest], component: str) -> bool:
        pod = named(manifests, "Deployment", f"tapchanger-{component}")["spec"]["template"]["spec"]
        return bool(pod["automountServiceAccountToken"])

    required, off = render(), render("--set", "observer.auth.required=false")
    assert (token(required, "operator"), token(required, "observer")) == (True, True)
    assert (token(off, "operator"), token(off, "observer")) == (True, False)
    assert "system:service-account-issuer-discovery" not in str(off)


def test_no_service_account_hands_out_its_token_unasked(render: Render) -> None:
    accounts = [item for item in render() if item["kind"] == "ServiceAccount"]
    assert [item["automountServiceAccountToken"] for item in accounts] == [False, False]


def test_every_image_comes_from_the_values(render: Render) -> None:
    images = yaml.safe_load((GOLDEN / "images.values.yaml").read_text())["images"]
    manifests = render()
    operator = named(manifests, "Deployment", "tapchanger-operator")["spec"]["template"]["spec"]["containers"]
    observer = named(manifests, "Deployment", "tapchanger-observer")["spec"]["template"]["spec"]["containers"]
    assert [c["image"] for c in operator] == [images["operator"]]
    assert [c["image"] for c in observer] == [images["observer"]]
    environment = {item["name"]: item.get("value") for item in operator[0]["env"]}
    for role in ("builder", "server", "router"):
        assert environment[f"TAPCHANGER_IMAGE_{role.upper()}"] == images[role]


def test_network_policies_select_the_pods_and_name_their_ports(render: Render) -> None:
    manifests = render()
    for component in ("operator", "observer"):
        policy = named(manifests, "NetworkPolicy", f"tapchanger-{component}")["spec"]
        pod = named(manifests, "Deployment", f"tapchanger-{component}")["spec"]["template"]
        assert policy["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
        assert policy["policyTypes"] == ["Ingress", "Egress"]
        ports = {port["name"] for port in pod["spec"]["containers"][0]["ports"]}
        for rule in policy["ingress"]:
            assert rule["from"]
            assert {port["port"] for port in rule["ports"]} <= ports
        assert all(rule["ports"] for rule in policy["egress"])


def test_without_monitoring_peers_nobody_reaches_the_operator(render: Render) -> None:
    policy = named(render("--set-json", "networkPolicy.monitoring=[]"), "NetworkPolicy", "tapchanger-operator")
    assert policy["spec"]["ingress"] == []


def test_nothing_can_hang_an_uninstallation(template: Helm) -> None:
    done = template("--values", str(GOLDEN / "everything.values.yaml"))
    assert done.returncode == 0, done.stderr
    assert "finalizers:" not in done.stdout
    assert "helm.sh/hook" not in done.stdout
