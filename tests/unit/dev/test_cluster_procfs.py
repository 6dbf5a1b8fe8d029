"""What counts as ours in the process and mount tables."""

from pathlib import Path

from dev.cluster import procfs
from dev.cluster.procfs import Mount, Process

CLUSTER = Path("/srv/tc/cluster")
STAT = "4711 (odd) name) (x) S 1 4711 4711 0 -1 4194560 10 0 0 0 1 2 0 0 20 0 9 0 987654 1000 10 18446744073709551615"
MOUNTINFO = """\
21 1 254:0 / / rw,relatime - ext4 /dev/vda rw
40 21 0:50 / /srv/tc/cluster/containerd/state/x/rootfs rw - overlay overlay rw,lowerdir=/srv/tc/cluster/containerd/1/fs
41 21 0:51 / /srv/tc/cluster/kubelet/pods/a\\040b/token rw shared:5 - tmpfs tmpfs rw,size=10k
42 21 0:52 / /srv/tc/cluster-of-someone-else rw - tmpfs tmpfs rw
"""


def process(*argv: str, root: str = "rw") -> Process:
    return Process(pid=7, started=1, argv=argv, root_source=root)


def test_start_time_and_state_survive_a_program_name_with_parentheses() -> None:
    assert procfs.parse_start_time(STAT) == 987654
    assert procfs.parse_state(STAT) == "S"


def test_cmdline_is_split_at_null_bytes() -> None:
    assert procfs.parse_cmdline(b"etcd\0--data-dir=/x y\0\0") == ("etcd", "--data-dir=/x y")
    assert procfs.parse_cmdline(b"") == ()


def test_mounts_are_unescaped_and_listed_last_first() -> None:
    mounts = procfs.parse_mounts(MOUNTINFO)
    assert procfs.mounts_below(mounts, CLUSTER) == (
        "/srv/tc/cluster/kubelet/pods/a b/token",
        "/srv/tc/cluster/containerd/state/x/rootfs",
    )


def test_the_last_mount_at_the_root_is_the_one_that_counts() -> None:
    mounts = (Mount("/", "rw,first"), Mount("/proc", "rw"), Mount("/", "rw,second"))
    assert procfs.root_options(mounts) == "rw,second"
    assert procfs.root_options(()) == ""


def test_a_program_of_the_cluster_is_ours_by_its_arguments() -> None:
    assert procfs.is_ours(process("/x/bin/etcd", "--data-dir=/srv/tc/cluster/etcd"), CLUSTER)
    assert procfs.is_ours(process("/x/bin/coredns", "-conf", "/srv/tc/cluster/config/Corefile"), CLUSTER)
    shim = process("/usr/bin/containerd-shim-runc-v2", "-address", "/srv/tc/cluster/containerd/containerd.sock")
    assert procfs.is_ours(shim, CLUSTER)
    assert procfs.is_ours(process("ctr", "--address=unix:///srv/tc/cluster/containerd/containerd.sock"), CLUSTER)


def test_a_stranger_that_only_names_a_file_of_the_cluster_is_not_ours() -> None:
    assert not procfs.is_ours(process("tail", "-f", "/srv/tc/cluster/logs/etcd.log"), CLUSTER)
    assert not procfs.is_ours(process("python3", "/srv/tc/cluster/etcd"), CLUSTER)


def test_the_same_program_of_another_cluster_is_not_ours() -> None:
    assert not procfs.is_ours(process("etcd", "--data-dir=/var/lib/etcd"), CLUSTER)
    assert not procfs.is_ours(process("etcd", "--data-dir=/srv/tc/cluster2/etcd"), CLUSTER)
    assert not procfs.is_ours(process("etcd", "--note=see /srv/tc/cluster/etcd"), CLUSTER)


def test_a_container_is_ours_by_the_layers_below_its_root_whatever_it_runs() -> None:
    ours = "rw,lowerdir=/srv/tc/cluster/containerd/root/1/fs:/srv/tc/cluster/containerd/root/2/fs"
    other = "rw,lowerdir=/var/lib/containerd/1/fs"
    assert procfs.is_ours(process("sleep", "inf", root=ours), CLUSTER)
    assert procfs.is_ours(process(root=ours), CLUSTER)
    assert not procfs.is_ours(process("sleep", "inf", root=other), CLUSTER)


def test_only_listening_sockets_of_the_port_are_found() -> None:
    table = (
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
        "   0: 0100007F:1388 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1 0\n"
        "   1: 0100007F:1388 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 222 1 0\n"
        "   2: 0100007F:1389 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 333 1 0\n"
    )
    assert procfs.listening_inodes(table, 5000) == {"111"}
