"""Step `pretrain`: pre-trains a tiny base on the generated corpus, in Hugging Face format."""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

from affectlocus.config.corpus import Pretraining
from affectlocus.core.errors import InputError
from affectlocus.data.corpus import held_out
from affectlocus.lm.devices import main_device
from affectlocus.lm.text_loss import text_nats
from affectlocus.training.batches import Budget, Example
from affectlocus.training.training_loop import train
from affectlocus.training.training_state import TrainingStates

END = "<|endoftext|>"
VOCABULARY = 768


def train_tokenizer(documents: list[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with the splitting of Qwen2.

    AutoTokenizer applies this splitting to every folder of a Qwen2 model.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        documents,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=[END],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=END)


def configure(settings: Pretraining, tokenizer: PreTrainedTokenizerFast) -> PretrainedConfig:
    """The configuration of the base, in the architecture's own class, with tied embeddings."""
    return AutoConfig.for_model(
        settings.architecture,
        vocab_size=len(tokenizer),
        hidden_size=settings.hidden_size,
        intermediate_size=settings.intermediate_size,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.kv_heads,
        head_dim=settings.hidden_size // settings.heads,
        max_position_embeddings=512,
        initializer_range=settings.initializer_range,
        tie_word_embeddings=True,
        sliding_window=settings.sliding_window,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def perplexity(model: PreTrainedModel, examples: list[Example], batch_tokens: int = 8192) -> float:
    """exp of the mean negative log-likelihood per token (nats); first tokens are not predicted."""
    nats, tokens = text_nats(model.eval(), [example.ids for example in examples], batch_tokens)
    return math.exp(nats.sum() / tokens.sum())


@lru_cache(maxsize=1)
def _encoded(text: str) -> tuple[PreTrainedTokenizerFast, list[Example], int]:
    """The tokenizer of a text, its documents, and how many of them are held out.

    All bases of a process have the same.
    """
    documents = text.splitlines()
    last = held_out(len(documents))
    tokenizer = train_tokenizer(documents[:-last])
    examples = [
        Example([*encoding, tokenizer.eos_token_id])
        for encoding in tokenizer(documents, return_attention_mask=False)["input_ids"]
    ]
    return tokenizer, examples, last


def pretrain(
    text: Path, settings: Pretraining, folder: Path, states: TrainingStates | None = None
) -> dict[str, float]:
    """Trains tokenizer and model on `text` (one document per line) and saves both into `folder`.

    Args:
        states: saves and restores the state of an interrupted training.

    Returns:
        `perplexity` on the held-out documents, the number of `parameters`, and the number of
        `tokens` in the training documents.

    Raises:
        InputError: the seed is not a number.
    """
    seed = settings.seed
    if not isinstance(seed, int):
        raise InputError(
            "pretrain.no-seed",
            f"seed: found {seed!r}, which only an experiment can resolve; expected a number",
            key="seed",
            found=seed,
        )
    tokenizer, examples, last = _encoded(text.read_text(encoding="utf-8"))
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(configure(settings, tokenizer)).to(main_device())
    train(
        model,
        examples[:-last],
        Budget(
            steps=settings.steps,
            batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            warmup=0.1,
            weight_decay=0.01,
            seed=seed,
            group_by_length=settings.group_by_length,
            beta2=settings.beta2,
        ),
        states=states,
    )
    folder.mkdir(parents=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return {
        "perplexity": perplexity(model, examples[-last:]),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "tokens": sum(len(example.ids) for example in examples[:-last]),
    }
