"""Cells are the live model: head, embeddings, norms and vocabulary of the tuned model included.

The right values are the logits of the model that peft or transformers loads, in float32.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from command import in_process
from peft import LoraConfig, PeftModel, get_peft_model
from refusal import refused
from safetensors.torch import load_file, save_file
from single import build
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from affectlocus.checkpoints.model_pairs import ModelPair
from affectlocus.checkpoints.pairs import Pair
from affectlocus.checkpoints.stored import same_bits
from affectlocus.config.experiment import Parameters
from affectlocus.core.cells import Cell
from affectlocus.evaluation.evaluate import CellModel
from affectlocus.lm.prompts import Prompter
from affectlocus.orchestration.preflight import check_pairs

IDS = torch.tensor([[5, 90, 17, 44, 3]])
BASE, TUNED = Cell("base", "base"), Cell("tuned", "base", "pair")
LOAD, REVERT = Cell("load", "base", "pair", "all"), Cell("ablate", "base", "pair", "q", "revert")
Q = "q_proj"

VARIANTS: dict[str, dict[str, Any]] = {
    "projections": {"target_modules": [Q, "v_proj"]},
    "LoRA on the head": {"target_modules": [Q, "lm_head"]},
    "DoRA on the head": {"target_modules": [Q, "lm_head"], "use_dora": True},
    "fan_in_fan_out": {"target_modules": [Q, "lm_head"], "fan_in_fan_out": True},
    "LoRA on the embeddings": {"target_modules": [Q, "embed_tokens"]},
    "DoRA on the embeddings": {"target_modules": [Q, "embed_tokens"], "use_dora": True},
    "LoRA on both": {"target_modules": [Q, "embed_tokens", "lm_head"]},
    "LoRA on both, tied": {"target_modules": [Q, "embed_tokens"], "ensure_weight_tying": True},
    "LoRA and a saved head": {
        "target_modules": [Q, "embed_tokens"],
        "modules_to_save": ["lm_head"],
    },
    "saved head": {"target_modules": [Q], "modules_to_save": ["lm_head"]},
    "saved embeddings": {"target_modules": [Q], "modules_to_save": ["embed_tokens"]},
    "saved both": {"target_modules": [Q], "modules_to_save": ["embed_tokens", "lm_head"]},
    "saved both, tied": {
        "target_modules": [Q],
        "modules_to_save": ["embed_tokens"],
        "ensure_weight_tying": True,
    },
    "saved norms": {"target_modules": [Q], "modules_to_save": ["norm", "input_layernorm"]},
    "all biases": {"target_modules": [Q], "bias": "all"},
    "biases of LoRA's modules": {"target_modules": [Q], "bias": "lora_only"},
    "LoRA's own biases": {"target_modules": [Q], "lora_bias": True},
    "tokens": {"target_modules": [Q], "trainable_token_indices": [3, 7]},
    "tokens of the head": {"target_modules": [Q], "trainable_token_indices": {"lm_head": [3, 9]}},
    "tokens of both": {
        "target_modules": [Q],
        "trainable_token_indices": {"embed_tokens": [3, 7], "lm_head": [17]},
    },
    "tokens and LoRA on the head": {
        "target_modules": [Q, "lm_head"],
        "trainable_token_indices": [3, 7],
    },
    "new tokens": {"extra": 3, "target_modules": [Q]},
    "new tokens, single rows": {
        "extra": 2,
        "target_modules": [Q],
        "trainable_token_indices": [290, 291],
    },
    "new tokens, saved both": {
        "extra": 3,
        "target_modules": [Q],
        "modules_to_save": ["embed_tokens", "lm_head"],
    },
    "new tokens, saved embeddings": {
        "extra": 3,
        "target_modules": [Q],
        "modules_to_save": ["embed_tokens"],
    },
    "new tokens, LoRA on both": {"extra": 3, "target_modules": [Q, "embed_tokens", "lm_head"]},
    "new tokens, LoRA on the head": {"extra": 3, "target_modules": [Q, "lm_head"]},
    "new tokens, LoRA on the embeddings": {"extra": 3, "target_modules": [Q, "embed_tokens"]},
}
HALF = ("new tokens, LoRA on the head", "new tokens, LoRA on the embeddings")
"""On an untied base they save the new tokens of one of the two only."""
EACH = [(name, tied) for name in VARIANTS for tied in (True, False) if tied or name not in HALF]
TIED = {
    **dict.fromkeys(("projections", "LoRA's own biases", "saved norms"), True),
    **dict.fromkeys(("all biases", "biases of LoRA's modules", "tokens"), True),
    **dict.fromkeys(("saved both, tied", "LoRA on both, tied", "new tokens"), True),
    "new tokens, single rows": True,
}


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        return model(IDS).logits


def trained(base: Path, folder: Path, extra: int = 0, seed: int = 1, **config: Any) -> torch.Tensor:
    """Saves an adapter whose trained parameters were all drawn; the logits of the live model."""

    def start() -> Any:
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
        if extra:
            model.resize_token_embeddings(model.config.vocab_size + extra)
        return model

    settings = {"task_type": "CAUSAL_LM", "r": 3, "lora_alpha": 6} | config
    model = get_peft_model(start(), LoraConfig(**settings))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, parameter in sorted(model.named_parameters()):
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(folder)
    return logits(PeftModel.from_pretrained(start(), folder).eval())


@pytest.fixture(scope="module")
def adapters(checkpoint, tmp_path_factory) -> Callable[..., tuple[Path, Path, torch.Tensor]]:
    """`adapters(variant, tied)`: base, adapter, and the live model's logits."""
    made: dict[tuple[str, bool], tuple[Path, Path, torch.Tensor]] = {}

    def make(variant: str, tied: bool) -> tuple[Path, Path, torch.Tensor]:
        if (variant, tied) not in made:
            base = checkpoint("qwen2", tie_word_embeddings=tied)
            folder = tmp_path_factory.mktemp("adapter")
            made[variant, tied] = base, folder, trained(base, folder, **VARIANTS[variant])
        return made[variant, tied]

    return make


def graft(*arguments: object) -> subprocess.CompletedProcess[str]:
    return in_process(Path(), "graft", *map(str, arguments))


# One cell


@pytest.mark.parametrize(("variant", "tied"), EACH)
def test_the_tuned_cell_of_an_adapter_is_pefts_live_model(adapters, variant, tied) -> None:
    base, adapter, expected = adapters(variant, tied)
    shared = CellModel(base)
    shared.become(adapter, TUNED, any_base=True)
    torch.testing.assert_close(logits(shared.model), expected, rtol=1e-5, atol=1e-5)
    inner = shared.model
    assert (inner.lm_head.weight is inner.model.embed_tokens.weight) == (
        tied and TIED.get(variant, False)
    )


@pytest.mark.parametrize(("variant", "tied"), EACH)
def test_the_cell_behind_it_is_the_base_as_if_just_loaded(adapters, variant, tied) -> None:
    base, adapter, _ = adapters(variant, tied)
    fresh = AutoModelForCausalLM.from_pretrained(base).eval()
    for back in ((None, BASE), (adapter, Cell("load", "base", "pair", "gate"))):
        shared = CellModel(base)
        shared.become(adapter, TUNED, any_base=True)
        shared.become(*back, any_base=True)
        found = shared.model.state_dict()
        assert found.keys() == fresh.state_dict().keys()
        for name, tensor in fresh.state_dict().items():
            assert same_bits(found[name], tensor), name
        assert torch.equal(logits(shared.model), logits(fresh))
        assert (shared.model.lm_head.weight is shared.model.model.embed_tokens.weight) == tied
        assert shared.model.config.to_dict() == fresh.config.to_dict()


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_ablation_keeps_all_else_as_tuned_and_a_load_keeps_it_as_in_the_base(
    adapters, variant
) -> None:
    base, adapter, _ = adapters(variant, True)
    shared = CellModel(base)
    shared.become(adapter, TUNED, any_base=True)
    tuned = {name: tensor.clone() for name, tensor in shared.model.state_dict().items()}
    shared.become(None, BASE)
    plain = {name: tensor.clone() for name, tensor in shared.model.state_dict().items()}
    for cell, outside in ((REVERT, tuned), (LOAD, plain)):
        shared.become(adapter, cell, any_base=True)
        inside = plain if cell is REVERT else tuned
        assert shared.outside["outside_is"] == ("tuned" if cell is REVERT else "base")
        for name, tensor in shared.model.state_dict().items():
            chosen = Q in name if cell is REVERT else "_proj" in name
            assert same_bits(tensor, (inside if chosen else outside)[name]), (cell.id, name)


@pytest.mark.parametrize("variant", HALF)
def test_new_tokens_that_only_head_or_embeddings_have_are_refused(adapters, variant) -> None:
    base, adapter, _ = adapters(variant, False)
    for cell in (TUNED, REVERT):
        with refused("model.token-counts-differ", file=adapter) as error:
            build(base, adapter, cell, any_base=True)
        assert sorted(error.value.fields["found"].values()) == [290, 293]
    build(base, adapter, LOAD, any_base=True)  # it has the base's


@pytest.mark.parametrize(
    ("indices", "code", "fields"),
    [
        ([3, 7, 9], "adapter.token-row-count", {"expected": 3}),
        ("37", "adapter.setting-type", {"key": "trainable_token_indices", "found": "37"}),
        ([3, -1], "adapter.setting-type", {"key": "trainable_token_indices", "found": [3, -1]}),
        ([3, 290], "adapter.other-token-count", {"found": 291, "expected": 290}),
    ],
)
def test_rows_that_fit_no_token_are_refused(adapters, tmp_path, indices, code, fields) -> None:
    base, adapter, _ = adapters("tokens", True)
    folder = shutil.copytree(adapter, tmp_path / "adapter")
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(
        json.dumps(config | {"trainable_token_indices": indices})
    )
    with refused(code, **fields):
        ModelPair(base, folder, any_base=True).check()


def test_tokens_without_their_rows_are_refused(adapters, tmp_path) -> None:
    base, adapter, _ = adapters("tokens", True)
    folder = shutil.copytree(adapter, tmp_path / "adapter")
    tensors = load_file(folder / "adapter_model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if "trainable_tokens" not in name}
    save_file(kept, folder / "adapter_model.safetensors")
    key = "trainable_token_indices"
    with refused("adapter.no-token-rows", key=key, found=[3, 7]):
        Pair(base, folder, any_base=True)


# Full models


def full(base: Path, folder: Path, change: Callable[[Any], object]) -> torch.Tensor:
    """Saves a full tuned model; the logits of the one that transformers loads."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for _, parameter in sorted(model.named_parameters()):
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
        change(model)
    model.save_pretrained(folder)
    return logits(AutoModelForCausalLM.from_pretrained(folder).eval())


def untie(model: Any) -> None:
    noise = torch.randn(model.lm_head.weight.shape, generator=torch.Generator().manual_seed(5))
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight + 0.1 * noise)
    model.config.tie_word_embeddings = False
    model.all_tied_weights_keys = {}


def grow(model: Any) -> None:
    torch.manual_seed(0)
    model.resize_token_embeddings(293)


def tie(model: Any) -> None:
    model.config.tie_word_embeddings = True
    model.tie_weights()


FULL: dict[str, tuple[bool, Callable[[Any], object]]] = {
    "a tied base, a head of its own": (True, untie),
    "a tied base, tied": (True, lambda _: None),
    "a tied base, more tokens": (True, grow),
    "a tied base, more tokens, a head of its own": (
        True,
        lambda model: (grow(model), untie(model)),
    ),
    "an untied base, tied": (False, tie),
    "an untied base, untied": (False, lambda _: None),
    "an untied base, more tokens": (False, grow),
}


@pytest.mark.parametrize("variant", FULL)
def test_the_tuned_cell_of_a_full_model_is_the_model_that_transformers_loads(
    checkpoint, tmp_path, variant
) -> None:
    tied, change = FULL[variant]
    base = checkpoint("qwen2", tie_word_embeddings=tied)
    expected = full(base, tmp_path / "tuned", change)
    shared = CellModel(base)
    shared.become(tmp_path / "tuned", TUNED)
    torch.testing.assert_close(logits(shared.model), expected, rtol=1e-5, atol=1e-5)
    assert "embed_tokens" in shared.outside["outside_tuned"]
    for back in ((None, BASE), (tmp_path / "tuned", LOAD)):
        shared.become(*back)
        fresh = CellModel(base)
        if back[0]:
            fresh.become(*back)
        for name, tensor in fresh.model.state_dict().items():
            assert same_bits(shared.model.state_dict()[name], tensor), name
        assert torch.equal(logits(shared.model), logits(fresh.model))
        shared.become(tmp_path / "tuned", TUNED)
    torch.testing.assert_close(logits(shared.model), expected, rtol=1e-5, atol=1e-5)


def test_a_mixture_of_experts_is_the_model_that_transformers_loads(tmp_path) -> None:
    """transformers holds the experts in one tensor; files have them one by one."""
    config = AutoConfig.for_model(
        "mixtral",
        vocab_size=290,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_local_experts=2,
        num_experts_per_tok=1,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(tmp_path / "base")
    expected = full(tmp_path / "base", tmp_path / "tuned", lambda _: None)
    shared = CellModel(tmp_path / "base")
    plain = logits(shared.model)
    assert not torch.allclose(plain, expected, atol=0.01)
    shared.become(tmp_path / "tuned", TUNED)
    torch.testing.assert_close(logits(shared.model), expected, rtol=1e-5, atol=1e-5)
    all_load = Cell("load", "base", "pair", "gate")
    assert shared.become(tmp_path / "tuned", all_load)["changed"] == 4
    assert not torch.equal(logits(shared.model), plain)
    shared.become(None, BASE)
    assert torch.equal(logits(shared.model), plain)


@pytest.mark.parametrize(
    ("tied", "config"),
    [
        (True, {"modules_to_save": ["lm_head"]}),
        (True, {"modules_to_save": ["embed_tokens"]}),
        (False, {"modules_to_save": ["lm_head"]}),
    ],
)
def test_a_bfloat16_cell_is_the_live_model_rounded_once(checkpoint, tmp_path, tied, config) -> None:
    base = checkpoint("qwen2", dtype="bfloat16", tie_word_embeddings=tied)
    trained(base, tmp_path / "adapter", target_modules=[Q], **config)
    wide = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    live = PeftModel.from_pretrained(wide, tmp_path / "adapter").merge_and_unload().state_dict()
    model, _ = build(base, tmp_path / "adapter", TUNED, any_base=True)
    for name, tensor in model.state_dict().items():
        assert tensor.dtype == torch.bfloat16
        torch.testing.assert_close(tensor.float(), live[name], rtol=2**-8, atol=1e-8)


def test_a_chain_of_adapters_keeps_the_heads_that_they_made(checkpoint, tmp_path) -> None:
    base = checkpoint("qwen2")
    trained(base, tmp_path / "one", target_modules=[Q], modules_to_save=["lm_head"])
    trained(base, tmp_path / "two", target_modules=["v_proj", "lm_head"], seed=2)
    model = AutoModelForCausalLM.from_pretrained(base)
    first = PeftModel.from_pretrained(model, tmp_path / "one").merge_and_unload()
    before = logits(first)
    # What peft saved of the wrapped head is the base's; the chain has another.
    tensors = load_file(tmp_path / "two/adapter_model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if "base_layer" not in name}
    save_file(kept, tmp_path / "two/adapter_model.safetensors")
    after = logits(PeftModel.from_pretrained(first, tmp_path / "two").eval())
    shared = CellModel([base, tmp_path / "one"])
    for tuned, cell, expected in (
        (None, BASE, before),
        (tmp_path / "two", TUNED, after),
        (None, BASE, before),
    ):
        shared.become(tuned, cell, any_base=True) if tuned else shared.become(None, cell)
        torch.testing.assert_close(logits(shared.model), expected, rtol=1e-5, atol=1e-5)
    ablated = Cell("ablate", "base", "pair", "v", "revert")
    shared.become(tmp_path / "two", ablated, any_base=True)
    assert not torch.allclose(logits(shared.model), before, atol=0.01)


# The command line


@pytest.mark.parametrize(
    "variant",
    ["LoRA on the head", "saved embeddings", "saved both", "tokens", "new tokens, saved both"],
)
def test_a_graft_of_the_tuned_model_loads_as_pefts_live_model(adapters, tmp_path, variant) -> None:
    base, adapter, expected = adapters(variant, True)
    folder = shutil.copytree(adapter, tmp_path / "adapter")
    tokenizer = AutoTokenizer.from_pretrained(base)
    grown = variant.startswith("new tokens")
    if grown:
        tokenizer.add_tokens([f"<new{number}>" for number in range(3)])
        tokenizer.save_pretrained(folder)
    named = json.loads((folder / "adapter_config.json").read_text())
    named["base_model_name_or_path"] = None
    (folder / "adapter_config.json").write_text(json.dumps(named))
    out = tmp_path / "out"
    given = ("--base", base, "--tuned", folder, "--modules", "q", "--out", out)
    done = graft(*given, "--kind", "tuned")
    assert done.returncode == 0, done.stderr
    model = AutoModelForCausalLM.from_pretrained(out)
    torch.testing.assert_close(logits(model.eval()), expected, rtol=1e-5, atol=1e-5)
    config = json.loads((out / "config.json").read_text())
    assert config["tie_word_embeddings"] == TIED.get(variant, False)
    assert config["vocab_size"] == (293 if grown else 290)
    assert len(AutoTokenizer.from_pretrained(out)) == len(tokenizer)
    told = json.loads(done.stdout)
    assert told["outside_is"] == "tuned"
    heads = {"tokens": ["embed_tokens"], "saved embeddings": ["embed_tokens"]}
    either = heads.get(variant, ["embed_tokens", "lm_head"])
    assert told["outside_tuned"] == (["lm_head"] if variant == "LoRA on the head" else either)


def test_check_says_what_the_cells_do_with_head_and_vocabulary(adapters, tmp_path) -> None:
    base, adapter, _ = adapters("new tokens, saved both", True)
    (tmp_path / "t.csv").write_text("text,label\ngood,joy\nbad,fear\n")
    task = {"files": {"test": "t.csv"}, "columns": {"label": "label"}, "labels": ["joy", "fear"]}
    config = {
        "bases": {"small": {"folder": str(base)}},
        "pairs": {"felt": {"base": "small", "tuned": str(adapter)}},
        "tasks": {"moods": task},
        "matrix": {"pairs": ["felt"], "tune": []},
    }
    changed, grown = check_pairs(Parameters.model_validate(config), tmp_path)
    assert changed.startswith("pairs.felt: ")
    assert "also changes embed_tokens, lm_head. Tuned and ablate cells have these" in changed
    assert "its vocabulary has 293 tokens, the base's 290" in grown
    half, bad, _ = adapters("new tokens, LoRA on the head", False)
    config["bases"]["small"]["folder"], config["pairs"]["felt"]["tuned"] = str(half), str(bad)
    with refused("model.token-counts-differ", file=bad) as error:
        check_pairs(Parameters.model_validate(config), tmp_path, "mine.yaml")
    assert str(error.value).startswith("mine.yaml: pairs.felt: ")


def test_a_cell_with_more_tokens_answers_with_the_tuned_tokenizer(adapters, tmp_path) -> None:
    """As `affectlocus evaluate` does it, through manifests and a prepared task."""
    base, adapter, _ = adapters("new tokens, saved both", True)
    folder = shutil.copytree(adapter, tmp_path / "adapter")
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.add_tokens(["<new>"])
    tokenizer.save_pretrained(folder)
    named = json.loads((folder / "adapter_config.json").read_text())
    named["base_model_name_or_path"] = None
    (folder / "adapter_config.json").write_text(json.dumps(named))
    (tmp_path / "t.csv").write_text("text,label\nAnna <new> was,happy\nBen was,sad\n")
    settings = '{"columns": {"text": "text", "label": "label"}, "labels": ["happy", "sad"]}'
    cells = {"tuned": "p/tuned", "load": "p/load/all"}
    outs = {kind: f"cells/{cell}/predictions.parquet" for kind, cell in cells.items()}
    task = ["--name", "t", "--test", "t.csv", "--out", "t.parquet", "--report", "t.json"]
    records = [{"kind": "tuned", "pair": "p"}, {"kind": "load", "pair": "p", "modules": "all"}]
    given = [
        "--cells",
        json.dumps(records),
        "--base",
        "b.json",
        "--tuned",
        "p.json",
        "--data",
        "t.parquet",
        "--settings",
        "{}",
    ]
    for command in (
        ["prepare", *task, "--settings", settings],
        ["retrieve", str(base), "--out", "b.json"],
        ["retrieve", "./adapter", "--out", "p.json"],
        ["evaluate", *outs.values(), *given],
    ):
        done = in_process(tmp_path, *command)
        assert done.returncode == 0, done.stderr
    shared = CellModel(base)
    asked = pd.read_parquet(tmp_path / "t.parquet").set_index("id")["prompt"]
    (sample,) = asked.index[asked.str.contains("<new>")]
    prompt = asked[sample]
    for kind, cell, which in (
        ("tuned", TUNED, tokenizer),
        ("load", LOAD, Prompter(base).tokenizer),
    ):
        shared.become(folder, cell)
        ids = which(prompt, add_special_tokens=False)["input_ids"]
        assert (tokenizer.convert_tokens_to_ids("<new>") in ids) == (kind == "tuned")
        answer = Prompter(base).answer("happy")
        with torch.inference_mode():
            scores = shared.model(torch.tensor([ids + answer])).logits[0].log_softmax(-1)
        expected = sum(
            float(scores[len(ids) - 1 + place, token]) for place, token in enumerate(answer)
        )
        found = pd.read_parquet(tmp_path / outs[kind])
        row = found[(found["sample"] == sample) & (found["candidate"] == "happy")]
        assert float(row["loglik"].iloc[0]) == pytest.approx(expected, abs=1e-4)
        told = json.loads((tmp_path / outs[kind]).with_name("verification.json").read_text())
        assert told["outside_is"] == ("tuned" if kind == "tuned" else "base")
        assert told["outside_tuned"] == ["embed_tokens", "lm_head"]
