"""Log-likelihoods of a few answers behind a prompt, in one forward pass per sample.

The prompt is read once; every candidate stands behind it under a block mask that lets it see the
prompt and itself, and at the positions that it would have had alone. The last token of a candidate
is predicted, never read, so that labels of one token cost nothing beyond the prompt.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from affectlocus.errors import InputError


@dataclass(frozen=True)
class _Tail:
    """What stands behind every prompt of a batch: all candidates but their last tokens."""

    ids: torch.Tensor  # (tail,)
    offset: torch.Tensor  # (tail,) distance of each token from the prompt's last
    block: torch.Tensor  # (tail, tail) bool, who sees whom
    # For each (candidate, token): the row of logits that predicts it, the token, the candidate.
    rows: torch.Tensor
    tokens: torch.Tensor
    owners: torch.Tensor

    @staticmethod
    def of(candidates: Sequence[Sequence[int]]) -> _Tail:
        ids: list[int] = []
        offsets: list[int] = []
        members: list[int] = []
        rows: list[int] = []
        tokens: list[int] = []
        owners: list[int] = []
        for number, candidate in enumerate(candidates):
            row = 0  # the prompt's last token predicts the candidate's first
            for distance, token in enumerate(candidate):
                rows.append(row)
                tokens.append(token)
                owners.append(number)
                if distance < len(candidate) - 1:
                    ids.append(token)
                    offsets.append(distance + 1)
                    members.append(number)
                    row = len(ids)
        member = torch.tensor(members, dtype=torch.long)
        offset = torch.tensor(offsets, dtype=torch.long)
        block = (member[:, None] == member[None, :]) & (offset[:, None] >= offset[None, :])
        return _Tail(
            torch.tensor(ids, dtype=torch.long),
            offset,
            block,
            torch.tensor(rows),
            torch.tensor(tokens),
            torch.tensor(owners),
        )


@torch.inference_mode()
def log_likelihoods(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    candidates: Sequence[Sequence[int]],
    batch_tokens: int,
    progress: Callable[[int], None] = lambda _: None,
) -> torch.Tensor:
    """log p(candidate | prompt) in nats, summed over the candidate's tokens.

    Where memory runs out, the budget is halved, as often as it takes, and the work goes on.

    Args:
        prompts: token ids, none empty.
        candidates: token ids of each answer, the same for every prompt, none empty.
        batch_tokens: tokens in one forward pass, padding and candidates included; a single prompt
            may have more. Prompts of like length go together.
        progress: called with the number of prompts done since the last call.

    Returns:
        float32 of shape (prompts, candidates), on the CPU.

    Raises:
        InputError: a single prompt does not fit into memory.
    """
    tail = _Tail.of(candidates)
    result = torch.empty(len(prompts), len(candidates))
    order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
    start = 0
    while start < len(order):
        rows = _next(order, start, prompts, len(tail.ids), batch_tokens)
        try:
            result[rows] = _batch(model, [prompts[row] for row in rows], tail, len(candidates))
        except RuntimeError as error:
            if not _out_of_memory(error):
                raise
            tokens = len(rows) * (len(prompts[rows[-1]]) + len(tail.ids))
            if len(rows) == 1:
                raise InputError(
                    f"one prompt of {tokens} tokens, candidates included, does not fit into "
                    "memory; lower evaluate.max_length, or take a device with more memory"
                ) from None
            batch_tokens = tokens // 2
            warnings.warn(
                f"out of memory with {tokens} tokens in a forward pass; going on with "
                f"{batch_tokens} (evaluate.batch_tokens)",
                stacklevel=2,
            )
            continue
        start += len(rows)
        progress(len(rows))
    return result


def _next(
    order: list[int], start: int, prompts: Sequence[Sequence[int]], tail: int, budget: int
) -> list[int]:
    """The next prompts of `order`, sorted by length, whose padded tokens fit the budget."""
    stop = start + 1
    while stop < len(order):
        width = len(prompts[order[stop]]) + tail
        if (stop + 1 - start) * width > budget:
            break
        stop += 1
    return order[start:stop]


def _out_of_memory(error: RuntimeError) -> bool:
    # The CPU's allocator has no error class of its own.
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def _batch(
    model: PreTrainedModel, prompts: list[Sequence[int]], tail: _Tail, candidates: int
) -> torch.Tensor:
    lengths = torch.tensor([len(prompt) for prompt in prompts])  # (B,)
    width = int(lengths.max())
    # Prompts end at the same column, so that one list of columns gives every logit that is needed.
    ids = torch.zeros((len(prompts), width), dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
    pad = width - lengths  # (B,)
    columns = torch.arange(width)
    position = (columns[None, :] - pad[:, None]).clamp(min=0)  # (B, width)
    real = columns[None, :] >= pad[:, None]  # (B, width)
    total = width + len(tail.ids)
    visible = torch.zeros((len(prompts), total, total), dtype=torch.bool)
    visible[:, :width, :width] = (
        torch.tril(torch.ones(width, width, dtype=torch.bool)) & real[:, None]
    )
    visible[:, width:, :width] = real[:, None]
    visible[:, width:, width:] = tail.block
    # A padding token sees itself: a row of nothing would be a division of zero by zero.
    visible |= torch.eye(total, dtype=torch.bool)
    at = torch.cat((position, lengths[:, None] - 1 + tail.offset), dim=1)  # (B, total)
    kept = torch.cat((torch.tensor([width - 1]), torch.arange(width, total)))
    logits = model(
        input_ids=torch.cat((ids, tail.ids.expand(len(prompts), -1)), dim=1).to(model.device),
        position_ids=at.to(model.device),
        attention_mask=_masks(model, visible, at),
        logits_to_keep=kept.to(model.device),
        use_cache=False,
    ).logits  # (B, 1 + tail, vocabulary)
    logs = logits.float().log_softmax(-1).cpu()
    each = logs[:, tail.rows, tail.tokens]  # (B, candidate tokens)
    return torch.zeros(len(prompts), candidates).index_add_(1, tail.owners, each)


def _masks(
    model: PreTrainedModel, visible: torch.Tensor, position: torch.Tensor
) -> torch.Tensor | dict[str, torch.Tensor]:
    """The additive mask (B, 1, total, total), for each kind of layer where there are two.

    A mask of our own replaces the model's, its sliding window included: so it has to hold it.
    """
    distance = position[:, :, None] - position[:, None, :]
    window = getattr(model.config, "sliding_window", None)
    kinds = set(getattr(model.config, "layer_types", None) or ())

    def additive(seen: torch.Tensor) -> torch.Tensor:
        mask = torch.zeros(seen.shape, dtype=model.dtype)
        return mask.masked_fill_(~seen, torch.finfo(model.dtype).min)[:, None].to(model.device)

    if not window:
        return additive(visible)
    near = visible & (distance < window)
    if "sliding_attention" in kinds:
        return {"full_attention": additive(visible), "sliding_attention": additive(near)}
    return additive(near)
