"""Prompts and answers as token ids, with tokenizers of both kinds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusal import refused
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from affectlocus.lm.prompts import Prompter
from affectlocus.training.pretrain import train_tokenizer

TEXT = "Anna lost her coins. In a word, Anna was"
WORDS = ["happy", "sad", "a little afraid", "über-froh", "7"]
PROMPTS = [TEXT, "Ben: no!", "The answer is:", "Ünïcödé 漢字", "ends in a digit 4", "a"]


def metaspace() -> PreTrainedTokenizerFast:
    """In the manner of LLaMA: word starts are marked in the word, and a start token comes first."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.train_from_iterator(
        [*PROMPTS, *WORDS, "Anna was happy. Ben was sad: a pity."] * 3,
        trainers.BpeTrainer(
            vocab_size=140, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False
        ),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


@pytest.fixture(scope="module")
def prompters(tmp_path_factory, checkpoint, tokenizer) -> dict[str, Prompter]:
    made = {
        "bytes": Prompter(checkpoint("qwen2")),
        "bytes with a start token": Prompter(checkpoint("llama")),
    }
    others: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
        "words": lambda: train_tokenizer([*PROMPTS, *WORDS] * 3),
        "metaspace": metaspace,
    }
    for name, build in others.items():
        folder: Path = tmp_path_factory.mktemp(name)
        build().save_pretrained(folder)
        made[name] = Prompter(folder)
    ended = tokenizer(False)
    ended.eos_token = None
    ended.save_pretrained(folder := tmp_path_factory.mktemp("endless"))
    made["endless"] = Prompter(folder)
    return made


ALL = ["bytes", "bytes with a start token", "words", "metaspace"]
STARTING = ["bytes with a start token", "metaspace"]


@pytest.mark.parametrize("name", STARTING)
def test_a_start_token_comes_first_and_only_once(prompters, name) -> None:
    prompter = prompters[name]
    start = prompter.tokenizer.bos_token_id
    assert start is not None
    # The tokenizer would add one by itself.
    assert prompter.tokenizer(TEXT)["input_ids"][0] == start
    for ids in prompter.prompts(PROMPTS, 100):
        assert ids[0] == start
        assert ids.count(start) == 1


@pytest.mark.parametrize("name", STARTING)
def test_a_prompt_that_names_the_start_token_itself_gets_no_second(prompters, name) -> None:
    # As in a template copied from a model card: "<s>[INST] ...".
    prompter = prompters[name]
    [ids] = prompter.prompts([prompter.tokenizer.bos_token + TEXT], 100)
    assert ids.count(prompter.tokenizer.bos_token_id) == 1


@pytest.mark.parametrize("name", ["bytes", "words"])
def test_a_tokenizer_without_a_start_token_gets_none(prompters, name) -> None:
    prompter = prompters[name]
    found = prompter.prompts(PROMPTS, 100)
    assert [prompter.tokenizer.decode(ids) for ids in found] == PROMPTS
    assert not {prompter.tokenizer.eos_token_id} & {token for ids in found for token in ids}


@pytest.mark.parametrize("name", ALL)
def test_each_prompt_is_encoded_as_it_would_be_alone(prompters, name) -> None:
    prompter = prompters[name]
    together = prompter.prompts(PROMPTS, 100)
    assert together == [prompter.prompts([text], 100)[0] for text in PROMPTS]


@pytest.mark.parametrize("name", ["bytes", "words"])
@pytest.mark.parametrize("limit", [1, 2, 5, 1000])
def test_a_long_prompt_keeps_its_end(prompters, name, limit) -> None:
    prompter = prompters[name]
    [whole], [cut] = prompter.prompts([TEXT], 10_000), prompter.prompts([TEXT], limit)
    assert cut == whole[-limit:]
    assert len(cut) == min(limit, len(whole))


@pytest.mark.parametrize("name", STARTING)
@pytest.mark.parametrize("limit", [1, 2, 5, 1000])
def test_a_long_prompt_keeps_its_end_and_its_start_token(prompters, name, limit) -> None:
    prompter = prompters[name]
    [whole], [cut] = prompter.prompts([TEXT], 10_000), prompter.prompts([TEXT], limit)
    assert len(cut) == min(limit, len(whole))
    assert cut[0] == prompter.tokenizer.bos_token_id
    assert cut[1:] == (whole[1:][-(limit - 1) :] if limit > 1 else [])


def test_no_prompts_give_no_ids(prompters) -> None:
    assert prompters["bytes"].prompts([], 10) == []


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("word", WORDS)
def test_prompt_and_answer_joined_are_the_encoding_of_the_whole_text(prompters, name, word) -> None:
    prompter = prompters[name]
    for text in PROMPTS:
        joined = [*prompter.prompts([text], 1000)[0], *prompter.answer(word)]
        # `prompts` of the whole: the same start token, nothing cut.
        assert joined == prompter.prompts([f"{text} {word}"], 1000)[0], text
    assert prompter.answer(word)


@given(text=st.from_regex(r"[A-Za-z,.:;!?'äß漢 ]{0,20}[A-Za-z.:?!]", fullmatch=True))
def test_any_prompt_that_does_not_end_in_space_joins_with_an_answer(prompters, text) -> None:
    for name in ("bytes", "bytes with a start token", "words"):
        prompter = prompters[name]
        joined = [*prompter.prompts([text], 1000)[0], *prompter.answer("happy")]
        assert joined == prompter.prompts([f"{text} happy"], 1000)[0], name


def test_an_answer_that_is_changed_by_its_caller_stays_as_it_was(prompters) -> None:
    prompter = prompters["bytes"]
    first = tuple(prompter.answer("happy"))
    prompter.answer("happy").append(99)
    assert tuple(prompter.answer("happy")) == first


def test_the_end_is_the_tokenizers_own_or_none(prompters) -> None:
    assert prompters["bytes"].end() == [prompters["bytes"].tokenizer.eos_token_id]
    assert prompters["metaspace"].end() == [2]
    assert prompters["endless"].end() == []


def test_a_folder_without_a_tokenizer_is_refused(twin, checkpoint) -> None:
    # transformers makes one that knows nothing, and a model then reads prompts without a token.
    folder = twin(checkpoint("qwen2"))
    with refused("tokenizer.missing", file=folder):
        Prompter(folder)
