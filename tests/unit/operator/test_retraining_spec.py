"""What may be written into spec.retraining, and what is said where it may not."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError

from tapchanger_operator.api.retraining import RetrainingSpec
from tapchanger_operator.api.spec import TransformerDeploymentSpec
from tapchanger_operator.decide.retraining import cron
from tapchanger_operator.decide.retraining.moves import captured
from tapchanger_operator.errors import UserError
from tapchanger_operator.observe.gather import parse_spec
from tests.support.retraining_samples import FULL_TRAINER, TRAINER, WEBHOOK
from tests.support.samples import MODEL, OWNER
from tests.support.schemas import defaulted, problems, schema_of

SPEC = schema_of("TransformerDeployment", "spec")


@pytest.mark.parametrize(
    "retraining",
    [{"job": TRAINER}, {"job": FULL_TRAINER, "schedule": "@daily", "timeZone": "UTC"}, {"webhook": WEBHOOK}],
)
def test_what_the_api_server_fills_in_is_what_the_models_mean(retraining: dict[str, Any]) -> None:
    written = {"model": MODEL, "retraining": retraining}
    filled = defaulted(SPEC, written)
    assert problems(SPEC, filled) == []
    assert TransformerDeploymentSpec.model_validate(filled) == TransformerDeploymentSpec.model_validate(written)


def pod(**fields: Any) -> dict[str, Any]:
    containers = [{"name": "train", "image": "trainer:1"}]
    return {"job": {"template": {"spec": {"containers": containers, **fields}}}}


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "neither": ({}, "write either job or webhook"),
    "both": ({"job": TRAINER, "webhook": WEBHOOK}, "write either job or webhook"),
    "no containers": (pod(containers=[]), "write the containers that train"),
    "a container that is a word": (pod(containers=["train"]), "is an object"),
    "a pod that never ends": (pod(restartPolicy="Always"), "write Never or OnFailure"),
    "the node's network": (pod(hostNetwork=True), "hostNetwork: a run gets nothing of its node"),
    "a privileged container": (
        pod(containers=[{"name": "train", "image": "x", "securityContext": {"privileged": True}}]),
        "container train: privileged",
    ),
    "minutes of 61": ({"job": TRAINER, "schedule": "61 * * * *"}, "spec.retraining.schedule: '61 * * * *': Bad minute"),
    "the 31st of February": ({"job": TRAINER, "schedule": "0 0 31 2 *"}, "for example 0 3 * * 0"),
    "no such zone": (
        {"job": TRAINER, "schedule": "0 3 * * *", "timeZone": "Europe/Atlantis"},
        "spec.retraining.timeZone: there is no time zone 'Europe/Atlantis'",
    ),
    "a zone that climbs": ({"job": TRAINER, "schedule": "0 3 * * *", "timeZone": "../etc"}, "there is no time zone"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_spec_is_told_with_its_field_and_what_to_write(case: str) -> None:
    retraining, words = BAD[case]
    with pytest.raises(UserError) as refusal:
        parse_spec({"spec": {"model": MODEL, "retraining": retraining}})
    assert refusal.value.reason == "InvalidSpec"
    assert words in refusal.value.message
    assert "spec.retraining" in refusal.value.message


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"minInterval": "often"}, "retraining.minInterval"),
        ({"timeout": 3600}, "retraining.timeout"),
        ({"job": {**TRAINER, "backoffLimit": 11}}, "retraining.job.backoffLimit"),
        ({"job": {"template": {}}}, "retraining.job.template"),
        ({"jobs": {}}, "retraining"),
    ],
)
def test_the_schema_refuses_what_the_model_refuses(change: dict[str, Any], field: str) -> None:
    bad = {"model": MODEL, "retraining": {"job": TRAINER, **change}}
    found = problems(SPEC, bad)
    assert found
    assert found[0].startswith(f"{field}:"), found
    with pytest.raises(ValidationError):
        RetrainingSpec.model_validate({"job": TRAINER, **change})


def at(text: str, zone: str = "UTC") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


@pytest.mark.parametrize(
    ("schedule", "zone", "now", "latest", "upcoming"),
    [
        ("0 3 * * *", None, "2026-11-24T03:00:00", "2026-11-24T03:00:00", "2026-11-25T03:00:00"),
        ("0 3 * * *", None, "2026-11-24T02:59:59", "2026-11-23T03:00:00", "2026-11-24T03:00:00"),
        ("@weekly", None, "2026-11-24T12:00:00", "2026-11-22T00:00:00", "2026-11-29T00:00:00"),
        ("0 3 * * 0", "Europe/Berlin", "2026-03-29T12:00:00", "2026-03-29T03:00:00", "2026-04-05T03:00:00"),
        # Clocks go forward over it: it runs when the hour that is missing is over, and clocks that go back do not repeat it.
        ("30 2 * * *", "Europe/Berlin", "2026-03-29T12:00:00", "2026-03-29T03:00:00", "2026-03-30T02:30:00"),
        ("30 2 * * *", "Europe/Berlin", "2026-10-25T12:00:00", "2026-10-25T02:30:00", "2026-10-26T02:30:00"),
    ],
)
def test_a_schedule_has_the_times_of_cron(
    schedule: str, zone: str | None, now: str, latest: str, upcoming: str
) -> None:
    time = at(now, zone or "UTC")
    assert cron.latest(schedule, zone, time) == at(latest, zone or "UTC")
    assert cron.upcoming(schedule, zone, time) == at(upcoming, zone or "UTC")


def test_captured_requests_are_where_the_capture_puts_them() -> None:
    assert captured({"model": MODEL}, OWNER) is None
    capture = {"destination": {"uri": "s3://bucket/captured/"}}
    assert captured({"capture": capture}, OWNER) == "s3://bucket/captured/team-a/moderation"


def test_however_long_nobody_looked_there_is_one_latest_time() -> None:
    assert cron.latest("* * * * *", None, at("2036-01-01T00:00:30")) == at("2036-01-01T00:00:00")
