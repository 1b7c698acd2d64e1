"""Step `ledger`: the exact cost of tuning a module set, computed without tuning.

LoRA of rank r on a matrix (d_out, d_in) trains r · (d_in + d_out) parameters (Hu et al. 2022). GET
(the paper's Algorithm 1) is LoRA on gate alone. There are several conventions for the share of a
module set; the ledger reports all of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import pandas as pd

from affectlocus.config.bridges import BridgeConfig
from affectlocus.core.errors import InputError
from affectlocus.core.projections import ALL, PROJECTIONS
from affectlocus.training.lora_targets import Layout, Target, fair_rank, lora_parameters

STRATEGIES = {"gate": "GET"}
"""Module set → the paper's name of the strategy."""

SETS = (ALL, *PROJECTIONS, "o+gate", "q+k+v+o", "q+k+v+o+gate")
"""The module sets of a ledger by default."""

Others = Mapping[str, Mapping[str, int]]
"""Group → part → parameters: the parts that are trained in addition to the language model."""

UNTRAINED = frozenset({"image_llama_proj"})
"""Parts that a checkpoint holds though they were not trained: AffectGPT's map of single images."""

_FLOAT = 4  # bytes; peft and `tune` store adapters in float32 for a base of any dtype
_MOMENTS = 2  # AdamW's running means of gradients and of their squares


def affectgpt(hidden_size: int) -> Others:
    """The parts that AffectGPT trains in addition to its LoRA, for a language model of this width.

    They are linear maps with a bias: from the widths of CLIP (768) and HuBERT (1024) to the
    language model, and the block that fuses both encoders into one token.
    """

    def linear(inputs: int, outputs: int) -> int:
        return (inputs + 1) * outputs

    return {
        "projectors": {
            "image_llama_proj": linear(768, hidden_size),
            "affectgpt_proj": linear(768, hidden_size),
            "audio_llama_proj": linear(1024, hidden_size),
            "multi_llama_proj": linear(1024, hidden_size),
        },
        "fusion": {
            "multi_audio_embs": linear(1024, 1024),
            "multi_video_embs": linear(768, 1024),
            "attention_mlp": linear(2048, 1024),
            "fc_att": linear(1024, 2),
        },
        "pooling": {"video_attention_mlp": linear(768, 1), "audio_attention_mlp": linear(1024, 1)},
    }


def others_of(content: Any, source: str) -> Others:
    """The trained parts from a mapping of name → count, or of group → name → count.

    Raises:
        InputError: another structure, or counts that are not whole numbers.
    """
    if not isinstance(content, dict) or not content:
        raise InputError(
            "ledger.not-a-mapping",
            f"{source}: expected a mapping of part to number of parameters, or of group to such a "
            "mapping",
            file=source,
            found=content,
        )
    if any(not isinstance(value, dict) for value in content.values()):
        content = {"others": content}
    for group, parts in content.items():
        for name, count in parts.items() if isinstance(parts, dict) else [(group, parts)]:
            if isinstance(count, bool) or not isinstance(count, int) or count < 0:
                raise InputError(
                    "ledger.not-a-count",
                    f"{source}: {name} is {count!r}; expected a whole number of parameters",
                    file=source,
                    key=name,
                    found=count,
                )
    return content


def bridge_parameters(config: BridgeConfig, widths: Mapping[str, int], hidden: int) -> Others:
    """The parameters of a bridge, by the part of its module; nothing is allocated.

    Args:
        widths: medium → the width of its features.
        hidden: the width of the language model.

    Raises:
        InputError: as `lm.bridges.described`.
    """
    import torch

    from affectlocus.lm.bridges import built, described

    with torch.device("meta"):
        module = built(described(config, widths, hidden))
    counts: dict[str, int] = {}
    for name, parameter in module.named_parameters():
        part = name.rpartition(".")[0]
        counts[part] = counts.get(part, 0) + parameter.numel()
    return {"bridge": counts}


def trained_count(others: Others | None) -> int:
    """The number of parameters that are trained in addition to the language model."""
    parts = [part for group in (others or {}).values() for part in group.items()]
    return sum(count for name, count in parts if name not in UNTRAINED)


def optimizer_bytes(parameters: int, tensors: int) -> int:
    """Bytes of AdamW's state: two float32 moments per parameter, one float32 step per tensor."""
    return _MOMENTS * _FLOAT * parameters + _FLOAT * tensors


def adapter_bytes(targets: Sequence[Target], rank: int) -> int:
    """Bytes of the adapter_model.safetensors that peft saves: 8, the header, and the factors.

    The header is one line of JSON with the tensors sorted by name, padded with spaces to a multiple
    of 8 bytes.
    """
    shapes = {}
    for target in targets:
        (d_out, d_in), stem = target.shape, f"base_model.model.{target.name}"
        shapes[f"{stem}.lora_A.weight"] = (rank, d_in)
        shapes[f"{stem}.lora_B.weight"] = (d_out, rank)
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in sorted(shapes):
        start, end = end, end + _FLOAT * shapes[name][0] * shapes[name][1]
        header[name] = {"dtype": "F32", "shape": shapes[name], "data_offsets": [start, end]}
    line = len(json.dumps(header, separators=(",", ":")))
    return 8 + -(-line // 8) * 8 + end


def shares(chosen: int, whole: int, others: Others | None = None) -> dict[str, float]:
    """The share of a module set in percent, in every convention.

    Args:
        chosen: LoRA parameters of the module set.
        whole: LoRA parameters of all seven projections.
        others: other parts that are trained in both cases.

    Returns:
        `share` = chosen / whole. With `others` also `share_of_saved` = chosen / (whole + others);
        `share_of_trained`, the same without the `UNTRAINED` parts; `share_plus_others` = (chosen +
        others) / (whole + others); and, with several groups, for each group `share_plus_GROUP` =
        (chosen + group) / (whole + others).
    """
    found = {"share": 100 * chosen / whole}
    if others:
        sums = {group: sum(parts.values()) for group, parts in others.items()}
        saved = whole + sum(sums.values())
        parts = [part for group in others.values() for part in group.items()]
        trained = saved - sum(count for name, count in parts if name in UNTRAINED)
        found["share_of_trained"] = 100 * chosen / trained
        found["share_of_saved"] = 100 * chosen / saved
        found["share_plus_others"] = 100 * (chosen + sum(sums.values())) / saved
        if len(sums) > 1:
            for group, count in sums.items():
                found[f"share_plus_{group}"] = 100 * (chosen + count) / saved
    return found


def ledger(
    layout: Layout,
    sets: Iterable[str],
    rank: int,
    method: Literal["lora", "sft"] = "lora",
    others: Others | None = None,
) -> pd.DataFrame:
    """The ledger of a model: a row per module set and budget.

    Returns:
        `model`, `modules`, `strategy` (GET, or empty), `method`, `budget` (equal rank: every set at
        `rank`; equal parameters: every set at its `fair_rank`; empty for sft), `rank`, `parameters`
        (trained), `bridge` (trained in addition; only with `others`), the `shares` relative to all
        seven projections at `rank`, `share_of_model` (percent of the base's parameters),
        `beyond_full_rank` (whether the rank exceeds the full rank of a matrix), `optimizer_bytes`,
        and `adapter_bytes` (empty for sft, which saves a model).

    Raises:
        InputError: a module set that LoRA cannot be applied to.
    """
    rows = []
    for modules in dict.fromkeys(sets):
        targets = layout.of(modules)
        if method == "sft":
            rows.append(_sft(layout, modules, targets, others))
            continue
        ranks = {"equal rank": rank}
        if layout.has(ALL):
            ranks["equal parameters"] = fair_rank(layout, modules, rank)
        for budget, r in ranks.items():
            parameters = lora_parameters(layout, modules, r)
            rows.append(
                _row(layout, modules, method, budget, parameters, 2 * len(targets))
                | {
                    "rank": r,
                    "beyond_full_rank": any(r > min(target.shape) for target in targets),
                    "adapter_bytes": adapter_bytes(targets, r),
                }
                | (
                    shares(parameters, lora_parameters(layout, ALL, rank), others)
                    if layout.has(ALL)
                    else {}
                )
            )
    frame = pd.DataFrame(rows)
    first = ["model", "modules", "strategy", "method", "budget", "rank", "parameters"]
    if others:
        frame["bridge"] = trained_count(others)
        first.append("bridge")
    last = ["share_of_model", "beyond_full_rank", "optimizer_bytes", "adapter_bytes"]
    middle = [name for name in frame.columns if name.startswith("share") and name not in last]
    return frame.reindex(columns=[*first, *middle, *last]).astype(
        {"rank": "Int64", "adapter_bytes": "Int64", "beyond_full_rank": "boolean"}
    )


def _row(
    layout: Layout, modules: str, method: str, budget: str, parameters: int, tensors: int
) -> dict[str, Any]:
    lora = method == "lora"
    return {
        "model": layout.name,
        "modules": modules,
        "strategy": STRATEGIES.get(modules, "") if lora else "",
        "method": method,
        "budget": budget,
        "parameters": parameters,
        "share_of_model": 100 * parameters / layout.parameters,
        "optimizer_bytes": optimizer_bytes(parameters, tensors),
    }


def _sft(
    layout: Layout, modules: str, targets: list[Target], others: Others | None
) -> dict[str, Any]:
    """The row of full tuning of the set's weights and biases, with all other parameters frozen."""
    parameters, tensors = _full_counts(targets)
    row = _row(layout, modules, "sft", "", parameters, tensors)
    if not layout.has(ALL):
        return row
    return row | shares(parameters, _full_counts(layout.of(ALL))[0], others)


def _full_counts(targets: list[Target]) -> tuple[int, int]:
    """Numbers of parameters and of tensors of targets, weights and biases."""
    parameters = sum(target.weights + target.bias for target in targets)
    return parameters, len(targets) + sum(target.bias > 0 for target in targets)
