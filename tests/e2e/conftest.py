"""A cluster with everything on it, made once a session. Files run in the order of their numbers: what destroys comes last.

What takes minutes and bears others runs beside them (tests/e2e/scenarios); tests that measure closely wait for `quiet`.
"""

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
from dev.common.waiting import until
from dev.fixtures.flaky import TRIGGER
from tests.e2e import stores
from tests.e2e.scenarios import capture, damage, drift, labels, retraining
from tests.e2e.scenarios.beside import Beside, Scenario, Scene
from tests.e2e.stores import Bucket
from tests.e2e.support import BRIEF, LENIENT, LESSON, NAMESPACE, NEEDED, ONE_CANDIDATE, First, Make, described

LEAVING = f"{NAMESPACE}-leaving"

BUSY: dict[str, Scenario] = {
    "retrained": retraining.run, "lost": damage.run, "by_labels": labels.run, "noticed": drift.run,
}  # fmt: skip
WAITING: dict[str, Scenario] = {"captured": capture.run}
"""By the fixtures that have their outcomes: those that keep the processors busy, which begin first, and those that hardly do."""


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
def bucket(stack: Stack, space: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    """An S3 store on the node, and the Secret of the shared namespace that opens it."""
    with stores.bucket(tmp_path_factory.mktemp("s3") / "store") as opened:
        opened.put(stack.models / "moderation-flaky", "moderation-flaky")
        stores.secret(stack.kubectl, space, stores.MODEL_SECRET, opened.server)
        yield opened


@pytest.fixture(scope="session")
def lesson(stack: Stack, labelled: list[tuple[str, str]]) -> Callable[[int], None]:
    """Writes so many texts for the student to learn from, evenly spread over all."""

    def write(count: int) -> None:
        path = stack.models / LESSON
        path.parent.mkdir(exist_ok=True)
        with path.open("w", newline="") as file:
            rows = labelled[:: len(labelled) // count][:count]
            csv.writer(file).writerows([("text",), *((text,) for text, _ in rows)])

    write(700)
    return write


@pytest.fixture(scope="session")
def begun(
    kubectl: Kubectl, space: str, moderation: First, bucket: Bucket, lesson: Callable[[int], None]
) -> dict[str, Deployment]:
    """Deployments that hold the other engines. They are being built; nobody waits for them yet."""
    made = {name: described(kubectl, space, name, one.uri, **one.spec) for name, one in NEEDED.items()}
    for deployment in made.values():
        deployment.apply()
    return made


@pytest.fixture(scope="session")
def moving(kubectl: Kubectl, stack: Stack, bucket: Bucket, begun: dict[str, Deployment]) -> Iterator[Deployment]:
    """A deployment whose addresses are polled: the model's in S3, and a variant's in a registry. Others build its engines."""
    until("flaky's build, whose model is to come from S3", lambda: begun["flaky"].status().get("target"), 180)
    variant = {"name": "b", "weight": 20, "engine": ONE_CANDIDATE}
    variant["model"] = {"uri": stores.push(stack.models / "moderation-flaky", "e2e/moving", "latest")}
    uri = bucket.put(stack.models / "moderation-v1", "moving")
    how = {"secret": stores.MODEL_SECRET, "poll": "1m", "rollout": BRIEF, "slo": LENIENT, "variants": [variant]}
    deployment = described(kubectl, NAMESPACE, "moving", uri, **how)
    deployment.apply()
    yield deployment
    kubectl.delete("tdep", "moving", NAMESPACE)


@pytest.fixture(scope="session")
def moved(stack: Stack, moving: Deployment, bucket: Bucket) -> dict[str, Any]:
    """The status from before there was other content at both addresses. Only the weights change in S3, and a tag: all at once."""
    before = moving.wait_ready(600)
    bucket.put(stack.models / "moderation-v2", "moving")
    stores.push(stack.models / "moderation-slow", "e2e/moving", "latest")
    return before


@pytest.fixture(scope="session")
def engines(begun: dict[str, Deployment]) -> dict[str, Deployment]:
    """The same, all of them serving."""
    for deployment in begun.values():
        deployment.wait_ready(600)
    return begun


@pytest.fixture(scope="session")
def beside(
    request: pytest.FixtureRequest,
    stack: Stack,
    kubectl: Kubectl,
    space: str,
    engines: dict[str, Deployment],
    labelled: list[tuple[str, str]],
    texts: list[str],
    lesson: Callable[[int], None],
) -> Iterator[Beside]:
    """The scenarios that the chosen tests ask for are under way."""
    asked = {name for item in request.session.items for name in getattr(item, "fixturenames", ())}
    scenarios = [scenario for name, scenario in (BUSY | WAITING).items() if name in asked]
    begun = Beside(Scene(stack, kubectl, space, engines, labelled, texts, lesson), scenarios)
    begun.start()
    yield begun
    begun.stop()


@pytest.fixture(scope="session")
def quiet(beside: Beside) -> None:
    """From here on nothing by the side keeps the processors busy: what is measured is the test's own."""
    beside.wait_for(BUSY.values())


@pytest.fixture(scope="session")
def ended(beside: Beside) -> None:
    """From here on nothing goes on by the side: whatever the test breaks is the test's own."""
    beside.wait_for((BUSY | WAITING).values())


@pytest.fixture(scope="session")
def retrained(beside: Beside) -> retraining.Retrained:
    """See :mod:`tests.e2e.scenarios.retraining`."""
    return beside.outcome(retraining.run)


@pytest.fixture(scope="session")
def lost(beside: Beside) -> damage.Lost:
    """See :mod:`tests.e2e.scenarios.damage`."""
    return beside.outcome(damage.run)


@pytest.fixture(scope="session")
def by_labels(beside: Beside) -> labels.Told:
    """See :mod:`tests.e2e.scenarios.labels`."""
    return beside.outcome(labels.run)


@pytest.fixture(scope="session")
def noticed(beside: Beside) -> drift.Noticed:
    """See :mod:`tests.e2e.scenarios.drift`."""
    return beside.outcome(drift.run)


@pytest.fixture(scope="session")
def captured(beside: Beside) -> capture.Captured:
    """See :mod:`tests.e2e.scenarios.capture`."""
    return beside.outcome(capture.run)


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
