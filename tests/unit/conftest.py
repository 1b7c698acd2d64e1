"""Tiny real checkpoints for the unit tests, made on the spot by transformers and peft.

The fixtures are factories, and import what they need when they are first asked: a test file that
wants no model pays for none. Folders that a factory returns are shared: a test that changes one
copies it first.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from affectlocus.training.training_state import TrainingStates

# Before torch is imported: the numbers below are those of a CPU, and no test may reach for a hub.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

HIDDEN, INTERMEDIATE, LAYERS, HEADS, KV_HEADS = 32, 48, 2, 4, 2
END, BEGIN = "<|end|>", "<|begin|>"


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Where a collected test file has imported torch: models this small gain nothing from more."""
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(1)


def _tokenizer(begin: bool) -> PreTrainedTokenizerFast:
    """Bytes, a few merges of common words, an end token, and a start token where asked for."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        ["Anna was happy. Ben was sad, Cleo angry: all was well."] * 3,
        trainers.BpeTrainer(
            vocab_size=290,
            special_tokens=[END, *([BEGIN] if begin else [])],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    special = {"eos_token": END, "pad_token": END}
    if begin:
        # As LLaMA's: the tokenizer itself puts the start token in front when it is let.
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{BEGIN} $A", special_tokens=[(BEGIN, tokenizer.token_to_id(BEGIN))]
        )
        special["bos_token"] = BEGIN
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


@pytest.fixture(scope="session")
def tokenizer() -> Callable[[bool], PreTrainedTokenizerFast]:
    """`tokenizer(begin)`: a byte-level tokenizer, with a start token or without."""
    return _tokenizer


@pytest.fixture(scope="session")
def random_model() -> Callable[..., PreTrainedModel]:
    """`random_model("llama", seed=3, **config)`: float32, every parameter drawn, in eval mode.

    The entries are larger than a real initialisation's, so that no two answers are alike, and the
    biases and norms are no constants.
    """

    def build(architecture: str = "qwen2", seed: int = 0, **config: Any) -> PreTrainedModel:
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM

        settings = {
            "vocab_size": 290,
            "hidden_size": HIDDEN,
            "intermediate_size": INTERMEDIATE,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "num_key_value_heads": KV_HEADS,
            "head_dim": HIDDEN // HEADS,
            "max_position_embeddings": 128,
            "sliding_window": None,
            "tie_word_embeddings": architecture == "qwen2",
            "bos_token_id": None,
            "eos_token_id": 0,
            "pad_token_id": 0,
        }
        model = AutoModelForCausalLM.from_config(
            AutoConfig.for_model(architecture, **(settings | config))
        )
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in sorted(model.named_parameters()):
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.copy_(1 + 0.1 * noise if "norm" in name else 0.2 * noise)
        return model.eval()

    return build


@pytest.fixture(scope="session")
def checkpoint(
    tmp_path_factory: pytest.TempPathFactory, random_model: Callable[..., PreTrainedModel]
) -> Callable[..., Path]:
    """`checkpoint("qwen2", dtype="bfloat16", seed=1, shard="20KB", **config)`: its folder.

    Model and tokenizer as transformers saves them. Qwen2 has biases on q, k, v and tied embeddings;
    LLaMA and Mistral have neither, and a start token. The same arguments give the same folder.
    """
    made: dict[str, Path] = {}

    def save(
        architecture: str = "qwen2",
        dtype: str = "float32",
        seed: int = 0,
        shard: str = "1GB",
        **config: Any,
    ) -> Path:
        import torch

        key = json.dumps([architecture, dtype, seed, shard, config], sort_keys=True)
        if key not in made:
            folder = tmp_path_factory.mktemp(f"{architecture}-{dtype}")
            model = random_model(architecture, seed, **config).to(getattr(torch, dtype))
            model.save_pretrained(folder, max_shard_size=shard)
            _tokenizer(begin=architecture != "qwen2").save_pretrained(folder)
            made[key] = folder
        return made[key]

    return save


@pytest.fixture(scope="session")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`twin(base, where, seed)`: a fully tuned model, with noise on the tensors `where` is true of.

    By default on every tensor: embeddings and norms too, as a full fine-tune does.
    """

    def save(
        base: Path, where: Callable[[str], bool] = lambda _: True, seed: int = 1, **options: Any
    ) -> Path:
        import torch
        from transformers import AutoModelForCausalLM

        folder = tmp_path_factory.mktemp("twin")
        model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in sorted(model.named_parameters()):
                if where(name):
                    noise = torch.randn(parameter.shape, generator=generator)
                    parameter.add_(0.05 * noise.to(parameter.dtype))
        model.save_pretrained(folder, **options)
        return folder

    return save


@pytest.fixture(scope="session")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`lora(base, ["q_proj"], r=2, **config)`: an adapter saved by peft, with B drawn, not zero."""

    def save(base: Path, targets: list[str] | str, seed: int = 1, **config: Any) -> Path:
        import torch
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM

        folder = tmp_path_factory.mktemp("adapter")
        settings = {"r": 3, "lora_alpha": 6, "task_type": "CAUSAL_LM", **config}
        torch.manual_seed(seed)
        model = get_peft_model(
            AutoModelForCausalLM.from_pretrained(base, dtype="auto"),
            LoraConfig(target_modules=targets, **settings),
        )
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(std=0.1)
        model.save_pretrained(folder)
        return folder

    return save


@pytest.fixture(scope="session")
def merged() -> Callable[[Path, Path], dict[str, torch.Tensor]]:
    """`merged(base, adapter)`: peft's own merge, tensors by name, in float32 whatever the base."""

    def merge(base: Path, adapter: Path) -> dict[str, torch.Tensor]:
        import torch
        from peft import PeftModel
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        return PeftModel.from_pretrained(model, adapter).merge_and_unload().state_dict()

    return merge


@pytest.fixture
def stopping(tmp_path: Path) -> Callable[..., TrainingStates]:
    """`stopping(7)`: states of one job, whose training gets a real SIGTERM in its seventh step.

    `stopping()` is the same without the signal. A state is saved only when the signal comes.
    `stopping(7, "b")` are the states of another job.
    """
    from affectlocus.training.training_state import TrainingStates, states_folder

    class Signalled(TrainingStates):
        left: int | None = None

        def due(self) -> bool:
            # At the end of a step; what comes now comes in the next.
            if self.left is not None:
                self.left -= 1
                if self.left == 1:
                    os.kill(os.getpid(), signal.SIGTERM)
            return False

    def make(steps: int | None = None, name: str = "mine") -> TrainingStates:
        states = Signalled(states_folder(tmp_path / name), {"job": "a"})
        states.left = steps
        return states

    return make


@pytest.fixture(scope="session")
def projection() -> Callable[[str], str]:
    """`projection(name)`: q, k, v, o, gate, up or down by plain splitting; empty elsewhere."""

    def part(name: str) -> str:
        module = name.split(".")[-2]
        return module.removesuffix("_proj") if module.endswith("_proj") else ""

    return part
