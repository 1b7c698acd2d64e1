"""GGUF files: recognise them without a library, and read their headers with the package gguf."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from affectlocus.checkpoints.model_size import Size, size_from_config
from affectlocus.core.errors import InputError
from affectlocus.core.extras import needed

MAGIC = b"GGUF"
_PLAIN = ("F32", "F16", "BF16", "F64")
"""Types whose numbers are stored as they are, without quantisation."""
_PRE = "tokenizer.ggml.pre"
_HEAD = 1 << 16  # bytes that contain the general keys of any known file


def is_gguf(path: Path) -> bool:
    """Whether a file begins as a GGUF file does."""
    try:
        with path.open("rb") as stream:
            return stream.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def refusal(path: Path, subject: str = "") -> InputError:
    """The error for a GGUF file where other weights are needed, with what to do instead.

    Args:
        subject: the beginning of the sentence; by default the file is one.
    """
    said = subject or f"{path}: a GGUF file, which is not read directly"
    if _is_adapter(path):
        advice = "give the adapter as peft saved it"
    else:
        advice = f"run affectlocus convert {path} --out FOLDER, and give FOLDER"
    return InputError("checkpoint.gguf", f"{said}; {advice}", file=path)


def _is_adapter(path: Path) -> bool:
    """Whether a GGUF file declares a LoRA adapter (general.type)."""
    with path.open("rb") as stream:
        head = stream.read(_HEAD)
    # A key is followed by its type (8: text) and its value; lengths have 64 bits.
    key = b"general.type" + (8).to_bytes(4, "little")
    _, found, value = head.partition(key)
    return bool(found) and value[8:15] == b"adapter"


@dataclass(frozen=True)
class GgufHeader:
    """The header of a GGUF file.

    Attributes:
        architecture: as llama.cpp names it.
        types: tensor type → number of parameters stored in it, the most common first.
        quantization: the name of the quantisation, such as Q4_1 or Q4_K_M; F32, F16 or BF16 for a
            file without quantisation.
        tensors: the names of its tensors.
        rope_scaling: the scaling of the rotary embedding; empty if the header states none.
        pre_tokenizer: the rule by which text is split before the merges, as llama.cpp names it.
        config: the dimensions of the model, under the names of a config.json.
    """

    path: Path
    architecture: str
    types: Mapping[str, int]
    quantization: str
    tensors: frozenset[str]
    config: Mapping[str, Any]
    rope_scaling: str = ""
    pre_tokenizer: str = ""

    @property
    def label(self) -> str:
        """How the converted model is called, such as `dequantised from Q4_1`."""
        return label(self.quantization)

    @property
    def size(self) -> Size | None:
        """The size of the converted model, in float32; None if the header lacks a dimension."""
        return size_from_config(self.config, f"{self.path.name}, {self.label}")


def label(quantization: str) -> str:
    """How a model that was converted from a GGUF file is called."""
    if quantization in _PLAIN:
        return f"converted from GGUF ({quantization})"
    return f"dequantised from {quantization}"


def read_header(path: Path) -> GgufHeader:
    """The header of a GGUF file; no tensor is read.

    Raises:
        InputError: not a whole GGUF file, a part of a model, or an adapter.
        MissingExtraError: the package gguf is not installed.
    """
    if not path.is_file():
        raise InputError(
            "checkpoint.missing",
            f"{path}: no such file; expected a GGUF file",
            file=path,
        )
    if not is_gguf(path):
        raise InputError(
            "gguf.other-content",
            f"{path}: not a GGUF file (it does not begin with GGUF); give a GGUF file, or name a "
            "Hugging Face model as folder",
            file=path,
        )
    stat = path.stat()
    return _read_header(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=8)
def _read_header(path: Path, size: int, changed: int) -> GgufHeader:  # noqa: ARG001
    needed("gguf", "to read a GGUF file, affectlocus")
    from gguf import GGUFReader

    try:
        reader = GGUFReader(path)
        keys = {
            name: field.contents()
            for name, field in reader.fields.items()
            if not name.startswith("tokenizer.") or name == _PRE
        }
        tokens = reader.fields.get("tokenizer.ggml.tokens")
        vocabulary = len(tokens.data) if tokens is not None else 0
        types: Counter[str] = Counter()
        for tensor in reader.tensors:
            types[tensor.tensor_type.name] += int(tensor.n_elements)
    except Exception as error:  # the reader raises many types
        line = " ".join(str(error).split())
        raise InputError(
            "gguf.broken",
            f"{path}: incomplete or damaged GGUF file ({type(error).__name__}: {line[:200]}); "
            "fetch it again",
            file=path,
        ) from None
    if int(keys.get("split.count") or 1) > 1:
        raise InputError(
            "gguf.part",
            f"{path}: one of {keys['split.count']} parts of a model; merge them with llama.cpp's "
            "own tool (llama-gguf-split --merge FIRST OUT.gguf) and give OUT.gguf",
            file=path,
            parts=int(keys["split.count"]),
        )
    if keys.get("general.type", "model") != "model" or not types:
        raise InputError(
            "gguf.no-model",
            f"{path}: a GGUF file of type {keys.get('general.type', 'unknown')!r} with "
            f"{len(reader.tensors)} tensors; expected a language model",
            file=path,
            found=keys.get("general.type"),
        )
    names = frozenset(str(tensor.name) for tensor in reader.tensors)
    return GgufHeader(
        path=path,
        architecture=str(keys.get("general.architecture", "")),
        types=dict(types.most_common()),
        quantization=_quantization(types.most_common(1)[0][0], keys.get("general.file_type")),
        tensors=names,
        config=_config(keys, vocabulary, names),
        rope_scaling=str(keys.get(f"{keys.get('general.architecture')}.rope.scaling.type", "")),
        pre_tokenizer=str(keys.get(_PRE, "")),
    )


def _quantization(commonest: str, file_type: Any) -> str:
    """The file's own name of its quantisation if it fits the most common type, else this type.

    Q4_K_M, for example, is a mixture of Q4_K and Q6_K.
    """
    from gguf import LlamaFileType

    try:
        name = LlamaFileType(int(file_type)).name
    except (TypeError, ValueError):
        return commonest
    name = name.removeprefix("MOSTLY_").removeprefix("ALL_")
    return name if name.startswith(commonest) else commonest


def _config(keys: Mapping[str, Any], vocabulary: int, tensors: frozenset[str]) -> dict[str, Any]:
    """The dimensions in a header, under the names of a config.json."""
    kind = keys.get("general.architecture")
    found = {
        "model_type": kind,
        "hidden_size": keys.get(f"{kind}.embedding_length"),
        "num_hidden_layers": keys.get(f"{kind}.block_count"),
        "intermediate_size": keys.get(f"{kind}.feed_forward_length"),
        "num_attention_heads": keys.get(f"{kind}.attention.head_count"),
        "num_key_value_heads": keys.get(f"{kind}.attention.head_count_kv"),
        "head_dim": keys.get(f"{kind}.attention.key_length"),
        "vocab_size": keys.get(f"{kind}.vocab_size") or vocabulary,
        "num_experts": keys.get(f"{kind}.expert_count"),
        "moe_intermediate_size": keys.get(f"{kind}.expert_feed_forward_length"),
        "tie_word_embeddings": "output.weight" not in tensors,
        "dtype": "float32",
    }
    return {key: value for key, value in found.items() if value is not None}
