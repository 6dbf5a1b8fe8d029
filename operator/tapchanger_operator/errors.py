"""The one hierarchy of errors, turned into conditions in one place (``status``).

- :class:`OperatorError`
    - :class:`UserError`: stalls until someone changes the spec or what it names.
    - :class:`Waiting`: comes back by itself; nobody need act.
    - :class:`Transient`: the API server or the network failed; retried with back-off.
"""

from __future__ import annotations


class OperatorError(Exception):
    """Base of the operator's own errors. `reason` is a constant of :mod:`tapchanger_operator.api.reasons`."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class UserError(OperatorError):
    """Only the user can resolve it; the message says how."""


class Waiting(OperatorError):  # noqa: N818 - a state, not a failure
    """Something is still on its way."""


class Transient(OperatorError):  # noqa: N818 - as named in the field
    """A call failed that may succeed when repeated."""
