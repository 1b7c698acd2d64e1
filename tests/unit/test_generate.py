"""Free text, greedy and drawn, against plain loops that know neither batches nor caches."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refusal import refused
from transformers import GenerationConfig, PreTrainedModel
from transformers.generation import TopPLogitsWarper

from affectlocus.config.evaluation import Generation
from affectlocus.lm import generate
from affectlocus.lm.generate import (
    end_ids,
    generate_texts,
    in_nucleus,
    nucleus,
    prompt_limit,
    stream,
)

ARCHITECTURES = ["qwen2", "llama", "mistral"]
GREEDY = Generation(max_new_tokens=12)
NUCLEUS = Generation(sampling="nucleus", max_new_tokens=12)


def prompts(lengths: Sequence[int], seed: int = 0) -> list[list[int]]:
    draw = random.Random(seed)
    return [[draw.randrange(1, 290) for _ in range(length)] for length in lengths]


@torch.inference_mode()
def alone(model: PreTrainedModel, prompt: list[int], length: int) -> list[int]:
    """The likeliest token each time, by whole forward passes: no cache, padding or generate."""
    ids = list(prompt)
    while len(ids) < len(prompt) + length:
        token = int(model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax())
        if token == model.generation_config.eos_token_id:
            break
        ids.append(token)
    return ids[len(prompt) :]


@pytest.fixture(scope="module")
def models(random_model) -> dict[str, PreTrainedModel]:
    return {architecture: random_model(architecture) for architecture in ARCHITECTURES}


@pytest.mark.parametrize("batch_tokens", [1, 60, 4096])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_greedy_text_in_batches_is_greedy_text_alone(
    models, tokenizer, architecture, batch_tokens
) -> None:
    model, words = models[architecture], tokenizer(False)
    given_prompts = prompts([9, 1, 17, 4, 4, 30, 2])
    expected = [alone(model, prompt, 12) for prompt in given_prompts]
    assert len({tuple(ids) for ids in expected}) == len(expected)
    found, tokens = generate_texts(model, words, given_prompts, [""] * 7, GREEDY, batch_tokens)
    assert found == [words.decode(ids, skip_special_tokens=True).strip() for ids in expected]
    assert tokens == [len(ids) for ids in expected]


@pytest.mark.parametrize(
    ("architecture", "more"),
    [
        ("mistral", {"sliding_window": 4}),
        ("qwen2", {"use_sliding_window": True, "max_window_layers": 1, "sliding_window": 4}),
        ("llama", {"num_key_value_heads": 1}),
    ],
    ids=["window", "window in one layer", "one key head"],
)
def test_windows_and_grouped_heads_write_as_alone(
    random_model, tokenizer, architecture, more
) -> None:
    model = random_model(architecture, **more)
    given_prompts = prompts([12, 3, 7], seed=1)
    found, _ = generate_texts(model, tokenizer(False), given_prompts, [""] * 3, GREEDY, 99)
    expected = [alone(model, prompt, 12) for prompt in given_prompts]
    assert found == [tokenizer(False).decode(ids).strip() for ids in expected]


def test_a_models_own_repetition_penalty_and_sampling_are_put_aside(
    random_model, tokenizer
) -> None:
    model, plain = random_model("qwen2"), random_model("qwen2")
    model.generation_config = GenerationConfig(
        repetition_penalty=5.0, do_sample=True, temperature=9.0, eos_token_id=0, max_length=3
    )
    own = model.generation_config
    given_prompts = prompts([5, 9])
    assert generate_texts(
        model, tokenizer(False), given_prompts, ["", ""], GREEDY, 99
    ) == generate_texts(plain, tokenizer(False), given_prompts, ["", ""], GREEDY, 2)
    assert model.generation_config is own


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_sample_draws_the_same_text_in_any_batch_and_order(
    models, tokenizer, architecture
) -> None:
    given_prompts = prompts([9, 1, 17, 4, 4, 30, 2])
    keys = [f"task\0{number}" for number in range(7)]
    model, words = models[architecture], tokenizer(False)
    whole, _ = generate_texts(model, words, given_prompts, keys, NUCLEUS, 999)
    turned, _ = generate_texts(model, words, given_prompts[::-1], keys[::-1], NUCLEUS, 50)
    [third], _ = generate_texts(model, words, given_prompts[2:3], keys[2:3], NUCLEUS, 1)
    assert turned[::-1] == whole
    assert third == whole[2]
    greedy, _ = generate_texts(model, words, given_prompts, keys, GREEDY, 999)
    assert whole != greedy


def test_another_seed_or_sample_draws_another_text(models, tokenizer) -> None:
    [prompt] = prompts([6])
    words = tokenizer(False)
    found, _ = generate_texts(models["llama"], words, [prompt] * 5, list("abcde"), NUCLEUS, 99)
    assert len(set(found)) == 5
    other = NUCLEUS.model_copy(update={"seed": 1})
    again, _ = generate_texts(models["llama"], words, [prompt] * 5, list("abcde"), other, 40)
    assert not set(found) & set(again)


def test_a_stream_depends_on_seed_and_key_alone() -> None:
    assert stream(3, "task\0a", 4).tolist() == stream(3, "task\0a", 9).tolist()[:4]
    assert stream(3, "task\0a", 4).tolist() != stream(4, "task\0a", 4).tolist()
    # Of this very seed and key, for ever: recorded texts stay reproducible.
    assert stream(0, "a", 2).tolist() == pytest.approx(FIRST, abs=1e-15)


FIRST = [0.8372402977243603, 0.3411466086518653]


@given(
    # None as likely as another: which of two equals is left out is nobody's choice.
    st.lists(st.integers(-40, 40), min_size=2, max_size=12, unique=True),
    st.floats(0.05, 1),
    st.floats(0.2, 3),
)
@settings(max_examples=25)
def test_draws_fall_as_often_as_transformers_own_top_p_says(
    logits: list[int], top_p: float, temperature: float
) -> None:
    row = torch.tensor([logits]) / 5
    kept = TopPLogitsWarper(top_p)(None, row / temperature)
    expected = kept.double().softmax(-1)[0].numpy()
    # Uniform numbers at equal distances: every token as often as its probability, but for one.
    uniform = torch.from_numpy((np.arange(500) + 0.5) / 500)
    drawn = nucleus(row.expand(500, -1), uniform, temperature, top_p).numpy()
    shares = np.bincount(drawn, minlength=len(logits)) / 500
    if abs(shares - expected).max() > 1.1 / 500:
        # At the edge of the nucleus the last digit decides, and another token is the last one.
        chances = (row.double() / temperature).softmax(-1)[0].sort(descending=True).values
        assert float((chances.cumsum(0) - top_p).abs().min()) < 1e-6


@pytest.mark.parametrize("top_p", [0.05, 0.9, 1.0])
@pytest.mark.parametrize("levels", [4, 1000])
def test_the_nucleus_is_that_of_the_whole_sorted_vocabulary(top_p: float, levels: int) -> None:
    draw = torch.Generator().manual_seed(0)
    # Few levels: many tokens are equally likely, also at the end of the nucleus.
    logits = torch.randint(levels, (40, 3000), generator=draw) / levels * 12
    chances = logits.double().softmax(-1)
    ordered, ids = chances.sort(dim=-1, descending=True, stable=True)
    inside = ordered.cumsum(-1) - ordered < top_p
    expected = torch.zeros_like(inside).scatter(1, ids, inside)
    assert torch.equal(in_nucleus(chances, top_p), expected)


def test_the_edges_of_the_nucleus_draw_tokens_of_the_nucleus() -> None:
    logits = torch.tensor([[0.1, 0.2, 0.7]] * 3).log()
    edges = torch.tensor([0.0, 0.5, 1 - 2.0**-53], dtype=torch.float64)
    assert nucleus(logits, edges, 1.0, 0.7).tolist() == [2, 2, 2]
    assert nucleus(logits, edges, 1.0, 1.0).tolist() == [0, 2, 2]
    assert nucleus(logits.flip(1), edges, 1.0, 0.7).tolist() == [0, 0, 0]


def test_text_ends_before_the_first_stop(models, tokenizer) -> None:
    given_prompts = prompts([9, 1, 17, 4])
    words, keys = tokenizer(False), list("abcd")
    whole, _ = generate_texts(models["qwen2"], words, given_prompts, keys, NUCLEUS, 99)
    stops = [whole[0][3:5], whole[1][2:4]]
    found, tokens = generate_texts(models["qwen2"], words, given_prompts, keys, NUCLEUS, 99, stops)
    for before, after in zip(whole, found, strict=True):
        first = min((at for stop in stops if (at := before.find(stop)) >= 0), default=None)
        assert after == (before if first is None else before[:first].strip())
    assert found[0] != whole[0]
    assert max(tokens[:2]) < 12


def test_a_batch_ends_when_every_row_has_met_a_stop(models, tokenizer, monkeypatch) -> None:
    [prompt] = prompts([9])
    words, model = tokenizer(False), models["qwen2"]
    long = Generation(max_new_tokens=60, sampling="nucleus")
    [whole], _ = generate_texts(model, words, [prompt], ["a"], long, 1)
    widths = []
    drawn = generate.nucleus
    monkeypatch.setattr(generate, "nucleus", lambda *a: (widths.append(1), drawn(*a))[1])
    generate_texts(model, words, [prompt], ["a"], long, 1, [whole[2:4]])
    assert len(widths) < 10


def test_the_tokens_that_end_a_text_are_the_tokenizers_and_the_models(
    random_model, tokenizer
) -> None:
    model = random_model("qwen2")
    model.generation_config.eos_token_id = [7, 8]
    assert end_ids(model, tokenizer(False)) == [0, 7, 8]


def test_a_text_ends_at_the_models_own_end_token(random_model, tokenizer) -> None:
    model, words = random_model("llama"), tokenizer(False)
    given_prompts = prompts([9, 4])
    first, second = (alone(model, prompt, 12) for prompt in given_prompts)
    model.generation_config.eos_token_id = [0, first[3]]
    found, tokens = generate_texts(model, words, given_prompts, ["", ""], GREEDY, 99)
    assert found[0] == words.decode(first[: first.index(first[3])]).strip()
    assert tokens[0] == first.index(first[3])
    if first[3] not in second:
        assert found[1] == words.decode(second).strip()


def test_weights_with_nan_are_refused(random_model, tokenizer) -> None:
    model = random_model("qwen2")
    with torch.no_grad():
        model.model.norm.weight[0] = torch.nan
    with refused("model.logits-not-finite"):
        generate_texts(model, tokenizer(False), prompts([3]), [""], GREEDY, 1)


# The CPU's allocator has no error class of its own: this is how its message begins.
NO_MEMORY = RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate")


@pytest.mark.parametrize("error", [NO_MEMORY, torch.OutOfMemoryError()], ids=["CPU", "GPU"])
def test_a_batch_that_does_not_fit_is_halved_and_samples_the_same_text(
    models, tokenizer, monkeypatch, error
) -> None:
    given_prompts, keys = prompts([5, 9, 2, 7, 4]), list("abcde")
    words, model = tokenizer(False), models["qwen2"]
    expected = generate_texts(model, words, given_prompts, keys, NUCLEUS, 105)
    sizes, told = [], []
    whole = generate._batch

    def small(*arguments):
        sizes.append(len(arguments[2]))
        found = whole(*arguments)
        if sizes[-1] > 2:
            raise error  # when the text is all but there
        return found

    monkeypatch.setattr(generate, "_batch", small)
    with pytest.warns(
        UserWarning, match="out of memory with 105 tokens in a batch; batch_tokens is now"
    ):
        found = generate_texts(
            model, words, given_prompts, keys, NUCLEUS, 105, progress=told.append
        )
    assert found == expected
    # Shortest first: rows of 14, 16, 17, 19 and 21 tokens, the answer's 12 included.
    assert sizes == [5, 3, 1, 1, 1, 1, 1]
    assert sum(told) == 5


def test_a_prompt_that_alone_has_no_memory_is_named(models, tokenizer, monkeypatch) -> None:
    def none(*_):
        raise NO_MEMORY

    monkeypatch.setattr(generate, "_batch", none)
    keys = "max_new_tokens or evaluate.max_length"
    with refused("memory.row-too-long", row="sample 7", tokens=17, key=keys):
        generate_texts(
            models["qwen2"], tokenizer(False), prompts([5]), ["a"], NUCLEUS, 99, names=["sample 7"]
        )


def test_a_prompt_leaves_room_for_the_text(random_model) -> None:
    model = random_model("qwen2")
    assert prompt_limit(model, 512, 100) == 28
    assert prompt_limit(model, 20, 100) == 20
    with refused("prompt.no-room-for-answer", key="max_new_tokens", found=128, expected=128):
        prompt_limit(model, 512, 128)
