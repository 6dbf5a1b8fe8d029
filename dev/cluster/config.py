"""Renders every configuration file as text. Pure: paths and addresses in, text out."""

import json
from collections.abc import Sequence
from typing import Any

from dev.cluster import network
from dev.cluster.paths import Paths

PAUSE_IMAGE = "tapchanger.dev/pause:v1"


def kubelet(paths: Paths) -> str:
    return _yaml(
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": network.NODE_IP,
            "port": network.KUBELET_PORT,
            "readOnlyPort": 0,
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(paths.pki / "ca.crt")},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(paths.pki / "kubelet-serving.crt"),
            "tlsPrivateKeyFile": str(paths.pki / "kubelet-serving.key"),
            "containerRuntimeEndpoint": f"unix://{paths.containerd_socket}",
            "clusterDNS": [network.DNS_SERVICE_IP],
            "clusterDomain": network.DOMAIN,
            "podLogsDir": str(paths.pod_logs),
            "volumePluginDir": str(paths.kubelet / "volume-plugins"),
            "maxPods": 110,
            "cgroupDriver": "cgroupfs",
            "failCgroupV1": False,
            "enforceNodeAllocatable": [],
            "failSwapOn": False,
            # Its chains serve the iptables mode of kube-proxy, and would stay behind.
            "makeIPTablesUtilChains": False,
            "serializeImagePulls": False,
            "registryPullQPS": 0,
            # A developer's disk is often nearly full: evict only when there is truly nothing left.
            "evictionHard": {
                "memory.available": "100Mi",
                "nodefs.available": "1%",
                "nodefs.inodesFree": "1%",
                "imagefs.available": "1%",
                "imagefs.inodesFree": "1%",
            },
            # 100 switches image collection off: images that were imported by hand cannot be pulled again.
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "logging": {"format": "text"},
        }
    )


def kube_proxy(paths: Paths) -> str:
    return _yaml(
        {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            "hostnameOverride": network.NODE_NAME,
            "clusterCIDR": network.POD_CIDR,
            "clientConnection": {"kubeconfig": str(paths.config / "kube-proxy.kubeconfig")},
            "healthzBindAddress": "127.0.0.1:10256",
            "metricsBindAddress": "127.0.0.1:10249",
            # 0 leaves the kernel's own limits alone, which a container or a small machine may not change.
            "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        }
    )


def containerd(paths: Paths) -> str:
    folder = paths.containerd_root.parent
    return f"""version = 2
root = "{paths.containerd_root}"
state = "{paths.containerd_state}"

[grpc]
  address = "{paths.containerd_socket}"

[plugins."io.containerd.internal.v1.opt"]
  path = "{folder / "opt"}"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  # Lowering a process's OOM score needs CAP_SYS_RESOURCE, which a virtual machine's root may lack.
  restrict_oom_score_adj = true
  # So that every network namespace of the cluster is a mount below its own folder.
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{paths.config / "cni"}"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{paths.config / "registries"}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
        Root = "{paths.containerd_state / "runc"}"
"""


def cni(paths: Paths) -> str:
    """Point-to-point links rather than a bridge: all traffic between pods is routed, so that Services work
    between pods of this node whether or not the kernel filters bridged packets, and no bridge is left behind."""
    ipam = {
        "type": "host-local",
        "dataDir": str(paths.ipam),
        "ranges": [[{"subnet": network.POD_CIDR}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    plugins = [{"type": "ptp", "ipam": ipam}]
    return json.dumps({"cniVersion": "0.4.0", "name": "tapchanger", "plugins": plugins}, indent=2) + "\n"


def corefile(paths: Paths, upstream: Sequence[str]) -> str:
    """`upstream` holds the name servers for everything outside the cluster; with none, such names are refused."""
    cluster = f"""{network.DOMAIN}:53 in-addr.arpa:53 ip6.arpa:53 {{
    bind {network.NODE_IP}
    errors
    health 127.0.0.1:{network.DNS_HEALTH_PORT}
    kubernetes {network.DOMAIN} in-addr.arpa ip6.arpa {{
        kubeconfig {paths.config / "coredns.kubeconfig"}
        pods insecure
        ttl 2
    }}
}}
"""
    if not upstream:
        return cluster
    return (
        cluster
        + f"""
.:53 {{
    bind {network.NODE_IP}
    errors
    forward . {" ".join(upstream)}
    cache 30
}}
"""
    )


def registry(paths: Paths, address: str) -> str:
    """Without a cache in memory, because two processes serve the same folder on two addresses."""
    return f"""version: 0.1
log:
  level: warn
storage:
  filesystem:
    rootdirectory: {paths.registry}
  delete:
    enabled: true
http:
  addr: {address}:{network.REGISTRY_PORT}
  headers:
    X-Content-Type-Options: [nosniff]
"""


def registry_hosts() -> str:
    """Lets containerd pull `localhost:5000/…` over plain HTTP."""
    return f"""server = "http://localhost:{network.REGISTRY_PORT}"

[host."http://localhost:{network.REGISTRY_PORT}"]
  capabilities = ["pull", "resolve"]
"""


def firewall() -> str:
    """An nftables table that lets pods reach the outside and keeps the outside from the API server.

    It is replaced as a whole (add, delete, add), so that applying it again changes nothing.
    """
    return f"""table ip tapchanger
delete table ip tapchanger
table ip tapchanger {{
    chain postrouting {{
        type nat hook postrouting priority srcnat; policy accept;
        ip saddr {network.POD_CIDR} ip daddr != {network.POD_CIDR} oif != "lo" masquerade
    }}
    chain input {{
        type filter hook input priority filter; policy accept;
        tcp dport {network.API_PORT} ip daddr != {{ 127.0.0.0/8, {network.NODE_IP} }} reject with tcp reset
    }}
}}
"""


def kubeconfig(paths: Paths, certificate: str, server: str) -> str:
    """Credentials as file names: for this machine's own processes."""
    return _kubeconfig(
        server,
        {"certificate-authority": str(paths.pki / "ca.crt")},
        {
            "client-certificate": str(paths.pki / f"{certificate}.crt"),
            "client-key": str(paths.pki / f"{certificate}.key"),
        },
        certificate,
    )


def embedded_kubeconfig(authority: str, certificate: str, key: str, server: str) -> str:
    """Credentials inside, base64 encoded by the caller: a file that can be copied."""
    return _kubeconfig(
        server,
        {"certificate-authority-data": authority},
        {"client-certificate-data": certificate, "client-key-data": key},
        "admin",
    )


def name_servers(resolv_conf: str) -> tuple[str, ...]:
    """The `nameserver` addresses of a resolv.conf, at most three as in resolv.conf(5)."""
    rows = (line.split() for line in resolv_conf.splitlines())
    return tuple(row[1] for row in rows if len(row) >= 2 and row[0] == "nameserver")[:3]


def _kubeconfig(server: str, cluster: dict[str, str], user: dict[str, str], name: str) -> str:
    return _yaml(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "tapchanger", "cluster": {"server": server, **cluster}}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": "tapchanger", "context": {"cluster": "tapchanger", "user": name}}],
            "current-context": "tapchanger",
        }
    )


def _yaml(document: dict[str, Any]) -> str:
    """JSON is YAML, and the standard library writes it."""
    return json.dumps(document, indent=2) + "\n"
