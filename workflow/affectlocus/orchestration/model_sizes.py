"""The size of each model of an experiment: by its files, or as stated, named or assumed."""

from __future__ import annotations

import json
import re
from pathlib import Path

from affectlocus.checkpoints.gguf_files import read_header
from affectlocus.checkpoints.model_size import BYTES, Size, size_from_config
from affectlocus.config.corpus import Pretraining
from affectlocus.core.checkpoint_files import checkpoint_paths, is_weights
from affectlocus.core.errors import InputError
from affectlocus.core.manifests import manifest_folder
from affectlocus.orchestration.artifacts import encoder_checkpoint
from affectlocus.orchestration.dag import Dag
from affectlocus.orchestration.rule_values import checkpoint

_UNKNOWN = 8e9  # parameters of a model of unknown size
_ENCODER_BYTES = 1.3e9  # of an encoder that is not on disk: 300 million parameters in float32
_PRETRAINED_VOCABULARY = 768
_NAMED = re.compile(r"(?<![A-Za-z0-9.])(\d+(?:\.\d+)?) ?([BbMm])(?![A-Za-z0-9])")
# A transformer of unknown shape: hidden size is 128 times the number of layers, the feed-forward
# block three matrices of 8/3 of it, so that a layer has 12 hidden² weights.
_LAYERS_TO_WIDTH = 128


class ModelSizes:
    """The sizes of an experiment's models; each is looked up once."""

    def __init__(self, jobs: Dag) -> None:
        self._jobs = jobs
        self._sizes: dict[str, Size] = {}

    def of(self, name: str) -> Size:
        """The size of a model: of a base, a pair or the extractor."""
        if name not in self._sizes:
            encoder = name.startswith(encoder_checkpoint(""))
            self._sizes[name] = (
                self._encoder_size(name) if encoder else self._found(name) or self._stated(name)
            )
        return self._sizes[name]

    def _found(self, name: str) -> Size | None:
        """The size according to the files on disk: a manifest, or the user's own folder."""
        if name in self._jobs.pretrained:
            recipe = self._jobs.bases[name].pretrain
            return pretraining_size(recipe) if recipe else None
        if name in self._jobs.converted and (found := self._of_gguf(name)):
            return found
        source = self._jobs.source(name)
        manifest = Path(checkpoint(name))
        try:
            if source.folder is not None:
                folder = Path(self._jobs.external(source.folder))
                if folder.is_file():
                    return None
                files = {file.name: file.stat().st_size for file in checkpoint_paths(folder)}
            else:
                record = json.loads(manifest.read_text(encoding="utf-8"))
                folder = manifest_folder(record)
                files = {entry["file"]: int(entry["bytes"]) for entry in record["files"]}
            stored = sum(size for file, size in files.items() if is_weights(file))
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        origin = f"{folder / 'config.json'} and the weights in its folder"
        found = size_from_config(config, origin) if isinstance(config, dict) else None
        return found.stored_in(stored, origin) if found and stored else found

    def _of_gguf(self, name: str) -> Size | None:
        """The size of a base in float32, according to the header of its GGUF file."""
        try:
            return read_header(self._jobs.convert.path(name)).size
        except InputError:
            return None  # not installed, or damaged; its job says so

    def _stated(self, name: str) -> Size:
        stated = self._jobs.parameters.plan.sizes.get(name)
        if stated is not None:
            return estimated_size(stated.parameters, stated.dtype, f"plan.sizes.{name}")
        for text in (*self._jobs.source(name).named, name):
            if text and (found := size_from_name(text.rpartition("/")[2])):
                return found
        pair = self._jobs.parameters.pairs.get(name)
        if pair is not None:
            return self.of(pair.base)
        return estimated_size(_UNKNOWN, "bfloat16", "an assumption; plan.sizes can state it")

    def _encoder_size(self, name: str) -> Size:
        """The size of an encoder by the bytes of its weights, or an assumption."""
        medium = name.removeprefix(encoder_checkpoint(""))
        encoder = self._jobs.parameters.media[medium].encoder
        if encoder is None or encoder.pretrain is not None:
            return estimated_size(1e5, "float32", "its recipe")
        stored = 0
        try:
            if encoder.folder is not None:
                paths = checkpoint_paths(Path(self._jobs.external(encoder.folder)))
                stored = sum(path.stat().st_size for path in paths if is_weights(path.name))
            else:
                record = json.loads(Path(checkpoint(name)).read_text(encoding="utf-8"))
                listed = [one for one in record["files"] if is_weights(one["file"])]
                stored = sum(int(one["bytes"]) for one in listed)
        except (OSError, ValueError, KeyError, TypeError):
            pass  # not on disk yet
        origin = "the weights in its folder" if stored else "an assumption"
        return estimated_size((stored or _ENCODER_BYTES) / 4, "float32", origin)


def pretraining_size(recipe: Pretraining) -> Size:
    """The size of a tiny base that the workflow pretrains: float32, tied embeddings."""
    found = size_from_config(
        {
            "model_type": recipe.architecture,
            "hidden_size": recipe.hidden_size,
            "intermediate_size": recipe.intermediate_size,
            "num_hidden_layers": recipe.layers,
            "num_attention_heads": recipe.heads,
            "num_key_value_heads": recipe.kv_heads,
            "vocab_size": _PRETRAINED_VOCABULARY,
            "tie_word_embeddings": True,
        },
        "its recipe",
    )
    assert found is not None
    return found


def estimated_size(parameters: float, dtype: str, origin: str) -> Size:
    """A model with the given number of parameters and a usual shape."""
    hidden = max(1, round((parameters * _LAYERS_TO_WIDTH / 12) ** (1 / 3)))
    layers = max(1, round(hidden / _LAYERS_TO_WIDTH))
    wide = round(hidden * 8 / 3)
    width_in_bytes = BYTES[dtype]
    return Size(
        round(parameters), width_in_bytes, hidden, layers, wide, hidden, hidden, 32_000, origin
    )


def size_from_name(name: str) -> Size | None:
    """The size in a name such as Qwen2.5-7B-Instruct, as bfloat16; None if the name has none."""
    found = _NAMED.findall(name)
    if not found:
        return None
    number, unit = found[-1]
    scale = 1e9 if unit in "Bb" else 1e6
    return estimated_size(float(number) * scale, "bfloat16", f"the name {name}")
