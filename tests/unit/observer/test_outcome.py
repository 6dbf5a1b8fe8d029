from __future__ import annotations

import pytest

from tapchanger_serving.contract.outcome import BAD_GRPC, Outcome, judge


@pytest.mark.parametrize(
    ("http", "grpc_status", "flags", "grpc", "wanted"),
    [
        ("200", None, "-", False, Outcome("http/200", failed=False)),
        ("404", None, "-", False, Outcome("http/404", failed=False)),
        ("429", None, "RL", False, Outcome("client/RL", failed=False)),
        ("500", None, "-", False, Outcome("http/500", failed=True)),
        ("503", None, "UH", False, Outcome("http/503", failed=True)),
        ("504", None, "UT", False, Outcome("http/504", failed=True)),
        ("200", "0", "-", True, Outcome("grpc/0", failed=False)),
        ("200", "3", "-", True, Outcome("grpc/3", failed=False)),
        ("200", "13", "-", True, Outcome("grpc/13", failed=True)),
        ("200", "14", "UF", True, Outcome("grpc/14", failed=True)),
        ("0", None, "DC", False, Outcome("client/DC", failed=False)),
        ("0", None, "DR", True, Outcome("client/DR", failed=False)),
        ("0", None, "-", False, Outcome("http/0", failed=True)),
        ("200", None, "UPE", False, Outcome("reset/UPE", failed=True)),
        ("200", None, "UC", True, Outcome("reset/UC", failed=True)),
        ("200", None, "-", True, Outcome("grpc/2", failed=True)),
        ("503", None, "URX,UF", False, Outcome("http/503", failed=True)),
    ],
)
def test_what_envoy_writes_is_judged_as_the_user_felt_it(
    http: str, grpc_status: str | None, flags: str, grpc: bool, wanted: Outcome
) -> None:
    assert judge(http, grpc_status, flags, grpc=grpc) == wanted


@pytest.mark.parametrize("status", range(17))
def test_exactly_the_statuses_that_are_the_servers_fault_fail(status: int) -> None:
    assert judge("200", str(status), "-", grpc=True).failed == (status in BAD_GRPC)


@pytest.mark.parametrize(
    ("http", "grpc_status", "message"),
    [
        ("", None, "http.status_code: found ''"),
        ("9999999", None, "http.status_code: found '9999999'"),
        ("-1", None, "http.status_code"),
        ("²", None, "http.status_code"),
        ("200", "17", "grpc.status_code: found '17'"),
        ("200", "OK", "grpc.status_code: found 'OK'"),
    ],
)
def test_a_status_that_is_no_status_is_named(http: str, grpc_status: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        judge(http, grpc_status, "-", grpc=True)
