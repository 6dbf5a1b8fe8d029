"""How a request went, judged from what Envoy writes on its span (checked against Envoy 1.40).

Envoy's `error` tag says true for a client that hung up as well, so it decides nothing here.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

BAD_GRPC: Final = frozenset({2, 4, 8, 12, 13, 14, 15})
"""UNKNOWN, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS."""
CLIENT_FLAGS: Final = frozenset({"DC", "DR", "DPE", "RL", "UAEX", "IH"})
"""The client hung up, reset or broke the protocol, or was refused by a limit or a policy: no revision's fault."""
BROKEN_FLAGS: Final = frozenset({"UC", "UF", "UR", "UPE", "UT", "LR", "OM"})
"""The answer broke off, whatever status its headers had announced."""
GRPC_UNKNOWN: Final = 2


class Outcome(NamedTuple):
    """`code` is `grpc/<status>`, `http/<status>`, `reset/<Envoy flag>` or `client/<Envoy flag>`.

    `failed` means by the server's fault.
    """

    code: str
    failed: bool


@lru_cache(maxsize=4096)
def judge(http_status: str, grpc_status: str | None, flags: str, *, grpc: bool) -> Outcome:
    """Judge one request by Envoy's tags `http.status_code`, `grpc.status_code` and `response_flags` (`-` for none).

    `grpc` says that it was a gRPC call (Envoy then writes `grpc.path`): without a status of its own it ended in
    UNKNOWN, as a client library would report it.

    Raises ValueError with a plain message when a status is no number.
    """
    raised = () if flags in ("", "-") else tuple(flags.split(","))
    client = [flag for flag in raised if flag in CLIENT_FLAGS]
    if client:
        return Outcome(f"client/{client[0]}", failed=False)
    if grpc_status is not None:
        status = _number("grpc.status_code", grpc_status, 16)
        return Outcome(f"grpc/{status}", failed=status in BAD_GRPC)
    status = _number("http.status_code", http_status, 599)
    broken = [flag for flag in raised if flag in BROKEN_FLAGS]
    if broken and status < 500:
        return Outcome(f"reset/{broken[0]}", failed=True)
    if grpc and 200 <= status < 300:
        return Outcome(f"grpc/{GRPC_UNKNOWN}", failed=True)
    return Outcome(f"http/{status}", failed=status >= 500 or status == 0)


def _number(attribute: str, text: str, most: int) -> int:
    if not (text.isascii() and text.isdigit() and int(text[:4]) <= most):
        raise ValueError(f"{attribute}: found {text[:32]!r}, expected a number from 0 to {most}")
    return int(text)
