"""Secrets reach the containers that fetch, and no other."""

from __future__ import annotations

from typing import Any

from tapchanger_operator.names import Owner
from tapchanger_operator.plan import jobs, server
from tapchanger_operator.resolve.identity import build_name, engine_build, revision
from tapchanger_operator.resolve.variants import variant_spec
from tests.support.samples import IMAGES, MODEL, OWNER, SETTINGS, inspection, spec

WITH = spec(model={**MODEL, "credentials": {"secretName": "store"}})
BUILD = engine_build(WITH, inspection(), IMAGES.builder)
BUILDER = Owner("EngineBuild", build_name(BUILD), OWNER.namespace, "99999999-2222-3333-4444-555555555555")


def mounted(pod: dict[str, Any]) -> set[str]:
    containers = [*pod.get("initContainers", []), *pod["containers"]]
    return {c["name"] for c in containers if any(m["name"] == "credentials" for m in c["volumeMounts"])}


def test_only_the_containers_that_fetch_see_the_secret() -> None:
    assert mounted(jobs.inspect_job(OWNER, WITH, IMAGES)["spec"]["template"]["spec"]) == {"inspect"}
    assert mounted(jobs.build_job(BUILDER, BUILD, IMAGES)["spec"]["template"]["spec"]) == {"fetch"}


def test_servers_never_see_the_secret() -> None:
    content = revision(WITH, BUILD, build_name(BUILD), "sha256:" + "c" * 64, "openvino", IMAGES.server)
    assert "store" not in {
        volume.get("secret", {}).get("secretName")
        for volume in server.deployment(OWNER, content, 1, SETTINGS)["spec"]["template"]["spec"]["volumes"]
    }


def test_a_variant_has_its_own_credentials_or_those_of_the_base_spec() -> None:
    variants = [
        {"name": "b", "weight": 10, "model": {"uri": "s3://models/b", "credentials": {"secretName": "other"}}},
        {"name": "c", "weight": 10, "model": {"uri": "s3://models/c"}},
    ]
    base = spec(model={**MODEL, "credentials": {"secretName": "store"}, "pollInterval": "5m"}, variants=variants)
    found = [variant_spec(base, variant).model for variant in base.variants]
    assert [model.credentials.secret_name for model in found if model.credentials] == ["other", "store"]
    assert [model.poll_interval for model in found] == [None, None]
