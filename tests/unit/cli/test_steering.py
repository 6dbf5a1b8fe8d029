"""Orders are one patch that names the revision and who gives it, and end with the operator's answer."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from tapchanger_operator.api import controls
from tapchanger_operator.api.controls import Order
from tests.support import cli_samples as samples
from tests.support.cli_samples import NEW, OLD
from tests.support.fake_api_server import FakeApiServer
from tests.unit.cli.conftest import Run

Object = dict[str, Any]


def answering(done: bool = True, message: str = "as ordered") -> Any:
    """An operator that answers every order at once, and shows a hold."""

    def operate(item: Object) -> Object:
        after = copy.deepcopy(item)
        annotations = after["metadata"]["annotations"]
        given = controls.given(annotations)
        after["status"]["controls"] = [
            {
                "order": order, "value": value, "by": annotations.get(f"tapchanger.dev/{order}-by", "somebody"),
                "at": samples.ago(0), "done": done, "message": message,
            }
            for order, value in given.items()
        ]  # fmt: skip
        held = controls.PAUSE in annotations
        for stalled in after["status"]["conditions"]:
            if stalled["type"] == "Stalled":
                stalled |= {"status": "True", "reason": "Held"} if held else {"status": "False", "reason": "NotStalled"}
        after["status"].get("canary", {})["heldAt"] = samples.ago(0) if held else None
        return after

    return operate


def annotations(server: FakeApiServer) -> dict[str, str | None]:
    """Those of the one patch that came."""
    (patch,) = server.patches()
    assert patch.query["fieldManager"] == ["tapchanger-cli"]
    assert patch.content == "application/merge-patch+json"
    assert patch.path.endswith("/namespaces/team-a/transformerdeployments/moderation")
    assert set(patch.body) == {"metadata"}
    assert set(patch.body["metadata"]) == {"annotations"}
    found: dict[str, str | None] = patch.body["metadata"]["annotations"]
    return found


@pytest.mark.parametrize(
    ("words", "situation", "value"),
    [
        (["promote"], samples.stepping(), f"{NEW} why not"),
        (["skip"], samples.stepping(), f"{NEW}/2 why not"),
        (["abort"], samples.stepping(), f"{NEW} why not"),
        (["abort"], samples.watched(), f"{NEW} why not"),
        (["resume"], samples.undecided(), f"{NEW}/2 why not"),
        (["retry"], samples.rolled_back(), f"{NEW} why not"),
        (["promote", "--revision", NEW[:5]], samples.stepping(), f"{NEW} why not"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_order_names_the_revision_that_it_must_mean(
    server: FakeApiServer, run: Run, words: list[str], situation: Object, value: str
) -> None:
    server.put(situation)
    server.operator = answering()
    result = run(words[0], "moderation", "--reason", "why  not\n", *words[1:])
    assert result.exit_code == 0, result.output
    assert annotations(server) == {
        f"tapchanger.dev/{words[0]}": value,
        f"tapchanger.dev/{words[0]}-by": "anna@example.org",
    }
    assert result.stdout == "✔ moderation: as ordered\n"


def test_without_a_reason_two_orders_differ(server: FakeApiServer, run: Run) -> None:
    server.put(samples.stepping())
    server.operator = answering()
    assert run("promote", "moderation").exit_code == 0
    value = annotations(server)["tapchanger.dev/promote"]
    assert value
    assert value.startswith(f"{NEW} by tapchanger at 20")


def test_an_order_that_was_given_before_is_given_anew(server: FakeApiServer, run: Run) -> None:
    server.put(samples.stepping())
    server.operator = answering(done=False, message="its servers are not ready yet")
    assert run("promote", "moderation", "--reason", "now").exit_code == 1
    assert run("promote", "moderation", "--reason", "now").exit_code == 1
    first, second = (patch.body["metadata"]["annotations"]["tapchanger.dev/promote"] for patch in server.patches())
    assert first == f"{NEW} now"
    assert second.startswith(f"{NEW} now (again, 20")


def test_an_order_that_was_not_carried_out_fails_with_the_operators_words(server: FakeApiServer, run: Run) -> None:
    server.put(samples.stepping())
    server.operator = answering(done=False, message="its servers are not ready yet")
    result = run("promote", "moderation")
    assert result.exit_code == 1
    assert result.stderr == "error: promote was not carried out: its servers are not ready yet\n"
    assert result.stdout == ""


def test_an_order_without_an_answer_fails_in_time_and_says_where_to_look(server: FakeApiServer, run: Run) -> None:
    server.put(samples.stepping())
    result = run("promote", "moderation", "--timeout", "0s")
    assert result.exit_code == 1
    assert "the operator has not answered in 0s" in result.stderr
    assert "tapchanger status moderation -n team-a" in result.stderr


def retraining(done: bool = True, message: str = "run r0123456ab starts") -> Any:
    """An operator that answers an order to retrain at once."""

    def operate(item: Object) -> Object:
        after = copy.deepcopy(item)
        value = after["metadata"]["annotations"]["tapchanger.dev/retrain"]
        answer = {
            "order": "retrain",
            "value": value,
            "by": "kim",
            "at": samples.ago(0),
            "done": done,
            "message": message,
        }
        after["status"]["retraining"] = {"message": "", "answers": [answer]}
        return after

    return operate


def test_an_order_to_retrain_names_no_revision_and_gives_the_operators_answer(server: FakeApiServer, run: Run) -> None:
    server.put(samples.watched())
    server.operator = retraining()
    result = run("retrain", "moderation", "--reason", "new  labels")
    assert result.exit_code == 0, result.output
    assert annotations(server) == {
        "tapchanger.dev/retrain": "new labels",
        "tapchanger.dev/retrain-by": "anna@example.org",
    }
    assert result.stdout == "✔ moderation: run r0123456ab starts\n"
    server.operator = retraining(done=False, message="run r0123456ab is under way (Running); there is one at a time")
    again = run("retrain", "moderation", "--reason", "new labels")
    assert again.exit_code == 1
    assert "there is one at a time" in again.stderr
    value = server.patches()[-1].body["metadata"]["annotations"]["tapchanger.dev/retrain"]
    assert value.startswith("new labels (again, 20")


def test_an_answer_to_another_order_is_not_taken_for_the_answer(server: FakeApiServer, run: Run) -> None:
    situation = samples.stepping()
    old = {
        "order": "promote",
        "value": f"{NEW} before",
        "by": "x",
        "at": samples.ago(9),
        "done": True,
        "message": "old",
    }
    situation["status"]["controls"] = [old]
    server.put(situation)
    assert run("promote", "moderation", "--timeout", "0s").exit_code == 1


def test_nothing_is_waited_for_where_that_is_not_wanted(server: FakeApiServer, run: Run) -> None:
    server.put(samples.stepping())
    result = run("abort", "moderation", "--no-wait", "-o", "json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["done"] is None
    assert [asked.method for asked in server.asked] == ["GET", "POST", "PATCH"]


def test_the_answer_as_json(server: FakeApiServer, run: Run) -> None:
    server.put(samples.stepping())
    server.operator = answering(done=False, message="no")
    result = run("skip", "moderation", "--reason", "night", "-o", "json")
    assert result.exit_code == 1
    assert json.loads(result.stdout) == {
        "namespace": "team-a", "name": "moderation", "order": "skip", "value": f"{NEW}/2 night",
        "by": "anna@example.org", "done": False, "message": "no",
    }  # fmt: skip


def test_where_the_user_is_not_known_the_name_of_an_earlier_order_goes(server: FakeApiServer, run: Run) -> None:
    server.user = None
    server.put(samples.stepping())
    server.operator = answering()
    assert run("promote", "moderation").exit_code == 0
    assert annotations(server)["tapchanger.dev/promote-by"] is None


@pytest.mark.parametrize(
    ("order", "situation", "words"),
    [
        ("promote", samples.watched(), "moderation has no canary to promote: 8fa1e2077b serves all requests"),
        ("promote", samples.rolled_back(), "8fa1e2077b was rolled back; `retry` has it tried again"),
        ("skip", samples.starting(), "moderation has no canary at a step that could be skipped"),
        ("resume", samples.stepping(), "moderation has no step that waits and no hold to resume from"),
        ("abort", samples.rolled_back(), "no canary to roll back, and no previous revision to return to"),
        ("retry", samples.stepping(), "moderation has no revision that was rolled back"),
    ],
)
def test_an_order_that_can_mean_nothing_is_refused_and_nothing_written(
    server: FakeApiServer, run: Run, order: Order, situation: Object, words: str
) -> None:
    server.put(situation)
    result = run(order, "moderation", "--reason", "x")
    assert result.exit_code == 1
    assert words in result.stderr
    assert not server.patches()


def test_an_order_for_another_revision_is_refused(server: FakeApiServer, run: Run) -> None:
    server.put(samples.stepping())
    result = run("promote", "moderation", "--revision", OLD)
    assert result.exit_code == 1
    assert f"promote can mean {NEW} of moderation, not {OLD}" in result.stderr
    assert not server.patches()


def test_an_abort_beside_a_warm_predecessor_means_the_canary_unless_it_names_what_serves(
    server: FakeApiServer, run: Run
) -> None:
    situation = samples.stepping()
    situation["status"]["previous"] = samples.watched()["status"]["previous"] | {"revision": "0123456789"}
    server.put(situation)
    server.operator = answering()
    assert run("abort", "moderation", "--reason", "a").exit_code == 0
    assert run("abort", "moderation", "--reason", "b", "--revision", OLD).exit_code == 0
    values = [patch.body["metadata"]["annotations"]["tapchanger.dev/abort"] for patch in server.patches()]
    assert values == [f"{NEW} a", f"{OLD} b"]


def test_a_retry_of_what_the_spec_does_not_ask_for_needs_its_revision(server: FakeApiServer, run: Run) -> None:
    situation = samples.rolled_back()
    situation["status"]["target"] = {"build": "eb-1", "revision": OLD}
    server.put(situation)
    server.operator = answering()
    result = run("retry", "moderation")
    assert result.exit_code == 1
    assert f"write --revision {NEW}" in result.stderr
    assert not server.patches()
    assert run("retry", "moderation", "--revision", NEW).exit_code == 0


def test_a_skip_needs_a_reason_and_a_revision_its_digits(server: FakeApiServer, run: Run) -> None:
    server.put(samples.stepping())
    missing = run("skip", "moderation")
    assert missing.exit_code == 2
    assert "--reason" in missing.stderr
    wrong = run("promote", "moderation", "--revision", "latest")
    assert wrong.exit_code == 2
    assert "'latest' is not a revision; write at least its first four digits" in wrong.stderr
    late = run("promote", "moderation", "--timeout", "soon")
    assert late.exit_code == 2
    assert "'soon' is not a duration; write for example 50ms" in late.stderr
    assert not server.asked


def test_a_hold_is_waited_for_until_status_shows_it(server: FakeApiServer, run: Run) -> None:
    server.put(samples.stepping())
    server.operator = answering()
    result = run("pause", "moderation", "--reason", "release freeze")
    assert result.exit_code == 0
    assert result.stdout == "✔ moderation: held\n"
    assert annotations(server) == {
        "tapchanger.dev/pause": "release freeze",
        "tapchanger.dev/pause-by": "anna@example.org",
    }


def test_a_hold_that_status_does_not_show_fails(server: FakeApiServer, run: Run) -> None:
    server.put(samples.stepping())
    assert run("pause", "moderation", "--timeout", "0s").exit_code == 1


def test_a_hold_where_nothing_is_under_way_waits_for_nothing(server: FakeApiServer, run: Run) -> None:
    server.put(samples.watched())
    result = run("pause", "moderation", "--timeout", "0s")
    assert result.exit_code == 0
    assert "nothing is under way; the next change of the spec will be held" in result.stdout


def test_resuming_takes_the_hold_away(server: FakeApiServer, run: Run) -> None:
    server.put(samples.held())
    server.operator = answering()
    result = run("resume", "moderation")
    assert result.exit_code == 0
    assert annotations(server) == {"tapchanger.dev/pause": None, "tapchanger.dev/pause-by": None}
    assert result.stdout.startswith("✔ moderation: goes on")


def test_resuming_takes_the_hold_away_and_begins_the_step_anew_in_one_patch(server: FakeApiServer, run: Run) -> None:
    situation = samples.undecided()
    situation["metadata"]["annotations"] = {"tapchanger.dev/pause": "x", "tapchanger.dev/pause-by": "y"}
    server.put(situation)
    server.operator = answering()
    assert run("resume", "moderation", "--reason", "go").exit_code == 0
    assert annotations(server) == {
        "tapchanger.dev/pause": None,
        "tapchanger.dev/pause-by": None,
        "tapchanger.dev/resume": f"{NEW}/2 go",
        "tapchanger.dev/resume-by": "anna@example.org",
    }
