"""How many texts fit into memory at a time while a student is trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from tapchanger_serving.build.failures import DISTILL_FIELD, StepError
from tapchanger_serving.engines.cpus import CGROUP

_MEMINFO = Path("/proc/meminfo")
_SHARE = 0.7
"""Of the memory that is free; the rest is for what no formula knows."""
_TEACHER_BYTES, _STUDENT_BYTES = 4, 20
"""Per parameter in fp32: the teacher's weights; the student's weights, gradients, both moments of Adam, and the best so far."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """What memory depends on. `layers` and `parameters` are the student's."""

    teacher_parameters: int
    parameters: int
    layers: int
    hidden: int
    heads: int
    tokens: int

    @property
    def fixed_bytes(self) -> int:
        """Weights and what belongs to them."""
        return _TEACHER_BYTES * self.teacher_parameters + _STUDENT_BYTES * self.parameters

    @property
    def text_bytes(self) -> int:
        """What one text of the longest kind keeps for its gradients.

        Korthikanti et al. 2022, Reducing Activation Recomputation in Large Transformer Models, eq. 1, for twice its 16 bits.
        """
        per_layer = self.tokens * self.hidden * (34 + 5 * self.heads * self.tokens / self.hidden)
        return int(2 * self.layers * per_layer)


def texts_at_once(sizes: Sizes, batch_size: int, free_bytes: int) -> int:
    """How many texts may go through the student at a time: `batch_size`, or halved until they fit.

    Raises `DistillTooLarge` where not even one does.
    """
    left = _SHARE * free_bytes - sizes.fixed_bytes
    count = batch_size
    while count > 1 and count * sizes.text_bytes > left:
        count = (count + 1) // 2
    if count * sizes.text_bytes > left:
        needed = (sizes.fixed_bytes + sizes.text_bytes) / _SHARE
        raise StepError(
            "DistillTooLarge",
            f"training a student of {sizes.layers} layers on texts of {sizes.tokens} tokens needs some {needed / 2**30:.1f} GiB "
            f"of memory, and {free_bytes / 2**30:.1f} GiB are free",
            field=DISTILL_FIELD,
            remedy="give the build more memory (serving.template.buildResources), or lower distill.layers or shapes.maxTokens",
        )
    return count


def free_bytes(device: str, cgroup: Path = CGROUP, meminfo: Path = _MEMINFO) -> int:
    """Memory that this process may still take: on the GPU, or what machine and cgroup (version 2, then 1) leave."""
    if device == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    free = _entries(meminfo)["MemAvailable"] * 1024
    for folder, most_file, taken_file, cached in (
        (cgroup, "memory.max", "memory.current", "inactive_file"),
        (cgroup / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        most, taken = _number(folder / most_file), _number(folder / taken_file)
        if most is not None and taken is not None:
            # Files that were read count as taken, and go when memory is needed.
            reclaimable = _entries(folder / "memory.stat").get(cached, 0)
            return max(0, min(free, most - taken + reclaimable))
    return free


def _entries(path: Path) -> dict[str, int]:
    """Numbers by name, of lines such as `MemFree: 12 kB` or `inactive_file 12`."""
    try:
        lines = [line.replace(":", " ").split() for line in path.read_text(encoding="ascii").splitlines()]
    except OSError:
        return {}
    return {line[0]: int(line[1]) for line in lines if len(line) > 1 and line[1].isdigit()}


def _number(path: Path) -> int | None:
    try:
        text = path.read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
