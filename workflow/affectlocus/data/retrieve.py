"""A checkpoint that a user brings: from disk, a model hub or a URL, to a manifest of its files.

Neither transformers nor peft is imported.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from affectlocus.checkpoints.unmerged import instead_of_weights, refuse_pieces
from affectlocus.config.yaml_text import LONGEST, parsed
from affectlocus.core.checkpoint_files import checkpoint_paths, is_weights, shards
from affectlocus.core.errors import InputError, shortened
from affectlocus.core.files import read_json
from affectlocus.core.manifests import manifest_entry, manifest_folder, portable_path

if TYPE_CHECKING:
    from affectlocus.checkpoints.adapters import Adapter

_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w.-]+)?")
_NAMED = re.compile(r"[\w-][\w.-]*/[\w.-]+")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


def retrieve(
    source: str, revision: str | None = None, digest: str | None = None, pins: Path | None = None
) -> dict[str, Any]:
    """The manifest of a checkpoint, which is on disk, whole and verified, when this returns.

    Args:
        source: a folder, or one file of weights; `owner/name` on the hub; an http(s) URL.
        revision: of a hub id: a commit's 40 hex digits, or a branch or tag to pin.
        digest: SHA-256 of a URL's file.
        pins: where branches are pinned; by default checkpoints.lock.json in this folder.

    Returns:
        folder (of a download `${HF_HUB_CACHE}/…` or `${HF_HOME}/…`, which `manifest_folder` reads),
        kind (model, adapter, file), source, revision, licence, files (file, bytes,
        sha256); and the number of tensors, or of adapted modules with the other trained tensors;
        and what the files say of the model: `model_type`, and of an adapter with LoRA factors
        `method` (lora), `ranks`, `targets` (last names of its modules) and `base`, where known.

    Raises:
        InputError: what is missing or wrong, and what to do.
    """
    at_url = re.match("https?://", source) is not None
    if digest is not None and not at_url:
        raise InputError(f"{source}: a sha256 goes with an http(s) URL; leave it out")
    if at_url:
        record = _from_url(source, digest)
    elif revision is not None or (_NAMED.fullmatch(source) and not Path(source).exists()):
        record = _from_hub(source, revision, pins or Path("checkpoints.lock.json"))
    else:
        record = _from_disk(Path(source))
    files = record.pop("files")
    path = manifest_folder(record)
    if record["kind"] == "file":
        path /= files[0]["file"]
    return {**record, **_stock(path, record["kind"]), "files": files}


def check_hub_id(hub: str) -> None:
    """Refuses what is no hub id, before anything is asked of a hub.

    Raises:
        InputError: as said.
    """
    if not _HUB_ID.fullmatch(hub):
        raise InputError(f"{hub}: a revision goes with a hub id, expected owner/name")


def _from_hub(hub: str, revision: str | None, pins: Path) -> dict[str, Any]:
    check_hub_id(hub)
    from affectlocus.data.hub import retrieve_hub

    snapshot = retrieve_hub(hub, revision, pins)
    return {
        "folder": portable_path(snapshot.folder),
        "kind": _kind(snapshot.folder),
        "source": {"hub": hub},
        "revision": snapshot.commit,
        "licence": snapshot.licence,
        "files": snapshot.files,
    }


def _from_url(url: str, digest: str | None) -> dict[str, Any]:
    from affectlocus.data.download import fetch, shown

    if digest is None or not _SHA256.fullmatch(digest):
        raise InputError(
            f"{shown(url)}: the sha256 is {'missing' if digest is None else 'not 64 hex digits'}; "
            "take it from where the file is published, or from sha256sum of a copy you trust"
        )
    path, found = fetch(url, digest.lower())
    return {
        "folder": portable_path(path.parent),
        "kind": "file",
        "source": {"url": shown(url)},
        "revision": None,
        "licence": None,
        "files": [manifest_entry(path, found)],
    }


def _from_disk(path: Path) -> dict[str, Any]:
    if path.is_file():
        if not is_weights(path.name):
            raise InputError(f"{path}: no checkpoint; expected a folder, or a .pth or .bin file")
        folder, paths, kind = path.parent, [path], "file"
    elif path.is_dir():
        folder, kind = path, _kind(path)
        paths = checkpoint_paths(path)
        refuse_pieces(path)
        if not any(is_weights(file.name) for file in paths):
            if found := instead_of_weights(path):
                raise InputError(f"{path}: {found}")
            raise InputError(f"{path}: no .safetensors, .bin or .pth file; expected a saved model")
    else:
        raise InputError(
            f"{path}: no such file or folder; expected a checkpoint's path, a hub id (owner/name) "
            "or an http(s) URL"
        )
    return {
        "folder": str(folder),
        "kind": kind,
        "source": {"folder": str(path)},
        "revision": None,
        "licence": _card_licence(folder),
        "files": [manifest_entry(file) for file in paths],
    }


def _kind(folder: Path) -> str:
    return "adapter" if (folder / "adapter_config.json").is_file() else "model"


def _card_licence(folder: Path) -> str | None:
    """The licence that a model card (README.md) names on top, if it names one."""
    try:
        with (folder / "README.md").open(encoding="utf-8") as stream:
            text = stream.read(LONGEST)
        card = parsed(text.split("---")[1], "README.md") if text.startswith("---") else None
    except (OSError, ValueError, InputError):
        return None
    licence = card.get("license") if isinstance(card, dict) else None
    return None if licence is None else shortened(licence)


def _stock(path: Path, kind: str) -> dict[str, Any]:
    """Counts what is in the files, which shows that they are whole.

    Of an adapter: the modules that it adapts, and the names of the other tensors that were trained
    with it.
    """
    if kind == "model":
        files = [file for file in checkpoint_paths(path) if file.suffix == ".safetensors"]
        shards(path)  # refuses an index whose shards are not all there
        if files:
            return {"tensors": sum(map(_count, files)), **_model_type(path)}
    # Torch is imported only where it is needed: these take a second, the above a tenth.
    from affectlocus.checkpoints.adapters import Adapter
    from affectlocus.checkpoints.pairs import Weights, is_adapter

    if is_adapter(path):
        adapter = Adapter(path)
        counts = {"adapted": len(adapter.factors), "other_trained": sorted(adapter.replaced)}
        return counts | _tuning(adapter)
    return {"tensors": len(Weights(path).names()), **_model_type(path)}


def _model_type(folder: Path) -> dict[str, str]:
    """A whole model's model_type, of the language model in it, as its config.json says."""
    from affectlocus.checkpoints.base_layout import language_model_type

    file = folder / "config.json"
    found = language_model_type(read_json(file)) if file.is_file() else None
    return {} if found is None else {"model_type": found}


def _tuning(adapter: Adapter) -> dict[str, Any]:
    """What an adapter's files say of its tuning."""
    from affectlocus.checkpoints.base_layout import model_type

    found: dict[str, Any] = {"base": adapter.base_name, "model_type": model_type(adapter)}
    if adapter.factors:
        found["method"] = "lora"
        found["ranks"] = sorted({adapter.rank(module) for module in adapter.factors})
        found["targets"] = sorted({module.rpartition(".")[2] for module in adapter.factors})
    return {key: value for key, value in found.items() if value is not None}


def _count(file: Path) -> int:
    from affectlocus.checkpoints.tensor_files import check_header

    check_header(file)
    try:
        with safe_open(os.fspath(file), framework="np") as tensors:
            return len(tensors.keys())
    except SafetensorError as error:
        raise InputError(f"{file}: not a whole safetensors file ({error})") from None
