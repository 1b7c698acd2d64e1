"""The modules of a loaded model that compute the seven projections."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from transformers import PreTrainedModel

from affectlocus.checkpoints.architectures import Rows, parts
from affectlocus.core.projections import Location


def linear_projections(
    model: PreTrainedModel,
) -> Iterator[tuple[Location, torch.nn.Module, Rows | None]]:
    """Each projection's location, its module, and its rows in the module's output (None: all).

    Experts of a mixture are left out: they are one parameter, which no hook reaches.
    """
    config = model.config.to_dict()
    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if not isinstance(weight, torch.Tensor) or weight.dim() != 2:
            continue
        for location, rows in parts(f"{name}.weight", len(weight), config):
            if location.expert is None:
                yield location, module, rows
