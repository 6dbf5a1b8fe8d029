"""How long this process's threads wanted a CPU and had none: whether a measurement had the cores to itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

TASKS = Path("/proc/self/task")


@dataclass(frozen=True, slots=True)
class Scheduled:
    """Nanoseconds that threads ran and waited for a CPU since they began (Linux, `proc_pid_schedstat`)."""

    ran: int
    waited: int

    @classmethod
    def now(cls, tasks: Path = TASKS) -> Scheduled | None:
        """The sum over this process's threads; None where the kernel doesn't tell."""
        ran = waited = 0
        seen = False
        for task in tasks.glob("*"):
            try:
                words = (task / "schedstat").read_text(encoding="ascii").split()
            except OSError:
                # A thread that has ended meanwhile, or a kernel without these figures.
                continue
            ran, waited, seen = ran + int(words[0]), waited + int(words[1]), True
        return cls(ran, waited) if seen else None

    def share_since(self, before: Scheduled) -> float | None:
        """The share of waiting in the time that threads wanted a CPU, to three digits; None if they wanted none."""
        ran, waited = self.ran - before.ran, self.waited - before.waited
        return round(max(waited, 0) / (ran + waited), 3) if ran + waited > 0 else None
