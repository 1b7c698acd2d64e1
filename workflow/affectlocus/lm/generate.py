"""Generates free text after prompts, greedily or by sampling, independently of the batch.

Greedy decoding takes the likeliest token. Nucleus sampling takes one random number per token from
a stream that depends only on the seed and the sample. The batch and earlier samples do not change
it. The logits of two batches still differ in their last digits, which changes a sampled token about
once in a million tokens in float32, and more often in half precision.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile

import numpy as np
import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.generation import (
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)

from affectlocus.config.evaluation import Generation
from affectlocus.core.errors import InputError
from affectlocus.lm.batching import in_batches
from affectlocus.lm.soft_tokens import Soft, model_inputs


def stream(seed: int, key: str, count: int) -> np.ndarray:
    """`count` random numbers in [0, 1), float64, that depend only on the seed and the key."""
    entropy = hashlib.sha256(f"{seed}\0{key}".encode()).digest()
    return np.random.default_rng(int.from_bytes(entropy)).random(count)


def nucleus(
    logits: torch.Tensor, uniform: torch.Tensor, temperature: float, top_p: float
) -> torch.Tensor:
    """Samples a token per row from the likeliest tokens whose probabilities sum to `top_p`.

    Args:
        logits: (rows, vocabulary).
        uniform: (rows,), in [0, 1): the share of the nucleus before the sampled token. Tokens are
            in the order of the vocabulary, so that a change of rank between two almost equally
            likely tokens does not change the sample.

    Returns:
        Token ids, int64 of shape (rows,).
    """
    chances = (logits.double() / temperature).softmax(-1)
    kept = torch.where(in_nucleus(chances, top_p), chances, 0.0)
    reached = kept.cumsum(-1)
    total = reached[:, -1:].contiguous()
    drawn = torch.searchsorted(reached, uniform[:, None].to(total) * total, right=True)
    # A product that rounds up to the total would be after the last token of the nucleus.
    return torch.minimum(drawn, torch.searchsorted(reached, total)).squeeze(1)


def in_nucleus(chances: torch.Tensor, top_p: float) -> torch.Tensor:
    """Which tokens are in the nucleus of each row, bool of the same shape.

    Of two equally likely tokens at its end, the first of the vocabulary is in it. Sorting the whole
    vocabulary would take as long as a forward pass, so only the likeliest tokens are sorted.
    """
    tokens = chances.shape[-1]
    count = min(64, tokens)
    while True:
        ordered = chances.topk(count).values
        before = ordered.cumsum(-1) - ordered
        if count == tokens or bool((before[:, -1] >= top_p).all()):
            break
        count = min(8 * count, tokens)
    size = (before < top_p).sum(-1, keepdim=True).clamp(min=1)
    least = ordered.gather(-1, size - 1)
    above, level = chances > least, chances == least
    return above | (level & (level.cumsum(-1) <= size - above.sum(-1, keepdim=True)))


class _RefuseNaN(LogitsProcessor):
    """Refuses logits that are NaN, from which transformers would still generate text."""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        if torch.isnan(scores).any():
            raise InputError(
                "model.logits-not-finite",
                "the model's logits are not finite; its weights contain NaN or overflow in their "
                "dtype",
            )
        return scores


class _Sampled(LogitsProcessor):
    """Sets all logits but that of the sampled token to minus infinity, for greedy search."""

    def __init__(self, width: int, uniform: torch.Tensor, settings: Generation) -> None:
        self.width = width  # columns of the prompts
        self.uniform = uniform  # (rows, new tokens)
        self.settings = settings

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        at = self.uniform[:, input_ids.shape[1] - self.width]
        token = nucleus(scores, at, self.settings.temperature, self.settings.top_p)
        return torch.full_like(scores, -torch.inf).scatter(1, token[:, None], 0.0)


class _StopTexts(StoppingCriteria):
    """A row is done when its new text contains one of the stop texts."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], width: int
    ) -> None:
        self.tokenizer = tokenizer
        self.texts = texts
        self.width = width
        # Tokens to decode: a token is at least a byte, except for special tokens.
        self.reach = 2 * max(len(text.encode()) for text in texts)

    def __call__(
        self,
        input_ids: torch.Tensor,
        scores: torch.Tensor,  # noqa: ARG002
        **_: object,
    ) -> torch.Tensor:
        new = input_ids[:, self.width :][:, -self.reach :].tolist()
        tails = self.tokenizer.batch_decode(new, skip_special_tokens=True)
        done = [any(text in tail for text in self.texts) for tail in tails]
        return torch.tensor(done, device=input_ids.device)


def end_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The ids that end a text: those of the tokenizer and of the model's generation_config."""
    own = model.generation_config.eos_token_id if model.generation_config else None
    listed = own if isinstance(own, list) else [own]
    return sorted({token for token in (*listed, tokenizer.eos_token_id) if token is not None})


def prompt_limit(model: PreTrainedModel, max_length: int, max_new_tokens: int) -> int:
    """The largest number of prompt tokens for which prompt and new text fit the model's positions.

    Raises:
        InputError: the new text alone takes all positions.
    """
    positions = getattr(model.config, "max_position_embeddings", None) or 1 << 30
    if max_new_tokens >= positions:
        raise InputError(
            "prompt.no-room-for-answer",
            f"max_new_tokens is {max_new_tokens}, but the model has {positions} positions for "
            "prompt and text; lower max_new_tokens",
            key="max_new_tokens",
            found=max_new_tokens,
            expected=positions,
        )
    return min(max_length, positions - max_new_tokens)


def generate_texts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    keys: Sequence[str],
    settings: Generation,
    batch_tokens: int,
    stops: Sequence[str] = (),
    progress: Callable[[int], None] = lambda _: None,
    names: Sequence[str] | None = None,
    soft: Soft | None = None,
) -> tuple[list[str], list[int]]:
    """The text that the model generates after each prompt, stripped, and its number of tokens.

    Args:
        prompts: token ids; no prompt is empty.
        keys: a text per prompt that, with `settings.seed`, seeds its random numbers.
        batch_tokens: tokens of one batch, the longest possible answers included; as in
            `batching.in_batches`.
        stops: an answer ends before the first of these texts.
        progress: called with the number of prompts done since the last call.
        names: the name of each prompt, for messages.
        soft: the soft tokens of the prompts, if they have negative ids.

    Raises:
        InputError: the model's logits are not finite; a single prompt with its answer does not fit
            into memory.
    """
    written: list[str] = [""] * len(prompts)
    tokens = [0] * len(prompts)
    last = set(end_ids(model, tokenizer))

    def run(rows: list[int]) -> None:
        chosen = [(prompts[row], keys[row]) for row in rows]
        given = None if soft is None else soft(rows)
        found = _batch(model, tokenizer, chosen, settings, stops, given)
        for row, ids in zip(rows, found, strict=True):
            kept = list(takewhile(lambda token: token not in last, ids))
            written[row], tokens[row] = _text(tokenizer, kept, stops)
        progress(len(rows))

    in_batches(
        [len(prompt) + settings.max_new_tokens for prompt in prompts],
        batch_tokens,
        run,
        "prompt with its answer",
        names,
        "max_new_tokens or evaluate.max_length",
    )
    return written, tokens


def _text(
    tokenizer: PreTrainedTokenizerBase, ids: list[int], stops: Sequence[str]
) -> tuple[str, int]:
    """The text before the first stop text, stripped, and the tokens including the stop text."""

    def decoded(count: int) -> str:
        return str(tokenizer.decode(ids[:count], skip_special_tokens=True))

    def stopped(count: int) -> bool:
        return any(stop in decoded(count) for stop in stops)

    if stopped(len(ids)):
        # Tokens after the stop text were generated while other rows were not done.
        ids = ids[: bisect_left(range(len(ids)), True, key=stopped)]
    text = decoded(len(ids))
    for stop in stops:
        text = text.partition(stop)[0]
    return text.strip(), len(ids)


@torch.inference_mode()
def _batch(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: list[tuple[Sequence[int], str]],
    settings: Generation,
    stops: Sequence[str],
    soft: torch.Tensor | None,
) -> list[list[int]]:
    """The new tokens of each row, up to the longest row's end."""
    width = max(len(prompt) for prompt, _ in rows)
    # Padded on the left: the new tokens of every row start at the same column.
    ids = torch.zeros((len(rows), width), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, (prompt, _) in enumerate(rows):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    processors = LogitsProcessorList([_RefuseNaN()])
    if settings.sampling == "nucleus":
        drawn = [stream(settings.seed, key, settings.max_new_tokens) for _, key in rows]
        uniform = torch.from_numpy(np.stack(drawn)).to(model.device)
        processors.append(_Sampled(width, uniform, settings))
    criteria = StoppingCriteriaList([_StopTexts(tokenizer, stops, width)] if stops else [])
    plain = GenerationConfig(
        max_new_tokens=settings.max_new_tokens,
        do_sample=False,
        eos_token_id=end_ids(model, tokenizer) or None,
        pad_token_id=0,
    )
    # With soft tokens, transformers reads the ids only to know where the new tokens start.
    embedded = model_inputs(model, ids, soft)
    embedded.pop("input_ids", None)
    with _configured(model, plain):
        whole = model.generate(
            ids.clamp(min=0).to(model.device),
            **embedded,
            attention_mask=mask.to(model.device),
            logits_processor=processors,
            stopping_criteria=criteria,
        )
    return [new.tolist() for new in whole[:, width:]]


@contextmanager
def _configured(model: PreTrainedModel, settings: GenerationConfig) -> Iterator[None]:
    """Context manager: replaces the model's own generation_config.

    transformers completes a given configuration from the model's own. Many models set a repetition
    penalty there, which also changes greedy decoding.
    """
    own = model.generation_config
    model.generation_config = settings
    try:
        yield
    finally:
        model.generation_config = own
