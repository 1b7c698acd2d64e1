"""The bridge of a multimodal model of transformers while it is tuned: a part of the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel

from affectlocus.checkpoints.native_models import NativeModel
from affectlocus.core.errors import InputError
from affectlocus.core.files import read_json, write_json
from affectlocus.training.training_run import Slot
from affectlocus.training.tuned_bridge import PREFIX

_FILE, _CONFIG = "adapter_model.safetensors", "adapter_config.json"


class NativeBridge:
    """The projector of a model, which is trained in place, and put back by `close`.

    It trains in float32. In a model of another dtype its modules convert what they read and give,
    and its weights are saved in that dtype.

    Attributes:
        module: the modules of the bridge.
        frozen: the encoders, which stay as in evaluation.
        slots: name → trained tensor.

    Raises:
        InputError: the model has no module of this region.
    """

    def __init__(self, model: PreTrainedModel, native: NativeModel) -> None:
        modules = dict(model.named_modules())
        starts = {
            region: [start[:-1] for start in native.starts[region] if start[:-1] in modules]
            for region in ("bridge", "encoder")
        }
        self._names: list[str] = starts["bridge"]
        if not self._names:
            raise InputError(
                "native.no-bridge",
                f"a model of type {native.model_type} without a module of its bridge "
                f"({', '.join(native.starts['bridge'])}); bring the tuned checkpoint instead",
                found=native.model_type,
            )
        self.module = nn.ModuleList([modules[name] for name in self._names])
        self.frozen = tuple(modules[name] for name in starts["encoder"])
        self._stored = model.dtype
        self._before = {name: one.detach().clone() for name, one in self._parameters()}
        self._handles: list[Any] = []
        if self._stored != torch.float32:
            for one in self.module:
                one.float()
                self._handles += [
                    one.register_forward_pre_hook(_in_float32),
                    one.register_forward_hook(self._in_stored_dtype),
                ]
        self.module.requires_grad_(True)
        self.slots = {f"{PREFIX}{name}": Slot(one) for name, one in self._parameters()}

    def _parameters(self) -> list[tuple[str, nn.Parameter]]:
        """The bridge's parameters by their names in the model."""
        return [
            (f"{name}.{own}", one)
            for name, module in zip(self._names, self.module, strict=True)
            for own, one in module.named_parameters()
        ]

    def _in_stored_dtype(self, _: nn.Module, __: Any, output: torch.Tensor) -> torch.Tensor:
        return output.to(self._stored)

    def save(self, folder: Path) -> None:
        """Adds the bridge to the adapter in a folder, as peft saves `modules_to_save`.

        A folder with a whole model has it already. Without an adapter, one of the bridge alone is
        written.
        """
        if (folder / "config.json").is_file():
            return
        folder.mkdir(parents=True, exist_ok=True)
        tensors: dict[str, torch.Tensor] = {}
        if (folder / _FILE).is_file():
            tensors = load_file(folder / _FILE)
        else:
            LoraConfig(
                r=1, target_modules=[], inference_mode=True, task_type="CAUSAL_LM"
            ).save_pretrained(folder)
            settings = read_json(folder / _CONFIG)
            write_json(folder / _CONFIG, settings | {"target_modules": []})
        for name, one in self._parameters():
            value = one.detach().to(self._stored).cpu().clone()
            tensors[f"base_model.model.{name}"] = value
        save_file(tensors, folder / _FILE, metadata={"format": "pt"})
        settings = read_json(folder / _CONFIG)
        write_json(folder / _CONFIG, settings | {"modules_to_save": self._names})

    @torch.no_grad()
    def close(self) -> None:
        """Gives the model its own bridge back."""
        for handle in self._handles:
            handle.remove()
        self.module.requires_grad_(False).to(self._stored)
        for name, one in self._parameters():
            one.copy_(self._before[name])


def _in_float32(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(
        one.float() if isinstance(one, torch.Tensor) and one.is_floating_point() else one
        for one in inputs
    )
