"""Step `forecast`: measures of a base that may tell, before any tuning, where a tuning helps.

For each projection of each layer, on training samples:

- `gradient_norm`: the Frobenius norm of the gradient G of the mean loss over learned tokens.
- `adapter_gradient`: the expected norm of the gradient that a LoRA adapter of rank 1 and scaling 1
  receives at its start, where B is 0: ‖G·Aᵀ‖, with A drawn as peft draws it (uniform, variance
  1 / (3 d_in)). So it is ‖G‖ / √(3 d_in). Rank and scaling are the same for all projections.
- `feature_norm`: the mean over tokens of ‖W·x‖ / (‖W‖ · ‖x‖ / √d_in), without the bias. The
  denominator is the norm that a random x of the same length would have on average, so that 1 says
  that inputs and weights are not aligned (the normalised feature norm of PLoP, arXiv 2506.20629).
- `base_stable_rank`: ‖W‖² / σ₁² of the base's weights.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedModel

from affectlocus.checkpoints.architectures import Rows
from affectlocus.core.errors import InputError
from affectlocus.core.projections import Location
from affectlocus.lm.linear_projections import linear_projections
from affectlocus.lm.soft_tokens import model_inputs
from affectlocus.training.batches import Batch, Example, collate
from affectlocus.training.training_loop import answers_only

MEASURES = ("gradient_norm", "adapter_gradient", "feature_norm", "base_stable_rank")


@dataclass
class _Part:
    """A projection's rows in a module's weight, and sums over tokens."""

    location: Location
    module: Any  # a Linear
    rows: Rows | None
    ratios: list[torch.Tensor] = field(default_factory=list)

    def of(self, tensor: torch.Tensor) -> torch.Tensor:
        """The projection's rows of a tensor whose first axis is the weight's."""
        if self.rows is None:
            return tensor
        return torch.cat([tensor[start:stop] for start, stop in self.rows])


def forecast(
    model: PreTrainedModel,
    examples: Sequence[Example],
    batch_size: int,
    progress: Callable[[int], None] = lambda _: None,
) -> pd.DataFrame:
    """The measures of every projection.

    The gradient is that of the sum of losses over all learned tokens, divided by their number, so
    that it does not depend on the batches but for rounding.

    Args:
        model: the base; its weights are not changed.
        examples: training samples.
        batch_size: samples in one pass.
        progress: called with the number of samples done since the last call.

    Returns:
        A row per layer and projection, in the order of every table: `layer`, `projection`, and
        `MEASURES`, float64.

    Raises:
        InputError: no samples with a learned token; no dense projection; a gradient that is not
            finite.
    """
    found = _parts(model)
    weights: list[torch.Tensor] = list({id(p.module): p.module.weight for p in found}.values())
    model.requires_grad_(False)
    model.eval()
    for weight in weights:
        weight.requires_grad_(True)
    tokens = 0
    try:
        with answers_only(model) as logits_at:
            for start in range(0, len(examples), batch_size):
                chosen = examples[start : start + batch_size]
                batch = collate(chosen)
                if len(batch.targets):
                    with _recording(found, chosen, batch):
                        logits = logits_at(model_inputs(model, batch.ids), batch.places).float()
                    targets = batch.targets.to(logits.device)
                    loss = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
                    loss.backward()
                    tokens += len(targets)
                progress(len(chosen))
        if not tokens:
            raise InputError(
                "forecast.no-samples",
                "no training sample has an answer to learn; check the train split of the tasks",
            )
        return pd.DataFrame(_rows(found, tokens))
    finally:
        for weight in weights:
            weight.grad = None
            weight.requires_grad_(False)


def _parts(model: PreTrainedModel) -> list[_Part]:
    found = [_Part(*placed) for placed in linear_projections(model)]
    if not found:
        raise InputError(
            "forecast.no-dense-projection",
            f"{model.config.model_type}: no module is one of the seven projections (a mixture's "
            "experts are one parameter, which no hook reaches); expected a dense model",
            found=model.config.model_type,
        )
    return sorted(found, key=lambda part: part.location.order)


@contextlib.contextmanager
def _recording(found: list[_Part], examples: Sequence[Example], batch: Batch) -> Iterator[None]:
    """Collects the ratio of every real token, at each projection, in the passes inside."""
    lengths = torch.tensor([len(example.ids) for example in examples])
    real = torch.arange(batch.ids.shape[1])[None] < lengths[:, None]  # (B, T)
    by_module: dict[Any, list[_Part]] = {}
    for part in found:
        by_module.setdefault(part.module, []).append(part)

    def listen(module: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        with torch.no_grad():
            at = real.to(output.device)
            x, y = inputs[0][at].float(), output[at]  # (tokens, d_in), (tokens, d_out)
            if module.bias is not None:
                y = y - module.bias
            length = x.norm(dim=1)
            for part in by_module[module]:
                weight = part.of(module.weight).float()
                scale = torch.linalg.matrix_norm(weight) * length / weight.shape[1] ** 0.5
                part.ratios.append((part.of(y.T).float().norm(dim=0) / scale).cpu())

    handles = [module.register_forward_hook(listen) for module in by_module]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _rows(found: list[_Part], tokens: int) -> Iterator[dict[str, Any]]:
    for part in found:
        grad = part.module.weight.grad
        assert isinstance(grad, torch.Tensor)
        # Rows first: a norm over a large float32 tensor on a CPU is inaccurate.
        norm = float(part.of(grad).float().norm(dim=1).double().norm()) / tokens
        if not np.isfinite(norm):
            raise InputError(
                "forecast.gradient-not-finite",
                f"layer {part.location.layer}, {part.location.projection}: the gradient of the "
                "base's loss is not finite; check its weights",
                layer=part.location.layer,
                projection=part.location.projection,
            )
        weight = part.of(part.module.weight.detach()).float()
        values = torch.linalg.svdvals(weight).double()
        yield {
            "layer": part.location.layer,
            "projection": part.location.projection,
            "gradient_norm": norm,
            "adapter_gradient": norm / (3 * weight.shape[1]) ** 0.5,
            "feature_norm": float(torch.cat(part.ratios).double().mean()),
            "base_stable_rank": float((values / values[0]).square().sum()),
        }
