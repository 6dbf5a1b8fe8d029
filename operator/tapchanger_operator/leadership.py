"""Leadership by a Lease: standby replicas wait, and one that loses the Lease ends, so that two never act at once."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

from kubernetes.leaderelection import electionconfig, leaderelection
from kubernetes.leaderelection.resourcelock.leaselock import LeaseLock

from tapchanger_operator import names
from tapchanger_operator.settings import Settings

log = logging.getLogger(__name__)

LEASE_SECONDS: Final = 10
RENEW_SECONDS: Final = 7
RETRY_SECONDS: Final = 2


def campaign(settings: Settings, on_won: Callable[[], None], on_lost: Callable[[], None]) -> threading.Thread:
    """Starts a thread that waits for the Lease. `on_won` is called once it is held, `on_lost` when it was lost."""

    def run() -> None:
        lock = LeaseLock(names.LEASE, settings.namespace, settings.identity)
        held = electionconfig.Config(
            lock,
            lease_duration=LEASE_SECONDS,
            renew_deadline=RENEW_SECONDS,
            retry_period=RETRY_SECONDS,
            onstarted_leading=on_won,
            onstopped_leading=lambda: None,
        )
        try:
            leaderelection.LeaderElection(held).run()
        except Exception:
            log.exception("the campaign for the Lease broke off", extra={"lease": names.LEASE})
        on_lost()

    thread = threading.Thread(target=run, name="leadership", daemon=True)
    thread.start()
    return thread
