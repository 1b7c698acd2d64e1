"""Generated material: checkpoints and adapters with a real model's shapes and random entries.

Run as `python material.py pair|matrices|adapter MODEL FOLDER`; written piece by piece, in little
memory.
"""

from __future__ import annotations

import json
import struct
import sys
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch

PIECE = 1 << 22


@dataclass(frozen=True)
class Model:
    """The sizes that a Qwen2 model's shapes follow from."""

    vocabulary: int
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head: int

    def projections(self) -> dict[str, tuple[int, int]]:
        """Module in a layer → (d_out, d_in)."""
        query, key = self.heads * self.head, self.kv_heads * self.head
        return {
            "self_attn.q_proj": (query, self.hidden),
            "self_attn.k_proj": (key, self.hidden),
            "self_attn.v_proj": (key, self.hidden),
            "self_attn.o_proj": (self.hidden, query),
            "mlp.gate_proj": (self.intermediate, self.hidden),
            "mlp.up_proj": (self.intermediate, self.hidden),
            "mlp.down_proj": (self.hidden, self.intermediate),
        }

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor of the checkpoint; input and output embeddings are tied."""
        found: dict[str, tuple[int, ...]] = {
            "model.embed_tokens.weight": (self.vocabulary, self.hidden),
            "model.norm.weight": (self.hidden,),
        }
        for layer in range(self.layers):
            prefix = f"model.layers.{layer}."
            for module, shape in self.projections().items():
                found[f"{prefix}{module}.weight"] = shape
                if module[-6:] in ("q_proj", "k_proj", "v_proj"):
                    found[f"{prefix}{module}.bias"] = shape[:1]
            for norm in ("input_layernorm", "post_attention_layernorm"):
                found[f"{prefix}{norm}.weight"] = (self.hidden,)
        return found

    def config(self) -> dict[str, object]:
        """config.json, as transformers reads it."""
        return {
            "architectures": ["Qwen2ForCausalLM"],
            "model_type": "qwen2",
            "vocab_size": self.vocabulary,
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "tie_word_embeddings": True,
            "dtype": "bfloat16",
        }


MODELS = {
    "tiny": Model(700, 128, 352, 2, 4, 2, 32),
    "tiny-wide": Model(700, 256, 704, 4, 4, 2, 64),
    "0.5b": Model(151_936, 896, 4864, 24, 14, 2, 64),
    "1.5b": Model(151_936, 1536, 8960, 28, 12, 2, 128),
    "3b": Model(151_936, 2048, 11_008, 36, 16, 2, 128),
    "7b": Model(152_064, 3584, 18_944, 28, 28, 4, 128),
}


def write(path: Path, shapes: dict[str, tuple[int, ...]], dtype: torch.dtype, entries) -> None:
    """A safetensors file; `entries(start, n)` gives n entries from the start-th of the file."""
    size = dtype.itemsize
    name = {torch.bfloat16: "BF16", torch.float32: "F32"}[dtype]
    header, at = {}, 0
    for tensor, shape in shapes.items():
        end = at + prod(shape) * size
        header[tensor] = {"dtype": name, "shape": shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps({"__metadata__": {"format": "pt"}} | header).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for start in range(0, at // size, PIECE):
            piece = entries(start, min(PIECE, at // size - start)).to(dtype)
            file.write(piece.view(torch.uint8).numpy().data)


def pair(model: Model, folder: Path) -> None:
    """`base` and `tuned` of a whole model, and its config.json."""
    _both(folder, model.shapes())
    for side in ("base", "tuned"):
        (folder / side / "config.json").write_text(json.dumps(model.config()))


def matrices(model: Model, folder: Path) -> None:
    """`base` and `tuned` of two weights of a layer: the query's and the gate's."""
    chosen = ("self_attn.q_proj", "mlp.gate_proj")
    _both(folder, {f"{name}.weight": model.projections()[name] for name in chosen})


def _both(folder: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """Both sides in bfloat16: normal entries of 0.02, changed by 5%."""
    random = torch.Generator().manual_seed(0)
    # Drawn once and shifted from piece to piece: random enough for time and for rounding.
    pools = [torch.randn(2 * PIECE, generator=random) for _ in range(2)]

    def base(start: int, n: int) -> torch.Tensor:
        shift = start // PIECE * 7919 % PIECE
        return 0.02 * pools[0][shift : shift + n]

    def tuned(start: int, n: int) -> torch.Tensor:
        shift = start // PIECE * 104_729 % PIECE
        return base(start, n) + 0.001 * pools[1][shift : shift + n]

    for side, entries in (("base", base), ("tuned", tuned)):
        write(folder / side / "model.safetensors", shapes, torch.bfloat16, entries)


def adapter(model: Model, folder: Path, rank: int = 16) -> None:
    """A PEFT adapter in float32 on all seven projections of every layer."""
    random = torch.Generator().manual_seed(1)
    pool = 0.02 * torch.randn(2 * PIECE, generator=random)
    shapes = {}
    for layer in range(model.layers):
        for module, (d_out, d_in) in model.projections().items():
            prefix = f"base_model.model.model.layers.{layer}.{module}.lora_"
            shapes[f"{prefix}A.weight"] = (rank, d_in)
            shapes[f"{prefix}B.weight"] = (d_out, rank)
    write(
        folder / "adapter_model.safetensors",
        shapes,
        torch.float32,
        lambda start, n: pool[start // PIECE * 7919 % PIECE :][:n],
    )
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(config))


if __name__ == "__main__":
    kind, size, target = sys.argv[1:]
    {"pair": pair, "matrices": matrices, "adapter": adapter}[kind](MODELS[size], Path(target))
