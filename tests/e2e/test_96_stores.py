"""What was reinstalled works, and has its engines in an S3 store: the whole cluster has one kind of store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from dev.common import stack as stacks
from dev.common.deployment import Deployment
from dev.common.inference import GrpcClient
from dev.common.kubectl import Kubectl
from dev.common.stack import Stack
from dev.common.waiting import until
from tests.e2e import stores
from tests.e2e.stores import Bucket
from tests.e2e.support import NAMESPACE, ONE_CANDIDATE, described

SECRET = "engine-store"
SPACE = f"{NAMESPACE}-stores"


@pytest.fixture(scope="module")
def team(stack: Stack, bucket: Bucket) -> Iterator[str]:
    """A namespace of its own, with the Secret that opens the stores. Others would build their engines again in these."""
    stack.kubectl("delete", "tdep", "--all", "--namespace", NAMESPACE)
    stacks.namespace_with_models(stack, SPACE)
    stores.secret(stack.kubectl, SPACE, SECRET, bucket.server)
    yield SPACE
    stacks.remove_namespace(stack, SPACE, wait=False)


@pytest.fixture
def store(stack: Stack, bucket: Bucket) -> str:
    """The URI of the store that the chart is told of. Registries are in tests/integration."""
    uri = f"s3://{bucket.name}/engines"
    store: dict[str, Any] = {"type": "S3", "uri": uri, "credentials": {"secretName": SECRET}}
    stacks.install(stack, {"store": store | {"endpoint": bucket.server.url}})
    return uri


def steps_log(kubectl: Kubectl, build: str) -> str:
    return kubectl("logs", f"job/{build}", "-n", SPACE, "--all-containers")


def test_an_engine_lies_in_a_store_elsewhere_and_is_found_there(
    kubectl: Kubectl, team: str, store: str, texts: list[str]
) -> None:
    first = described(kubectl, team, "first", "moderation-v1", engine=ONE_CANDIDATE)
    first.apply()
    name = first.wait_ready(400)["target"]["build"]
    build = built(first)
    report = build["status"]["report"]
    assert build["status"]["artifactUri"].startswith(f"{store}/{team}")
    assert "trying candidate" in steps_log(kubectl, name)
    assert kubectl.get("persistentvolumeclaim", "tapchanger-artifacts", team) is None
    with GrpcClient(first.address()[0]) as client:
        expected = client.ask("first", texts[:20]).outputs["label"].tolist()

    kubectl.delete("tdep", "first", team)
    until("the build to go with the deployment", lambda: kubectl.get("eb", name, team) is None, 60)
    second = described(kubectl, team, "second", "moderation-v1", engine=ONE_CANDIDATE)
    second.apply()
    second.wait_ready(120)
    again = built(second)
    assert again["metadata"]["uid"] != build["metadata"]["uid"]
    assert again["status"]["report"]["artifact"] == report["artifact"]
    assert "trying candidate" not in steps_log(kubectl, name), "the store had it"
    with GrpcClient(second.address()[0]) as client:
        assert client.ask("second", texts[:20]).outputs["label"].tolist() == expected
    kubectl.delete("tdep", "second", team)


def built(deployment: Deployment) -> dict[str, Any]:
    build = deployment.kubectl.get("eb", deployment.status()["target"]["build"], deployment.namespace)
    assert build is not None
    return build
