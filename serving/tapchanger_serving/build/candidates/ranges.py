"""How large the numbers in a graph get on given texts: what 8-bit formats choose their scales by."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from tapchanger_serving.build.exported import save_graph
from tapchanger_serving.engines.text import Tensors

_BINS = 2048
_TRIED = 128


@dataclass(frozen=True, slots=True)
class Spread:
    """The magnitudes of one tensor: how many fall into each of equal bins from 0 to `largest`."""

    largest: float
    counts: npt.NDArray[np.int64]

    def clip(self, levels: int) -> float:
        """The magnitude at which `levels` equal steps on each side of 0 lose least: where the mean square error is smallest.

        A number inside is off by a uniform rounding error, whose variance is step² / 12 (Bennett, "Spectra of quantized
        signals", 1948); one outside by its distance to the edge.
        """
        width = self.largest / len(self.counts)
        centers = (np.arange(len(self.counts)) + 0.5) * width
        edges = self.largest * np.arange(1, _TRIED + 1) / _TRIED
        outside = np.maximum(centers[None, :] - edges[:, None], 0.0)
        rounding = (edges[:, None] / levels) ** 2 / 12
        errors = np.where(outside > 0, outside**2, rounding) @ self.counts
        return float(edges[int(np.argmin(errors))])


def spreads(graph: Path, tensors: Sequence[str], samples: Sequence[Tensors], work: Path) -> dict[str, Spread]:
    """The spread of each of the graph's `tensors` over the samples. `work` has room for a copy of the graph.

    Raises ValueError when a tensor isn't finite on some text, as half-precision graphs of some models are.
    """
    with tempfile.TemporaryDirectory(dir=work) as folder:
        return _spreads(_watched(graph, tensors, Path(folder)), samples)


def _spreads(watched: _Watched, samples: Sequence[Tensors]) -> dict[str, Spread]:
    tensors = watched.tensors
    largest = dict.fromkeys(tensors, 0.0)
    for values in watched.run(samples):
        for name, tensor in values.items():
            # NumPy's maximum, unlike Python's, doesn't lose what is not a number.
            largest[name] = float(np.maximum(largest[name], np.max(tensor)))
    unfit = sorted(name for name, most in largest.items() if not np.isfinite(most))
    if unfit:
        raise ValueError(
            f"{watched.file.name}: tensor {unfit[0]} is not finite on the calibration texts; use another precision"
        )
    # A tensor of zeros still needs a range.
    tops = {name: most or 1.0 for name, most in largest.items()}
    counts = {name: np.zeros(_BINS, dtype=np.int64) for name in tensors}
    for values in watched.run(samples):
        for name, tensor in values.items():
            counts[name] += np.histogram(tensor, bins=_BINS, range=(0.0, tops[name]))[0]
    return {name: Spread(tops[name], counts[name]) for name in tensors}


@dataclass(frozen=True)
class _Watched:
    """A session whose outputs are the watched tensors; the tensors are alive for one sample only."""

    file: Path
    tensors: tuple[str, ...]

    def run(self, samples: Sequence[Tensors]) -> Iterable[Mapping[str, npt.NDArray[np.float32]]]:
        """The magnitudes of all tensors, sample by sample."""
        import onnxruntime as ort

        session = ort.InferenceSession(str(self.file), providers=["CPUExecutionProvider"])
        names = [given.name for given in session.get_inputs()]
        for sample in samples:
            outputs = session.run(list(self.tensors), {name: sample[name] for name in names})
            yield {name: np.abs(output.astype(np.float32)) for name, output in zip(self.tensors, outputs, strict=True)}


def _watched(graph: Path, tensors: Sequence[str], work: Path) -> _Watched:
    model = onnx.load(graph)
    known = {output.name for output in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors if name not in known)
    target = work / graph.name
    save_graph(model, target)
    return _Watched(target, tuple(tensors))
