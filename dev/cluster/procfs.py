"""Pure readings of Linux's process and mount tables, and the decision what in them is ours."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

# A leftover must both run one of these and name our folder: an editor or `tail` on one of our files is not ours.
OWN_PROGRAMS = frozenset(
    {
        "containerd",
        "containerd-shim-runc-v2",
        "coredns",
        "ctr",
        "docker-registry",
        "etcd",
        "kube-apiserver",
        "kube-controller-manager",
        "kube-proxy",
        "kube-scheduler",
        "kubelet",
        "local-provisioner",
        "runc",
    }
)


@dataclass(frozen=True)
class Process:
    """One process. `started` counts clock ticks since boot; `root_source`: options of what is mounted at its `/`."""

    pid: int
    started: int
    argv: tuple[str, ...]
    root_source: str


@dataclass(frozen=True)
class Mount:
    """One line of mountinfo: where it is mounted, and the options of its file system (an overlay's folders)."""

    point: str
    options: str


def parse_start_time(stat: str) -> int:
    """Field 22 of `/proc/PID/stat`; the program's name (field 2) may hold spaces and parentheses."""
    after_name = stat[stat.rindex(")") + 2 :].split()
    return int(after_name[19])


def parse_state(stat: str) -> str:
    """Field 3 of `/proc/PID/stat`: R, S, D, Z, …"""
    return stat[stat.rindex(")") + 2]


def parse_cmdline(data: bytes) -> tuple[str, ...]:
    return tuple(part.decode(errors="replace") for part in data.split(b"\0") if part)


def parse_mounts(mountinfo: str) -> tuple[Mount, ...]:
    """The lines of `/proc/PID/mountinfo`, in mount order (see proc_pid_mountinfo(5))."""
    mounts = []
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, behind = before.split(" "), after.split(" ", 2)
        if len(fields) >= 6 and len(behind) == 3:
            mounts.append(Mount(point=_unescape(fields[4]), options=_unescape(behind[2])))
    return tuple(mounts)


def root_options(mounts: Iterable[Mount]) -> str:
    """The options of what is mounted at `/`: the last mount there wins."""
    return next((mount.options for mount in reversed(tuple(mounts)) if mount.point == "/"), "")


def lies_in(path: str, folder: Path) -> bool:
    return path == str(folder) or path.startswith(f"{folder}/")


def is_ours(process: Process, cluster: Path) -> bool:
    """Whether a process belongs to the cluster in folder `cluster`.

    Either it is one of our programs and an argument names the folder, or it is a container: its root is an
    overlay whose layers lie in the folder. Container processes survive their shim, so their parent says nothing.
    """
    if f"={cluster}/" in process.root_source:
        return True
    if not process.argv or PurePosixPath(process.argv[0]).name not in OWN_PROGRAMS:
        return False
    return any(_names(argument, cluster) for argument in process.argv[1:])


def mounts_below(mounts: Iterable[Mount], cluster: Path) -> tuple[str, ...]:
    """Mount points at or below `cluster`, the last mounted first: the order in which they can be unmounted."""
    return tuple(mount.point for mount in reversed(tuple(mounts)) if lies_in(mount.point, cluster))


def listening_inodes(table: str, port: int) -> frozenset[str]:
    """Socket inodes that listen on `port` in the text of `/proc/net/tcp` or `tcp6`."""
    found = set()
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 9 and fields[3] == "0A" and int(fields[1].rsplit(":", 1)[1], 16) == port:
            found.add(fields[9])
    return frozenset(found)


def _names(argument: str, cluster: Path) -> bool:
    value = argument.partition("=")[2] if argument.startswith("-") and "=" in argument else argument
    return lies_in(value.removeprefix("unix://"), cluster)


def _unescape(text: str) -> str:
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, char)
    return text
