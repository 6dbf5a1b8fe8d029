"""A cluster with everything on it, made once a session. Files run in the order of their numbers: what destroys comes last."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dev.common import stack as stacks
from dev.common.deployment import Deployment
from dev.common.follow import Follower
from dev.common.kubectl import Kubectl, picture
from dev.common.stack import Stack
from dev.fixtures.flaky import TRIGGER
from tests.e2e.support import NAMESPACE, NEEDED, ONE_CANDIDATE, First, Make, described

LEAVING = f"{NAMESPACE}-leaving"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "/e2e/" in item.nodeid or item.nodeid.startswith("e2e/"):
            item.add_marker(pytest.mark.e2e)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    report = yield
    stack = getattr(item, "funcargs", {}).get("stack")
    if report.failed and stack is not None:
        report.sections.append(("the cluster", picture(stack.kubectl, NAMESPACE)))
    return report


@pytest.fixture(scope="session")
def stack() -> Stack:
    """Cluster, images, checkpoints and chart; what an earlier run left is cleared first."""
    stacks.start_cluster()
    found = stacks.own_stack()
    stacks.make_models(found)
    stacks.build_images()
    clear(found)
    stacks.install(found)
    return found


def clear(stack: Stack) -> None:
    """Removes the namespaces of earlier runs, killed ones included."""
    names = [item["metadata"]["name"] for item in stack.kubectl.items("namespace", None)]
    for name in names:
        if name == NAMESPACE or name.startswith(f"{NAMESPACE}-"):
            stacks.remove_namespace(stack, name)


@pytest.fixture(scope="session")
def kubectl(stack: Stack) -> Kubectl:
    return stack.kubectl


@pytest.fixture(scope="session")
def space(stack: Stack) -> Iterator[str]:
    """The shared namespace, with the claim `models`."""
    stacks.namespace_with_models(stack, NAMESPACE)
    yield NAMESPACE
    stacks.remove_namespace(stack, NAMESPACE, wait=False)


@pytest.fixture(scope="session")
def labelled(stack: Stack) -> list[tuple[str, str]]:
    """The evaluation data that goes with the moderation models: texts that they were not trained on, and labels."""
    with (stack.models / "data" / "moderation" / "evaluation.csv").open(newline="") as file:
        return [(row["text"], row["label"]) for row in csv.DictReader(file)]


@pytest.fixture(scope="session")
def texts(labelled: list[tuple[str, str]]) -> list[str]:
    """A thousand real texts."""
    assert len(labelled) >= 1000
    return [text for text, _ in labelled[:1000]]


@pytest.fixture(scope="session")
def flaky_texts(texts: list[str]) -> list[str]:
    """The same, every tenth with the character on which the tokenizer of moderation-flaky fails."""
    return [f"{text} {TRIGGER}" if index % 10 == 9 else text for index, text in enumerate(texts)]


@pytest.fixture
def make(kubectl: Kubectl, space: str) -> Iterator[Make]:
    """Makes deployments that go with the test."""
    made: list[Deployment] = []

    def deployment(name: str, uri: str, **spec: Any) -> Deployment:
        made.append(described(kubectl, space, name, uri, **spec))
        return made[-1]

    yield deployment
    for one in made:
        kubectl.delete("tdep", one.name, one.namespace)


@pytest.fixture(scope="session")
def moderation(kubectl: Kubectl, space: str) -> First:
    """The first model, serving for the whole session, and each sentence that it told on its way there.

    It keeps the engine of moderation-v1 for all tests that start from it.
    """
    deployment = described(kubectl, space, "moderation", "moderation-v1")
    deployment.apply()
    with Follower(kubectl, "moderation", space) as follower:
        deployment.wait_ready(400)
        time.sleep(1.0)
    return deployment, follower.messages()


@pytest.fixture(scope="session")
def begun(kubectl: Kubectl, space: str, moderation: First) -> dict[str, Deployment]:
    """Deployments that hold the other engines. They are being built; nobody waits for them yet."""
    made = {name: described(kubectl, space, name, one.uri, **one.spec) for name, one in NEEDED.items()}
    for deployment in made.values():
        deployment.apply()
    return made


@pytest.fixture(scope="session")
def engines(begun: dict[str, Deployment]) -> dict[str, Deployment]:
    """The same, all of them serving: from here on nothing is built by the side."""
    for deployment in begun.values():
        deployment.wait_ready(600)
    return begun


@pytest.fixture(scope="session")
def leaving(stack: Stack, moderation: First) -> Iterator[Deployment]:
    """The only deployment of a namespace of its own, begun early, so that its end can be tested without waiting for it."""
    stacks.namespace_with_models(stack, LEAVING)
    deployment = described(stack.kubectl, LEAVING, "gone", "moderation-v1", engine=ONE_CANDIDATE)
    deployment.apply()
    yield deployment
    stacks.remove_namespace(stack, LEAVING)


@pytest.fixture(scope="session")
def words(stack: Stack) -> Callable[[str], None]:
    """Writes a measured figure where `make test` keeps them."""
    figures: dict[str, Any] = {}
    path = stack.home / "e2e.json"

    def note(text: str) -> None:
        name, _, value = text.partition(": ")
        figures[name] = value
        path.write_text(json.dumps(figures, indent=1) + "\n")
        print(text)

    return note


@pytest.fixture(scope="session")
def long_texts(stack: Stack) -> list[str]:
    """Texts of some 250 tokens, on which a slow model shows what it costs."""
    found: list[str] = json.loads((stack.models / "texts-long.json").read_text())
    return found
