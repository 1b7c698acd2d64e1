"""A tiny base of each architecture, pre-trained for a few steps on the embedded corpus."""

from __future__ import annotations

import math
import random
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refusal import refused
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from affectlocus.checkpoints.weights import Weights
from affectlocus.config.corpus import Pretraining
from affectlocus.core.stop_signals import Stopped
from affectlocus.data.corpus import pretraining_document
from affectlocus.training.batches import Example
from affectlocus.training.pretrain import END, VOCABULARY, perplexity, pretrain, train_tokenizer

ARCHITECTURES = ["qwen2", "llama", "mistral"]
DOCUMENTS = [pretraining_document(random.Random(number)) for number in range(60)]
HELD_OUT = 3  # a twentieth of them

any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def settings_of(architecture: str, **others: object) -> Pretraining:
    return Pretraining.model_validate(
        {
            "architecture": architecture,
            "hidden_size": 32,
            "intermediate_size": 48,
            "layers": 2,
            "heads": 4,
            "kv_heads": 2,
            "steps": 12,
            "batch_size": 8,
            "learning_rate": 0.01,
        }
        | others
    )


@dataclass(frozen=True)
class Made:
    """A pre-trained folder and what was measured."""

    folder: Path
    measured: dict[str, float]
    text: Path


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict[str, Made]:
    found = {}
    text = tmp_path_factory.mktemp("corpus") / "pretraining.txt"
    text.write_text("\n".join(DOCUMENTS) + "\n", encoding="utf-8")
    for architecture in ARCHITECTURES:
        folder = tmp_path_factory.mktemp("bases") / architecture
        found[architecture] = Made(folder, pretrain(text, settings_of(architecture), folder), text)
    return found


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    """As `pretrain` trains it: without the held-out documents."""
    return train_tokenizer(DOCUMENTS[:-HELD_OUT])


@torch.inference_mode()
def reference(model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase) -> float:
    """The perplexity of the held-out documents, document by document and in float64."""
    total, count = 0.0, 0
    for document in DOCUMENTS[-HELD_OUT:]:
        ids = torch.tensor([*tokenizer(document)["input_ids"], tokenizer.eos_token_id])
        logs = model(ids[None]).logits[0].double().log_softmax(-1)
        total -= float(logs[torch.arange(len(ids) - 1), ids[1:]].sum())
        count += len(ids) - 1
    return math.exp(total / count)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_saved_folder_is_a_model_of_the_architecture_asked_for(made, architecture) -> None:
    model = AutoModelForCausalLM.from_pretrained(made[architecture].folder)
    config = model.config
    assert config.model_type == architecture
    assert (config.hidden_size, config.intermediate_size) == (32, 48)
    assert (config.num_hidden_layers, config.num_attention_heads) == (2, 4)
    assert config.num_key_value_heads == 2
    assert config.tie_word_embeddings
    assert config.eos_token_id is not None
    assert config.bos_token_id is None
    assert model.dtype == torch.float32
    count = sum(parameter.numel() for parameter in model.parameters())
    assert made[architecture].measured["parameters"] == count
    found = Weights(made[architecture].folder).projections
    assert len(found) == (20 if architecture == "qwen2" else 14)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_perplexity_is_that_of_the_held_out_documents(made, tokenizer, architecture) -> None:
    model = AutoModelForCausalLM.from_pretrained(made[architecture].folder).eval()
    measured = made[architecture].measured["perplexity"]
    assert measured == pytest.approx(reference(model, tokenizer), rel=1e-4)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_pretraining_lowers_the_perplexity(made, tokenizer, architecture) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(made[architecture].folder)
    untrained = AutoModelForCausalLM.from_config(model.config).eval()
    before = reference(untrained, tokenizer)
    # An untrained model knows nothing: about the number of tokens.
    assert before > 0.7 * len(tokenizer)
    assert made[architecture].measured["perplexity"] < 0.7 * before


def test_one_pass_has_the_tokens_of_the_training_documents(made, tokenizer) -> None:
    expected = sum(len(tokenizer(text)["input_ids"]) + 1 for text in DOCUMENTS[:-HELD_OUT])
    assert made["llama"].measured["tokens"] == expected


def test_the_held_out_documents_are_not_learned(made, tmp_path) -> None:
    # With the held-out documents exchanged, the same weights come out.
    text = tmp_path / "other.txt"
    other = [pretraining_document(random.Random(number)) for number in range(900, 903)]
    text.write_text("\n".join([*DOCUMENTS[:-HELD_OUT], *other]) + "\n", encoding="utf-8")
    measured = pretrain(text, settings_of("llama"), tmp_path / "llama")
    first, second = made["llama"].folder, tmp_path / "llama"
    for name in ("model.safetensors", "tokenizer.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    assert measured["perplexity"] != made["llama"].measured["perplexity"]


def test_another_seed_gives_other_weights(made, tmp_path) -> None:
    folder = tmp_path / "other"
    pretrain(made["llama"].text, settings_of("llama", seed=1, steps=1), folder)
    name = "model.layers.0.mlp.gate_proj.weight"
    first, second = (Weights(path).tensor(name) for path in (made["llama"].folder, folder))
    assert abs(float(torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1])) < 0.2


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_perplexity_weighs_every_token_alike_whatever_the_batch(random_model, batch_size) -> None:
    model = random_model("llama")
    examples = [Example(list(range(5, 5 + length))) for length in (2, 17, 3, 9, 2)]
    total, count = 0.0, 0
    with torch.inference_mode():
        for example in examples:
            ids = torch.tensor(example.ids)
            logs = model(ids[None]).logits[0].double().log_softmax(-1)
            total -= float(logs[:-1].gather(1, ids[1:, None]).sum())
            count += len(ids) - 1
    assert perplexity(model, examples, batch_size) == pytest.approx(
        math.exp(total / count), rel=1e-4
    )


def test_a_uniform_model_has_the_vocabularys_perplexity(random_model) -> None:
    model = random_model("llama")
    torch.nn.init.zeros_(model.lm_head.weight)
    examples = [Example([4, 5, 6, 7]), Example([9, 8])]
    assert perplexity(model, examples) == pytest.approx(290, rel=1e-5)


def test_perplexity_switches_dropout_off(random_model) -> None:
    model = random_model("qwen2", attention_dropout=0.5).train()
    examples = [Example(list(range(20)))]
    assert perplexity(model, examples) == perplexity(model, examples)


# The tokenizer


@given(text=any_text)
def test_the_tokenizer_gives_back_any_text(tokenizer, text) -> None:
    # As Qwen2's, it composes characters first; nothing else is lost.
    composed = unicodedata.normalize("NFC", text)
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == composed


@pytest.mark.parametrize(
    "text", ["a , b . c 's don 't", "  two  \n\n three\t", "é漢字🙂", *DOCUMENTS[:3]]
)
def test_the_tokenizer_gives_back_spaces_and_signs(tokenizer, text) -> None:
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_the_end_token_is_one_token_that_no_text_needs(tokenizer) -> None:
    assert tokenizer.eos_token == END
    assert tokenizer(END)["input_ids"] == [tokenizer.eos_token_id]
    assert tokenizer.bos_token_id is None
    assert len(tokenizer) <= VOCABULARY
    for document in DOCUMENTS:
        ids = tokenizer(document)["input_ids"]
        assert tokenizer.eos_token_id not in ids
        assert len(ids) < len(document.encode()) / 2, "no merges were learned"


@pytest.mark.parametrize("architecture", ["qwen2", "llama", "mistral"])
def test_the_saved_tokenizer_encodes_as_the_one_that_the_model_read(
    made, tokenizer, architecture
) -> None:
    saved = AutoTokenizer.from_pretrained(made[architecture].folder, local_files_only=True)
    assert len(saved) == len(tokenizer)
    sums = [f"Nora had {number} coins. Then Nora had {number + 2}." for number in range(10)]
    for text in [*DOCUMENTS, *sums]:
        assert saved(text)["input_ids"] == tokenizer(text)["input_ids"], text


@pytest.mark.parametrize("architecture", ["qwen2", "llama", "mistral"])
def test_the_saved_tokenizer_gives_back_any_text(made, architecture) -> None:
    saved = AutoTokenizer.from_pretrained(made[architecture].folder, local_files_only=True)

    @settings(database=None)
    @given(text=any_text | st.sampled_from(["e\u0301", "\u212b", "a  b \n c"]))
    def gives_back(text: str) -> None:
        # Qwen2's tokenizer composes characters first.
        composed = unicodedata.normalize("NFC", text)
        assert saved.decode(saved(text)["input_ids"]) == composed

    gives_back()


def test_a_corpus_without_a_document_to_learn_from_is_refused(tmp_path) -> None:
    text = tmp_path / "one.txt"
    text.write_text(DOCUMENTS[0] + "\n", encoding="utf-8")
    with refused("tuning.no-samples"):
        pretrain(text, settings_of("llama"), tmp_path / "never")
    assert not (tmp_path / "never").exists()


def test_a_stopped_pretraining_ends_as_if_it_never_was(made, tmp_path, stopping) -> None:
    whole, folder = made["llama"], tmp_path / "llama"
    with pytest.raises(Stopped, match="stopped by SIGTERM after step 7 of 12"):
        pretrain(whole.text, settings_of("llama"), folder, stopping(7))
    assert not folder.exists()
    assert pretrain(whole.text, settings_of("llama"), folder, stopping()) == whole.measured
    for path in whole.folder.iterdir():
        assert (folder / path.name).read_bytes() == path.read_bytes(), path.name
