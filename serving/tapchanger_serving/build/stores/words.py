"""How failures of a store elsewhere are told: they are the administrator's to mend, in the chart's values."""

from __future__ import annotations

from tapchanger_serving.build.failures import STORE_CREDENTIALS_FIELD, STORE_FIELD, StepError
from tapchanger_serving.build.limits import Budget, Patience


def budget(uri: str) -> Budget:
    """What one conversation with the store may take."""
    return Budget(uri, STORE_FIELD, where="the Secret of store.credentials", advice="")


def patience(spent: Budget) -> Patience:
    """Gives up with `StoreUnreachable`, which is tried again."""
    return Patience(spent, reason="StoreUnreachable", words="the store did not answer; going on")


def denied(uri: str, said: str, keys: str) -> StepError:
    """The store lets nobody in."""
    remedy = f"name a Secret with {keys} that may list, read, write and delete there; it must be in the deployment's namespace"
    message = f"{uri}: the store does not let the build in ({said})"
    return StepError("AccessDenied", message, field=STORE_CREDENTIALS_FIELD, remedy=remedy)
