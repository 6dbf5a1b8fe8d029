"""Finds and clears whatever an earlier life of the cluster left on the machine, however it ended."""

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path, PurePosixPath

from dev.cluster import host, processes, procfs
from dev.cluster.errors import ClusterError
from dev.cluster.paths import Paths

# While one of these runs, the cluster's state is worth keeping; without them it is a corpse.
VITAL = frozenset({"etcd", "kube-apiserver", "containerd", "kubelet"})
ROUNDS = 50
SHIM_SOCKETS = Path("/run/containerd/s")
CONTAINER_LOGS = Path("/var/log/containers")
DEVICE_PLUGINS = Path("/var/lib/kubelet/device-plugins")


class Action(Enum):
    """What a start has to do about what it finds."""

    KEEP = "keep"
    REPAIR = "repair"
    FRESH = "fresh"


@dataclass(frozen=True)
class Found:
    """The state of the machine. `current` are components that run with today's recipe, `outdated` with another."""

    current: frozenset[str]
    outdated: frozenset[str]
    wanted: frozenset[str]
    same_boot: bool
    healthy: bool


def decide(found: Found) -> tuple[Action, str]:
    """The action, and why in words."""
    alive = found.current | found.outdated
    if not found.same_boot:
        return Action.FRESH, "the machine was restarted, or the cluster never ran"
    if not alive & VITAL:
        return Action.FRESH, "none of its vital processes runs"
    missing = found.wanted - found.current
    if missing:
        return Action.REPAIR, f"to start or replace: {', '.join(sorted(missing))}"
    if not found.healthy:
        return Action.REPAIR, "all processes run, but it is not healthy"
    return Action.KEEP, "it runs and is healthy"


def strays(found: Collection[procfs.Process], recorded: Collection[int], names: Collection[str]) -> tuple[int, ...]:
    """Pids of our long-running programs that no record knows: a start was killed just before it could write one."""
    return tuple(
        process.pid
        for process in found
        if process.pid not in recorded and process.argv and PurePosixPath(process.argv[0]).name in names
    )


def read_boot(paths: Paths) -> str | None:
    """The boot to which the state on disk belongs; None where there is no state, or a crash left half of the note."""
    try:
        boot = json.loads(paths.generation.read_text())["boot"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return boot if isinstance(boot, str) else None


def end_everything(paths: Paths) -> int:
    """Kills all processes and containers of the cluster; returns how many it found.

    Shims may fork while they are being killed, hence the rounds.
    """
    ended: set[int] = set()
    for _ in range(ROUNDS):
        found = processes.leftovers(paths.cluster)
        if not found:
            return len(ended)
        ended.update(process.pid for process in found)
        processes.end([(process.pid, process.started) for process in found])
    raise ClusterError(f"processes below {paths.cluster} keep coming back; does something restart them?")


def unmount_everything(paths: Paths) -> int:
    """Unmounts all below the cluster's folder, network namespaces too; returns how many there were.

    Raises:
        ClusterError: something is mounted there even after a lazy unmount.
    """
    count = 0
    for lazy in ((), ("--lazy",)):
        points = _mount_points(paths)
        count = count or len(points)
        for point in points:
            subprocess.run(["umount", *lazy, point], capture_output=True)
    left = _mount_points(paths)
    if left:
        raise ClusterError(f"cannot unmount {left[0]} and {len(left) - 1} more below {paths.cluster}")
    return count


def clear_state(paths: Paths, *, keep_images: bool) -> None:
    """Removes pods, API objects, volumes and addresses. Certificates, logs and registry data stay.

    Call it only after `end_everything` and `unmount_everything`: it deletes folder trees.
    """
    if not keep_images:
        # Without this note, a start that finds half of the images deleted does not trust them.
        paths.generation.unlink(missing_ok=True)
    removed = [paths.etcd, paths.kubelet, paths.containerd_state, paths.ipam, paths.volumes, paths.run, paths.pod_logs]
    if not keep_images:
        removed.append(paths.containerd_root.parent)
    for folder in removed:
        remove_tree(folder)
    paths.containerd_socket.unlink(missing_ok=True)
    host.remove_tables()
    _remove_cgroups()
    _remove_files_elsewhere(paths)


def remove_tree(folder: Path) -> None:
    """Deletes a tree of the cluster; refuses one that still has a mount inside, whose content is not ours."""
    mounts = procfs.parse_mounts(Path("/proc/self/mountinfo").read_text())
    if procfs.mounts_below(mounts, folder):
        raise ClusterError(f"{folder} still has mounts inside; it is not deleted")
    if folder.exists():
        shutil.rmtree(folder)


def wait_for_links(seconds: float = 5.0) -> None:
    """Waits until the kernel has removed the pods' network links, which happens shortly after their namespaces."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and _pod_links():
        time.sleep(0.05)


def _pod_links() -> tuple[str, ...]:
    routes = Path("/proc/net/route").read_text().splitlines()[1:]
    # 10.90.x.y in the kernel's byte order ends in 5A0A.
    return tuple(line.split()[0] for line in routes if line.split()[1].endswith("5A0A"))


def _mount_points(paths: Paths) -> tuple[str, ...]:
    return procfs.mounts_below(procfs.parse_mounts(Path("/proc/self/mountinfo").read_text()), paths.cluster)


def _remove_cgroups() -> None:
    for top in _kubepods():
        for folder, _, _ in os.walk(top, topdown=False):
            try:
                Path(folder).rmdir()
            except OSError:
                # Only an empty group can be removed: a group in use belongs to another kubelet.
                continue


def _kubepods() -> Iterator[Path]:
    root = Path("/sys/fs/cgroup")
    yield from (path for path in (root / "kubepods", *root.glob("*/kubepods")) if path.is_dir())


def _remove_files_elsewhere(paths: Paths) -> None:
    """The few files that kubelet and shims insist on keeping outside of our folder."""
    ours = [
        link
        for link in _entries(CONTAINER_LOGS)
        if link.is_symlink() and link.readlink().is_relative_to(paths.pod_logs)
    ]
    ours += [entry for entry in _entries(SHIM_SOCKETS) if _is_dead_socket(entry)]
    if _is_dead_socket(DEVICE_PLUGINS / "kubelet.sock"):
        ours += [DEVICE_PLUGINS / name for name in ("kubelet.sock", "DEPRECATION", "kubelet_internal_checkpoint")]
    for path in ours:
        path.unlink(missing_ok=True)
    for folder in (CONTAINER_LOGS, SHIM_SOCKETS, DEVICE_PLUGINS, DEVICE_PLUGINS.parent):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _entries(folder: Path) -> tuple[Path, ...]:
    return tuple(folder.iterdir()) if folder.is_dir() else ()


def _is_dead_socket(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return False
