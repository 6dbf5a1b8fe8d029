"""Secrets reach the containers that fetch, and no other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tapchanger_operator.names import Owner
from tapchanger_operator.plan import jobs, server
from tapchanger_operator.resolve.identity import build_name, engine_build, revision
from tapchanger_operator.resolve.variants import variant_spec
from tapchanger_operator.settings import Store
from tapchanger_serving.contract.messages import Collection
from tests.support.samples import IMAGES, MODEL, OWNER, SETTINGS, inspection, spec

WITH = spec(model={**MODEL, "credentials": {"secretName": "store"}})
BUILD = engine_build(WITH, inspection(), IMAGES.builder)
BUILDER = Owner("EngineBuild", build_name(BUILD), OWNER.namespace, "99999999-2222-3333-4444-555555555555")


ELSEWHERE = Store(uri="s3://engines/production", secret="engine-store")


def mounted(pod: dict[str, Any], volume: str = "credentials") -> set[str]:
    containers = [*pod.get("initContainers", []), *pod["containers"]]
    return {c["name"] for c in containers if any(m["name"] == volume for m in c["volumeMounts"])}


def test_only_the_containers_that_fetch_see_the_secret() -> None:
    assert mounted(jobs.inspect_job(OWNER, WITH, IMAGES)["spec"]["template"]["spec"]) == {"inspect"}
    assert mounted(jobs.build_job(BUILDER, BUILD, IMAGES)["spec"]["template"]["spec"]) == {"fetch"}


def test_servers_never_see_the_secret() -> None:
    content = revision(WITH, BUILD, build_name(BUILD), "sha256:" + "c" * 64, "openvino", IMAGES.server)
    assert "store" not in {
        volume.get("secret", {}).get("secretName")
        for volume in server.deployment(OWNER, content, 1, SETTINGS)["spec"]["template"]["spec"]["volumes"]
    }


def test_the_stores_secret_is_mounted_where_the_store_is_written_or_read_and_nowhere_else() -> None:
    content = revision(WITH, BUILD, build_name(BUILD), "sha256:" + "c" * 64, "openvino", IMAGES.server)
    pods = [
        jobs.inspect_job(OWNER, WITH, IMAGES, ELSEWHERE),
        jobs.build_job(BUILDER, BUILD, IMAGES, ELSEWHERE),
        jobs.collect_job(OWNER, 1, Collection(older_than_seconds=1), IMAGES, ELSEWHERE),
        server.deployment(OWNER, content, 1, replace(SETTINGS, store=ELSEWHERE)),
    ]
    found = [mounted(pod["spec"]["template"]["spec"], "store-credentials") for pod in pods]
    assert found == [set(), {"fetch", "measure"}, {"collect"}, {"repository"}]
    assert mounted(pods[1]["spec"]["template"]["spec"]) == {"fetch"}


def test_a_variant_has_its_own_credentials_or_those_of_the_base_spec() -> None:
    variants = [
        {"name": "b", "weight": 10, "model": {"uri": "s3://models/b", "credentials": {"secretName": "other"}}},
        {"name": "c", "weight": 10, "model": {"uri": "s3://models/c"}},
    ]
    base = spec(model={**MODEL, "credentials": {"secretName": "store"}, "pollInterval": "5m"}, variants=variants)
    found = [variant_spec(base, variant).model for variant in base.variants]
    assert [model.credentials.secret_name for model in found if model.credentials] == ["other", "store"]
    assert [model.poll_interval for model in found] == ["5m", "5m"]
