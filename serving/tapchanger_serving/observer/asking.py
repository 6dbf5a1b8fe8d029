"""Who may do what at the API: anyone may read, and only the word of a credential changes anything."""

from __future__ import annotations

from dataclasses import dataclass

from tapchanger_serving.observer.gate import Gate
from tapchanger_serving.observer.trust import Grant


@dataclass(frozen=True)
class Asking:
    """The credentials of requests to the API. `home` is the observer's own namespace, where the operator runs too."""

    gate: Gate
    home: str = ""

    async def grant(self, authorization: str | None) -> Grant | None:
        """What the sender of a request may speak for; None for one who shows no credential, where one is asked for.

        Raises TrustError for a wrong one and UnprovenError for one that can't be judged now.
        """
        if authorization is None and self.gate.asks:
            return None
        return await self.gate.check(authorization)

    def may_watch(self, grant: Grant | None, namespace: str) -> bool:
        """Whether a question about `namespace` may make the observer remember something."""
        return grant is not None and (grant.covers(namespace) or (self.home != "" and grant.covers(self.home)))
