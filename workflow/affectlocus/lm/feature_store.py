"""Features of media files, kept by content, in shards that an interrupted job has finished.

A folder holds the features that one encoder gives with one medium's settings, decoders, code and
device. In it each shard is a safetensors file whose tensors are named after the SHA-256 of the
media files. So a changed file, or a new one, costs its own forward pass only, whatever its task.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from affectlocus.core.cache_key import cache_key
from affectlocus.core.errors import InputError
from affectlocus.core.output_files import replacing


class FeatureStore:
    """The kept features of one encoder and one medium's settings.

    Args:
        folder: the folder of all kept features, made with the first shard. With None, nothing is
            kept.
        made_by: what the features depend on in addition to the files, as JSON: encoder, settings,
            decoders, code, device.
    """

    def __init__(self, folder: Path | None, **made_by: Any) -> None:
        self._folder = None if folder is None else folder / cache_key(**made_by)
        self._shards: dict[str, Path] = {}
        for shard in sorted(self._folder.glob("*.safetensors")) if self._folder else ():
            # A damaged shard counts as missing; its files are encoded again.
            with suppress(OSError, SafetensorError), safe_open(shard, framework="pt") as stored:
                self._shards |= dict.fromkeys(stored.keys(), shard)

    def get(self, name: str) -> torch.Tensor | None:
        """The features (tokens, width) of a file; None if there are none, or they were changed."""
        if name not in self._shards:
            return None
        try:
            with safe_open(self._shards[name], framework="pt") as stored:
                found = stored.get_tensor(name)
                intact = (stored.metadata() or {}).get(name) == _digest(found)
        except (OSError, SafetensorError):
            return None
        return found if intact else None

    def keep(self, found: dict[str, torch.Tensor]) -> None:
        """Writes a shard. A full disk does not stop the job."""
        if self._folder is None or not found:
            return
        shard = self._folder / f"{cache_key(files=sorted(found))}.safetensors"
        with suppress(InputError, OSError), replacing(shard) as temporary:
            save_file(found, temporary, {name: _digest(one) for name, one in found.items()})


def _digest(values: torch.Tensor) -> str:
    return hashlib.sha256(values.contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()
