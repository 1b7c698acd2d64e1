"""Soft tokens: vectors that a bridge makes from media, at the place of placeholders in a prompt.

A prompt is a list of token ids. The negative id -1 - k is the k-th soft token of the sample. The
soft tokens of a bridge are numbered in the order of its placeholders: with `{face: 2, voice: 1}`,
`<face>` becomes -1, -2 and `<voice>` becomes -3.

Notation: B rows, T tokens, K soft tokens of a sample, H the width of the embeddings.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from affectlocus.core.errors import InputError

Soft = Callable[[Sequence[int]], torch.Tensor]
"""Row numbers of samples → their soft tokens (B, K, H)."""


def placeholder(name: str) -> str:
    """A placeholder as it is in a prompt: `<face>` for face."""
    return f"<{name}>"


def soft_ids(tokens: Mapping[str, int]) -> dict[str, list[int]]:
    """Placeholder → the ids of its soft tokens.

    Args:
        tokens: placeholder → the number of its soft tokens, in the order of the bridge.
    """
    found, first = {}, 0
    for name, count in tokens.items():
        found[name] = [-1 - number for number in range(first, first + count)]
        first += count
    return found


def without_placeholders(text: str, names: Iterable[str]) -> str:
    """A prompt without these placeholders, each together with one space after it."""
    pattern = "|".join(re.escape(placeholder(name)) for name in names)
    return re.sub(f"(?:{pattern}) ?", "", text) if pattern else text


def encoded(tokenizer: PreTrainedTokenizerBase, text: str, tokens: Mapping[str, int]) -> list[int]:
    """Token ids of a text, without a start token, with the soft tokens of its placeholders.

    The text between placeholders is encoded piece by piece, as tokenizers do around added tokens.
    """
    ids = soft_ids(tokens)
    found: list[int] = []
    for number, piece in enumerate(_pieces(text, ids)):
        if number % 2:
            found += ids[piece[1:-1]]
        elif piece:
            found += tokenizer(piece, add_special_tokens=False)["input_ids"]
    return found


def cut(text: str, count: int, tokens: Mapping[str, int]) -> str:
    """A text without its first `count` characters, but with all of its placeholders."""
    if not tokens:
        return text[count:]
    pieces = _pieces(text, tokens)
    for number in range(0, len(pieces), 2):
        taken = min(count, len(pieces[number]))
        pieces[number] = pieces[number][taken:]
        count -= taken
    return "".join(pieces)


def _pieces(text: str, names: Iterable[str]) -> list[str]:
    """Text and placeholders by turns; the first and the last piece are text, perhaps empty."""
    return re.split("(" + "|".join(re.escape(placeholder(name)) for name in names) + ")", text)


def shortened(ids: Sequence[int], room: int) -> list[int]:
    """The last `room` ids of a prompt, but all of its soft tokens: only text is cut at the start.

    Raises:
        InputError: the soft tokens alone are more.
    """
    surplus = len(ids) - room
    if surplus <= 0:
        return list(ids)
    soft = sum(one < 0 for one in ids)
    if soft > room:
        raise InputError(
            "prompt.no-room-for-media",
            f"a prompt has {soft} soft tokens of media, and there is room for {max(room, 0)} "
            "tokens; raise max_length, or give the bridge fewer tokens",
            found=soft,
            expected=room,
            key="max_length",
        )
    kept = []
    for one in ids:
        if one >= 0 and surplus:
            surplus -= 1
        else:
            kept.append(one)
    return kept


def model_inputs(
    model: PreTrainedModel, ids: torch.Tensor, soft: torch.Tensor | None = None
) -> dict[str, Any]:
    """A model's inputs for token ids, on its device.

    Args:
        ids: int64 (B, T), with negative ids for soft tokens.
        soft: (B, K, H); needed if an id is negative.

    Returns:
        `input_ids`, or, if an id is negative, `inputs_embeds` (B, T, H) in the dtype of the model's
        embeddings.
    """
    if soft is None or not bool((ids < 0).any()):
        return {"input_ids": ids.to(model.device)}
    table = model.get_input_embeddings()
    device = table.weight.device
    ids = ids.to(device)
    embedded = table(ids.clamp(min=0))  # (B, T, H)
    at = (-1 - ids).clamp(min=0)[:, :, None].expand(-1, -1, embedded.shape[2])
    chosen = soft.to(device, embedded.dtype).gather(1, at)  # (B, T, H)
    return {"inputs_embeds": torch.where((ids < 0)[:, :, None], chosen, embedded)}
