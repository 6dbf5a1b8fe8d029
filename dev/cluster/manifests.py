"""The API objects that every start applies. Pure: paths in, objects out."""

from typing import Any

from dev.cluster import config, network
from dev.cluster.paths import Paths

Object = dict[str, Any]

PROBE_POD = "cluster-start-probe"
STORAGE_CLASS = "local"
PROVISIONER = "tapchanger.dev/local"


def base(paths: Paths) -> tuple[Object, ...]:
    """Roles of our own processes, DNS and registry Services, storage."""
    return (
        *_role(
            "coredns",
            [
                _rule("", ["endpoints", "services", "pods", "namespaces"], ["list", "watch"]),
                _rule("discovery.k8s.io", ["endpointslices"], ["list", "watch"]),
            ],
        ),
        *_role(
            "local-provisioner",
            [
                _rule("", ["persistentvolumes"], ["get", "list", "watch", "create", "update", "patch", "delete"]),
                _rule("", ["persistentvolumeclaims"], ["get", "list", "watch", "update", "patch"]),
                _rule("", ["nodes", "pods"], ["get", "list", "watch"]),
                _rule("", ["events"], ["create", "update", "patch"]),
                _rule("storage.k8s.io", ["storageclasses"], ["get", "list", "watch"]),
            ],
        ),
        *_host_service(
            "kube-dns",
            [("dns", "UDP", 53), ("dns-tcp", "TCP", 53)],
            {"clusterIP": network.DNS_SERVICE_IP},
        ),
        *_host_service("registry", [("http", "TCP", network.REGISTRY_PORT)], {}),
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {
                "name": STORAGE_CLASS,
                "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
            },
            "provisioner": PROVISIONER,
            "reclaimPolicy": "Delete",
            "volumeBindingMode": "WaitForFirstConsumer",
        },
        *models(paths),
    )


def models(paths: Paths) -> tuple[Object, Object]:
    """The volume and the claim `default/models`, bound to each other and to the folder of models."""
    common = {
        "accessModes": ["ReadWriteMany", "ReadOnlyMany"],
        "storageClassName": "",
    }
    size = {"storage": "1Ti"}
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": "models"},
        "spec": {
            **common,
            "capacity": size,
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": str(paths.models), "type": "Directory"},
            "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": "default", "name": "models"},
        },
    }
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "models", "namespace": "default"},
        "spec": {**common, "volumeName": "models", "resources": {"requests": size}},
    }
    return volume, claim


def probe_pod() -> Object:
    """A pod that is Ready only when, from the pod network, a Service's name resolves and its address answers."""
    target = f"kubernetes.default.svc.{network.DOMAIN}:443"
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": PROBE_POD, "namespace": "default"},
        "spec": {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "probe",
                    "image": config.PAUSE_IMAGE,
                    "imagePullPolicy": "Never",
                    "resources": {"limits": {"cpu": "100m", "memory": "64Mi"}},
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "readinessProbe": {
                        "exec": {"command": ["/pause", "reach", target]},
                        "periodSeconds": 1,
                        "timeoutSeconds": 4,
                        "failureThreshold": 100,
                    },
                }
            ],
        },
    }


def _role(name: str, rules: list[Object]) -> tuple[Object, Object]:
    group = "rbac.authorization.k8s.io"
    role = {
        "apiVersion": f"{group}/v1",
        "kind": "ClusterRole",
        "metadata": {"name": f"system:{name}"},
        "rules": rules,
    }
    binding = {
        "apiVersion": f"{group}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": f"system:{name}"},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": f"system:{name}"},
        "subjects": [{"apiGroup": group, "kind": "User", "name": f"system:{name}"}],
    }
    return role, binding


def _rule(group: str, resources: list[str], verbs: list[str]) -> Object:
    return {"apiGroups": [group], "resources": resources, "verbs": verbs}


def _host_service(name: str, ports: list[tuple[str, str, int]], spec: Object) -> tuple[Object, Object]:
    """A Service without a selector, in front of a process of the node itself."""
    rows = [{"name": port_name, "protocol": protocol, "port": port} for port_name, protocol, port in ports]
    labels = {"k8s-app": name}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "kube-system", "labels": labels},
        "spec": {**spec, "ports": [{**row, "targetPort": row["port"]} for row in rows]},
    }
    slice_labels = {"kubernetes.io/service-name": name, "endpointslice.kubernetes.io/managed-by": "tapchanger-cluster"}
    endpoints = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{name}-node", "namespace": "kube-system", "labels": slice_labels},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [network.NODE_IP], "conditions": {"ready": True}}],
        "ports": rows,
    }
    return service, endpoints
