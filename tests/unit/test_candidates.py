"""Scores of candidates behind a shared prompt, against each alone in a plain forward pass."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedModel

from affectlocus.lm.candidates import log_likelihoods

ARCHITECTURES = ["qwen2", "llama", "mistral"]
MIXED = [[5], [7, 8, 9], [5, 6], [11, 12, 13, 14, 15], [20]]


def prompts(lengths: Sequence[int], seed: int = 0) -> list[list[int]]:
    draw = random.Random(seed)
    return [[draw.randrange(290) for _ in range(length)] for length in lengths]


@torch.inference_mode()
def alone(
    model: PreTrainedModel, prompts: Sequence[list[int]], candidates: Sequence[list[int]]
) -> torch.Tensor:
    """One forward pass for each prompt and candidate: no padding, no mask, no positions given."""
    rows = []
    for prompt in prompts:
        row = []
        for candidate in candidates:
            logits = model(torch.tensor([[*prompt, *candidate]])).logits[0].double()
            logs = logits.log_softmax(-1)
            row.append(
                sum(
                    float(logs[len(prompt) + place - 1, token])
                    for place, token in enumerate(candidate)
                )
            )
        rows.append(row)
    return torch.tensor(rows)


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert found.shape == expected.shape
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected.float(), rtol=0, atol=1e-4)


@pytest.fixture(scope="module")
def models(random_model) -> dict[str, PreTrainedModel]:
    return {architecture: random_model(architecture) for architecture in ARCHITECTURES}


@pytest.mark.parametrize("batch_tokens", [1, 20, 45, 4096])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_candidates_score_as_each_would_alone(models, architecture, batch_tokens) -> None:
    model = models[architecture]
    # Unsorted lengths: the answer must stand in the order of the prompts.
    given_prompts = prompts([9, 1, 17, 4, 4, 30, 2])
    expected = alone(model, given_prompts, MIXED)
    # So far apart that a candidate's score in another's place would show.
    assert float(expected.std()) > 1
    close(log_likelihoods(model, given_prompts, MIXED, batch_tokens), expected)


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (4, 1), (8, 2)])
def test_grouped_heads_of_every_size_score_alike(random_model, heads, kv_heads) -> None:
    model = random_model(
        "qwen2", num_attention_heads=heads, num_key_value_heads=kv_heads, head_dim=32 // heads
    )
    given_prompts = prompts([5, 12, 3])
    close(log_likelihoods(model, given_prompts, MIXED, 40), alone(model, given_prompts, MIXED))


@pytest.mark.parametrize(
    "candidates",
    [
        [[5], [6], [7]],
        [[5, 6, 7, 8]],
        [[5, 6], [5, 6, 7], [5]],
        [[9, 9, 9], [9], [9, 9]],
    ],
    ids=["single tokens", "one", "prefixes of each other", "one token repeated"],
)
def test_candidates_of_any_shape_score_as_each_would_alone(models, candidates) -> None:
    given_prompts = prompts([6, 2, 11], seed=3)
    for model in models.values():
        close(
            log_likelihoods(model, given_prompts, candidates, 40),
            alone(model, given_prompts, candidates),
        )


@settings(max_examples=25)
@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=6),
    candidates=st.lists(
        st.lists(st.integers(0, 289), min_size=1, max_size=4), min_size=1, max_size=4
    ),
    batch_tokens=st.integers(1, 120),
    seed=st.integers(0, 99),
)
def test_any_prompts_and_candidates_score_as_each_would_alone(
    models, lengths, candidates, batch_tokens, seed
) -> None:
    given_prompts = prompts(lengths, seed)
    close(
        log_likelihoods(models["qwen2"], given_prompts, candidates, batch_tokens),
        alone(models["qwen2"], given_prompts, candidates),
    )


def test_a_candidate_does_not_see_the_others(models) -> None:
    given_prompts = prompts([8, 5])
    model = models["llama"]
    few = log_likelihoods(model, given_prompts, [[7, 8, 9], [5, 6]], 90)
    other = log_likelihoods(model, given_prompts, [[7, 8, 9], [100, 200, 280], [5, 6]], 90)
    torch.testing.assert_close(few, other[:, [0, 2]], rtol=0, atol=1e-4)


def test_a_prompt_does_not_see_the_batch(models) -> None:
    short, long = prompts([3, 40])
    model = models["mistral"]
    torch.testing.assert_close(
        log_likelihoods(model, [short, long], MIXED, 100)[0],
        log_likelihoods(model, [short], MIXED, 100)[0],
        rtol=0,
        atol=1e-4,
    )


def test_single_token_candidates_share_out_the_whole_probability(models) -> None:
    every = [[token] for token in range(290)]
    found = log_likelihoods(models["qwen2"], prompts([4, 9]), every, 100)
    assert found.exp().sum(1).tolist() == pytest.approx([1, 1], rel=1e-5)


def test_the_order_of_the_prompts_is_kept(models) -> None:
    given_prompts = prompts([12, 3, 7, 3, 20, 1])
    forward = log_likelihoods(models["qwen2"], given_prompts, MIXED, 40)
    backward = log_likelihoods(models["qwen2"], given_prompts[::-1], MIXED, 40)
    torch.testing.assert_close(forward, backward.flip(0), rtol=0, atol=1e-4)


def test_a_bfloat16_model_scores_as_near_as_its_digits_allow(random_model) -> None:
    model = random_model("qwen2").bfloat16()
    given_prompts = prompts([6, 2, 15])
    expected = alone(model, given_prompts, MIXED).float()
    found = log_likelihoods(model, given_prompts, MIXED, 60)
    torch.testing.assert_close(found, expected, rtol=0.03, atol=0.2)


def test_no_forward_pass_has_more_tokens_than_its_budget(random_model) -> None:
    model, seen = random_model("llama"), []
    model.register_forward_pre_hook(
        lambda _, __, given: seen.append(given["input_ids"].numel()), with_kwargs=True
    )
    given_prompts = prompts([30, 4, 4, 9, 22, 4, 60])
    log_likelihoods(model, given_prompts, MIXED, 50)
    assert len(seen) == 5
    # The longest alone is over it; seven tokens of candidates stand behind each prompt.
    assert [tokens for tokens in seen if tokens > 50] == [67]


LIMITED = """
import resource, torch
from transformers import LlamaConfig, LlamaForCausalLM
from affectlocus.lm.candidates import log_likelihoods
from affectlocus.core.errors import InputError

torch.manual_seed(0)
shape = dict(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
model = LlamaForCausalLM(LlamaConfig(vocab_size=50_000, **shape)).eval()
prompts = [[number + 1] * 5 for number in range(200)]
few, many = [[5, 6, 7], [8, 9]], [list(range(1, 3000))]
expected = log_likelihoods(model, prompts, few, 100)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 200_000_000,) * 2)
found = log_likelihoods(model, prompts, few, 1_000_000)
torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
try:
    log_likelihoods(model, prompts, many, 1_000_000)
except InputError as error:
    print(error.code, error.fields["key"])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="address space is limited by Linux's means")
def test_where_memory_runs_out_the_batch_is_halved_and_the_work_goes_on() -> None:
    run = subprocess.run(
        [sys.executable, "-c", LIMITED], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert "out of memory with" in run.stderr
    assert run.stdout == "memory.row-too-long evaluate.max_length\n"


def test_progress_adds_up_to_the_prompts(models) -> None:
    told: list[int] = []
    log_likelihoods(models["qwen2"], prompts([3] * 7), MIXED, 30, told.append)
    assert told == [3, 3, 1]


@pytest.mark.parametrize(
    ("architecture", "more"),
    [
        ("mistral", {}),
        ("qwen2", {"use_sliding_window": True, "max_window_layers": 0}),
        # The first layer sees everything, the second a window.
        ("qwen2", {"use_sliding_window": True, "max_window_layers": 1}),
        ("qwen2", {"use_sliding_window": False}),
    ],
    ids=["mistral", "qwen2", "qwen2 in one layer", "qwen2 without"],
)
def test_a_sliding_window_that_is_shorter_than_the_prompt_holds(
    random_model, architecture, more
) -> None:
    model = random_model(architecture, sliding_window=4, **more)
    given_prompts = prompts([12, 7])
    close(log_likelihoods(model, given_prompts, MIXED, 40), alone(model, given_prompts, MIXED))
