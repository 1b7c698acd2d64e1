"""Command `graft`: write a cell as a separate model, from files to files.

Weights are read, changed and written tensor by tensor; neither torch nor transformers is needed,
except for cells with random numbers.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from affectlocus.checkpoints.fused_experts import fuse_experts
from affectlocus.checkpoints.model_pairs import ModelPair
from affectlocus.checkpoints.weights import Weights
from affectlocus.core.cells import RANDOM, Cell, validated
from affectlocus.core.errors import InputError
from affectlocus.core.files import read_object, write_json
from affectlocus.core.model_config import text_config
from affectlocus.core.output_files import check_output, check_outside_inputs, replacing
from affectlocus.evaluation.interventions import LazyTensors, check_layers, intervened, verify

_SHARD = 5_000_000_000  # bytes of a file of weights at most, unless one tensor is larger
_INDEX = "model.safetensors.index.json"
# The files from which transformers builds a tokenizer or a processor.
_TOKENIZER = re.compile(
    r"tokenizer.*|special_tokens_map\.json|added_tokens\.json|vocab\..+|merges\.txt|"
    r"spiece\.model|sentencepiece.*\.model|chat_template.*|(pre)?processor_config\.json|"
    r"tekken\.json|.+\.tiktoken"
)
_VOCABULARIES = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model")


def save_cell(
    base: Path, tuned: Path, modules: str, out: Path, kind: str, mode: str, seed: int
) -> dict[str, Any]:
    """`graft` into a folder that is replaced whole or not at all.

    Raises:
        InputError: as `graft`; no such cell; an output that holds other files, or an input.
    """
    cell = validated(
        Cell(
            kind,  # type: ignore[arg-type]
            base.name,
            tuned.name,
            "" if kind == "tuned" else modules,
            mode,
            seed if mode in RANDOM else None,
        )
    )
    check_outside_inputs(out, base, tuned)
    check_output(out, "graft", inputs=[base, tuned])
    with replacing(out, "graft") as temporary:
        return graft(base, tuned, cell, temporary)


def graft(base: Path, tuned: Path, cell: Cell, out: Path) -> dict[str, Any]:
    """Writes a cell's model into a new folder, and verifies the files bit for bit.

    Args:
        base: the base model's folder.
        tuned: a tuned model's folder, or an adapter.
        cell: of kind load, tuned or ablate.
        out: a folder that is not there yet.

    Returns:
        What `interventions.verify` counted; `outside_is`, `outside_tuned` (`evaluate.CellModel`).

    Raises:
        InputError: checkpoints that do not fit each other or the cell; a base without config.json;
            random numbers without torch.
    """
    settings = base / "config.json"
    if not settings.is_file():
        raise InputError(
            "base.no-config",
            f"{settings}: no such file; expected the folder of a Hugging Face model",
            file=settings,
        )
    pair = ModelPair(base, tuned)
    check_layers(pair, cell)
    whole = cell.kind != "load"
    if whole:
        pair.check()
    else:
        pair.check_base()
        pair.check_dtypes()
    out.mkdir()
    tied = pair.tied and not pair.is_untied(whole)
    held = {*pair.base.names(), *pair.names}
    if tied and pair.head is not None and pair.head not in pair.base:
        held.discard(pair.head)
    rows = _write(pair, cell, sorted(held), out)
    write_json(out / "config.json", _config(pair, rows, tied))
    if (generation := base / "generation_config.json").is_file():
        shutil.copyfile(generation, out / generation.name)
    source = tuned if whole and _other_tokens(base, tuned) else base
    for path in source.iterdir():
        if path.is_file() and _TOKENIZER.fullmatch(path.name):
            shutil.copyfile(path, out / path.name)
    made = Weights(out)
    written = LazyTensors(made.names(), made.stored)
    counts = verify(written, pair, cell) if not tied else verify(_tied(pair, made), pair, cell)
    outside = {"outside_is": "tuned" if whole else "base", "outside_tuned": pair.outside}
    return counts | outside


def _tied(pair: ModelPair, made: Weights) -> LazyTensors:
    """The written tensors, and a tied head under its own name."""

    def read(name: str) -> np.ndarray:
        return made.stored(name if name in made else str(pair.embedding))

    return LazyTensors([*made.names(), str(pair.head)], read)


def _write(pair: ModelPair, cell: Cell, names: list[str], out: Path) -> int | None:
    """Writes the weights; returns the rows of the embeddings, if it is known which they are."""
    rows, shards, size, total = None, 0, 0, 0
    kept: dict[str, np.ndarray] = {}
    where: dict[str, str] = {}

    def save() -> None:
        nonlocal shards, kept, size
        shards += 1
        save_file(kept, out / f".{shards}.safetensors", metadata={"format": "pt"})
        where.update(dict.fromkeys(kept, str(shards)))
        kept, size = {}, 0

    for name, value in _tensors(pair, cell, names):
        if name == pair.embedding:
            rows = len(value)
        if kept and size + value.nbytes > _SHARD:
            save()
        kept[name] = np.ascontiguousarray(value)
        size += value.nbytes
        total += value.nbytes
    save()
    if shards == 1:
        (out / ".1.safetensors").rename(out / "model.safetensors")
        return rows
    files = {str(n): f"model-{n:05d}-of-{shards:05d}.safetensors" for n in range(1, shards + 1)}
    for number, file in files.items():
        (out / f".{number}.safetensors").rename(out / file)
    placed = {name: files[number] for name, number in sorted(where.items())}
    write_json(out / _INDEX, {"metadata": {"total_size": total}, "weight_map": placed})
    return rows


def _tensors(pair: ModelPair, cell: Cell, names: list[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the cell's tensors with the names in the base's files."""
    fused = pair.base.fused
    parts = {part for _, cuts in fused.values() for part in cuts}
    both = set(pair.names)

    def value(name: str) -> np.ndarray:
        # A tensor that the tuned model lacks is the base's.
        return intervened(pair, name, cell) if name in both else pair.base.stored(name)

    for name in names:
        if name not in parts:
            yield name, value(name)
    for name, (shape, cuts) in fused.items():
        matrices = {part: value(part) for part in cuts}
        yield name, fuse_experts(matrices, {name: (shape, cuts)})[name]


def _config(pair: ModelPair, rows: int | None, tied: bool) -> dict[str, Any]:
    """The base's config.json, adapted to the written model."""
    config = json.loads(json.dumps(pair.base.config))
    each = [config, *filter(None, [text_config(config)])]
    if pair.base.has_stale_quantisation:
        config.pop("quantization_config", None)
    embedded = None if pair.embedding is None else pair.base.shape(pair.embedding)[0]
    if rows is not None and rows != embedded:
        _set(each, "vocab_size", rows)
    if pair.tied:
        _set(each, "tie_word_embeddings", tied)
    return config


def _set(each: list[dict[str, Any]], key: str, value: Any) -> None:
    """Sets a key wherever it occurs, or else in the language model's settings."""
    found = [one for one in each if key in one] or [each[-1]]
    for one in found:
        one[key] = value


def _other_tokens(base: Path, tuned: Path) -> bool:
    """Whether the tuned checkpoint has a tokenizer with other tokens than the base's."""
    if not tuned.is_dir() or not any((tuned / name).is_file() for name in _VOCABULARIES):
        return False
    return _vocabulary(base) != _vocabulary(tuned)


def _vocabulary(folder: Path) -> Any:
    """The tokens of a folder's tokenizer: token → id, or the bytes of files that list them."""
    file = folder / "tokenizer.json"
    if not file.is_file():
        names = (*_VOCABULARIES, "added_tokens.json")
        return [
            (folder / name).read_bytes() if (folder / name).is_file() else None for name in names
        ]
    content = read_object(file, "a tokenizer")
    model = content.get("model", {}).get("vocab", {})
    listed = model if isinstance(model, dict) else {one[0]: i for i, one in enumerate(model)}
    added = {one["content"]: one["id"] for one in content.get("added_tokens") or ()}
    return {**listed, **added}
