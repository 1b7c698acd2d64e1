"""LoRA adapters on one model: y + alpha / r · B·A·x (Hu et al. 2022), several at once.

peft draws the factors and defines the files; the model's own modules stay as they are. A hook on
each adapted module adds the adapters' output. With n adapters and B
samples, a batch has n·B rows: the first B belong to the first adapter, the next B to the second.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file
from transformers import PreTrainedModel

from affectlocus.core.files import read_json, write_json
from affectlocus.training.training_run import Slot

_PREFIX, _A, _B = "base_model.model.", ".lora_A.weight", ".lora_B.weight"  # in peft's files


class AdapterStack:
    """Adapters on one model, with the same rank, scaling and dropout; their modules may differ.

    Args:
        model: its parameters are frozen.
        configs: the configuration of each adapter.
        seed: the seed of the factors A. An adapter has the same factors alone and in a stack.
    """

    def __init__(self, model: PreTrainedModel, configs: Sequence[LoraConfig], seed: int) -> None:
        self._count = len(configs)
        self._configs: list[LoraConfig] = []
        # Adapter → name of a factor → its values.
        drawn: list[dict[str, torch.Tensor]] = []
        for config in configs:
            torch.manual_seed(seed)
            with warnings.catch_warnings():
                # peft calls a method that transformers will rename.
                warnings.simplefilter("ignore", FutureWarning)
                adapted = get_peft_model(model, config)
            factors = get_peft_model_state_dict(adapted)
            drawn.append({name: factor.detach().clone() for name, factor in factors.items()})
            self._configs.append(adapted.peft_config["default"])
            adapted.unload()
        model.requires_grad_(False)
        self.slots: list[dict[str, Slot]] = [{} for _ in configs]
        modules = dict(model.named_modules())
        names = dict.fromkeys(name for factors in drawn for name in factors)
        self._handles = [
            modules[name.removeprefix(_PREFIX).removesuffix(_A)].register_forward_hook(
                self._hook(name.removesuffix(_A), drawn)
            )
            for name in names
            if name.endswith(_A)
        ]
        # Each adapter keeps its own order: the norm of its gradient is summed in this order.
        self.slots = [
            {name: slots[name] for name in factors}
            for slots, factors in zip(self.slots, drawn, strict=True)
        ]

    def _hook(self, stem: str, drawn: Sequence[dict[str, torch.Tensor]]) -> Any:
        """The hook of a module, with the stacked factors of the adapters that adapt it."""
        owners = [number for number, factors in enumerate(drawn) if stem + _A in factors]
        stacked = []
        for suffix in (_A, _B):
            rows = torch.stack([drawn[owner][stem + suffix] for owner in owners])
            stacked.append(torch.nn.Parameter(rows))
            for row, owner in enumerate(owners):
                self.slots[owner][stem + suffix] = Slot(stacked[-1], row)
        a, b = stacked  # (owners, r, d_in), (owners, d_out, r)
        config = self._configs[owners[0]]
        scale, dropout, count = config.lora_alpha / config.r, config.lora_dropout, self._count
        some = None if len(owners) == count else torch.tensor(owners, device=a.device)

        def add(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> Any:
            x = inputs[0].to(a.device, a.dtype).reshape(count, -1, a.shape[2])
            if some is not None:
                x = x.index_select(0, some)
            if dropout:
                x = torch.nn.functional.dropout(x, dropout)
            delta = torch.bmm(torch.bmm(x, a.transpose(1, 2)), b.transpose(1, 2))
            y = output.reshape(count, -1, b.shape[1])
            if some is None:
                y = torch.add(y, delta, alpha=scale)
            else:
                y = y.to(delta.dtype).index_add(0, some, delta, alpha=scale)
            return y.to(output.dtype).view(output.shape)

        return add

    def save(self, number: int, folder: Path) -> None:
        """Writes an adapter's factors and configuration into a folder, as peft does."""
        folder.mkdir(parents=True, exist_ok=True)
        factors = {
            name: slot.of(slot.parameter.detach()).cpu().clone()
            for name, slot in self.slots[number].items()
        }
        save_file(factors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
        config = copy.copy(self._configs[number])
        config.inference_mode = True
        config.save_pretrained(folder)
        # peft writes target_modules, a set, in an order that differs between runs.
        file = folder / "adapter_config.json"
        stored = read_json(file)
        write_json(file, stored | {"target_modules": sorted(stored["target_modules"])})

    def close(self) -> None:
        """Removes the adapters from the model."""
        for handle in self._handles:
            handle.remove()
