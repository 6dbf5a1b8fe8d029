"""tritonserver's arguments, of which only the address of the trace receiver is changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_URL = "opentelemetry,url="


def redirect_traces(arguments: Sequence[str], relay: Callable[[str], str]) -> list[str]:
    """The arguments with the receiver's URL replaced by `relay(URL)`, in both forms that tritonserver takes."""
    redirected = []
    for argument in arguments:
        option, found, url = argument.partition(_URL)
        redirected.append(f"{option}{_URL}{relay(url)}" if found and option in ("", "--trace-config=") else argument)
    return redirected
