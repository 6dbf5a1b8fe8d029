"""Which nodes pods may be put on, and what engines need of them: affinity and words say the same."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapchanger_operator.api import reasons
from tapchanger_operator.observe.incompatible import explained
from tapchanger_operator.observe.nodes import FRESH_SECONDS, Nodes
from tapchanger_operator.plan.common import node_affinity
from tapchanger_operator.resolve import needs
from tapchanger_operator.resolve.identity import build_name, engine_build, revision
from tapchanger_operator.resolve.placing import eligible, meets
from tapchanger_operator.snapshot import Node, Trouble
from tapchanger_serving.contract.fit import lacking, widened
from tapchanger_serving.contract.messages import Gpu, Hardware
from tapchanger_serving.contract.plans import HardwareCompatibility
from tests.support.fake_kube import FakeKube
from tests.support.samples import HARDWARE, IMAGES, inspection, spec
from tests.support.world import discovered

BASE = {"amd64": "avx2", "arm64": "asimd"}


def hardware(arch: str, sets: set[str], gpu: tuple[str, str, str] | None) -> Hardware:
    """A machine with the sets that its architecture has among `sets`."""
    own = {BASE[arch], *(sets & set(needs.FLAGS[arch]))}
    found = Gpu(product=gpu[0], compute_capability=gpu[1], driver=gpu[2]) if gpu else None
    return Hardware(arch=arch, instruction_sets=tuple(sorted(own)), gpu=found)


def node(name: str = "n0", taints: Any = (), cordoned: bool = False, **labels: str) -> Node:
    return Node(name, f"uid-{name}", {"kubernetes.io/os": "linux", **labels}, tuple(taints), cordoned)


def machine(hardware: Hardware, name: str = "n0", labelled: bool = True) -> Node:
    labels = {"kubernetes.io/arch": hardware.arch, **(discovered(hardware) if labelled else {})}
    return node(name, **labels)


GPUS = st.tuples(
    st.sampled_from(["NVIDIA L4", "NVIDIA H200"]),
    st.sampled_from(["8.9", "9.0"]),
    st.sampled_from(["570.10.01", "580.95.05", "580.126.20"]),
)
FEW = st.sets(st.sampled_from(["avx512f", "amx_int8", "sve"]))
MACHINES = st.builds(hardware, st.sampled_from(["amd64", "arm64"]), FEW, st.none() | GPUS)
RUNTIMES = st.sampled_from(["openvino", "onnxruntime", "tensorrt"])


@settings(max_examples=40, deadline=None)
@given(RUNTIMES, MACHINES, MACHINES, st.sampled_from(get_args(HardwareCompatibility)))
def test_labels_affinity_and_the_init_container_agree_on_who_can_run_an_engine(
    runtime: str, built: Hardware, found: Hardware, compatibility: HardwareCompatibility
) -> None:
    needed = widened(built, compatibility)
    labels = machine(found).labels
    allowed = any(meets(labels, way) for way in needs.requirements(runtime, needed))
    lacks = needs.lacks(machine(found), runtime, needed)
    assert lacks == lacking(runtime, needed, found) or (found.gpu is None and needed.gpu is not None)
    assert allowed == (not lacks)


@settings(max_examples=40, deadline=None)
@given(RUNTIMES, MACHINES)
def test_an_engine_runs_where_it_was_built_and_on_nodes_of_which_nothing_is_known(
    runtime: str, needed: Hardware
) -> None:
    for labelled in (True, False):
        assert any(meets(machine(needed, labelled=labelled).labels, way) for way in needs.requirements(runtime, needed))


@settings(max_examples=40, deadline=None)
@given(MACHINES, MACHINES)
def test_kinds_are_those_of_the_labels(one: Hardware, other: Hardware) -> None:
    same = discovered(one) == discovered(other) and one.arch == other.arch
    assert (needs.kind(machine(one, "a")) == needs.kind(machine(other, "b"))) == same
    assert needs.kind(machine(one, "a", labelled=False)) != needs.kind(machine(one, "b", labelled=False))
    assert needs.kind(machine(one, "a", labelled=False)) == needs.kind(machine(one, "a", labelled=False))


def test_labels_have_the_names_that_discovery_gives_them() -> None:
    ways = needs.requirements(
        "openvino", Hardware(arch="amd64", instruction_sets=("amx_int8", "avx512_vnni", "avx_vnni"))
    )
    keys = [expression["key"] for expression in ways[0]]
    assert keys[2:] == [
        "feature.node.kubernetes.io/cpu-cpuid.AMXINT8",
        "feature.node.kubernetes.io/cpu-cpuid.AVX512VNNI",
        "feature.node.kubernetes.io/cpu-cpuid.AVXVNNI",
    ]


def test_a_gpu_that_is_shared_by_time_is_the_same_product() -> None:
    gpu = Gpu(product="NVIDIA L4", compute_capability="8.9", driver="580.1")
    needed = Hardware(arch="amd64", gpu=gpu)
    shared = {**machine(needed).labels, needs.PRODUCT: "NVIDIA-L4-SHARED"}
    assert any(meets(shared, way) for way in needs.requirements("tensorrt", needed))
    assert not needs.lacks(node(**shared), "tensorrt", needed)


@pytest.mark.parametrize(
    ("compatibility", "found", "fits"),
    [
        ("None", ("NVIDIA L4", "8.9"), True),
        ("None", ("NVIDIA L40S", "8.9"), False),
        ("SameComputeCapability", ("NVIDIA L40S", "8.9"), True),
        ("SameComputeCapability", ("NVIDIA H200", "9.0"), False),
        ("AmperePlus", ("NVIDIA H200", "9.0"), True),
        ("AmperePlus", ("NVIDIA B200", "10.0"), True),
        ("AmperePlus", ("Tesla T4", "7.5"), False),
    ],
)
def test_a_plan_that_was_built_for_more_runs_on_more(
    compatibility: HardwareCompatibility, found: tuple[str, str], fits: bool
) -> None:
    l4 = Hardware(arch="amd64", gpu=Gpu(product="NVIDIA L4", compute_capability="8.9", driver="580.1"))
    other = Hardware(arch="amd64", gpu=Gpu(product=found[0], compute_capability=found[1], driver="580.9"))
    needed = widened(l4, compatibility)
    assert (not lacking("tensorrt", needed, other)) is fits
    assert any(meets(machine(other).labels, way) for way in needs.requirements("tensorrt", needed)) is fits


def test_an_older_discovery_tells_the_driver_by_its_former_name() -> None:
    needed = Hardware(arch="amd64", gpu=Gpu(product="NVIDIA L4", compute_capability="8.9", driver="580.1"))
    labels = {key: value for key, value in machine(needed).labels.items() if "driver-version" not in key}
    assert any(meets(labels, way) for way in needs.requirements("tensorrt", needed))
    other = {**labels, needs.OLD_DRIVER: "570"}
    assert not any(meets(other, way) for way in needs.requirements("tensorrt", needed))
    assert needs.lacks(node(**other), "tensorrt", needed)


def test_each_term_of_the_user_is_kept_with_each_way_to_meet_the_engine() -> None:
    user = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]},
        {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n7"]}]},
    ]}}}  # fmt: skip
    affinity = node_affinity(needs.requirements("openvino", HARDWARE), user)
    template = {"affinity": affinity}
    assert eligible([machine(HARDWARE, "n7")], template)
    assert not eligible([machine(HARDWARE, "n8")], template)
    assert eligible([Node("n8", "u", {**machine(HARDWARE).labels, "zone": "a"})], template)
    poor = Hardware(arch="amd64", instruction_sets=("avx2",))
    assert not eligible([Node("n8", "u", {**machine(poor).labels, "zone": "a"})], template)


GPU_TAINT = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}


@pytest.mark.parametrize(
    ("template", "names"),
    [
        ({}, {"plain", "soft", "restarting", "cordoned"}),
        ({"tolerations": [{"operator": "Exists"}]}, {"plain", "soft", "restarting", "cordoned", "gpu"}),
        ({"tolerations": [{"key": "nvidia.com/gpu", "value": "present"}], "nodeSelector": {"pool": "gpu"}}, {"gpu"}),
        ({"tolerations": [{"key": "nvidia.com/gpu", "value": "absent"}], "nodeSelector": {"pool": "gpu"}}, set()),
        ({"tolerations": [{"key": "nvidia.com/gpu", "effect": "NoExecute"}], "nodeSelector": {"pool": "gpu"}}, set()),
        ({"nodeSelector": {"pool": "gpu"}}, set()),
    ],
)  # fmt: skip
def test_nodes_are_allowed_as_by_the_scheduler_but_for_what_passes(template: dict[str, Any], names: set[str]) -> None:
    known = [
        node("plain"),
        node("soft", taints=[{"key": "busy", "effect": "PreferNoSchedule"}]),
        node("restarting", taints=[{"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"}]),
        node("cordoned", cordoned=True),
        node("gpu", taints=[GPU_TAINT], pool="gpu"),
        Node("windows", "u", {"kubernetes.io/os": "windows"}),
    ]
    assert {one.name for one in eligible(known, template)} == names


@pytest.mark.parametrize(
    ("expression", "allowed"),
    [
        ({"key": "pool", "operator": "In", "values": ["a", "b"]}, True),
        ({"key": "pool", "operator": "NotIn", "values": ["a"]}, False),
        ({"key": "absent", "operator": "NotIn", "values": ["a"]}, True),
        ({"key": "pool", "operator": "Exists"}, True),
        ({"key": "pool", "operator": "DoesNotExist"}, False),
        ({"key": "cores", "operator": "Gt", "values": ["8"]}, True),
        ({"key": "cores", "operator": "Lt", "values": ["8"]}, False),
        ({"key": "pool", "operator": "Gt", "values": ["8"]}, False),
        ({"key": "pool", "operator": "Unheard"}, False),
    ],
    ids=str,
)
def test_operators_of_node_affinity(expression: dict[str, Any], allowed: bool) -> None:
    assert meets({"pool": "a", "cores": "16"}, [expression]) == allowed


CONTENT = revision(
    spec(), engine_build(spec(), inspection(), IMAGES.builder), build_name(engine_build(spec(), inspection(), IMAGES.builder)),
    "sha256:" + "c" * 64, "openvino", IMAGES.server,
)  # fmt: skip
NO_ROOM = Trouble(reasons.NO_NODE_FITS, "0/3 nodes are available")
POOR, ARM = Hardware(arch="amd64", instruction_sets=("avx2",)), Hardware(arch="arm64", instruction_sets=("asimd",))


def test_no_node_that_can_run_the_engine_is_told_with_how_many_lack_what() -> None:
    found = explained(NO_ROOM, CONTENT, [machine(POOR, "a"), machine(POOR, "b"), machine(ARM, "c")])
    assert found is not None
    assert found.reason == reasons.ENGINE_INCOMPATIBLE
    assert (
        "of 3 nodes that the template allows, 2 lack amx_bf16, amx_tile, avx512f; 1 lacks architecture amd64"
        in found.message
    )
    assert "serving.template.nodeSelector" in found.message


def test_no_room_stays_no_room_where_a_node_could_run_it() -> None:
    found = explained(NO_ROOM, CONTENT, [machine(POOR, "a"), machine(HARDWARE, "b")])
    assert found is not None
    assert found.reason == reasons.NO_NODE_FITS
    assert (
        found.message
        == "0/3 nodes are available (of 2 nodes that the template allows, 1 lacks amx_bf16, amx_tile, avx512f)"
    )
    assert explained(NO_ROOM, CONTENT, [machine(HARDWARE)]) == NO_ROOM
    assert explained(NO_ROOM, CONTENT, [machine(POOR, labelled=False)]) == NO_ROOM
    assert explained(NO_ROOM, CONTENT, []) == NO_ROOM
    assert explained(NO_ROOM, None, [machine(POOR)]) == NO_ROOM
    assert explained(None, CONTENT, [machine(POOR)]) is None


def test_nodes_are_listed_twice_a_minute_for_all() -> None:
    kube, nodes = FakeKube(), Nodes()
    kube.put(
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": "n0", "labels": {"a": "b"}},
            "spec": {"unschedulable": True},
        }
    )
    for second in range(int(FRESH_SECONDS)):
        (found,) = nodes.current(kube, 1000.0 + second) or ()  # type: ignore[arg-type]
    assert (found.name, found.labels, found.cordoned) == ("n0", {"a": "b"}, True)
    assert len(kube.calls) == 1
    nodes.current(kube, 1000.0 + FRESH_SECONDS)  # type: ignore[arg-type]
    assert len(kube.calls) == 2
