"""The size of each model of an experiment: by its files, or as stated, named or assumed."""

from __future__ import annotations

import json
from pathlib import Path

from affectlocus.checkpoints.gguf_files import read_header
from affectlocus.checkpoints.model_size import Size, size_from_config
from affectlocus.core.checkpoint_files import checkpoint_paths, is_weights
from affectlocus.core.errors import InputError
from affectlocus.core.manifests import manifest_folder
from affectlocus.orchestration.artifacts import encoder_checkpoint
from affectlocus.orchestration.dag import Dag
from affectlocus.orchestration.planned_sizes import (
    estimated_size,
    pretraining_size,
    size_from_name,
)
from affectlocus.orchestration.rule_values import checkpoint

_UNKNOWN = 8e9  # parameters of a model of unknown size
_ENCODER_BYTES = 1.3e9  # of an encoder that is not on disk: 300 million parameters in float32


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
