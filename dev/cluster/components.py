"""The processes of the cluster, in the order in which they start. Pure: paths in, commands out."""

from dataclasses import dataclass
from pathlib import Path

from dev.cluster import config, network
from dev.cluster.paths import Paths

API_SERVER = f"https://127.0.0.1:{network.API_PORT}"


@dataclass(frozen=True)
class Component:
    """One process. `files` are the configuration files that it reads at its start, by name below `config/`."""

    name: str
    argv: tuple[str, ...]
    files: tuple[tuple[str, str], ...] = ()


def all_components(paths: Paths, upstream: tuple[str, ...]) -> tuple[Component, ...]:
    """Every process; `upstream` holds the name servers for names outside the cluster."""
    return (
        etcd(paths),
        containerd(paths),
        registry(paths, "registry", "127.0.0.1"),
        registry(paths, "registry-node", network.NODE_IP),
        api_server(paths),
        controller_manager(paths),
        scheduler(paths),
        kubelet(paths),
        kube_proxy(paths),
        coredns(paths, upstream),
        provisioner(paths),
    )


def etcd(paths: Paths) -> Component:
    client, peer = f"https://127.0.0.1:{network.ETCD_PORT}", f"http://127.0.0.1:{network.ETCD_PEER_PORT}"
    return Component(
        "etcd",
        (
            str(paths.bin / "etcd"),
            "--name=tapchanger",
            f"--data-dir={paths.etcd}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=tapchanger={peer}",
            "--client-cert-auth=true",
            f"--trusted-ca-file={paths.pki / 'etcd-ca.crt'}",
            f"--cert-file={paths.pki / 'etcd.crt'}",
            f"--key-file={paths.pki / 'etcd.key'}",
            "--auto-compaction-retention=1h",
            # The data is thrown away after a crash of the machine, so waiting for the disk buys nothing.
            "--unsafe-no-fsync=true",
            "--log-level=warn",
        ),
    )


def containerd(paths: Paths) -> Component:
    return Component(
        "containerd",
        ("containerd", f"--config={paths.config / 'containerd.toml'}", "--log-level=warn"),
        (
            ("containerd.toml", config.containerd(paths)),
            ("cni/10-tapchanger.conflist", config.cni(paths)),
            (f"registries/localhost:{network.REGISTRY_PORT}/hosts.toml", config.registry_hosts()),
        ),
    )


def registry(paths: Paths, name: str, address: str) -> Component:
    file = f"{name}.yml"
    return Component(
        name, ("docker-registry", "serve", str(paths.config / file)), ((file, config.registry(paths, address)),)
    )


def api_server(paths: Paths) -> Component:
    pki = paths.pki
    return Component(
        "kube-apiserver",
        (
            str(paths.bin / "kube-apiserver"),
            f"--advertise-address={network.NODE_IP}",
            f"--secure-port={network.API_PORT}",
            f"--service-cluster-ip-range={network.SERVICE_CIDR}",
            f"--etcd-servers=https://127.0.0.1:{network.ETCD_PORT}",
            f"--etcd-cafile={pki / 'etcd-ca.crt'}",
            f"--etcd-certfile={pki / 'etcd-client.crt'}",
            f"--etcd-keyfile={pki / 'etcd-client.key'}",
            f"--client-ca-file={pki / 'ca.crt'}",
            f"--tls-cert-file={pki / 'kube-apiserver.crt'}",
            f"--tls-private-key-file={pki / 'kube-apiserver.key'}",
            f"--kubelet-certificate-authority={pki / 'ca.crt'}",
            f"--kubelet-client-certificate={pki / 'kubelet-client.crt'}",
            f"--kubelet-client-key={pki / 'kubelet-client.key'}",
            # The node's name is in no DNS.
            "--kubelet-preferred-address-types=InternalIP",
            f"--service-account-issuer=https://kubernetes.default.svc.{network.DOMAIN}",
            f"--service-account-key-file={pki / 'service-accounts.pub'}",
            f"--service-account-signing-key-file={pki / 'service-accounts.key'}",
            f"--requestheader-client-ca-file={pki / 'front-proxy-ca.crt'}",
            "--requestheader-allowed-names=front-proxy-client",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-username-headers=X-Remote-User",
            f"--proxy-client-cert-file={pki / 'front-proxy-client.crt'}",
            f"--proxy-client-key-file={pki / 'front-proxy-client.key'}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            "--profiling=false",
        ),
    )


def controller_manager(paths: Paths) -> Component:
    return Component(
        "kube-controller-manager",
        (
            str(paths.bin / "kube-controller-manager"),
            f"--kubeconfig={paths.config / 'controller-manager.kubeconfig'}",
            "--bind-address=127.0.0.1",
            "--leader-elect=false",
            "--use-service-account-credentials=true",
            f"--service-account-private-key-file={paths.pki / 'service-accounts.key'}",
            f"--root-ca-file={paths.pki / 'ca.crt'}",
            f"--cluster-signing-cert-file={paths.pki / 'ca.crt'}",
            f"--cluster-signing-key-file={paths.pki / 'ca.key'}",
            f"--flex-volume-plugin-dir={paths.kubelet / 'volume-plugins'}",
            # At the default of 20 requests a second, it starts its own controllers 4 s late.
            "--kube-api-qps=200",
            "--kube-api-burst=400",
            "--profiling=false",
        ),
        (_identity(paths, "controller-manager"),),
    )


def scheduler(paths: Paths) -> Component:
    return Component(
        "kube-scheduler",
        (
            str(paths.bin / "kube-scheduler"),
            f"--kubeconfig={paths.config / 'scheduler.kubeconfig'}",
            "--bind-address=127.0.0.1",
            "--leader-elect=false",
            "--profiling=false",
        ),
        (_identity(paths, "scheduler"),),
    )


def kubelet(paths: Paths) -> Component:
    return Component(
        "kubelet",
        (
            str(paths.bin / "kubelet"),
            f"--config={paths.config / 'kubelet.yaml'}",
            f"--kubeconfig={paths.config / 'kubelet.kubeconfig'}",
            f"--root-dir={paths.kubelet}",
            f"--cert-dir={paths.kubelet / 'pki'}",
            f"--hostname-override={network.NODE_NAME}",
            f"--node-ip={network.NODE_IP}",
        ),
        (("kubelet.yaml", config.kubelet(paths)), _identity(paths, "kubelet")),
    )


def kube_proxy(paths: Paths) -> Component:
    return Component(
        "kube-proxy",
        (str(paths.bin / "kube-proxy"), f"--config={paths.config / 'kube-proxy.yaml'}"),
        (("kube-proxy.yaml", config.kube_proxy(paths)), _identity(paths, "kube-proxy")),
    )


def coredns(paths: Paths, upstream: tuple[str, ...]) -> Component:
    return Component(
        "coredns",
        (str(paths.bin / "coredns"), "-conf", str(paths.config / "Corefile")),
        (("Corefile", config.corefile(paths, upstream)), _identity(paths, "coredns")),
    )


def provisioner(paths: Paths) -> Component:
    return Component(
        "local-provisioner",
        (
            str(paths.bin / "local-provisioner"),
            f"-kubeconfig={paths.config / 'local-provisioner.kubeconfig'}",
            f"-folder={paths.volumes}",
        ),
        (_identity(paths, "local-provisioner"),),
    )


def folders(paths: Paths) -> tuple[tuple[Path, int], ...]:
    """Folders that have to exist before the start, with their modes."""
    return (
        (paths.models, 0o755),
        (paths.cluster, 0o755),
        (paths.config, 0o700),
        (paths.run, 0o700),
        (paths.logs, 0o755),
        (paths.pod_logs, 0o755),
        (paths.etcd, 0o700),
        (paths.kubelet, 0o755),
        (paths.containerd_root, 0o711),
        (paths.containerd_state, 0o711),
        (paths.ipam, 0o755),
        (paths.registry, 0o755),
        (paths.volumes, 0o755),
    )


def _identity(paths: Paths, name: str) -> tuple[str, str]:
    return f"{name}.kubeconfig", config.kubeconfig(paths, name, API_SERVER)
