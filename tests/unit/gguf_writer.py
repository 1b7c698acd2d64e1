"""A tiny LLaMA with a byte-level tokenizer, written as llama.cpp writes a GGUF file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

HEADS, KV_HEADS = 4, 2
TEXT = [
    "The river rises in the hills and flows south before it reaches the sea.",
    "In 1987 there were 42 mills along the road, and 7 of them still stand.",
    "She said that the old bridge, the museum and the market are open every day.",
]
_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE with GPT-2's splitting, and a start and an end token."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    special = ["<|start|>", "<|end|>"]
    made.train_from_iterator(
        TEXT * 4,
        trainers.BpeTrainer(
            vocab_size=320,
            special_tokens=special,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token=special[0], eos_token=special[1]
    )


def llama(vocabulary: int, tied: bool = True, seed: int = 0) -> LlamaForCausalLM:
    """A random model in which every number matters: norms are random, and weights are not small."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        max_position_embeddings=256,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 100000.0},
        initializer_range=0.2,
        tie_word_embeddings=tied,
    )
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.copy_(1 + 0.1 * torch.randn(parameter.shape))
    return model


def permuted(weights: np.ndarray, heads: int) -> np.ndarray:
    """The order of llama.cpp's rows of q and k (`LlamaModel.permute` in convert_hf_to_gguf.py)."""
    half = weights.shape[0] // heads // 2
    return weights.reshape(heads, 2, half, *weights.shape[1:]).swapaxes(1, 2).reshape(weights.shape)


def gguf_name(name: str) -> str:
    """The name of a tensor in a GGUF file."""
    stem = name.removesuffix(".weight")
    if stem.startswith("model.layers."):
        _, _, layer, rest = stem.split(".", 3)
        return f"blk.{layer}.{_NAMES[rest]}.weight"
    return f"{_NAMES[stem]}.weight"


def write(
    path: Path,
    model: LlamaForCausalLM,
    words: PreTrainedTokenizerFast,
    kind: str = "F32",
    *,
    leave_out: str = "",
    more: dict[str, np.ndarray] | None = None,
    keys: dict[str, Any] | None = None,
) -> Path:
    """Writes a GGUF file: matrices in a type, vectors in F32.

    Args:
        leave_out: a tensor that is not written, by its GGUF name.
        more: additional tensors, in F32.
        keys: further keys of the header, texts or whole numbers.
    """
    stored = gguf.GGMLQuantizationType[kind]
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.hidden_size // HEADS)
    writer.add_vocab_size(config.vocab_size)
    file_type = "ALL_F32" if kind == "F32" else f"MOSTLY_{kind}"
    writer.add_file_type(gguf.LlamaFileType[file_type])
    _write_tokenizer(writer, words, (keys or {}).pop("pre", "default"))
    for key, value in (keys or {}).items():
        (writer.add_string if isinstance(value, str) else writer.add_uint16)(key, value)
    for name, tensor in model.named_parameters():
        if gguf_name(name) == leave_out:
            continue
        values = tensor.detach().numpy().astype(np.float32)
        if ".q_proj." in name or ".k_proj." in name:
            values = permuted(values, HEADS if ".q_proj." in name else KV_HEADS)
        kept = stored if values.ndim == 2 else gguf.GGMLQuantizationType.F32
        writer.add_tensor(gguf_name(name), gguf.quants.quantize(values, kept), raw_dtype=kept)
    for name, values in (more or {}).items():
        writer.add_tensor(name, values.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _write_tokenizer(writer: gguf.GGUFWriter, words: PreTrainedTokenizerFast, pre: str) -> None:
    inner = json.loads(words.backend_tokenizer.to_str())["model"]
    vocabulary = inner["vocab"]
    special = {words.bos_token, words.eos_token}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(sorted(vocabulary, key=vocabulary.get))
    writer.add_token_types(
        [
            gguf.TokenType.CONTROL if word in special else gguf.TokenType.NORMAL
            for word in sorted(vocabulary, key=vocabulary.get)
        ]
    )
    merges = inner["merges"]
    writer.add_token_merges([one if isinstance(one, str) else " ".join(one) for one in merges])
    writer.add_bos_token_id(words.bos_token_id)
    writer.add_eos_token_id(words.eos_token_id)
