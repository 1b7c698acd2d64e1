"""Architectures as data: the projections that a stored tensor holds, and the rows of each.

To support another layout, add its modules to `MODULES` (the name below `layers.N.`, and the
projections in the order of the tensor's rows). Add a line to the table in
tests/unit/test_architectures.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from affectlocus.core.errors import InputError
from affectlocus.core.model_config import language_model_config
from affectlocus.core.projections import Location

Rows = tuple[tuple[int, int], ...]
"""Ranges (start, stop) of a tensor's first axis, in the order of the projection's rows."""


@dataclass(frozen=True)
class Module:
    """The projections in a module's weight (d_out, d_in): one, or several stacked by rows."""

    projections: tuple[str, ...]
    # Rows are ordered by key-value head: the query heads, the key and the value of each.
    grouped: bool = False


MODULES: dict[str, Module] = {
    # Qwen 2, 2.5 and 3, LLaMA, Mistral, Gemma
    "self_attn.q_proj": Module(("q",)),
    "self_attn.k_proj": Module(("k",)),
    "self_attn.v_proj": Module(("v",)),
    "self_attn.o_proj": Module(("o",)),
    "mlp.gate_proj": Module(("gate",)),
    "mlp.up_proj": Module(("up",)),
    "mlp.down_proj": Module(("down",)),
    # Phi-3
    "self_attn.qkv_proj": Module(("q", "k", "v")),
    "mlp.gate_up_proj": Module(("gate", "up")),
    # LFM2
    "self_attn.out_proj": Module(("o",)),
    # RecurrentGemma
    **{f"temporal_block.{name}_proj": Module((name,)) for name in ("q", "k", "v", "o")},
    **{f"mlp_block.{name}_proj": Module((name,)) for name in ("gate", "up", "down")},
    # InternLM2; Meta's own LLaMA files use the same names for feed-forward and output
    "attention.wqkv": Module(("q", "k", "v"), grouped=True),
    "attention.wq": Module(("q",)),
    "attention.wk": Module(("k",)),
    "attention.wv": Module(("v",)),
    "attention.wo": Module(("o",)),
    "feed_forward.w1": Module(("gate",)),
    "feed_forward.w3": Module(("up",)),
    "feed_forward.w2": Module(("down",)),
    # Mixtures of experts: Qwen and DeepSeek with shared experts, Mixtral
    **{
        f"{block}.{name}_proj": Module((name,))
        for block in (
            *("mlp.experts", "feed_forward.experts", "block_sparse_moe.experts", "experts"),
            *("feed_forward", "feed_forward.shared_expert", "mlp.shared_mlp"),
        )
        for name in ("gate", "up", "down")
    },
    # Shared experts of Granite
    "shared_mlp.input_linear": Module(("gate", "up")),
    "shared_mlp.output_linear": Module(("down",)),
    # LFM2
    "feed_forward.experts.w1": Module(("gate",)),
    "feed_forward.experts.w3": Module(("up",)),
    "feed_forward.experts.w2": Module(("down",)),
    "mlp.shared_expert.gate_proj": Module(("gate",)),
    "mlp.shared_expert.up_proj": Module(("up",)),
    "mlp.shared_expert.down_proj": Module(("down",)),
    "mlp.shared_experts.gate_proj": Module(("gate",)),
    "mlp.shared_experts.up_proj": Module(("up",)),
    "mlp.shared_experts.down_proj": Module(("down",)),
    "block_sparse_moe.experts.w1": Module(("gate",)),
    "block_sparse_moe.experts.w3": Module(("up",)),
    "block_sparse_moe.experts.w2": Module(("down",)),
}

# The layers of the language model, with any prefix of a wrapper.
_LAYER = re.compile(r"(?P<prefix>(?:.*\.)?)layers\.(?P<layer>\d{1,9})\.(?P<module>.+)")
_EXPERT = re.compile(
    r"(?:^|\.)(?:experts\.(?P<number>\d+)|(?P<shared>shared_(?:experts?|mlp)))(?=\.)"
)

# Parts outside the language model that have layers of the same names: encoders, resamplers and
# speech generators of a multimodal model, and the head for multi-token prediction (mtp).
_OTHER_TOWERS = frozenset(
    (
        *("vision_tower", "vision_model", "visual", "image_encoder", "visual_encoder"),
        *("vision_encoder", "vision_backbone", "image_tower", "video_tower", "video_encoder"),
        *("audio_tower", "audio_model", "audio_encoder", "acoustic_encoder", "audio_backbone"),
        *("speech_encoder", "speech_tower", "whisper", "whisper_model", "clip", "clip_model"),
        *("qformer", "Qformer", "vpm", "apm", "resampler", "perceiver", "perceiver_resampler"),
        *("talker", "token2wav", "tts", "mtp", "img_processor", "embed_tokens_extend"),
    )
)


@dataclass(frozen=True)
class Place:
    """A stored tensor's place in the network: module, layer, expert, and weight or bias."""

    module: Module
    layer: int
    parameter: str
    expert: str | None


# Modules that only a layer for multi-token prediction has, which joins a token and a hidden state.
_MTP = frozenset(("mtp", "eh_proj", "enorm", "hnorm", "shared_head"))


def in_other_tower(name: str) -> bool:
    """Whether a tensor is in an encoder or another part outside the language model, by its name."""
    words = name.split(".")
    return not _OTHER_TOWERS.isdisjoint(words) or any(word.startswith("mtp_") for word in words)


def is_mtp_module(module: str) -> bool:
    """Whether a module, named below its layer or the model, is for multi-token prediction."""
    first = module.partition(".")[0]
    return first in _MTP or first.startswith("mtp_")


def place(tensor_name: str) -> Place | None:
    """A tensor's place in the network, from its name; None outside the seven projections."""
    name, _, parameter = tensor_name.rpartition(".")
    match = _LAYER.fullmatch(name)
    if match is None or parameter not in ("weight", "bias"):
        return None
    if in_other_tower(match["prefix"]):
        return None
    expert = _EXPERT.search(match["module"])
    plain = match["module"]
    if expert is not None and expert["number"] is not None:
        plain = plain.replace(f"experts.{expert['number']}", "experts", 1)
    module = MODULES.get(plain)
    if module is None:
        return None
    return Place(
        module,
        int(match["layer"]),
        parameter,
        None if expert is None else expert["number"] or "shared",
    )


def locate(tensor_name: str) -> Location | None:
    """The location of a tensor that holds exactly one projection; None for any other tensor."""
    found = place(tensor_name)
    if found is None or len(found.module.projections) > 1:
        return None
    return Location(found.layer, found.module.projections[0], found.parameter, found.expert)


def parts(
    tensor_name: str, rows: int, config: dict[str, Any] | None
) -> list[tuple[Location, Rows | None]]:
    """The projections in a stored tensor, and the rows of each (None: all rows).

    Args:
        rows: the size of the tensor's first axis.
        config: the model's config.json, for the numbers of heads; None if it has none.

    Raises:
        InputError: the configuration does not say how to split a fused tensor.
    """
    found = place(tensor_name)
    if found is None:
        return []
    names = found.module.projections
    if len(names) == 1:
        split: Iterable[Rows | None] = [None]
    elif names == ("gate", "up"):
        if rows % 2:
            raise InputError(
                "model.odd-gate-up",
                f"{tensor_name} has {rows} rows; expected an even number, gate first and then up",
                tensor=tensor_name,
                found=rows,
            )
        split = [((0, rows // 2),), ((rows // 2, rows),)]
    else:
        split = _heads(tensor_name, rows, config, found.module.grouped)
    return [
        (Location(found.layer, name, found.parameter, found.expert), ranges)
        for name, ranges in zip(names, split, strict=True)
    ]


def _heads(
    tensor_name: str, rows: int, config: dict[str, Any] | None, grouped: bool
) -> tuple[Rows, Rows, Rows]:
    """The rows of q, k and v in a fused tensor."""
    if config is None:
        raise InputError(
            "model.no-head-counts",
            f"{tensor_name} holds q, k and v in one tensor, and no config.json says how many heads "
            "each has; put the model's config.json next to its weights (of an adapter alone: give "
            "its base as well)",
            tensor=tensor_name,
        )
    text = language_model_config(config)
    heads = text.get("num_attention_heads")
    shared = (text.get("num_key_value_heads") or heads) if heads else None
    if not (isinstance(heads, int) and isinstance(shared, int) and heads > 0 and shared > 0):
        raise InputError(
            "model.bad-head-counts",
            "num_attention_heads and num_key_value_heads in config.json are not whole numbers "
            f"above 0; {tensor_name} cannot be split into q, k and v without them: correct "
            "config.json",
            tensor=tensor_name,
            key="num_attention_heads",
            found=(heads, shared),
        )
    total = heads + 2 * shared
    if rows % total or heads % shared:
        raise InputError(
            "model.heads-do-not-fit",
            f"{tensor_name} has {rows} rows, which cannot be divided into the {heads} heads and "
            f"{shared} key-value heads of config.json; give the model with its own config.json",
            tensor=tensor_name,
            found=rows,
            expected=(heads, shared),
        )
    width = rows // total
    if not grouped:
        q, k = heads * width, (heads + shared) * width
        return ((0, q),), ((q, k),), ((k, rows),)
    group = (heads // shared + 2) * width
    starts = range(0, rows, group)
    return (
        tuple((start, start + group - 2 * width) for start in starts),
        tuple((start + group - 2 * width, start + group - width) for start in starts),
        tuple((start + group - width, start + group) for start in starts),
    )
