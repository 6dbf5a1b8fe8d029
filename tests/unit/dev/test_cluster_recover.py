"""What a start decides to do about what it finds, and what it knows a process by."""

import dataclasses
import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dev.cluster import host, network, processes, recover
from dev.cluster.errors import ClusterError
from dev.cluster.paths import Paths
from dev.cluster.procfs import Process
from dev.cluster.recover import Action, Found

ALL = frozenset({"etcd", "containerd", "kube-apiserver", "kubelet", "registry"})
HEALTHY = Found(current=ALL, outdated=frozenset(), wanted=ALL, same_boot=True, healthy=True)


def action(**changes: object) -> Action:
    return recover.decide(dataclasses.replace(HEALTHY, **changes))[0]  # type: ignore[arg-type]


def test_a_healthy_cluster_is_kept() -> None:
    assert action() is Action.KEEP


def test_a_cluster_that_lost_some_processes_is_repaired_and_the_reason_names_them() -> None:
    found = dataclasses.replace(HEALTHY, current=ALL - {"kubelet"}, healthy=False)
    chosen, why = recover.decide(found)
    assert chosen is Action.REPAIR
    assert "kubelet" in why


def test_a_process_with_yesterdays_configuration_is_replaced() -> None:
    assert action(current=ALL - {"kubelet"}, outdated=frozenset({"kubelet"})) is Action.REPAIR


def test_running_but_unhealthy_is_repaired() -> None:
    assert action(healthy=False) is Action.REPAIR


def test_a_corpse_starts_fresh_even_when_the_registry_still_runs() -> None:
    assert action(current=frozenset({"registry"}), healthy=False) is Action.FRESH
    assert action(current=frozenset(), healthy=False) is Action.FRESH


def test_state_of_another_boot_is_never_trusted() -> None:
    assert action(same_boot=False) is Action.FRESH


def test_strays_are_long_running_programs_without_a_record() -> None:
    found = (
        Process(1, 1, ("/x/etcd",), ""),
        Process(2, 1, ("/x/etcd",), ""),
        Process(3, 1, ("/usr/bin/containerd-shim-runc-v2",), ""),
        Process(4, 1, (), ""),
    )
    assert recover.strays(found, recorded={1}, names={"etcd", "kubelet"}) == (2,)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"boot": 3}'])
def test_half_a_generation_note_means_no_state(tmp_path: Path, text: str) -> None:
    paths = Paths(tmp_path)
    paths.cluster.mkdir()
    paths.generation.write_text(text)
    assert recover.read_boot(paths) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"name": "etcd"}'])
def test_half_a_record_means_no_process(tmp_path: Path, text: str) -> None:
    (tmp_path / "etcd.json").write_text(text)
    assert processes.read_record(tmp_path, "etcd") is None


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


def record_of(pid: int, **changes: object) -> processes.Record:
    started = processes.start_time(pid)
    assert started is not None
    record = processes.Record("sleeper", pid, started, processes.boot_id(), "r")
    return dataclasses.replace(record, **changes)  # type: ignore[arg-type]


def test_a_record_is_alive_only_with_its_start_time_and_boot(sleeper: subprocess.Popen[bytes]) -> None:
    record = record_of(sleeper.pid)
    assert processes.is_alive(record)
    assert not processes.is_alive(dataclasses.replace(record, started=record.started + 1))
    assert not processes.is_alive(dataclasses.replace(record, boot="another"))


def test_ending_spares_a_process_that_got_a_recycled_pid(sleeper: subprocess.Popen[bytes]) -> None:
    record = record_of(sleeper.pid)
    processes.end([(record.pid, record.started + 1)])
    assert processes.is_alive(record)
    processes.end([(record.pid, record.started)])
    assert not processes.is_alive(record)


def test_a_started_process_is_recorded_and_logs(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "spoken")
    record = processes.start(
        "talker",
        ["sh", "-c", f"echo $GREETING; echo done > {tmp_path}/spoken; exec sleep 60"],
        run=tmp_path,
        logs=tmp_path,
        recipe="r",
        environment={"GREETING": "hello", "PATH": os.environ["PATH"]},
    )
    try:
        assert (tmp_path / "spoken").read_text() == "done\n"
        assert processes.read_record(tmp_path, "talker") == record
        assert os.getsid(record.pid) == record.pid
    finally:
        processes.end([(record.pid, record.started)])
    assert (tmp_path / "talker.log").read_text() == "hello\n"
    assert json.loads((tmp_path / "talker.json").read_text())["pid"] == record.pid


def test_a_tree_with_a_mount_inside_is_not_deleted() -> None:
    with pytest.raises(ClusterError, match="mounts inside"):
        recover.remove_tree(Path("/proc"))


def test_a_stranger_on_our_port_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        monkeypatch.setattr(network, "LISTENERS", (("127.0.0.1", port, "etcd"),))
        host.check_listeners(["kubelet"], patience=0)
        with pytest.raises(ClusterError, match=rf"etcd needs 127\.0\.0\.1:{port}, but pid {os.getpid()} \("):
            host.check_listeners(["etcd"], patience=0)
    host.check_listeners(["etcd"], patience=0)
