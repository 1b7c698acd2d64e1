"""Converts a GGUF file into a Hugging Face model in float32, and keeps the result by its content.

transformers reads the file: it undoes the row order of llama.cpp's q and k, and builds the
tokenizer. The package gguf dequantises the tensors. In float32 every number is exactly the one that
the file describes.
"""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import torch
from tokenizers import pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from affectlocus.checkpoints.checkpoint_manifests import manifest
from affectlocus.checkpoints.gguf_files import GgufHeader, read_header
from affectlocus.config.hardware import Hardware
from affectlocus.core.cache_key import cache_key
from affectlocus.core.errors import InputError
from affectlocus.core.files import read_json, sha256, write_json
from affectlocus.core.manifests import portable_path
from affectlocus.core.output_files import replacing
from affectlocus.core.version import installed_version
from affectlocus.data.download import cache_folder, check_disk, download_lock
from affectlocus.data.gguf_sources import GgufSource
from affectlocus.data.http_client import say
from affectlocus.lm.devices import load
from affectlocus.lm.prompts import Prompter
from affectlocus.lm.text_loss import text_nats

PARAGRAPH = (
    "The river rises in the hills to the north of the town and flows south for about forty miles "
    "before it reaches the sea. For most of the year the water is low enough to cross on foot, but "
    "in spring, when the snow melts, it often floods the fields on both sides. In the nineteenth "
    "century the people who lived here built a stone bridge and a small mill, and the road over "
    "the bridge is still the main way into the town. Today the old mill is a museum, where "
    "visitors can learn how grain was ground into flour and how the families of the valley lived. "
    "A train from the city stops here every hour, and on summer weekends many people come to walk "
    "along the river, to swim, or to have lunch in one of the cafes on the market square."
)
"""General English, on which a converted model is tried."""

SUSPECT = 1000.0
"""A perplexity on `PARAGRAPH` above this is reported: the model probably cannot be used.

Working models have 10 to 100, small ones included. With the rows of q and k in the wrong order, or
a tokenizer that does not fit, the perplexity is in the thousands. It is a warning and not an error,
because a model of another language or of one narrow subject is as bad at English.
"""

_MAKERS = ("gguf", "transformers", "tokenizers")
"""The libraries that decide the bytes of a converted model."""

# Names of llama.cpp for tokenizers that split every digit from its neighbours before GPT-2's rule.
# transformers does not know them and would apply GPT-2's rule alone.
_SINGLE_DIGITS = ("smollm", "starcoder", "refact", "command-r", "codeshell")


def write_model(given: GgufSource, folder: Path) -> dict[str, Any]:
    """Writes the model of a GGUF file into a folder, in the Hugging Face layout.

    The same file gives the same bytes.

    Args:
        folder: an empty folder, or one that this command wrote, is replaced.

    Returns:
        `quantization` (Q4_1), `label` (dequantised from Q4_1), `types` (tensor type → parameters),
        `gguf_sha256`, `model_type`, `tensors` (a count), and `perplexity` on `PARAGRAPH`.

    Raises:
        InputError: a model that cannot be converted faithfully, or damaged weights; or the folder
            would replace other files.
        MissingExtraError: the package gguf is not installed.
    """
    with replacing(folder, "convert", inputs=[given.path]) as temporary:
        header = read_header(given.path)
        _check_rotation(header)
        temporary.mkdir()
        kind, tensors = _save_model(header, temporary)
        _save_tokenizer(header, temporary)
        _write_card(header, given, temporary)
        found = _checked_perplexity(given.path, temporary)
    return {
        "quantization": header.quantization,
        "label": header.label,
        "types": dict(header.types),
        "gguf_sha256": given.sha256,
        "model_type": kind,
        "tensors": tensors,
        "perplexity": float(f"{found:.4g}"),
    }


def kept_model(given: GgufSource) -> dict[str, Any]:
    """The manifest of a GGUF file's model, which is converted once and kept below HF_HOME.

    Returns:
        As `data.retrieve.retrieve`, and in addition what `write_model` returns.

    Raises:
        InputError: as `write_model`.
    """
    made_by = cache_key(
        code=sha256(Path(__file__)),
        versions={name: installed_version(name) for name in _MAKERS},
    )
    folder = cache_folder() / "gguf" / given.sha256 / made_by / given.path.stem
    record = folder.with_name("converted.json")
    with download_lock(f"conversion of {given.path.name}"):
        about = _kept(folder, record)
        if about is None:
            size = read_header(given.path).size
            check_disk(folder, size.bytes if size else 0, given.path.name)
            about = write_model(given, folder)
            about["files"] = manifest(folder)
            write_json(record, about)
    files = about.pop("files")
    return {
        "folder": portable_path(folder),
        "kind": "model",
        "source": given.source,
        "revision": None,
        "licence": given.licence,
        **about,
        "files": files,
    }


def _kept(folder: Path, record: Path) -> dict[str, Any] | None:
    """What `write_model` returned, and the files; None unless all files are unchanged."""
    if not folder.is_dir():
        return None
    try:
        about: dict[str, Any] = read_json(record)
        if manifest(folder) == about["files"]:
            return about
    except (InputError, KeyError, TypeError, OSError):
        pass
    say(f"{folder}: incomplete or damaged; the GGUF file is converted again")
    shutil.rmtree(folder)
    return None


def _check_rotation(header: GgufHeader) -> None:
    """Refuses a scaled rotary embedding, which transformers does not read from a GGUF file.

    The model would load and answer, but not as it should.
    """
    scaled = [name for name in header.tensors if name.startswith("rope_f")]
    if scaled or header.rope_scaling not in ("", "none"):
        what = scaled[0] if scaled else f"rope.scaling.type {header.rope_scaling}"
        raise InputError(
            "gguf.scaled-rotary-embedding",
            f"{header.path}: its rotary embedding is scaled ({what}), which transformers ignores "
            "in a GGUF file; give the model's safetensors files as folder or hub",
            file=header.path,
            found=what,
        )


def _save_model(header: GgufHeader, folder: Path) -> tuple[str, int]:
    """Saves configuration and weights; returns the model_type and the number of tensors."""
    path = header.path
    try:
        model, loading = AutoModelForCausalLM.from_pretrained(
            path.parent,
            gguf_file=path.name,
            dtype=torch.float32,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except (MemoryError, InputError):
        raise
    except Exception as error:  # configuration and model classes raise many types
        line = " ".join(str(error).split())
        raise InputError(
            "gguf.cannot-be-converted",
            f"{path}: transformers cannot convert a GGUF file of architecture "
            f"{header.architecture!r} ({type(error).__name__}: {line[:300]}); give the model's "
            "safetensors files as folder or hub",
            file=path,
            found=header.architecture,
        ) from None
    # A tensor that transformers does not know is skipped, and a missing one is drawn at random.
    held = sum(header.types.values())
    used = sum(parameter.numel() for parameter in model.parameters())
    if loading["missing_keys"] or held != used:
        missing = min(loading["missing_keys"], default="")
        said = f"; {missing} is missing" if missing else ""
        raise InputError(
            "gguf.other-tensors",
            f"{path}: it holds {held} parameters, and the {header.architecture} model of "
            f"transformers has {used}{said}; give the model's safetensors files as folder or hub",
            file=path,
            found=held,
            expected=used,
        )
    config, weights = model.config, model.state_dict()
    # transformers refuses to save a model that it read from a GGUF file, because it was quantised.
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.name_or_path = ""  # a path of this machine
    with torch.device("meta"):
        plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    plain.load_state_dict(weights, assign=True)
    plain.tie_weights()
    plain.save_pretrained(folder)
    return str(config.model_type), len(list(plain.parameters()))


def _save_tokenizer(header: GgufHeader, folder: Path) -> None:
    """Saves the tokenizer of a GGUF file, and checks that it is read from the folder as it was."""
    path = header.path
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
        path.parent, gguf_file=path.name, local_files_only=True, trust_remote_code=False
    )
    backend = tokenizer.backend_tokenizer
    if header.pre_tokenizer in _SINGLE_DIGITS:
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
            ]
        )
    special = {
        name: getattr(tokenizer, name)
        for name in ("bos_token", "eos_token", "unk_token", "pad_token")
        if getattr(tokenizer, name) is not None
    }
    # Of the general class: the class of an architecture builds its own rules around a vocabulary.
    PreTrainedTokenizerFast(
        tokenizer_object=backend, chat_template=tokenizer.chat_template, **special
    ).save_pretrained(folder)
    wanted = backend.encode(PARAGRAPH, add_special_tokens=False).ids
    if Prompter(folder).tokenizer(PARAGRAPH, add_special_tokens=False)["input_ids"] != wanted:
        raise InputError(
            "gguf.other-tokenizer",
            f"{path}: transformers reads its tokenizer in another way once it is saved; give the "
            "model's safetensors files as folder or hub",
            file=path,
        )


def _checked_perplexity(path: Path, folder: Path) -> float:
    """exp of the mean negative log-likelihood per token of `PARAGRAPH`, in nats.

    Reports a perplexity above `SUSPECT`, and refuses one that is not finite.
    """
    ids = Prompter(folder).prompts([PARAGRAPH], 512)
    nats, tokens = text_nats(load(folder, Hardware()).eval(), ids, 512)
    mean = nats.sum() / tokens.sum()
    if not math.isfinite(mean):
        raise InputError(
            "gguf.no-finite-perplexity",
            f"{path}: the model's perplexity on English text is not a number, so its weights are "
            "damaged; fetch the file again",
            file=path,
        )
    found = math.exp(min(mean, 700.0))
    if found > SUSPECT:
        say(
            f"warning: {path}: the model's perplexity on a paragraph of English is {found:.0f}; "
            f"working models of English have less than {SUSPECT:.0f}"
        )
    return found


def _write_card(header: GgufHeader, given: GgufSource, folder: Path) -> None:
    """Writes the model card: licence and origin."""
    front = f"---\nlicense: {given.licence}\n---\n" if given.licence else ""
    counts = ", ".join(f"{name}: {count}" for name, count in header.types.items())
    text = (
        f"{front}# {header.path.stem}, {header.label}\n\n"
        f"Converted by affectlocus from {header.path.name} (SHA-256 {given.sha256}) into float32.\n"
        f"Parameters by type in that file: {counts}.\n"
    )
    (folder / "README.md").write_text(text, encoding="utf-8")
