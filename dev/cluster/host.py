"""What the cluster needs of the machine: root, packages, an address, forwarding and packet rules."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Collection
from pathlib import Path

from dev.cluster import config, network, processes
from dev.cluster.errors import ClusterError
from dev.cluster.report import Report

# A program of each Debian package tells whether the package is there.
PACKAGES = {
    "containerd": "containerd",
    "runc": "runc",
    "/usr/lib/cni/ptp": "containernetworking-plugins",
    "docker-registry": "docker-registry",
    "nft": "nftables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "openssl": "openssl",
    "buildah": "buildah",
    "skopeo": "skopeo",
    "debootstrap": "debootstrap",
}
LABEL = "lo:tapchanger"
# kube-proxy's tables are deleted too: it leaves them when it is killed.
TABLES = ("ip tapchanger", "ip kube-proxy", "ip6 kube-proxy")
SYSTEM_FOLDERS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def require_root() -> None:
    if os.geteuid() != 0:
        raise ClusterError(
            "the cluster runs containers and sets up networks, so it needs root: run the same command as root"
            " (with sudo, keep TAPCHANGER_HOME: sudo --preserve-env=TAPCHANGER_HOME …)"
        )


def missing_packages() -> tuple[str, ...]:
    path = f"{os.environ.get('PATH', '')}:{SYSTEM_FOLDERS}"
    return tuple(package for program, package in PACKAGES.items() if shutil.which(program, path=path) is None)


def ensure_packages(report: Report) -> None:
    """Installs missing Debian packages, without starting the services that they bring.

    Raises:
        ClusterError: the machine has no apt-get, or an installation failed.
    """
    missing = missing_packages()
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise ClusterError(f"missing: {', '.join(missing)}; install them (there is no apt-get on this machine)")
    report.say(f"installing Debian packages: {', '.join(missing)}")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    _run(["apt-get", "update", "-q"], environment)
    _run(["apt-get", "install", "-y", "-q", "--no-install-recommends", *missing], environment)
    if shutil.which("systemctl") is not None and Path("/run/systemd/system").exists():
        # We run our own copies with our own folders; the registry's would take our port.
        _run(["systemctl", "disable", "--now", *(name for name in missing if name in SERVICES)], environment)


SERVICES = frozenset({"containerd", "docker-registry"})


def set_up_network() -> None:
    """Gives the loopback interface the node's address, forwards packets and loads our packet rules. Idempotent."""
    if LABEL not in _run(["ip", "-o", "address", "show", "dev", "lo"]):
        _run(["ip", "address", "replace", f"{network.NODE_IP}/32", "dev", "lo", "label", LABEL])
    forward = Path("/proc/sys/net/ipv4/ip_forward")
    if forward.read_text().strip() != "1":
        forward.write_text("1\n")
    _run(["nft", "-f", "-"], text=config.firewall())


def tear_down_network() -> None:
    """Removes the address and every table; what is not there is fine."""
    remove_tables()
    if not _another_cluster_runs() and LABEL in _run(["ip", "-o", "address", "show", "dev", "lo"]):
        _run(["ip", "address", "del", f"{network.NODE_IP}/32", "dev", "lo"])


def remove_tables() -> None:
    """Removes the packet rules of a cluster whose processes have ended, unless another cluster is using them."""
    if _another_cluster_runs():
        return
    present = _run(["nft", "list", "tables"]).splitlines()
    for table in TABLES:
        if f"table {table}" in present:
            _run(["nft", "delete", "table", *table.split()])


def _another_cluster_runs() -> bool:
    return any(process.argv and Path(process.argv[0]).name == "kube-proxy" for process in processes.running())


def check_listeners(components: Collection[str], patience: float = 5.0) -> None:
    """Refuses to start while a stranger listens where one of `components` will.

    What was killed a moment ago may still let go of its sockets, hence `patience` seconds.

    Raises:
        ClusterError: names the port and the process that holds it.
    """
    deadline = time.monotonic() + patience
    for address, port, component in network.LISTENERS:
        while component in components and (problem := _bind_problem(address, port)):
            if time.monotonic() > deadline:
                holder = processes.listener(port)
                raise ClusterError(
                    f"{component} needs {address}:{port}, but {holder} has it ({problem}): end that first"
                )
            time.sleep(0.1)


def _bind_problem(address: str, port: int) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            return error.strerror or str(error)
    return ""


def environment() -> dict[str, str]:
    """The environment of the cluster's processes: proxies of the caller's shell must not reach cluster addresses."""
    return {"PATH": SYSTEM_FOLDERS, "HOME": os.environ.get("HOME", "/")}


def _run(argv: list[str], environment: dict[str, str] | None = None, text: str | None = None) -> str:
    path = f"{os.environ.get('PATH', '')}:{SYSTEM_FOLDERS}"
    done = subprocess.run(
        argv, env=(environment or dict(os.environ)) | {"PATH": path}, input=text, capture_output=True, text=True
    )
    if done.returncode != 0:
        raise ClusterError(f"{' '.join(argv[:3])} failed: {(done.stderr or done.stdout)[-1500:].strip()}")
    return done.stdout
