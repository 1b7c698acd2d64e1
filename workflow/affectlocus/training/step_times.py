"""Measures the time of a tuning step, and the bytes of AdamW's state and of a saved adapter.

The measurements use a stand-in: a small model of the same architecture and proportions, with random
weights. Absolute times mean little; the ratio of a module set to all seven projections, timed in
turns on the same model, does.
"""

from __future__ import annotations

import copy
import math
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig

from affectlocus.core.errors import InputError
from affectlocus.core.projections import ALL
from affectlocus.training.lora_targets import Layout, layout

WIDTH, LAYERS, VOCABULARY = 256, 4, 1024
"""Upper limits of a stand-in."""


def stand_in(config: PretrainedConfig) -> PretrainedConfig:
    """A configuration of the same class and proportions, of at most `WIDTH` and `LAYERS`.

    Raises:
        InputError: a configuration that lacks the usual names of heads and widths.
    """
    text = config.get_text_config()
    try:
        factor = max(1, math.ceil(text.hidden_size / WIDTH))
        kv = max(1, (text.num_key_value_heads or text.num_attention_heads) // factor)
        heads = max(kv, text.num_attention_heads // factor // kv * kv)
        head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        width = text.hidden_size * heads // text.num_attention_heads
        layers = min(LAYERS, text.num_hidden_layers)
        changed: dict[str, Any] = text.to_dict() | {
            "hidden_size": width,
            "intermediate_size": max(1, text.intermediate_size * width // text.hidden_size),
            "num_attention_heads": heads,
            "num_key_value_heads": kv,
            "head_dim": head,
            "num_hidden_layers": layers,
            "vocab_size": min(VOCABULARY, text.vocab_size),
            "bos_token_id": None,
            "eos_token_id": None,
            "pad_token_id": None,
        }
    except AttributeError as error:
        raise InputError(
            "model.no-stand-in",
            f"{config.model_type}: cannot build a smaller model for timing ({error}); run ledger "
            "without --measure",
            found=config.model_type,
            option="--measure",
        ) from None
    if changed.get("layer_types"):
        changed["layer_types"] = changed["layer_types"][:layers]
    kind = changed.pop("model_type")
    return AutoConfig.for_model(kind, **changed)


class _Arm:
    """A copy of the stand-in with LoRA on a module set, its optimizer, and its step times."""

    def __init__(self, model: Any, targets: Layout, modules: str, rank: int) -> None:
        names = [target.name for target in targets.of(modules)]
        settings = LoraConfig(r=rank, target_modules=names, task_type="CAUSAL_LM")
        self.model = get_peft_model(copy.deepcopy(model), settings).train()
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=1e-4)
        self.seconds: list[float] = []

    def step(self, ids: torch.Tensor) -> None:
        self.model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def time_steps(self, ids: torch.Tensor, steps: int) -> None:
        """Appends the mean seconds of a step to `seconds`."""
        _synchronize(ids.device)
        begun = time.perf_counter()
        for _ in range(steps):
            self.step(ids)
        _synchronize(ids.device)
        self.seconds.append((time.perf_counter() - begun) / steps)

    @property
    def optimizer_bytes(self) -> int:
        states = (state.values() for state in self.optimizer.state.values())
        return sum(tensor.nbytes for state in states for tensor in state)

    @property
    def adapter_bytes(self) -> int:
        with tempfile.TemporaryDirectory() as folder:
            self.model.save_pretrained(folder)
            return (Path(folder) / "adapter_model.safetensors").stat().st_size


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def step_times(
    config: PretrainedConfig,
    sets: Sequence[str],
    rank: int,
    rounds: int = 11,
    steps: int = 2,
    shape: tuple[int, int] = (4, 32),
) -> pd.DataFrame:
    """Times forward, backward and AdamW step with LoRA on each module set, on a GPU if available.

    Args:
        config: the configuration of the model; its `stand_in` is measured.
        rounds: each round times every set once, in random order, after one step that is not timed.
        steps: steps of a set in a round.
        shape: (batch, tokens) of the random input.

    Returns:
        A row per set: `modules`, `rank`, `step_ms` (median over rounds), `step_ratio` (median over
        rounds of the ratio to all seven), `ratio_low` and `ratio_high` (quartiles of the ratio),
        `rounds`, `optimizer_bytes` and `adapter_bytes` (measured on the stand-in), and `layers`,
        `hidden_size` and `device` of the stand-in.
    """
    small = stand_in(config)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of transformers about its own code
        model = AutoModelForCausalLM.from_config(
            small, dtype=torch.float32, trust_remote_code=False
        )
    targets = layout(small.model_type, ((n, tuple(p.shape)) for n, p in model.named_parameters()))
    wanted = list(dict.fromkeys([ALL, *sets]))
    arms = {}
    for modules in wanted:
        arms[modules] = _Arm(model.to(device), targets, modules, rank)
    ids = torch.randint(small.vocab_size, shape, generator=torch.Generator().manual_seed(0))
    ids = ids.to(device)
    for arm in arms.values():
        arm.step(ids)
    order = np.random.default_rng(0)
    for _ in range(rounds):
        for number in order.permutation(len(wanted)):
            arms[wanted[number]].time_steps(ids, steps)
    whole = np.array(arms[ALL].seconds)
    rows = []
    for modules in wanted:
        arm = arms[modules]
        ratios = np.array(arm.seconds) / whole
        rows.append(
            {
                "modules": modules,
                "rank": rank,
                "step_ms": 1000 * float(np.median(arm.seconds)),
                "step_ratio": float(np.median(ratios)),
                "ratio_low": float(np.quantile(ratios, 0.25)),
                "ratio_high": float(np.quantile(ratios, 0.75)),
                "rounds": rounds,
                "optimizer_bytes": arm.optimizer_bytes,
                "adapter_bytes": arm.adapter_bytes,
                "layers": small.num_hidden_layers,
                "hidden_size": small.hidden_size,
                "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
            }
        )
    return pd.DataFrame(rows)
