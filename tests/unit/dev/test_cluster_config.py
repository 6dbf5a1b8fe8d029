"""What the cluster's files and objects say."""

import io
import json
import subprocess
import tarfile
from pathlib import Path

import pytest

from dev.cluster import api, components, config, image, manifests, network, paths, pki, state
from dev.cluster import status as screen
from dev.cluster.__main__ import main
from dev.cluster.errors import ClusterError

PATHS = paths.Paths(Path("/srv/tc"))
PARTS = components.all_components(PATHS, ("192.0.2.53",))


def test_home_comes_from_the_environment_and_has_a_default() -> None:
    assert paths.from_environment({"TAPCHANGER_HOME": "/srv/tc/"}).kubeconfig == Path("/srv/tc/kubeconfig")
    assert paths.from_environment({}).home == Path("~/.cache/tapchanger").expanduser().resolve()


def test_a_linked_home_is_known_by_its_real_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "LONGEST_HOME", 1000)
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    found = paths.from_environment({"TAPCHANGER_HOME": str(tmp_path / "link")})
    assert found.home == (tmp_path / "real").resolve()


@pytest.mark.parametrize("text", ["relative", "/has space", "/" + "x" * 80])
def test_a_home_that_programs_would_stumble_over_is_refused(text: str) -> None:
    with pytest.raises(ClusterError, match=r"TAPCHANGER_HOME: found"):
        paths.from_environment({"TAPCHANGER_HOME": text})


def test_every_command_names_our_folder_so_that_a_crash_cannot_orphan_it() -> None:
    for part in PARTS:
        assert any(str(PATHS.cluster) in argument for argument in part.argv), part.name


def test_nothing_is_configured_outside_the_home() -> None:
    for name, text in (file for part in PARTS for file in part.files):
        for foreign in ("/var/lib", "/run/", "/etc/containerd", '"/opt'):
            assert foreign not in text, (name, foreign)


def test_every_process_has_its_own_identity() -> None:
    certificates = {certificate.name for certificate in pki.CERTIFICATES}
    users = [certificate.user for certificate in pki.CERTIFICATES if certificate.authority == "ca"]
    for part in PARTS:
        for name, _ in part.files:
            if name.endswith(".kubeconfig"):
                assert name.removesuffix(".kubeconfig") in certificates
    assert len(set(users) - {"kube-apiserver", network.NODE_NAME, "admin"}) >= 6
    masters = {certificate.name for certificate in pki.CERTIFICATES if "system:masters" in certificate.groups}
    assert masters == {"admin", "kubelet-client"}


def test_listeners_belong_to_components() -> None:
    names = {part.name for part in PARTS}
    assert {component for _, _, component in network.LISTENERS} <= names


def test_containerd_has_no_cap_sys_resource_and_keeps_namespaces_in_its_folder() -> None:
    text = config.containerd(PATHS)
    assert "restrict_oom_score_adj = true" in text
    assert "netns_mounts_under_state_dir = true" in text
    assert f'sandbox_image = "{config.PAUSE_IMAGE}"' in text


def test_kubelet_limits_and_eviction() -> None:
    kubelet = json.loads(config.kubelet(PATHS))
    assert kubelet["maxPods"] == 110
    assert kubelet["failCgroupV1"] is False
    assert kubelet["evictionHard"]["nodefs.available"] == "1%"
    assert kubelet["evictionHard"]["memory.available"] == "100Mi"
    assert kubelet["imageGCHighThresholdPercent"] == 100


def test_cluster_names_are_answered_fresh_and_the_rest_is_forwarded() -> None:
    inside, outside = config.corefile(PATHS, ("192.0.2.53", "192.0.2.54")).split("\n.:53 {")
    assert "ttl 2" in inside
    assert "cache" not in inside
    assert "forward . 192.0.2.53 192.0.2.54" in outside
    assert "cache" in outside


def test_without_name_servers_only_the_cluster_is_answered() -> None:
    assert "forward" not in config.corefile(PATHS, ())


def test_name_servers_are_read_as_the_resolver_reads_them() -> None:
    text = "# nameserver 1.1.1.1\nsearch x\nnameserver 192.0.2.1\nnameserver\nnameserver ::1\n"
    assert config.name_servers(text) == ("192.0.2.1", "::1")
    assert len(config.name_servers("nameserver 192.0.2.1\n" * 5)) == 3


def test_the_registry_allows_deletion_and_listens_on_one_address() -> None:
    text = config.registry(PATHS, "127.0.0.1")
    assert "delete:\n    enabled: true" in text
    assert "addr: 127.0.0.1:5000" in text
    assert "auth" not in text


def test_the_api_server_is_closed_to_other_machines() -> None:
    assert "tcp dport 6443 ip daddr != { 127.0.0.0/8, 10.89.0.1 } reject" in config.firewall()


def test_models_volume_and_claim_point_at_each_other() -> None:
    volume, claim = manifests.models(PATHS)
    assert volume["spec"]["claimRef"]["name"] == claim["metadata"]["name"]
    assert volume["spec"]["claimRef"]["namespace"] == claim["metadata"]["namespace"]
    assert claim["spec"]["volumeName"] == volume["metadata"]["name"]
    assert volume["spec"]["storageClassName"] == claim["spec"]["storageClassName"] == ""
    assert volume["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
    assert volume["spec"]["hostPath"]["path"] == "/srv/tc/models"


def test_object_paths() -> None:
    found = {api.object_path(document) for document in (*manifests.base(PATHS), manifests.probe_pod())}
    assert "/apis/storage.k8s.io/v1/storageclasses/local" in found
    assert "/api/v1/persistentvolumes/models" in found
    assert "/api/v1/namespaces/default/persistentvolumeclaims/models" in found
    assert "/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices/kube-dns-node" in found


def test_the_pause_image_is_deterministic_and_holds_one_program() -> None:
    first = image.archive(b"program", "x/pause:v1", "linux-amd64")
    assert first == image.archive(b"program", "x/pause:v1", "linux-amd64")
    with tarfile.open(fileobj=io.BytesIO(first)) as tar:
        manifest = json.loads(tar.extractfile("manifest.json").read())  # type: ignore[union-attr]
        layer = tar.extractfile("layer.tar").read()  # type: ignore[union-attr]
    assert manifest[0]["RepoTags"] == ["x/pause:v1"]
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        assert tar.getnames() == ["pause"]
        assert tar.getmember("pause").mode == 0o755


def test_a_changed_file_or_program_changes_the_recipe() -> None:
    part, programs = components.kubelet(PATHS), {"kubelet": "made so", "etcd": "made otherwise"}
    wanted = state.recipe(part, programs)
    assert wanted == state.recipe(components.kubelet(PATHS), programs)
    assert wanted == state.recipe(part, programs | {"etcd": "changed"})
    assert wanted != state.recipe(part, programs | {"kubelet": "changed"})
    assert wanted != state.recipe(components.Component(part.name, part.argv, ()), programs)


def pod(phase: str, ready: str | None = None, waiting: str | None = None) -> dict[str, object]:
    return {
        "metadata": {"namespace": "ns", "name": "p"},
        "status": {
            "phase": phase,
            "conditions": [] if ready is None else [{"type": "Ready", "status": ready}],
            "containerStatuses": [] if waiting is None else [{"state": {"waiting": {"reason": waiting}}}],
        },
    }


def test_pods_that_are_neither_ready_nor_finished_are_named_with_their_reason() -> None:
    assert state.pod_problem(pod("Running", "True")) == ""
    assert state.pod_problem(pod("Succeeded", "False")) == ""
    assert state.pod_problem(pod("Pending", "False", "ErrImagePull")) == "ns/p: ErrImagePull"
    assert state.pod_problem(pod("Failed", "False")) == "ns/p: Failed"
    assert state.pod_problem({"metadata": {"namespace": "ns", "name": "p"}}) == "ns/p: Unknown"


def test_certificates_are_made_once_and_again_when_the_wish_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "pki"
    monkeypatch.setattr(pki, "CERTIFICATES", pki.CERTIFICATES[:1])
    assert pki.ensure(folder)
    first = (folder / "ca.crt").read_bytes()
    assert not pki.ensure(folder)
    assert (folder / "ca.crt").read_bytes() == first
    monkeypatch.setattr(pki, "CERTIFICATES", (pki.Certificate("other", "ca", "other", groups=("g",)),))
    assert pki.ensure(folder)
    subject = subprocess.run(
        ["openssl", "x509", "-in", folder / "other.crt", "-noout", "-subject"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert "O = g" in subject
    assert "CN = other" in subject


def test_the_screen_names_the_problem_and_the_remedy() -> None:
    line = screen.Line("etcd", "down", None, "/srv/tc/cluster/logs/etcd.log")
    broken = screen.Status(False, "/srv/tc/kubeconfig", "n", "", (line,), ("ns/p: Failed",), ("etcd is down",))
    text = screen.as_text(broken)
    assert "problem: etcd is down" in text
    assert "ns/p: Failed" in text
    assert "export KUBECONFIG" not in text
    assert json.loads(screen.as_json(broken))["processes"][0]["state"] == "down"


def test_wrong_usage_of_the_environment_is_an_error_not_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TAPCHANGER_HOME", "here")
    assert main(["tools"]) == 1
    assert "write an absolute path" in capsys.readouterr().err
