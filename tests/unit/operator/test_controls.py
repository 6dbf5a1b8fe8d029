"""Orders in annotations: what is understood, and what is answered to what is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapchanger_operator.api import controls
from tapchanger_operator.api.controls import NEEDS_REASON, NEEDS_STEP, ORDERS, Command, Order


@pytest.mark.parametrize(
    ("order", "value", "wanted"),
    [
        ("promote", "fb03361a15", Command("promote", "fb03361a15", None, "")),
        ("promote", " fb03361a15  seen in staging ", Command("promote", "fb03361a15", None, "seen in staging")),
        ("skip", "fb03361a15/2 night, no traffic", Command("skip", "fb03361a15", 2, "night, no traffic")),
        ("resume", "fb03361a15/1", Command("resume", "fb03361a15", 1, "")),
    ],
)
def test_orders_are_understood(order: Order, value: str, wanted: Command) -> None:
    assert controls.parse(order, value) == wanted


@pytest.mark.parametrize(
    ("order", "value"),
    [
        ("promote", ""),
        ("promote", "true"),
        ("promote", "fb03361a15/2"),
        ("skip", "fb03361a15 no step"),
        ("skip", "fb03361a15/2"),
        ("skip", "fb03361a15/01 leading zero"),
        ("retry", "../fb03361a15"),
    ],
)
def test_what_is_not_understood_is_told_what_to_write(order: Order, value: str) -> None:
    with pytest.raises(ValueError, match=rf"tapchanger\.dev/{order} is .*write REVISION"):
        controls.parse(order, value)


@given(
    order=st.sampled_from(ORDERS),
    revision=st.from_regex(r"[0-9a-f]{10}", fullmatch=True),
    step=st.integers(1, 9999),
    reason=st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=40),
)
def test_what_is_written_is_what_is_read(order: Order, revision: str, step: int, reason: str) -> None:
    command = Command(order, revision, step if order in NEEDS_STEP else None, reason)
    assert controls.parse(order, controls.render(command)) == command


def test_only_orders_are_given() -> None:
    annotations = {
        "tapchanger.dev/promote": "a",
        "tapchanger.dev/promote-by": "kim",
        "tapchanger.dev/pause": "",
        "x": "y",
    }
    assert controls.given(annotations) == {"promote": "a"}
    assert {"skip"} == NEEDS_REASON
