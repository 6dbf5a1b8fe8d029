"""Who gave an order: the name beside it only where the same write set both."""

from __future__ import annotations

from typing import Any

from tapchanger_operator.observe.steering import steering
from tapchanger_operator.snapshot import Given


def written(manager: str, *annotations: str) -> dict[str, Any]:
    fields = {f"f:tapchanger.dev/{name}": {} for name in annotations}
    return {
        "manager": manager,
        "operation": "Update",
        "fieldsV1": {"f:metadata": {"f:annotations": {".": {}, **fields}}},
    }


def body(annotations: dict[str, str], *managed: dict[str, Any]) -> dict[str, Any]:
    named = {f"tapchanger.dev/{name}": value for name, value in annotations.items()}
    return {"metadata": {"name": "moderation", "annotations": named, "managedFields": list(managed)}}


def test_the_name_beside_an_order_counts_where_the_same_write_set_it() -> None:
    found = steering(body({"promote": "abcd", "promote-by": "kim"}, written("tapchanger-cli", "promote", "promote-by")))
    assert found.orders == {"promote": Given("abcd", "kim")}


def test_a_name_that_the_api_server_wrote_counts() -> None:
    found = steering(body({"promote": "abcd", "promote-by": "kim"}, written("kubectl-annotate", "promote")))
    assert found.orders == {"promote": Given("abcd", "kim")}


def test_a_name_that_an_earlier_order_left_is_not_believed() -> None:
    found = steering(
        body(
            {"promote": "abcd", "promote-by": "kim"},
            written("tapchanger-cli", "promote-by"),
            written("kubectl-annotate", "promote"),
        )
    )
    assert found.orders == {"promote": Given("abcd", "kubectl-annotate")}


def test_an_object_without_annotations_or_records_asks_for_nothing() -> None:
    assert steering({"metadata": {"name": "x"}}).orders == {}
    assert steering({"metadata": {"name": "x", "annotations": None, "managedFields": None}}).pause is None


def test_orders_to_retrain_are_kept_apart_with_their_givers() -> None:
    found = steering(
        body({"retrain": "new labels", "retrain-by": "kim"}, written("tapchanger-cli", "retrain", "retrain-by"))
    )
    assert found.retraining == {"retrain": Given("new labels", "kim")}
    assert found.orders == {}


def test_an_empty_pause_is_a_pause() -> None:
    assert steering(body({"pause": ""}, written("kubectl-annotate", "pause"))).pause == Given("", "kubectl-annotate")
