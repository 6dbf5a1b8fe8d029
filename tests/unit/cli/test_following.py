"""A watch shows every change, survives a lost connection, and ends when it may not go on."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from rich.console import Console

from tapchanger_cli import live
from tapchanger_cli.errors import CliError, UnreachableError
from tapchanger_cli.views import overview
from tapchanger_cli.waiting import Picture, lasting, until
from tests.support import cli_samples as samples
from tests.support.fake_api_server import FakeApiServer
from tests.unit.cli.conftest import Run

Object = dict[str, Any]


def changed(item: Object, message: str) -> Object:
    after = copy.deepcopy(item)
    after["status"]["message"] = message
    return after


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def test_a_line_for_each_change_where_nobody_looks_at_a_terminal(server: FakeApiServer, run: Run) -> None:
    first = samples.stepping()
    server.put(first)
    second = changed(first, "canary at 50 %")
    server.watches = [[{"type": "MODIFIED", "object": item} for item in (second, second, changed(first, "promoted"))]]
    result = run("status", "moderation", "--watch")
    words = [line.split(" ", 2)[2] for line in result.stdout.splitlines()]
    assert words[:3] == [
        f"team-a/moderation {first['status']['message']}",
        "team-a/moderation canary at 50 %",
        "team-a/moderation promoted",
    ]
    watch = next(asked for asked in server.asked if "watch" in asked.query)
    assert watch.query["resourceVersion"] == ["100"]
    assert watch.query["fieldSelector"] == ["metadata.name=moderation"]


def test_a_watch_that_is_refused_says_which_verb_is_missing(server: FakeApiServer, run: Run) -> None:
    server.put(samples.stepping())
    result = run("status", "--watch")
    assert result.exit_code == 1
    assert "ask for the verb watch on transformerdeployments.tapchanger.dev" in result.stderr


def test_a_watch_that_is_too_old_begins_anew(server: FakeApiServer, run: Run) -> None:
    server.put(samples.stepping())
    gone = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}}
    server.watches = [[gone], [{"type": "MODIFIED", "object": changed(samples.stepping(), "after")}]]
    assert "team-a/moderation after" in run("status", "--watch").stdout


def test_a_watch_ends_when_its_deployment_is_deleted(server: FakeApiServer, run: Run) -> None:
    server.put(samples.stepping())
    server.watches = [[{"type": "DELETED", "object": samples.stepping()}]]
    result = run("status", "moderation", "-w")
    assert result.exit_code == 1
    assert "error: moderation was deleted" in result.stderr


def test_a_document_for_each_change_on_a_line_of_its_own(server: FakeApiServer, run: Run) -> None:
    server.put(samples.stepping())
    server.watches = [[{"type": "MODIFIED", "object": samples.held()}]]
    documents = [json.loads(line) for line in run("status", "moderation", "-w", "-o", "json").stdout.splitlines()]
    assert [document["hold"] is None for document in documents[:2]] == [True, False]


def test_lines_name_what_came_and_what_went() -> None:
    one, other = samples.stepping(), samples.unseen()
    pictures = [
        Picture((one,)),
        Picture((one, other)),
        Picture((one,), "lost"),
        Picture((one,), "lost"),
        Picture((one,)),
    ]
    lines = list(live.as_lines(pictures, lambda: samples.NOW))
    assert [line.removeprefix("2026-11-24 10:00:00Z ") for line in lines] == [
        f"team-a/moderation {one['status']['message']}",
        "team-a/fresh the operator has not looked at it yet",
        "lost",
        "team-a/fresh was deleted",
    ]


def test_a_terminal_is_drawn_anew_with_each_picture_and_told_of_trouble() -> None:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=120, height=40)
    pictures = [Picture((samples.starting(),)), Picture((samples.stepping(),), "connection lost; trying again")]
    live.on_terminal(pictures, lambda subjects, now: overview.view(subjects[0], now), console, lambda: samples.NOW)
    text = file.getvalue()
    assert "servers are starting" in text
    assert text.index("servers are starting") < text.index("step 2 of 3, 1m30s of at most 15m")
    assert "connection lost; trying again" in text


def test_an_error_while_following_reaches_the_terminal() -> None:
    def pictures() -> Iterator[Picture]:
        yield Picture((samples.stepping(),))
        raise CliError("moderation was deleted")

    console = Console(file=io.StringIO(), force_terminal=True)
    with pytest.raises(CliError, match="was deleted"):
        live.on_terminal(pictures(), lambda subjects, now: "", console, lambda: samples.NOW)


def test_a_lost_connection_is_tried_again_with_growing_pauses() -> None:
    time, runs = Time(), iter(range(7))
    item = samples.stepping()

    def follow() -> Iterator[list[Object]]:
        number = next(runs)
        if number in (0, 6):
            yield [item]
        if number < 6:
            raise UnreachableError("the API server is away")

    pictures = list(lasting(follow, time.sleep))
    assert [picture.trouble for picture in pictures] == ["", *["the API server is away; trying again"] * 6, ""]
    assert all(picture.objects == (item,) for picture in pictures)
    assert time.slept == [1.0, 2.0, 4.0, 8.0, 15.0, 15.0]


def test_a_server_that_never_answered_is_not_waited_for() -> None:
    def follow() -> Iterator[list[Object]]:
        raise UnreachableError("away")
        yield []

    with pytest.raises(UnreachableError):
        next(lasting(follow, Time().sleep))


def _from(answers: list[str | None]) -> Callable[[], str | None]:
    left = iter(answers)

    def look() -> str | None:
        answer = next(left)
        if answer == "away":
            raise UnreachableError(answer)
        return answer

    return look


def test_waiting_asks_until_there_is_an_answer_also_of_a_server_that_is_away() -> None:
    time = Time()
    assert until(_from([None, "away", None, "yes"]), 60, time.clock, time.sleep) == "yes"
    assert time.now == 1.5


def test_waiting_ends_in_time() -> None:
    time = Time()
    assert until(_from([None] * 100), 10, time.clock, time.sleep) is None
    assert 10 <= time.now <= 10.5
