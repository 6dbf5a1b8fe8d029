"""How much a download may take, and how often a broken one is taken up again."""

from __future__ import annotations

import dataclasses
import os
import random
import time
from collections.abc import Callable, Mapping

from tapchanger_serving.build import log
from tapchanger_serving.build.failures import StepError, TransientStepError
from tapchanger_serving.build.redaction import redacted

MOST_BYTES = "TAPCHANGER_MAX_DOWNLOAD_BYTES"
MOST_FILES = "TAPCHANGER_MAX_DOWNLOAD_FILES"
MOST_SECONDS = "TAPCHANGER_MAX_DOWNLOAD_SECONDS"
_DEFAULTS = {MOST_BYTES: 64 << 30, MOST_FILES: 100_000, MOST_SECONDS: 1500}
_FAILURES = 6
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0


def most(name: str, environ: Mapping[str, str] = os.environ) -> int:
    """One of the limits: what its environment variable says, else the default. Raises StepError where that is no number."""
    text = environ.get(name)
    if text is None:
        return _DEFAULTS[name]
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise StepError(
            "LimitInvalid", f"{name} is {text!r}", remedy=f"write a whole number, such as {_DEFAULTS[name]}"
        )
    return int(text)


@dataclasses.dataclass
class Budget:
    """What the download of one address may still take. Times are in seconds of the monotonic clock.

    Its errors name `uri` and `field`; `reached` and `in_time` raise `DownloadTooLarge` and `DownloadTooSlow`.
    `advice` is what to do about them beside setting another limit `where`.
    """

    uri: str
    field: str
    where: str = "the Secret of model.credentials"
    advice: str = "give the checkpoint an address of its own, or "
    bytes: int = dataclasses.field(default_factory=lambda: most(MOST_BYTES))
    files: int = dataclasses.field(default_factory=lambda: most(MOST_FILES))
    seconds: int = dataclasses.field(default_factory=lambda: most(MOST_SECONDS))
    spent: int = 0
    started: float = dataclasses.field(default_factory=time.monotonic)

    def reached(self, size: int) -> None:
        """Refuses a file that has or announces `size` bytes, beside those already there."""
        if self.spent + size > self.bytes:
            raise self._over("DownloadTooLarge", f"has more than {self.bytes} bytes", MOST_BYTES)

    def spend(self, size: int) -> None:
        """Counts a complete file."""
        self.reached(size)
        self.spent += size

    def listed(self, count: int) -> None:
        """Refuses a place with too many files."""
        if count > self.files:
            raise self._over("DownloadTooLarge", f"holds more than {self.files} files", MOST_FILES)

    def in_time(self) -> float:
        """Seconds that are left."""
        left = self.started + self.seconds - time.monotonic()
        if left <= 0:
            raise self._over("DownloadTooSlow", f"took longer than {self.seconds} s", MOST_SECONDS)
        return left

    def _over(self, reason: str, what: str, setting: str) -> StepError:
        remedy = f"{self.advice}set {setting} in {self.where}"
        return StepError(reason, f"{self.uri} {what}", field=self.field, remedy=remedy)


@dataclasses.dataclass
class Patience:
    """Waits longer after each failure in a row, and gives up after the sixth with `reason`. `sleep` takes seconds."""

    budget: Budget
    sleep: Callable[[float], None] = time.sleep
    failures: int = 0
    reason: str = "DownloadFailed"
    words: str = "download broke off; going on"

    def progress(self) -> None:
        """Something arrived, so that the next failure is a first one again."""
        self.failures = 0

    def failed(self, why: str, wanted: float = 0.0) -> None:
        """Waits for the next attempt, `wanted` seconds where the server asks for more.

        Raises `reason`, for the Job to try again, when it is enough.
        """
        self.failures += 1
        left, said = self.budget.in_time(), redacted(why)
        if self.failures >= _FAILURES:
            raise TransientStepError(
                self.reason,
                f"{self.budget.uri}: {said} ({self.failures} times in a row)",
                field=self.budget.field,
                remedy="check that the address answers from inside the cluster; it is tried again",
            )
        pause = max(_FIRST_PAUSE * 2 ** (self.failures - 1) * random.uniform(0.8, 1.2), wanted)  # noqa: S311
        log.warning(self.words, uri=self.budget.uri, error=said, attempt=self.failures)
        self.sleep(min(pause, _LONGEST_PAUSE, left))
