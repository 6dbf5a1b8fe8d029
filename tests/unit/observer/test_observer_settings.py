from __future__ import annotations

import io
import json
import logging
from pathlib import Path

import pytest

from tapchanger_serving.contract import names
from tapchanger_serving.observer.logs import JsonFormatter, fields
from tapchanger_serving.observer.settings import Settings, SettingsError, from_environment

POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}
OPEN = {"TAPCHANGER_OBSERVER_AUTH": "open"}


def test_no_setting_is_needed() -> None:
    made = from_environment({"PATH": "/bin", **POD})
    assert made == Settings(keys_url="https://10.0.0.1:443/openid/v1/jwks")
    assert (made.grpc_port, made.http_port, made.api_port) == (
        names.OTLP_GRPC_PORT,
        names.OTLP_HTTP_PORT,
        names.OBSERVER_API_PORT,
    )


def test_settings_come_from_the_environment() -> None:
    made = from_environment(
        {"TAPCHANGER_OBSERVER_STATE": "/state/windows.json", "TAPCHANGER_OBSERVER_MAX_REVISIONS": "4", **POD}
    )
    assert (made.state, made.limits.max_revisions) == (Path("/state/windows.json"), 4)


def test_an_empty_value_counts_as_unset() -> None:
    assert from_environment({"TAPCHANGER_OBSERVER_STATE": "", **OPEN}).state is None


def test_what_kubernetes_adds_for_a_service_of_that_name_is_no_setting() -> None:
    added = {
        "TAPCHANGER_OBSERVER_SERVICE_HOST": "10.0.0.1",
        "TAPCHANGER_OBSERVER_SERVICE_PORT_API": "4319",
        "TAPCHANGER_OBSERVER_PORT": "tcp://10.0.0.1:4317",
        "TAPCHANGER_OBSERVER_PORT_4317_TCP_ADDR": "10.0.0.1",
    }
    assert from_environment({**added, **OPEN}) == Settings(auth="open")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("TAPCHANGER_OBSERVER_GRPC_PORT", "web", "TAPCHANGER_OBSERVER_GRPC_PORT: found 'web'"),
        ("TAPCHANGER_OBSERVER_GRPC_PORT", "70000", "less than or equal to 65535"),
        ("TAPCHANGER_OBSERVER_LOG_LEVEL", "LOUD", "'DEBUG', 'INFO'"),
        ("TAPCHANGER_OBSERVER_STAET", "/x", "TAPCHANGER_OBSERVER_STAET: no such setting; there are"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(name: str, value: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        from_environment({name: value})


def test_outside_a_cluster_somebody_has_to_say_who_proves_credentials() -> None:
    with pytest.raises(SettingsError, match=r"TAPCHANGER_OBSERVER_AUTH: found 'required', but this is no pod"):
        from_environment({})
    given = {"TAPCHANGER_OBSERVER_KEYS_URL": "http://127.0.0.1:1/jwks"}
    assert from_environment({**given, **POD}).keys_url == given["TAPCHANGER_OBSERVER_KEYS_URL"]


def test_nothing_is_kept_for_less_time_than_it_is_kept_in_detail() -> None:
    assert Settings(fine_seconds=3_600, keep_seconds=600).limits.keep_seconds == 3_600


def test_a_log_line_is_one_json_object() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    log = logging.Logger("test")
    log.addHandler(handler)
    log.warning("two\nlines", extra=fields(path=Path("/x"), count=3))
    event = json.loads(stream.getvalue())
    assert (event["level"], event["msg"], event["path"], event["count"]) == ("warning", "two\nlines", "/x", 3)
