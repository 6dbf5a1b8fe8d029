"""Starts, remembers and ends the cluster's processes on this machine.

A record keeps the pid together with the process's start time and the boot it belongs to, so that a process that
got a recycled pid is never mistaken for ours.
"""

import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from dev.cluster import procfs
from dev.cluster.errors import ClusterError

PROC = Path("/proc")
LOG_LIMIT = 64 * 1024 * 1024
END_SECONDS = 10.0


@dataclass(frozen=True)
class Record:
    """What `run/NAME.json` holds. `recipe` is a digest of all that made the process what it is."""

    name: str
    pid: int
    started: int
    boot: str
    recipe: str


def boot_id() -> str:
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()


def read_record(folder: Path, name: str) -> Record | None:
    """The record of `name`, or None where there is none or a crash left half of one."""
    try:
        return Record(**json.loads((folder / f"{name}.json").read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def write_atomically(path: Path, text: str, mode: int = 0o644) -> None:
    """Replaces `path` in one step, so that a reader sees the old text or the new one."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text)
    partial.chmod(mode)
    partial.replace(path)


def start_time(pid: int) -> int | None:
    """Clock ticks since boot at which `pid` started; None when it is gone or a zombie."""
    try:
        stat = (PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if procfs.parse_state(stat) in "ZX" else procfs.parse_start_time(stat)


def is_alive(record: Record) -> bool:
    return record.boot == boot_id() and start_time(record.pid) == record.started


def start(name: str, argv: Sequence[str], *, run: Path, logs: Path, recipe: str, environment: dict[str, str]) -> Record:
    """Starts a detached process that logs to `logs/NAME.log` and survives this one; returns its record."""
    log = logs / f"{name}.log"
    if log.exists() and log.stat().st_size > LOG_LIMIT:
        log.replace(log.with_suffix(".log.1"))
    program = shutil.which(argv[0], path=environment["PATH"])
    if program is None:
        raise ClusterError(f"{name}: {argv[0]} is not a program in {environment['PATH']}")
    writing = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    pid = os.posix_spawn(
        program,
        list(argv),
        environment,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, log, writing, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )
    started = start_time(pid)
    if started is None:
        raise ClusterError(f"{name} ended at once; its log says why:\n{tail(log)}")
    record = Record(name, pid, started, boot_id(), recipe)
    write_atomically(run / f"{name}.json", json.dumps(asdict(record)) + "\n")
    return record


def tail(log: Path, lines: int = 15) -> str:
    if not log.exists():
        return f"({log} does not exist)"
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def running() -> Iterator[procfs.Process]:
    """Every user-space process except this one; those that end meanwhile are left out."""
    for entry in PROC.iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            stat = (entry / "stat").read_text()
            argv = procfs.parse_cmdline((entry / "cmdline").read_bytes())
            mounts = procfs.parse_mounts((entry / "mountinfo").read_text())
        except (FileNotFoundError, ProcessLookupError, PermissionError, OSError):
            continue
        if procfs.parse_state(stat) not in "ZX":
            yield procfs.Process(int(entry.name), procfs.parse_start_time(stat), argv, procfs.root_options(mounts))


def leftovers(cluster: Path) -> tuple[procfs.Process, ...]:
    return tuple(process for process in running() if procfs.is_ours(process, cluster))


def end(targets: Iterable[tuple[int, int]], *, sleep: Callable[[float], None] = time.sleep) -> None:
    """Kills processes, given as (pid, start time), and waits until they are gone.

    Nothing here needs a farewell: whatever is worth keeping survives SIGKILL, or it would not survive a crash either.

    Raises:
        ClusterError: one is still there after `END_SECONDS` (it hangs in the kernel).
    """
    left = tuple(target for target in targets if start_time(target[0]) == target[1])
    for pid, _ in left:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + END_SECONDS
    while left and time.monotonic() < deadline:
        left = tuple(target for target in left if not _is_gone(*target))
        sleep(0.02 if left else 0)
    hanging = [pid for pid, started in left if start_time(pid) == started]
    if hanging:
        raise ClusterError(f"processes {hanging} do not end, not even by SIGKILL: restart the machine")


def _is_gone(pid: int, started: int) -> bool:
    """Whether nothing is left of a killed process.

    A zombie does not count as gone: while its other threads end, it still holds its sockets and files.
    """
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    try:
        return procfs.parse_start_time((PROC / str(pid) / "stat").read_text()) != started
    except (FileNotFoundError, ProcessLookupError):
        return True


def listener(port: int) -> str:
    """Says which process listens on a TCP port: "pid 12 (nginx)"."""
    inodes: frozenset[str] = frozenset()
    for table in ("tcp", "tcp6"):
        inodes |= procfs.listening_inodes((PROC / "net" / table).read_text(), port)
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for link in PROC.glob("[0-9]*/fd/*"):
        try:
            if str(link.readlink()) in wanted:
                pid = link.parts[2]
                return f"pid {pid} ({(PROC / pid / 'comm').read_text().strip()})"
        except OSError:
            continue
    return "a process that cannot be seen from here"


def answers(address: str, port: int, timeout: float = 1.0) -> bool:
    """Whether something accepts a TCP connection there."""
    try:
        socket.create_connection((address, port), timeout).close()
    except OSError:
        return False
    return True
