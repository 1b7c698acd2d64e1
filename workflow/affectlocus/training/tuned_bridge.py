"""The bridge of a tuning: drawn by the seed, trained with the language model, saved beside it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from torch import nn
from transformers import PreTrainedModel

from affectlocus.checkpoints.bridge_files import BRIDGE, INITIAL, Description
from affectlocus.config.tuning import Tuning
from affectlocus.core.errors import InputError
from affectlocus.lm.bridges import described, drawn, fit_standardise, save
from affectlocus.training.batches import Example
from affectlocus.training.training_run import Slot

PREFIX = "bridge."
"""Start of the names of the bridge's tensors among the trained tensors of a run."""


@dataclass(frozen=True)
class TunedBridge:
    """The bridge of a tuning, and as it was before.

    Attributes:
        module, initial, description: None for a tuning of text.
        frozen: modules that stay as in evaluation; its encoder is no part of the model.
    """

    module: nn.Module | None = None
    initial: nn.Module | None = None
    description: Description | None = None
    frozen: tuple[nn.Module, ...] = ()

    def close(self) -> None:
        """Nothing to undo: the bridge is not a part of the model."""

    @classmethod
    def of(cls, recipe: Tuning, examples: Sequence[Example], model: PreTrainedModel) -> Self:
        """The bridge of a recipe, on the model's device.

        All tunings of a seed start from the same bridge, whatever their module sets are.

        Raises:
            InputError: the recipe has a bridge, and no sample has media; or only a bridge is tuned
                and the recipe has none.
        """
        if recipe.bridge is None:
            if recipe.modules == BRIDGE:
                raise InputError(
                    "tuning.no-bridge",
                    "modules is bridge, and the recipe has no bridge; add bridge, or name "
                    "projections",
                    key="modules",
                    found=recipe.modules,
                )
            return cls()
        first = next((one.media for one in examples if one.media), None)
        if first is None:
            raise InputError(
                "tuning.no-media",
                f"the recipe has a bridge, and no sample of {', '.join(recipe.data)} has media; "
                "give the features of a task with media, or remove bridge",
                key="bridge",
                found=list(recipe.data),
            )
        widths = {name: one.shape[1] for name, one in first.items()}
        embeddings = model.get_input_embeddings().weight
        description = described(recipe.bridge, widths, embeddings.shape[1])
        initial = drawn(description, recipe.seed)
        fit_standardise(initial, [one.media or {} for one in examples])
        module = copy.deepcopy(initial).to(embeddings.device)
        return cls(module.train(), initial, description)

    @property
    def slots(self) -> dict[str, Slot]:
        """The trained tensors of the bridge; empty for text."""
        if self.module is None:
            return {}
        return {f"{PREFIX}{name}": Slot(one) for name, one in self.module.named_parameters()}

    def save(self, folder: Path) -> None:
        """Writes the bridge, and as it was before, into a folder; nothing for text."""
        if self.module is None or self.initial is None or self.description is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        save(self.module, self.description, folder)
        save(self.initial, self.description, folder, INITIAL)
