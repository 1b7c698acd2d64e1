"""The arms of the benchmark, each a process of its own: `python arms.py ARM FOLDER`.

Prints one JSON object: `engine` (seconds without imports) and what the arm found. An arm imports
only what it needs, as imports count in the time of its process.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "workflow"))


def from_pretrained(folder: Path) -> dict[str, Any]:
    """Both models whole in float32, and torch.norm of each difference."""
    import torch

    def score(a: torch.Tensor, b: torch.Tensor) -> None:
        torch.norm(b - a).item()

    return _both_loaded(folder, score)


def from_pretrained_scores(folder: Path) -> dict[str, Any]:
    """The same, and all that the basic scores need: the base's norm and the cosine."""
    import torch

    def score(a: torch.Tensor, b: torch.Tensor) -> None:
        torch.norm(b - a).item(), torch.norm(a).item()
        torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0).item()

    return _both_loaded(folder, score)


def _both_loaded(folder: Path, score: Callable[[Any, Any], None]) -> dict[str, Any]:
    import torch
    from transformers import Qwen2ForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    start = time.perf_counter()
    base, tuned = (
        Qwen2ForCausalLM.from_pretrained(folder / side, dtype=torch.float32).state_dict()
        for side in ("base", "tuned")
    )
    for name, before in base.items():
        if name != "lm_head.weight":
            score(before, tuned[name])
    return {"engine": time.perf_counter() - start}


def lazy(folder: Path) -> dict[str, Any]:
    """A tensor at a time through safetensors, the same four scores in float32."""
    import torch
    from safetensors import safe_open

    start = time.perf_counter()
    with (
        safe_open(folder / "base" / "model.safetensors", "pt") as base,
        safe_open(folder / "tuned" / "model.safetensors", "pt") as tuned,
    ):
        for name in base.keys():  # noqa: SIM118 (no mapping)
            a, b = base.get_tensor(name).float(), tuned.get_tensor(name).float()
            l2, base_l2 = torch.norm(b - a).item(), torch.norm(a).item()
            _ = l2 / base_l2, l2 / a.numel() ** 0.5
            torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0).item()
    return {"engine": time.perf_counter() - start}


def _jobs(folder: Path, contract: str) -> list[Any]:
    from affectlocus.checkpoints.tensor_files import Tensors
    from affectlocus.deltas.measure import DeltaJob

    base, tuned = (Tensors([folder / side / "model.safetensors"]) for side in ("base", "tuned"))
    everything = contract == "whole"
    jobs = []
    for name in base.names():
        neurons = "rows" if name.endswith(("gate_proj.weight", "up_proj.weight")) else None
        if name.endswith("down_proj.weight"):
            neurons = "columns"
        jobs.append(
            DeltaJob(
                name,
                base.part(name),
                tuned.part(name),
                whole=contract != "basic",
                histogram=everything,
                neurons=neurons if everything else None,
            )
        )
    return jobs


def _measured(folder: Path, contract: str) -> dict[str, Any]:
    from affectlocus.deltas.measure import measure_all

    # The compiled loops are loaded, as imports are, with the first tensor: here a small one.
    next(measure_all([_smallest(folder)]))
    start = time.perf_counter()
    found = [sums.scores()["l2"] for _, sums in measure_all(_jobs(folder, contract))]
    return {"engine": time.perf_counter() - start, "tensors": len(found)}


def _smallest(folder: Path) -> Any:
    return min(_jobs(folder, "whole"), key=lambda job: job.base.numel)


def first_use(folder: Path) -> dict[str, Any]:
    """affectlocus: a small tensor, where no other process has compiled its loops before."""
    with tempfile.TemporaryDirectory() as empty:
        os.environ["NUMBA_CACHE_DIR"] = empty
        start = time.perf_counter()
        from affectlocus.deltas.measure import measure_all

        next(measure_all([_smallest(folder)]))
        return {"engine": time.perf_counter() - start}


def basic(folder: Path) -> dict[str, Any]:
    """affectlocus: L2, relative, RMS and cosine of every tensor."""
    return _measured(folder, "basic")


def scores(folder: Path) -> dict[str, Any]:
    """affectlocus: with mean, deviation, largest entry and dtype floor."""
    return _measured(folder, "scores")


def whole(folder: Path) -> dict[str, Any]:
    """affectlocus: with histograms of every tensor and norms of every FFN neuron."""
    return _measured(folder, "whole")


def accuracy(folder: Path) -> dict[str, Any]:
    """Largest relative errors over all tensors, against sums in float64."""
    import torch

    from affectlocus.checkpoints.tensor_files import Tensors
    from affectlocus.deltas.measure import measure_all

    base, tuned = (Tensors([folder / side / "model.safetensors"]) for side in ("base", "tuned"))
    start = time.perf_counter()
    found = {}
    worst: dict[str, float] = {}
    for name, sums in measure_all(_jobs(folder, "scores")):
        found[name] = sums.scores()
    torch_norm = {}
    for name, ours in found.items():
        exact = _exact(base.part(name), tuned.part(name))
        for score, value in exact.items():
            error = abs(ours[score] / value - 1)
            worst[score] = max(worst.get(score, 0.0), error)
        size = base.part(name).numel
        if size not in torch_norm:
            delta = tuned.tensor(name).float().sub_(base.tensor(name))
            torch_norm[size] = abs(torch.norm(delta).item() / exact["l2"] - 1)
            del delta
    return {"engine": time.perf_counter() - start, "ours": worst, "torch_norm": torch_norm}


def _exact(base: Any, tuned: Any) -> dict[str, float]:
    """The scores in float64; the cosine's distance from the chord between the unit vectors."""
    import torch

    piece = 1 << 20
    space = torch.empty(2, piece, dtype=torch.float64)
    a, b = space
    into, other = space.numpy()
    n, aa, bb, dd, d, largest, floor = base.numel, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    eps = torch.finfo(getattr(torch, tuned.dtype)).eps
    for start in range(0, n, piece):
        size = min(piece, n - start)
        x, y = a[:size], b[:size]
        base.read(start, start + size, into[:size])
        tuned.read(start, start + size, other[:size])
        aa, bb = aa + float(x @ x), bb + float(y @ y)
        change = y - x
        dd, d = dd + float(change @ change), d + float(change.sum())
        largest = max(largest, float(change.abs().max()))
        _, exponent = torch.frexp(y)
        ulp = torch.ldexp(torch.full_like(y, eps), exponent - 1)
        floor += float(torch.where(y == 0, 0.0, ulp.square()).sum()) / 12
    chord = 0.0
    for start in range(0, n, piece):
        size = min(piece, n - start)
        x, y = a[:size], b[:size]
        base.read(start, start + size, into[:size])
        tuned.read(start, start + size, other[:size])
        chord += float((x / aa**0.5 - y / bb**0.5).square().sum())
    return {
        "l2": dd**0.5,
        "base_l2": aa**0.5,
        "relative": (dd / aa) ** 0.5,
        "rms": (dd / n) ** 0.5,
        "cosine": 1 - chord / 2,
        "cosine_distance": chord / 2,
        "mean": d / n,
        "std": (dd / n - (d / n) ** 2) ** 0.5,
        "max_abs": largest,
        "dtype_floor": floor**0.5,
    }


def spectrum(folder: Path) -> dict[str, Any]:
    """affectlocus: the spectrum of each full delta, from its Gram matrix."""
    import affectlocus.checkpoints.spectra

    return _spectra(folder, affectlocus.checkpoints.spectra.full_spectrum)


def svdvals(folder: Path) -> dict[str, Any]:
    """The same from torch.linalg.svdvals of the delta in float64."""
    import torch

    from affectlocus.checkpoints.spectra import spectrum_of_values

    def exact(base: Any, tuned: Any) -> Any:
        delta = tuned.tensor().double().sub_(base.tensor())
        return spectrum_of_values(torch.linalg.svdvals(delta).numpy())

    return _spectra(folder, exact)


def _spectra(folder: Path, spectrum: Callable[[Any, Any], Any]) -> dict[str, Any]:
    from affectlocus.checkpoints.tensor_files import Tensors

    base, tuned = (Tensors([folder / side / "model.safetensors"]) for side in ("base", "tuned"))
    found = {}
    for name in base.names():
        start = time.perf_counter()
        one = spectrum(base.part(name), tuned.part(name))
        found[name] = {
            "shape": base.shape(name),
            "seconds": time.perf_counter() - start,
            "spectral_norm": one.spectral_norm,
            "stable_rank": one.stable_rank,
            "effective_rank": one.effective_rank,
        }
    return {"engine": sum(one["seconds"] for one in found.values()), "spectra": found}


def _factors(folder: Path) -> Iterator[Any]:
    from affectlocus.checkpoints.spectra import LowRank
    from affectlocus.checkpoints.tensor_files import Tensors

    stored = Tensors([folder / "adapter_model.safetensors"])
    names = [name for name in stored.names() if name.endswith("lora_A.weight")]
    for name in names:
        yield LowRank(stored.array(name), stored.array(name.replace("lora_A", "lora_B")), 2.0)


def lora_norms(folder: Path) -> dict[str, Any]:
    """affectlocus: the L2 norm of every module from its factors."""
    import affectlocus.checkpoints.spectra  # noqa: F401 (its import is no part of the engine)
    from affectlocus.core.threads import single_threaded_blas

    start = time.perf_counter()
    with single_threaded_blas():
        norms = [delta.l2 for delta in _factors(folder)]
    return {"engine": time.perf_counter() - start, "norms": norms}


def lora_spectra(folder: Path) -> dict[str, Any]:
    """affectlocus: L2 norm and whole spectrum of every module from its factors."""
    import affectlocus.checkpoints.spectra

    start = time.perf_counter()
    found = list(affectlocus.checkpoints.spectra.low_rank_scores(_factors(folder)))
    return {"engine": time.perf_counter() - start, "norms": [one["l2"] for one, _ in found]}


def lora_product(folder: Path) -> dict[str, Any]:
    """B·A multiplied out in float32, and its torch.norm."""
    import torch
    from safetensors.torch import load_file

    start = time.perf_counter()
    stored = load_file(folder / "adapter_model.safetensors")
    norms = []
    for name in sorted(stored):
        if name.endswith("lora_A.weight"):
            b = stored[name.replace("lora_A", "lora_B")]
            norms.append(torch.norm(2.0 * (b @ stored[name])).item())
    return {"engine": time.perf_counter() - start, "norms": norms}


ARMS: dict[str, Callable[[Path], dict[str, Any]]] = {
    arm.__name__: arm
    for arm in (
        from_pretrained,
        from_pretrained_scores,
        lazy,
        basic,
        scores,
        whole,
        first_use,
        accuracy,
        spectrum,
        svdvals,
        lora_norms,
        lora_spectra,
        lora_product,
    )
}

if __name__ == "__main__":
    found = ARMS[sys.argv[1]](Path(sys.argv[2]))
    json.dump(found, sys.stdout)
