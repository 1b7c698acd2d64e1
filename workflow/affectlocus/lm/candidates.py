"""Log-likelihoods of candidate answers after a prompt, in one forward pass per sample.

All candidates follow the prompt in one sequence. A block mask lets each candidate attend to the
prompt and to itself, at the positions that it would have alone. The last token of a candidate is
predicted but not read, so that labels of one token cost nothing beyond the prompt and need no mask.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from affectlocus.lm.batching import in_batches
from affectlocus.lm.soft_tokens import Soft, model_inputs


@dataclass(frozen=True)
class _Tail:
    """The tokens that follow every prompt of a batch: all candidates without their last tokens."""

    ids: torch.Tensor  # (tail,)
    offset: torch.Tensor  # (tail,) distance of each token from the last token of the prompt
    block: torch.Tensor  # (tail, tail) bool: which token attends to which
    # For each token of each candidate: the row of logits that predicts it, its id, its candidate.
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
            row = 0  # the last token of the prompt predicts the first token of the candidate
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
    names: Sequence[str] | None = None,
    soft: Soft | None = None,
) -> torch.Tensor:
    """log p(candidate | prompt) in nats, summed over the candidate's tokens.

    Args:
        prompts: token ids; no prompt is empty.
        candidates: token ids of each answer, the same for every prompt; no answer is empty.
        batch_tokens: tokens in one forward pass, padding and candidates included, as in
            `batching.in_batches`.
        progress: called with the number of prompts done since the last call.
        names: the name of each prompt, for messages.
        soft: the soft tokens of the prompts, if they have negative ids.

    Returns:
        float32 of shape (prompts, candidates), on the CPU.

    Raises:
        InputError: a single prompt does not fit into memory.
    """
    tail = _Tail.of(candidates)
    result = torch.empty(len(prompts), len(candidates))

    def run(rows: list[int]) -> None:
        given = None if soft is None else soft(rows)
        chosen = [prompts[row] for row in rows]
        result[rows] = _batch(model, chosen, tail, len(candidates), given)
        progress(len(rows))

    widths = [len(prompt) + len(tail.ids) for prompt in prompts]
    in_batches(widths, batch_tokens, run, "prompt, candidates included,", names)
    return result


def batch_log_likelihoods(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    candidates: Sequence[Sequence[int]],
) -> torch.Tensor:
    """`log_likelihoods` of one batch, with gradients where the weights require them."""
    return _batch(model, prompts, _Tail.of(candidates), len(candidates), None)


def _batch(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    tail: _Tail,
    candidates: int,
    soft: torch.Tensor | None,
) -> torch.Tensor:
    lengths = torch.tensor([len(prompt) for prompt in prompts])  # (B,)
    width = int(lengths.max())
    if not len(tail.ids):
        logits = _next_logits(model, prompts, lengths, soft)
        return _gathered(logits[:, None], tail, candidates)
    # Padded on the left: all prompts end at the same column, so that `logits_to_keep` can list the
    # columns whose logits are needed.
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
    # A padding token attends to itself: a softmax over an empty row is NaN.
    visible |= torch.eye(total, dtype=torch.bool)
    at = torch.cat((position, lengths[:, None] - 1 + tail.offset), dim=1)  # (B, total)
    kept = torch.cat((torch.tensor([width - 1]), torch.arange(width, total)))
    logits = model(
        **model_inputs(model, torch.cat((ids, tail.ids.expand(len(prompts), -1)), dim=1), soft),
        position_ids=at.to(model.device),
        attention_mask=_masks(model, visible, at),
        logits_to_keep=kept.to(model.device),
        use_cache=False,
    ).logits
    return _gathered(_kept(logits, kept), tail, candidates)  # (B, 1 + tail, vocabulary)


def _next_logits(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    lengths: torch.Tensor,
    soft: torch.Tensor | None,
) -> torch.Tensor:
    """The logits after the last token of each prompt, (B, vocabulary).

    Prompts are padded on the right, where a causal model does not look, so that attention needs no
    mask, which is slow. Sorted by length, they end in few different columns.
    """
    ids = torch.zeros((len(prompts), int(lengths.max())), dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, : len(prompt)] = torch.tensor(prompt)
    columns, place = torch.unique(lengths - 1, return_inverse=True)
    logits = model(
        **model_inputs(model, ids, soft),
        logits_to_keep=columns.to(model.device),
        use_cache=False,
    ).logits
    logits = _kept(logits, columns)  # (B, columns, vocabulary)
    return logits[torch.arange(len(prompts)), place.to(logits.device)]


def _kept(logits: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """The logits of some columns; some models compute all, whatever `logits_to_keep` says."""
    asked = logits.shape[1] == len(columns)
    return logits if asked else logits[:, columns.to(logits.device)]


def _gathered(logits: torch.Tensor, tail: _Tail, candidates: int) -> torch.Tensor:
    """The log-likelihoods of the candidates from the logits at `_Tail.rows`, (B, candidates)."""
    logs = logits.float().log_softmax(-1)
    # Selected on the GPU, so that only these values are copied, not those of the whole vocabulary.
    rows, tokens = tail.rows.to(logs.device), tail.tokens.to(logs.device)
    selected = logs[:, rows, tokens].cpu()  # (B, candidate tokens)
    return torch.zeros(len(logits), candidates).index_add_(1, tail.owners, selected)


def _masks(
    model: PreTrainedModel, visible: torch.Tensor, position: torch.Tensor
) -> torch.Tensor | dict[str, torch.Tensor]:
    """The additive mask (B, 1, total, total); one per layer type if the model has two types.

    It replaces the model's own mask, and therefore includes the sliding window.
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
