"""Soft tokens: their ids in prompts, truncation, and the inputs of a model."""

from __future__ import annotations

import pytest
import torch
from refusal import refused

from affectlocus.config.evaluation import Generation
from affectlocus.lm.candidates import log_likelihoods
from affectlocus.lm.chat_templates import template_ids
from affectlocus.lm.generate import generate_texts
from affectlocus.lm.prompts import Prompter
from affectlocus.lm.soft_tokens import (
    cut,
    model_inputs,
    shortened,
    soft_ids,
    without_placeholders,
)

TOKENS = {"face": 2, "voice": 1}


def test_soft_tokens_are_numbered_in_the_order_of_the_bridge():
    assert soft_ids(TOKENS) == {"face": [-1, -2], "voice": [-3]}


@pytest.mark.parametrize("architecture", ["qwen2", "llama"])
def test_a_prompt_is_encoded_around_its_placeholders(checkpoint, architecture):
    prompter = Prompter(checkpoint(architecture))
    (ids,) = prompter.prompts(["A <face> was <voice>sad <face>"], 99, TOKENS)

    def plain(text: str) -> list[int]:
        return list(prompter.tokenizer(text, add_special_tokens=False)["input_ids"])

    start = [] if architecture == "qwen2" else [prompter.tokenizer.bos_token_id]
    want = [*start, *plain("A "), -1, -2, *plain(" was "), -3, *plain("sad "), -1, -2]
    assert ids == want
    # A prompt without placeholders is what it was.
    assert prompter.prompts(["Anna was"], 99, TOKENS) == prompter.prompts(["Anna was"], 99)


def test_truncation_cuts_text_and_never_a_placeholder(checkpoint):
    prompter = Prompter(checkpoint("llama"))
    text = "all was well <face> all was <voice> well"
    (whole,) = prompter.prompts([text], 999, TOKENS)
    for room in range(5, len(whole) + 1):
        (ids,) = prompter.prompts([text], room, TOKENS)
        assert len(ids) == room
        assert ids[0] == whole[0]
        assert [one for one in ids if one < 0] == [-1, -2, -3]
        kept = [one for one in ids[1:] if one >= 0]
        assert kept == [one for one in whole[1:] if one >= 0][len(whole) - room :]
    with refused("prompt.no-room-for-media", found=3, expected=2):
        prompter.prompts([text], 3, TOKENS)


def test_shortened_and_cut_keep_the_order():
    assert shortened([5, -1, 6, 7, -2, 8], 4) == [-1, 7, -2, 8]
    assert cut("one <face> two", 6, TOKENS) == "<face>wo"
    assert cut("one <face> two", 99, TOKENS) == "<face>"
    assert cut("one <face> two", 2, {}) == "e <face> two"


def test_a_text_without_placeholders_is_the_text_alone():
    assert without_placeholders("<face> <voice> She <laughs>", ["face", "voice"]) == "She <laughs>"
    assert without_placeholders("She<face>.", ["voice"]) == "She<face>."


def test_a_chat_template_keeps_the_soft_tokens(checkpoint):
    prompter = Prompter(checkpoint())
    prompter.tokenizer.chat_template = "{% for m in messages %}[{{ m['content'] }}]{% endfor %}"
    settings = Generation(template="chat")
    (whole,) = template_ids(prompter.tokenizer, ["so sad <face> was she"], settings, 99, TOKENS)
    (short,) = template_ids(prompter.tokenizer, ["so sad <face> was she"], settings, 9, TOKENS)
    assert [one for one in whole if one < 0] == [one for one in short if one < 0] == [-1, -2]
    assert (short[0], short[-1]) == (whole[0], whole[-1])
    assert len(short) <= 9 < len(whole)
    prompter.tokenizer.chat_template = None


def test_ids_without_soft_tokens_are_given_as_ids(random_model):
    model = random_model()
    ids = torch.tensor([[1, 2], [3, 4]])
    assert list(model_inputs(model, ids, torch.zeros(2, 3, 32))) == ["input_ids"]
    assert list(model_inputs(model, ids)) == ["input_ids"]


@pytest.mark.parametrize("architecture", ["qwen2", "llama", "gemma2"])
def test_the_embedding_of_a_word_as_a_soft_token_is_the_word(random_model, architecture):
    """The same bits as from ids: candidates, and generated text."""
    model = random_model(architecture)
    words = [[11, 40, 41, 42], [12, 50, 51], [13, 60, 61, 62, 63]]
    table = model.get_input_embeddings()
    given = torch.stack([table(torch.tensor(ids[1:3])) for ids in words]).detach()  # (3, 2, H)
    mixed = [[ids[0], -1, -2, *ids[3:]] for ids in words]
    seen = []

    def soft(rows):
        seen.extend(rows)
        return given[list(rows)]

    candidates = [[70, 71], [80]]
    plain = log_likelihoods(model, words, candidates, 999)
    assert torch.equal(log_likelihoods(model, mixed, candidates, 999, soft=soft), plain)
    assert sorted(seen) == [0, 1, 2]
    # Batches of one row: other rounding, the same values.
    single = log_likelihoods(model, mixed, candidates, 1, soft=soft)
    assert torch.allclose(single, plain, atol=1e-4)


@pytest.mark.parametrize("sampling", ["greedy", "nucleus"])
def test_text_after_soft_tokens_is_the_text_after_the_words(checkpoint, random_model, sampling):
    model, tokenizer = random_model(), Prompter(checkpoint()).tokenizer
    words = [[11, 40, 41, 42], [12, 50, 51]]
    table = model.get_input_embeddings()
    given = torch.stack([table(torch.tensor(ids[1:3])) for ids in words]).detach()
    mixed = [[ids[0], -1, -2, *ids[3:]] for ids in words]
    settings = Generation(max_new_tokens=12, sampling=sampling)
    keys = ["a", "b"]
    plain = generate_texts(model, tokenizer, words, keys, settings, 999)
    found = generate_texts(
        model, tokenizer, mixed, keys, settings, 999, soft=lambda rows: given[list(rows)]
    )
    assert found == plain
    assert plain[1] == [12, 12]
