"""Step `retrieve`: the manifest of a checkpoint that the user gives: a folder, a hub id or a URL.

This module imports neither transformers nor peft.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from affectlocus.checkpoints.gguf_files import is_gguf, refusal
from affectlocus.checkpoints.unsupported_formats import refuse_known_folder, refuse_partitioned
from affectlocus.config.yaml_text import LONGEST, parsed
from affectlocus.core.checkpoint_files import checkpoint_paths, is_weights, shards
from affectlocus.core.errors import InputError, shortened
from affectlocus.core.files import read_json
from affectlocus.core.installed_packages import package_file as installed_file
from affectlocus.core.manifests import manifest_entry, manifest_folder, portable_path

if TYPE_CHECKING:
    from affectlocus.checkpoints.adapters import Adapter

_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w.-]+)?")
_NAMED = re.compile(r"[\w-][\w.-]*/[\w.-]+")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


def retrieve(
    source: str,
    revision: str | None = None,
    digest: str | None = None,
    pins: Path | None = None,
    package_file: str | None = None,
) -> dict[str, Any]:
    """The manifest of a checkpoint, after it is downloaded where needed and its files are verified.

    Args:
        source: a folder, or one file of weights; `owner/name` on the hub; an http(s) URL.
        revision: for a hub id, a commit's 40 hex digits, or a branch or tag, which is pinned.
        digest: for a URL, the SHA-256 of the file.
        pins: JSON file that pins branches; by default checkpoints.lock.json in the working folder.
        package_file: for an installed package (NAME==VERSION), the config.json of the model in it.

    Returns:
        `folder` (of a download `${HF_HUB_CACHE}/…` or `${HF_HOME}/…`, which `manifest_folder`
        expands), `kind` (model, adapter, file), `source`, `revision`, `licence`, `files` (each with
        `file`, `bytes`, `sha256`). A model also has `tensors` (a count) and `model_type`; an
        adapter has `adapted` (number of modules), `other_trained` (names of other trained tensors)
        and, where known, `base`, `model_type`, `method` (lora), `ranks` and `targets` (last parts
        of the module names).

    Raises:
        InputError: the checkpoint is missing, incomplete or unreadable.
    """
    at_url = re.match("https?://", source) is not None
    if digest is not None and not at_url:
        raise InputError(
            "download.sha256-without-url",
            f"{source}: sha256 applies to http(s) URLs only; remove it",
            option="sha256",
            found=source,
        )
    if package_file is not None:
        record = _from_package(source, package_file)
    elif at_url:
        record = _from_url(source, digest)
    elif revision is not None or (_NAMED.fullmatch(source) and not Path(source).exists()):
        record = _from_hub(source, revision, pins or Path("checkpoints.lock.json"))
    else:
        record = _from_disk(Path(source))
    files = record.pop("files")
    path = manifest_folder(record)
    if record["kind"] == "file":
        path /= files[0]["file"]
    return {**record, **_contents(path, record["kind"]), "files": files}


def check_hub_id(hub: str) -> None:
    """Refuses a text that is not a hub id, before any request to the hub.

    Raises:
        InputError: not of the form owner/name.
    """
    if not _HUB_ID.fullmatch(hub):
        raise InputError(
            "hub.bad-id",
            f"{hub}: not a hub id; expected owner/name (a revision applies to hub ids only)",
            hub=hub,
        )


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
    from affectlocus.data.download import fetch, redacted_url

    if digest is None or not _SHA256.fullmatch(digest):
        problem = "missing" if digest is None else "not 64 hex digits"
        raise InputError(
            "download.no-sha256",
            f"{redacted_url(url)}: the sha256 is {problem}; take it from the page that publishes "
            "the file, or compute it with sha256sum from a copy you trust",
            url=redacted_url(url),
            option="sha256",
            found=digest,
        )
    path, sha256 = fetch(url, digest.lower())
    return {
        "folder": portable_path(path.parent),
        "kind": "file",
        "source": {"url": redacted_url(url)},
        "revision": None,
        "licence": None,
        "files": [manifest_entry(path, sha256)],
    }


def _from_package(requirement: str, pattern: str) -> dict[str, Any]:
    installed = installed_file(requirement, pattern)
    return {
        **_from_disk(installed.path.parent),
        "source": {"package": requirement, "file": installed.name},
        "licence": installed.licence,
    }


def _from_disk(path: Path) -> dict[str, Any]:
    if path.is_file():
        if is_gguf(path):
            raise refusal(path)
        if not is_weights(path.name):
            raise InputError(
                "checkpoint.not-weights",
                f"{path}: not a checkpoint; expected a folder, or a .safetensors, .bin, .pt or "
                ".pth file",
                file=path,
            )
        folder, paths, kind = path.parent, [path], "file"
    elif path.is_dir():
        folder, kind = path, _kind(path)
        paths = checkpoint_paths(path)
        refuse_partitioned(path)
        if not any(is_weights(file.name) for file in paths):
            refuse_known_folder(path)
            raise InputError(
                "checkpoint.no-weights",
                f"{path}: no .safetensors, .bin or .pth file in this folder; expected a saved "
                "model",
                file=path,
            )
    else:
        raise InputError(
            "checkpoint.missing",
            f"{path}: no such file or folder; expected a checkpoint's path, a hub id (owner/name) "
            "or an http(s) URL",
            file=path,
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
    """The licence in the header of the model card (README.md), if it has one."""
    try:
        with (folder / "README.md").open(encoding="utf-8") as stream:
            text = stream.read(LONGEST)
        card = parsed(text.split("---")[1], "README.md") if text.startswith("---") else None
    except (OSError, ValueError, InputError):
        return None
    licence = card.get("license") if isinstance(card, dict) else None
    return None if licence is None else shortened(licence)


def _contents(path: Path, kind: str) -> dict[str, Any]:
    """The contents of a checkpoint's files, as in `retrieve`; refuses incomplete files."""
    if kind == "model":
        files = [file for file in checkpoint_paths(path) if file.suffix == ".safetensors"]
        shards(path)  # refuses an index with missing shards
        if files:
            return {"tensors": sum(map(_count, files)), **_model_type(path)}
    # Imported here because they import torch, which takes a second.
    from affectlocus.checkpoints.adapters import Adapter
    from affectlocus.checkpoints.pairs import is_adapter
    from affectlocus.checkpoints.weights import Weights

    if is_adapter(path):
        adapter = Adapter(path)
        counts = {"adapted": len(adapter.factors), "other_trained": sorted(adapter.replaced)}
        return counts | _tuning(adapter)
    return {"tensors": len(Weights(path).names()), **_model_type(path)}


def _model_type(folder: Path) -> dict[str, str]:
    """The model_type of the language model in config.json, if it is known."""
    from affectlocus.checkpoints.base_layout import language_model_type

    file = folder / "config.json"
    found = language_model_type(read_json(file)) if file.is_file() else None
    return {} if found is None else {"model_type": found}


def _tuning(adapter: Adapter) -> dict[str, Any]:
    """The tuning of an adapter, as its files describe it."""
    from affectlocus.checkpoints.base_layout import model_type

    found: dict[str, Any] = {"base": adapter.base_name, "model_type": model_type(adapter)}
    if adapter.factors:
        found["method"] = "lora"
        found["ranks"] = sorted({adapter.rank(module) for module in adapter.factors})
        found["targets"] = sorted({module.rpartition(".")[2] for module in adapter.factors})
    return {key: value for key, value in found.items() if value is not None}


def _count(file: Path) -> int:
    from affectlocus.checkpoints.safetensors_headers import check_header

    check_header(file)
    try:
        with safe_open(os.fspath(file), framework="np") as tensors:
            return len(tensors.keys())
    except SafetensorError as error:
        raise InputError(
            "checkpoint.broken-safetensors",
            f"{file}: incomplete or broken safetensors file ({error}); download or save it again",
            file=file,
        ) from None
