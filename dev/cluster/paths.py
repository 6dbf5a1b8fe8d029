"""Where everything lies below `$TAPCHANGER_HOME`."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dev.cluster.errors import ClusterError

# A unix socket's path ends at 107 bytes, and the kubelet's longest one adds about 45 to the home.
LONGEST_HOME = 60


@dataclass(frozen=True)
class Paths:
    """Absolute paths; nothing here touches the disk."""

    home: Path

    @property
    def bin(self) -> Path:
        return self.home / "bin"

    @property
    def kubeconfig(self) -> Path:
        return self.home / "kubeconfig"

    @property
    def models(self) -> Path:
        return self.home / "models"

    @property
    def lock(self) -> Path:
        return self.home / ".cluster.lock"

    @property
    def cluster(self) -> Path:
        return self.home / "cluster"

    @property
    def pki(self) -> Path:
        return self.cluster / "pki"

    @property
    def config(self) -> Path:
        return self.cluster / "config"

    @property
    def run(self) -> Path:
        return self.cluster / "run"

    @property
    def logs(self) -> Path:
        return self.cluster / "logs"

    @property
    def pod_logs(self) -> Path:
        return self.logs / "pods"

    @property
    def etcd(self) -> Path:
        return self.cluster / "etcd"

    @property
    def kubelet(self) -> Path:
        return self.cluster / "kubelet"

    @property
    def containerd_root(self) -> Path:
        return self.cluster / "containerd" / "root"

    @property
    def containerd_state(self) -> Path:
        return self.cluster / "containerd" / "state"

    @property
    def containerd_socket(self) -> Path:
        return self.cluster / "containerd" / "containerd.sock"

    @property
    def ipam(self) -> Path:
        return self.cluster / "ipam"

    @property
    def volumes(self) -> Path:
        return self.cluster / "volumes"

    @property
    def registry(self) -> Path:
        return self.cluster / "registry"

    @property
    def generation(self) -> Path:
        """Holds the boot and the recipe that the state on disk belongs to."""
        return self.cluster / "generation.json"


def from_environment(environment: Mapping[str, str] = os.environ) -> Paths:
    """The paths below `$TAPCHANGER_HOME`, or below `~/.cache/tapchanger`.

    Raises:
        ClusterError: `TAPCHANGER_HOME` is relative, too long for unix sockets or holds characters that the
            configuration files would have to quote.
    """
    text = environment.get("TAPCHANGER_HOME") or str(Path("~/.cache/tapchanger").expanduser())
    if not text.startswith("/"):
        raise ClusterError(f"TAPCHANGER_HOME: found {text!r}; write an absolute path")
    # The kernel lists mounts by their real paths, and leftovers are found by them.
    home = Path(text).resolve()
    if len(str(home)) > LONGEST_HOME:
        raise ClusterError(f"TAPCHANGER_HOME: found {len(str(home))} characters; write at most {LONGEST_HOME}")
    if not all(c.isalnum() or c in "/._-" for c in str(home)):
        raise ClusterError(f"TAPCHANGER_HOME: found {text!r}; use letters, digits and / . _ - only")
    return Paths(home)
