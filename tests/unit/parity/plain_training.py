"""AffectGPT's training step in plain torch and transformers, from the facts about its code.

Placeholders are added tokens; they are embedded as token 0, and then overwritten. Nothing here is
imported from the project.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plain_affectgpt as plain
import torch
from transformers import PreTrainedTokenizerBase

Parameters = Mapping[str, torch.Tensor]


def _linear(bridge: Parameters, name: str, values: torch.Tensor) -> torch.Tensor:
    return values @ bridge[f"{name}.weight"].T + bridge[f"{name}.bias"]


def soft_tokens(bridge: Parameters, seen: torch.Tensor, heard: torch.Tensor) -> list[torch.Tensor]:
    """The vectors of <MultiHere>, <AudioHere> and <FaceHere>, from frames and clips (T, W)."""
    video = _linear(bridge, "multi_video_embs", seen.mean(0))
    audio = _linear(bridge, "multi_audio_embs", heard.mean(0))
    both = _linear(bridge, "attention_mlp", torch.cat([video, audio]))
    weights = _linear(bridge, "fc_att", both)
    pooled = [
        (features * _linear(bridge, name, features)).sum(0)
        for name, features in (("audio_attention_mlp", heard), ("video_attention_mlp", seen))
    ]
    return [
        _linear(bridge, "multi_llama_proj", weights[0] * video + weights[1] * audio),
        _linear(bridge, "audio_llama_proj", pooled[0]),
        _linear(bridge, "affectgpt_proj", pooled[1]),
    ]


def with_added_tokens(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """The tokenizer with the placeholders as special tokens, and padding by the end token."""
    tokenizer.pad_token = tokenizer.eos_token
    for name in plain.HERE:
        tokenizer.add_tokens([name], special_tokens=True)
    return tokenizer


def embedded(
    table: torch.Tensor, tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], soft: Sequence[Any]
) -> torch.Tensor:
    """The embeddings (T, H) of ids, with each placeholder's vector in its place."""
    places = tokenizer.convert_tokens_to_ids(list(plain.HERE))
    known = torch.tensor([0 if one in places else one for one in ids])
    rows = list(table[known])
    for place, vector in zip(places, soft, strict=True):
        rows[list(ids).index(place)] = vector
    return torch.stack(rows)


def batch(
    table: torch.Tensor,
    tokenizer: PreTrainedTokenizerBase,
    samples: Sequence[tuple[list[int], list[int]]],
    soft: Sequence[Sequence[torch.Tensor]],
) -> dict[str, torch.Tensor]:
    """A model's inputs for samples of ids and labels, padded on the right by the end token."""
    width = max(len(ids) for ids, _ in samples)
    pad = tokenizer.pad_token_id
    embeddings, masks, labels = [], [], []
    for (ids, learned), vectors in zip(samples, soft, strict=True):
        filled = [*ids, *[pad] * (width - len(ids))]
        embeddings.append(embedded(table, tokenizer, filled, vectors))
        masks.append([one != pad for one in filled])  # also masks the end token of the sample
        labels.append([*learned, *[-100] * (width - len(learned))])
    return {
        "inputs_embeds": torch.stack(embeddings),
        "attention_mask": torch.tensor(masks).long(),
        "labels": torch.tensor(labels),
    }


def adamw(parameters: Sequence[torch.Tensor], rate: float, decay: float) -> torch.optim.AdamW:
    """AdamW (0.9, 0.999) with weight decay of matrices alone."""
    return torch.optim.AdamW(
        [
            {"params": [one for one in parameters if one.dim() > 1], "weight_decay": decay},
            {"params": [one for one in parameters if one.dim() < 2], "weight_decay": 0.0},
        ],
        lr=rate,
        betas=(0.9, 0.999),
    )
