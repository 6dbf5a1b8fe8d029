"""New content at an address that moves is rolled out: the base spec's by a canary, a variant's in its arm."""

from __future__ import annotations

from typing import Any

from dev.common.deployment import Deployment
from dev.common.kubectl import Kubectl
from dev.common.stack import Stack
from dev.common.traffic import failed
from dev.common.waiting import until
from dev.fixtures.catalog import CHECKPOINT
from tapchanger_serving.build.digest import hash_tree
from tests.e2e.support import load_on


def arm(status: dict[str, Any], name: str) -> dict[str, Any]:
    return next(arm for arm in status["arms"] if arm["name"] == name)


def test_what_polls_find_is_rolled_out_without_a_failed_request(
    stack: Stack,
    kubectl: Kubectl,
    engines: dict[str, Deployment],
    moving: Deployment,
    moved: dict[str, Any],
    texts: list[str],
) -> None:
    wanted = [hash_tree(stack.models / name, CHECKPOINT) for name in ("moderation-v2", "moderation-slow")]

    def everywhere() -> dict[str, Any] | None:
        status = moving.status()
        digests = [status["model"]["digest"], arm(status, "b")["model"]["digest"]] if status else []
        revisions = [status["stable"]["revision"], arm(status, "b")["revision"]] if digests == wanted else []
        old = [moved["stable"]["revision"], arm(moved, "b")["revision"]]
        return status if revisions and not set(revisions) & set(old) else None

    with load_on(moving, texts) as load:
        status = until("both to be rolled out", everywhere, 240, last=moving.picture)
        moving.wait_ready(60)
    answers = load.records()
    assert not failed(answers), failed(answers)[:5]
    assert set(answers.revisions()) >= {moved["stable"]["revision"], status["stable"]["revision"]}
    assert [entry["event"] for entry in status["history"]] == ["Started", "Promoted"]
    assert status["target"]["build"] == engines["next"].status()["target"]["build"]
    assert arm(status, "b")["build"] == engines["slow"].status()["target"]["build"]
    uid = moving.body()["metadata"]["uid"]
    events = [e for e in kubectl.items("events", moving.namespace) if e["involvedObject"].get("uid") == uid]
    told = [e["message"] for e in events if e["reason"] == "ModelChanged"]
    assert len(told) == 2
    assert all(any(f"has new content: {digest}" in line for line in told) for digest in wanted), told
    assert moving.difference() == ""
    kubectl.delete("tdep", moving.name, moving.namespace, wait=False)
