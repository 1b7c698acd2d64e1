"""Architectures as data: which stored tensor holds which projection, and which rows of it.

To teach the project another layout, add its modules to `MODULES` (the name below `layers.N.`, the
projections in the order of the tensor's rows) and a line to the table of tests/unit/
test_architectures.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from affectlocus.core.errors import InputError
from affectlocus.core.projections import Location

Rows = tuple[tuple[int, int], ...]
"""Ranges of a tensor's first axis: start and stop of each, in the projection's order."""


@dataclass(frozen=True)
class Module:
    """What a module's weight (d_out, d_in) holds: one projection, or several above each other."""

    projections: tuple[str, ...]
    grouped: bool = False  # per key-value head: its query heads, its key, its value


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
    # InternLM2; LLaMA as Meta hands it out shares its feed-forward and output names
    "attention.wqkv": Module(("q", "k", "v"), grouped=True),
    "attention.wq": Module(("q",)),
    "attention.wk": Module(("k",)),
    "attention.wv": Module(("v",)),
    "attention.wo": Module(("o",)),
    "feed_forward.w1": Module(("gate",)),
    "feed_forward.w3": Module(("up",)),
    "feed_forward.w2": Module(("down",)),
    # Mixtures of experts: Qwen and DeepSeek with experts that every token passes, Mixtral
    **{
        f"{block}.{name}_proj": Module((name,))
        for block in (
            *("mlp.experts", "feed_forward.experts", "block_sparse_moe.experts", "experts"),
            *("feed_forward", "feed_forward.shared_expert", "mlp.shared_mlp"),
        )
        for name in ("gate", "up", "down")
    },
    # Granite's experts that every token passes
    "shared_mlp.input_linear": Module(("gate", "up")),
    "shared_mlp.output_linear": Module(("down",)),
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

# The language model's own layers, whatever wrapper stands in front of them.
_LAYER = re.compile(r"(?P<prefix>(?:.*\.)?)layers\.(?P<layer>\d{1,9})\.(?P<module>.+)")
_EXPERT = re.compile(
    r"(?:^|\.)(?:experts\.(?P<number>\d+)|(?P<shared>shared_(?:experts?|mlp)))(?=\.)"
)

# A multimodal model's encoders, resamplers and speech generators have layers of the same names, as
# has the head that predicts further tokens (mtp); they are not the language model.
_OTHER_TOWERS = frozenset(
    (
        *("vision_tower", "vision_model", "visual", "image_encoder", "visual_encoder"),
        *("vision_encoder", "vision_backbone", "image_tower", "video_tower", "video_encoder"),
        *("audio_tower", "audio_model", "audio_encoder", "acoustic_encoder", "audio_backbone"),
        *("speech_encoder", "speech_tower", "whisper", "whisper_model", "clip", "clip_model"),
        *("qformer", "Qformer", "vpm", "apm", "resampler", "perceiver", "perceiver_resampler"),
        *("talker", "token2wav", "tts", "mtp"),
    )
)


@dataclass(frozen=True)
class Place:
    """A stored tensor's place in the network: its module, layer, expert, weight or bias."""

    module: Module
    layer: int
    parameter: str
    expert: str | None


# Modules that only a layer that predicts further tokens has: it joins a token with a hidden state.
_FURTHER = frozenset(("mtp", "eh_proj", "enorm", "hnorm", "shared_head"))


def in_other_tower(name: str) -> bool:
    """Whether a name says of itself that it lies in an encoder or another part of its own."""
    words = name.split(".")
    return not _OTHER_TOWERS.isdisjoint(words) or any(word.startswith("mtp_") for word in words)


def predicts_further(module: str) -> bool:
    """Whether a module below its layer, or beside the layers, predicts further tokens."""
    first = module.partition(".")[0]
    return first in _FURTHER or first.startswith("mtp_")


def place(tensor_name: str) -> Place | None:
    """Where a tensor stands, by its name alone; None outside the seven projections."""
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
    """The location of a tensor that is one projection by itself; None for any other tensor."""
    found = place(tensor_name)
    if found is None or len(found.module.projections) > 1:
        return None
    return Location(found.layer, found.module.projections[0], found.parameter, found.expert)


def parts(
    tensor_name: str, rows: int, config: dict[str, Any] | None
) -> list[tuple[Location, Rows | None]]:
    """The projections that a stored tensor holds, and the rows of each (None: all of them).

    Args:
        rows: the size of the tensor's first axis.
        config: the model's config.json, for the numbers of heads; None where there is none.

    Raises:
        InputError: a fused tensor that the configuration does not explain.
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
                f"{tensor_name} has {rows} rows; expected gate and up above each other"
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
            f"{tensor_name} holds q, k and v in one, and there is no config.json to say how many "
            "heads each has; give the base as well"
        )
    text = config.get("text_config") or config.get("llm_config") or config
    heads = text.get("num_attention_heads") if isinstance(text, dict) else None
    shared = (text.get("num_key_value_heads") or heads) if heads else None
    if not (isinstance(heads, int) and isinstance(shared, int) and heads > 0 and shared > 0):
        raise InputError(
            "config.json: no num_attention_heads and num_key_value_heads as whole numbers; "
            f"{tensor_name} cannot be split without them"
        )
    total = heads + 2 * shared
    if rows % total or heads % shared:
        raise InputError(
            f"{tensor_name} has {rows} rows, which {heads} heads and {shared} key-value heads of "
            "config.json do not divide; this is not the checkpoint's configuration"
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
