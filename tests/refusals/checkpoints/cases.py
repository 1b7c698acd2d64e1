"""Bad checkpoints of every kind, each wrong in one way, and the code of its refusal.

All are made of one tiny model of LLaMA's layout, its twin, and a LoRA adapter of its q_proj.
"""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

Arrays = dict[str, np.ndarray]

SHAPES = {
    **{f"self_attn.{name}_proj": (8, 8) for name in "qo"},
    **{f"self_attn.{name}_proj": (4, 8) for name in "kv"},
    **{f"mlp.{name}_proj": (12, 8) for name in ("gate", "up")},
    "mlp.down_proj": (8, 12),
}
CONFIG = {
    "model_type": "llama",
    "hidden_size": 8,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "num_hidden_layers": 2,
    "tie_word_embeddings": False,
}
LORA = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}
GATE = "model.layers.1.mlp.gate_proj.weight"
QWEIGHT = GATE.replace("weight", "qweight")
Q = "model.layers.{}.self_attn.q_proj"
TWO = ("diff", "base", "tuned")
# AffectGPT's bridge at tiny size: linear map → its input and output.
BRIDGE = {
    "affectgpt_proj": (3, 8),
    "video_attention_mlp": (3, 1),
    "audio_llama_proj": (4, 8),
    "audio_attention_mlp": (4, 1),
    "multi_video_embs": (3, 4),
    "multi_audio_embs": (4, 4),
    "attention_mlp": (8, 4),
    "fc_att": (4, 2),
    "multi_llama_proj": (4, 8),
}


@dataclass(frozen=True)
class Case:
    """One kind of bad checkpoint.

    Attributes:
        kind: what is wrong.
        code: the code of the refusal.
        make: writes the bad checkpoints into a folder that holds the good ones (`write`).
        command: the arguments of affectlocus.
    """

    kind: str
    code: str
    make: Callable[[Path], None]
    command: tuple[str, ...] = TWO

    def write(self, folder: Path) -> None:
        """Writes a good base and a good adapter, then what is bad."""
        model(folder / "base")
        adapter(folder / "adapter")
        self.make(folder)


def tensors(seed: int = 0) -> Arrays:
    """The tiny model's."""
    drawn = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {
        f"model.layers.{layer}.{name}.weight": shape
        for layer in range(2)
        for name, shape in SHAPES.items()
    }
    shapes |= {"model.embed_tokens.weight": (16, 8), "lm_head.weight": (16, 8)}
    return {name: drawn.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def model(folder: Path, change: Callable[[Arrays], Any] = dict, **config: Any) -> None:
    """A model's folder, its tensors changed in place, or replaced by what `change` returns."""
    made = tensors()
    made = change(made) or made
    folder.mkdir(parents=True)
    contiguous = {name: np.ascontiguousarray(value) for name, value in made.items()}
    save_file(contiguous, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG | config), encoding="utf-8")


def factors(width: int = 8) -> Arrays:
    """LoRA factors of q_proj in both layers, by peft's names."""
    made = {}
    for layer in range(2):
        stem = f"base_model.model.{Q.format(layer)}"
        made[f"{stem}.lora_A.weight"] = np.ones((2, width), np.float32)
        made[f"{stem}.lora_B.weight"] = np.ones((8, 2), np.float32)
    return made


def adapter(folder: Path, width: int = 8, **config: Any) -> None:
    """A folder as peft saves it."""
    folder.mkdir(parents=True)
    save_file(factors(width), folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(LORA | config), encoding="utf-8")


def tuned(change: Callable[[Arrays], Any], **config: Any) -> Callable[[Path], None]:
    """A tuned model with changed tensors."""
    return lambda folder: model(folder / "tuned", change, **config)


def _nothing(_: Path) -> None:
    """The good ones are enough: it is the command that is wrong."""


def _gpt2(folder: Path) -> None:
    names = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    for side in ("gpt2", "tuned"):
        model(
            folder / side,
            lambda _: {f"h.0.{name}.weight": np.ones((2, 2), np.float32) for name in names},
            model_type="gpt2",
        )


def _spoilt(value: float) -> Callable[[Arrays], None]:
    def change(made: Arrays) -> None:
        made[GATE][3, 4:6] = value

    return change


def _cut(folder: Path) -> None:
    model(folder / "tuned")
    file = folder / "tuned" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def _shard(folder: Path) -> None:
    model(folder / "tuned")
    first = folder / "tuned" / "model-00001-of-00002.safetensors"
    (folder / "tuned" / "model.safetensors").rename(first)
    places = dict.fromkeys(tensors(), first.name)
    places["lm_head.weight"] = "model-00002-of-00002.safetensors"
    index = folder / "tuned" / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}), encoding="utf-8")


def _one_shard(folder: Path) -> None:
    _shard(folder)
    (folder / "tuned" / "model.safetensors.index.json").unlink()


class _Runs:
    """What unpickles as a call of a program."""

    def __reduce__(self) -> Any:
        return os.system, ("touch it-ran",)


def _code(folder: Path) -> None:
    import torch

    torch.save({"model": _Runs()}, folder / "tuned.pth")


def _plain_pickle(folder: Path) -> None:
    (folder / "tuned.pth").write_bytes(pickle.dumps({"model": Path("x")}, protocol=4))


def _trained_only(folder: Path) -> None:
    import torch

    made = {f"llama_model.{name}": torch.from_numpy(value) for name, value in factors().items()}
    torch.save({"model": made, "epoch": 30}, folder / "tuned.pth")


def released(change: Callable[[Arrays], Any]) -> Callable[[Path], None]:
    """AffectGPT's file at tiny size: LoRA of the seven projections and its bridge, then changed."""

    def make(folder: Path) -> None:
        import torch

        made: Arrays = {}
        for layer in range(2):
            for name, (d_out, d_in) in SHAPES.items():
                stem = f"llama_model.base_model.model.model.layers.{layer}.{name}"
                made[f"{stem}.lora_A.default.weight"] = np.ones((2, d_in), np.float32)
                made[f"{stem}.lora_B.default.weight"] = np.ones((d_out, 2), np.float32)
        for name, (inputs, outputs) in BRIDGE.items():
            made[f"{name}.weight"] = np.ones((outputs, inputs), np.float32)
            made[f"{name}.bias"] = np.ones(outputs, np.float32)
        change(made)
        tensors = {name: torch.from_numpy(value) for name, value in made.items()}
        torch.save({"model": tensors, "epoch": 30}, folder / "tuned.pth")

    return make


def _rename(old: str, new: str) -> Callable[[Arrays], None]:
    def change(made: Arrays) -> None:
        made[new] = made.pop(old)

    return change


def _cached(folder: Path) -> None:
    model(folder / "models--Qwen--Qwen2.5-7B-Instruct" / "snapshots" / "main")
    adapter(folder / "tuned", base_model_name_or_path="Qwen/Qwen2.5-7B")


def _saved_from(folder: Path) -> None:
    model(folder / "mine", _name_or_path="Qwen/Qwen2.5-7B-Instruct")
    adapter(folder / "tuned", base_model_name_or_path="Qwen/Qwen2.5-7B")


def _garbage(folder: Path) -> None:
    (folder / "tuned.pth").write_bytes(b"x" * 500)


def _page(folder: Path) -> None:
    (folder / "tuned").mkdir()
    text = "<!DOCTYPE html><html>Sign in to download</html>"
    (folder / "tuned" / "model.safetensors").write_text(text, encoding="utf-8")


def _empty_file(*names: str) -> Callable[[Path], None]:
    """A folder of a tool's checkpoint: the files' names are enough to tell its format."""

    def make(folder: Path) -> None:
        for name in names:
            (folder / "tuned" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "tuned" / name).write_bytes(b"GGUF" if name.endswith(".gguf") else b"PK")

    return make


def _latent(folder: Path) -> None:
    def change(made: Arrays) -> Arrays:
        for name in [name for name in made if ".k_proj" in name or ".v_proj" in name]:
            del made[name]
            made[name.replace(".k_proj", ".kv_b_proj").replace(".v_proj", ".kv_b_proj")] = np.ones(
                (8, 8), np.float32
            )
        return made

    model(folder / "deepseek", change)
    model(folder / "tuned", change)


PTH = ("diff", "base", "tuned.pth")
SPLIT = ("convert", "tuned.pth", "--alpha", "4", "--out", "out")
FACTOR = f"llama_model.base_model.model.{Q.format(1)}.lora_A.default.weight"

CASES = [
    Case(
        "No gated feed-forward: GPT-2's c_attn",
        "model.no-gate",
        _gpt2,
        ("diff", "gpt2", "tuned"),
    ),
    Case(
        "Latent attention: DeepSeek's kv_b_proj",
        "model.latent-attention",
        _latent,
        ("diff", "deepseek", "tuned"),
    ),
    Case(
        "DeepSpeed's ZeRO-3, in parts",
        "checkpoint.zero3-parts",
        _empty_file("zero_pp_rank_0_mp_rank_00_model_states.pt"),
    ),
    Case(
        "FSDP's distributed checkpoint, in parts",
        "checkpoint.fsdp-parts",
        _empty_file("pytorch_model_fsdp_0/__0_0.distcp", "pytorch_model_fsdp_0/.metadata"),
    ),
    Case("GGUF", "checkpoint.gguf", _empty_file("adapter.gguf")),
    Case(
        "Shapes that differ",
        "pair.shapes-differ",
        tuned(lambda made: made.update({GATE: made[GATE].T})),
    ),
    Case("A missing tensor", "pair.tensor-missing", tuned(lambda made: made.pop(GATE) is None)),
    Case(
        "An extra tensor",
        "pair.tensor-not-in-base",
        tuned(lambda made: made.update({GATE.replace("1", "2"): made[GATE]})),
    ),
    Case(
        "Quantised, as its configuration says",
        "model.quantised",
        tuned(
            lambda made: made.update({QWEIGHT: np.ones((1, 12), np.int32)}),
            quantization_config={"quant_method": "gptq", "bits": 4},
        ),
    ),
    Case(
        "Quantised tensors",
        "model.quantised",
        tuned(lambda made: made.update({GATE: made[GATE].astype(np.int8)})),
    ),
    Case(
        "Another base than the adapter's, in the hub's cache",
        "adapter.other-base",
        _cached,
        ("diff", "models--Qwen--Qwen2.5-7B-Instruct/snapshots/main", "tuned"),
    ),
    Case(
        "Another base than the adapter's, as its config.json says",
        "adapter.other-base",
        _saved_from,
        ("diff", "mine", "tuned"),
    ),
    Case(
        "An adapter of a wider model",
        "pair.shapes-differ",
        lambda folder: adapter(folder / "tuned", width=16),
    ),
    Case(
        "NaN, counted and located",
        "checkpoint.not-finite",
        tuned(_spoilt(np.nan)),
    ),
    Case(
        "Infinity, counted and located",
        "checkpoint.not-finite",
        tuned(_spoilt(np.inf)),
    ),
    Case("A truncated safetensors file", "checkpoint.broken-safetensors", _cut),
    Case("A web page in the place of a file", "checkpoint.other-content", _page),
    Case("A missing shard", "checkpoint.no-shard", _shard),
    Case(
        "One shard of two",
        "checkpoint.one-shard",
        _one_shard,
        ("diff", "base", "tuned/model-00001-of-00002.safetensors"),
    ),
    Case(
        "A pickle that would run a program",
        "checkpoint.needs-code",
        _code,
        PTH,
    ),
    Case(
        "A plain pickle named .pth",
        "checkpoint.needs-code",
        _plain_pickle,
        PTH,
    ),
    Case(
        "Another kind of file named .pth",
        "checkpoint.not-pytorch",
        _garbage,
        PTH,
    ),
    Case(
        "Trained tensors that do not say their alpha",
        "adapter.no-alpha",
        _trained_only,
        PTH,
    ),
    Case(
        "AffectGPT's file with a renamed tensor",
        "bridge.other-tensors",
        released(_rename("multi_llama_proj.weight", "multi_proj.weight")),
        SPLIT,
    ),
    Case(
        "AffectGPT's file with a missing tensor",
        "bridge.other-tensors",
        released(lambda made: made.pop("fc_att.bias")),
        SPLIT,
    ),
    Case(
        "AffectGPT's file with an extra tensor",
        "bridge.other-tensors",
        released(lambda made: made.update({"audio_query_tokens": np.ones((1, 4), np.float32)})),
        SPLIT,
    ),
    Case(
        "AffectGPT's file with a renamed LoRA factor",
        "bridge.other-tensors",
        released(_rename(FACTOR, FACTOR.replace("llama_model", "llm_model"))),
        SPLIT,
    ),
    Case(
        "AffectGPT's file with a bridge of another language model",
        "bridge.sizes-differ",
        released(lambda made: made.update({"affectgpt_proj.weight": np.ones((6, 3), np.float32)})),
        SPLIT,
    ),
    Case(
        "Emotion-LLaMA asked for, AffectGPT found",
        "bridge.other-kind",
        released(lambda _: None),
        (*SPLIT, "--bridge", "emotion-llama"),
    ),
    Case(
        "A trained checkpoint as the initial one",
        "bridge.not-initial",
        released(lambda _: None),
        (*SPLIT, "--initial", "tuned.pth"),
    ),
    Case(
        "An adapter in the base's place",
        "pair.base-is-adapter",
        _nothing,
        ("diff", "adapter", "base"),
    ),
    Case(
        "A model alone",
        "pair.no-tuned",
        _nothing,
        ("diff", "base"),
    ),
    Case(
        "Another kind of adapter: IA3",
        "adapter.unsupported-setting",
        lambda folder: adapter(folder / "tuned", peft_type="IA3"),
    ),
    Case(
        "Another kind of adapter: prompts",
        "adapter.unsupported-setting",
        lambda folder: adapter(folder / "tuned", peft_type="PREFIX_TUNING"),
    ),
    Case(
        "An adapter alone whose base has no gate, as its settings say",
        "adapter.other-layout",
        lambda folder: adapter(folder / "tuned", base_model_name_or_path="facebook/opt-350m"),
        ("diff", "tuned"),
    ),
    Case(
        "An adapter's weights without its configuration",
        "adapter.no-settings",
        _nothing,
        ("diff", "base", "adapter/adapter_model.safetensors"),
    ),
    Case(
        "An adapter that lacks a module of its targets",
        "adapter.target-without-factors",
        lambda folder: adapter(folder / "tuned", target_modules=["q_proj", "v_proj"]),
    ),
    Case(
        "An empty folder",
        "checkpoint.no-weights",
        lambda folder: (folder / "tuned").mkdir(),
    ),
    Case(
        "An empty folder, given to retrieve",
        "checkpoint.no-weights",
        lambda folder: (folder / "tuned").mkdir(),
        ("retrieve", "./tuned", "--out", "tuned.json"),
    ),
    Case(
        "A missing folder, given to retrieve",
        "checkpoint.missing",
        _nothing,
        ("retrieve", "./gone", "--out", "tuned.json"),
    ),
]
