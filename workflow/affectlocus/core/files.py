"""Files that are whole or absent, and their digests."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from affectlocus.core.durable import make_folder, sync, sync_names
from affectlocus.core.errors import InputError, shortened

_READ = 1 << 20
_LARGEST_JSON = 100_000_000  # bytes

CHECKPOINT_SUFFIXES = (".json", ".safetensors", ".model", ".txt", ".jinja")
"""The files of a checkpoint that a manifest lists: configuration, tokenizer, weights."""

PICKLED = (".bin", ".pth", ".pt")
"""Weights as PyTorch saves them; read only where there is no safetensors file."""

# What a trainer leaves beside the weights, and second copies of them.
_ASIDE = re.compile(
    r"consolidated|training_args|optimizer|scheduler|scaler|rng_state|random_states|.*optim_states"
)
# One set of weights out of several; the first that is there.
_ADAPTER_SETS = (r"adapter_model\.", r"adapters\.")
_SETS = (*_ADAPTER_SETS, r".+-\d+-of-\d+\.", r"(pytorch_)?model\.")
_OF_ADAPTERS = re.compile("|".join((*_ADAPTER_SETS, "non_lora_trainables")))

TRAINED_WITH_LORA = "non_lora_trainables.bin"
"""What LLaVA's code saves next to an adapter: the other tensors that were trained with it."""


def checkpoint_files(names: Iterable[str]) -> list[str]:
    """The files of a checkpoint's folder that a step may read, sorted, out of all its files' names.

    Configuration, tokenizer and one set of weights: safetensors, or else PyTorch's. An adapter's
    weights come before whole ones, shards before a single file. Subfolders, other formats, other
    copies and the state of an optimizer are left out.
    """
    flat = {name for name in names if "/" not in name}
    small = {name for name in flat if name.endswith(CHECKPOINT_SUFFIXES)}
    small -= {name for name in flat if name.endswith(".safetensors")}
    weights = [name for name in flat if not _ASIDE.match(name)]
    for suffixes in ((".safetensors",), PICKLED):
        stored = [name for name in weights if name.endswith(suffixes)]
        for first in _SETS:
            chosen = [name for name in stored if re.match(first, name)]
            if chosen:
                if first == _ADAPTER_SETS[0]:
                    chosen += flat & {TRAINED_WITH_LORA}
                return sorted(small.union(chosen))
        if stored:
            return sorted(small.union(stored))
    return sorted(small)


_INDICES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")


def shards(folder: Path) -> dict[str, Path]:
    """Tensor → its shard, as a folder's index places them; empty where there is no index.

    Raises:
        InputError: an index of another form, or a shard that is not there.
    """
    for index in (folder / name for name in _INDICES):
        if index.is_file():
            content = read_json(index)
            placed = content.get("weight_map") if isinstance(content, dict) else None
            if (
                not isinstance(placed, dict)
                or not all(isinstance(name, str) for name in placed.values())
                or not placed
            ):
                raise InputError(f"{index}: no weight_map; expected the names of all tensors")
            for name in sorted(set(placed.values())):
                if name in (".", "..") or re.search(r"[/\\\0]", name):
                    raise InputError(
                        f"{index}: it places tensors in {name!r}; expected the name of a file "
                        "beside it"
                    )
                if not (folder / name).is_file():
                    raise InputError(f"{folder / name}: no such file; the checkpoint is incomplete")
            return {tensor: folder / name for tensor, name in placed.items()}
    return {}


def checkpoint_paths(folder: Path) -> list[Path]:
    """The same of a folder on disk."""
    names = (path.name for path in folder.iterdir() if path.is_file())
    return [folder / name for name in checkpoint_files(names)]


def whole_weights(folder: Path) -> list[Path]:
    """The weights of a whole model in a folder, whether or not an adapter is there as well."""
    names = {path.name for path in folder.iterdir() if path.is_file()}
    names = {name for name in names if not _OF_ADAPTERS.match(name)}
    return [folder / name for name in checkpoint_files(names) if is_weights(name)]


TRAJECTORY = "trajectory"
"""The folder in a tuned checkpoint's own that holds its snapshots."""


def snapshot_folder(folder: Path, step: int) -> Path:
    """Where a tuned checkpoint keeps its state after a step, in its own folder."""
    return folder / TRAJECTORY / f"step-{step:06d}"


def manifest_entry(path: Path, digest: str | None = None) -> dict[str, Any]:
    """A file as a manifest lists it: name, size in bytes, SHA-256 (read off it, if not known)."""
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": digest or sha256(path)}


def is_manifest(record: Any) -> bool:
    """Whether JSON is a manifest: a folder, and files in it by name, size and digest."""
    if not isinstance(record, dict) or not isinstance(record.get("source"), dict | None):
        return False
    files = record.get("files")
    return (
        isinstance(record.get("folder"), str)
        and "\0" not in record["folder"]
        and isinstance(files, list)
        and bool(files)
        and all(isinstance(one, dict) and _inside(one.get("file")) for one in files)
        and all(isinstance(one.get("bytes"), int) for one in files)
        and all(isinstance(one.get("sha256"), str) for one in files)
    )


# Roots of downloads, which lie elsewhere on another machine: stand for them in a manifest.
_ROOTS = ("HF_HUB_CACHE", "HF_HOME")


def portable(folder: Path) -> str:
    """A folder as a manifest names it: one of downloads by huggingface_hub's name of their root."""
    from huggingface_hub import constants

    for root in _ROOTS:
        try:
            inside = folder.absolute().relative_to(Path(getattr(constants, root)).absolute())
        except ValueError:
            continue
        return f"${{{root}}}/{inside.as_posix()}"
    return str(folder)


def manifest_folder(record: Mapping[str, Any]) -> Path:
    """Where a manifest's files lie, on this machine."""
    named = str(record["folder"])
    for root in _ROOTS:
        if named.startswith(f"${{{root}}}/"):
            from huggingface_hub import constants

            return Path(getattr(constants, root), named.partition("/")[2])
    return Path(named)


def absent(record: Mapping[str, Any]) -> tuple[Path, int] | None:
    """The first of a manifest's files that is not there with its size, which is told; or none."""
    folder = manifest_folder(record)
    for entry in record["files"]:
        path = folder / entry["file"]
        if not path.is_file() or path.stat().st_size != entry["bytes"]:
            return path, int(entry["bytes"])
    return None


def identity(files: Iterable[Mapping[str, Any]]) -> str:
    """A model's digest from its manifest's files: their names and contents, not their folder."""
    listed = sorted((str(one["file"]), str(one["sha256"])) for one in files)
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()


def _inside(name: Any) -> bool:
    """Whether a name of a file leads no way out of its folder."""
    if not isinstance(name, str) or not name or "\0" in name:
        return False
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


def is_weights(name: str) -> bool:
    """Whether a file holds tensors, by its name."""
    return name.endswith((".safetensors", *PICKLED))


def matching(path: Path) -> list[Path]:
    """The path itself, or the files that one with * or ? in it stands for, sorted."""
    if not re.search(r"[*?]", str(path)) or path.exists():
        return [path]
    anchor = Path(path.anchor)
    return sorted(file for file in anchor.glob(str(path.relative_to(anchor))) if file.is_file())


STATE = Path(".snakemake/affectlocus")
"""What runs of an experiment keep in its folder, beside Snakemake's own records."""

MARKER = ".affectlocus"
"""In a folder that a step wrote: the step's name, and below it the files it wrote, one a line."""


PARTIAL = re.compile(r"\..+\.\d+\.partial(\..*)?", re.DOTALL)
"""Names that `replacing` gives to what is not whole yet; only a kill leaves one behind."""


# What libraries in Rust put around the system's own words.
_RUST = re.compile(r"^Error while serializing: I/O error: | \(os error \d+\).*$")


@contextmanager
def replacing(path: Path, step: str = "", *, inputs: Iterable[Path] = ()) -> Iterator[Path]:
    """A temporary file or folder beside `path`, renamed to it if the block ends well.

    A crash leaves `path` as it was: a reader never sees half a file, and neither does one after a
    power cut. What a link leads to is replaced, not the link.

    Args:
        step: as in `check_output`; goes into the folder's `MARKER`.
        inputs: as there.

    Raises:
        InputError: before the block, where `path` must not be replaced or cannot be.
    """
    check_output(path, step, inputs=inputs)
    if path.is_symlink() or path.name == "..":
        path = path.resolve()
    # The suffix stays the last one: writers choose a format, and compression, by it.
    temporary = path.with_name(f".{path.stem[:100]}.{os.getpid()}.partial{path.suffix}")
    old = temporary.with_name(f"{temporary.name}.old")
    try:
        make_folder(path.parent)
        _remove(temporary)
    except OSError as error:
        raise _unwritable(path, error) from None
    try:
        try:
            yield temporary
            if temporary.is_dir():
                _mark(temporary, step)
            # Some disks say that they are full here and not before.
            sync(temporary)
        except OSError as error:
            # What was read in the block has a name of its own.
            if error.errno is None or not str(error.filename or temporary).startswith(
                str(temporary)
            ):
                raise
            raise _unwritable(path, error) from None
        except Exception as error:
            # safetensors and tokenizers tell of a full disk by exceptions that are no OSError.
            if not _RUST.search(str(error)):
                raise
            raise InputError(f"{path}: cannot be written ({_RUST.sub('', str(error))})") from None
        aside = path.is_dir() and temporary.exists()
        if aside:
            # A folder cannot be renamed onto another: the old one steps aside, and goes last.
            _remove(old)
            path.rename(old)
        try:
            temporary.replace(path)
        except OSError:
            if aside:
                old.rename(path)
            raise
        try:
            sync_names(path.parent)
        except OSError as error:
            raise _unwritable(path, error) from None
    finally:
        _remove(temporary)
    _remove(old)


def check_output(path: Path, step: str = "", *, inputs: Iterable[Path] = ()) -> None:
    """Refuses an output that would take somebody's files away, or cannot be written.

    A folder is replaced where it is empty, or where it holds nothing but what its `MARKER` lists.

    Args:
        step: the step that writes a folder; empty where a file is to be written.
        inputs: what is read; the output is none of them and holds none.

    Raises:
        InputError: it must not be replaced, or cannot be.
    """
    try:
        whole = path.resolve()
        for given in map(Path, inputs):
            if given.resolve() == whole or whole in given.resolve().parents:
                held = "an input" if given.resolve() == whole else f"the input {given} in it"
                raise InputError(f"{path}: {held} would be replaced; write somewhere else")
        if whole == Path.cwd() or whole in Path.cwd().parents:
            raise InputError(f"{path}: this command runs in it; write into a folder of its own")
        above = next(parent for parent in whole.parents if os.path.lexists(parent))
        if not above.is_dir():
            raise InputError(f"{path}: cannot be written: {above} is no folder")
        if not os.access(above, os.W_OK | os.X_OK):
            sealed = os.statvfs(above).f_flag & os.ST_RDONLY
            why = "is on a read-only disk" if sealed else "gives no permission to write into it"
            raise InputError(f"{path}: cannot be written: {above} {why}")
        if not whole.exists():
            return
        if whole.is_dir():
            _check_folder(path, step)
        elif not whole.is_file():
            raise InputError(f"{path}: not a plain file; write somewhere else")
        elif step:
            raise InputError(f"{path}: a file is there; {step} writes a folder")
    except OSError as error:
        raise _unwritable(path, error) from None
    except RuntimeError:
        raise InputError(f"{path}: a link that leads to itself; write somewhere else") from None


def check_apart(out: Path, *inputs: Path) -> None:
    """Refuses an output inside an input's folder, which would then be another checkpoint."""
    for given in inputs:
        if given.resolve() in out.resolve().parents:
            raise InputError(f"{out}: lies inside the input {given}; write somewhere else")


def check_folder_of_outputs(folder: Path, names: Iterable[str]) -> None:
    """Refuses a folder that files cannot be written into, before the work whose files they are."""
    try:
        taken = folder.exists() and not folder.is_dir()
    except OSError as error:
        raise _unwritable(folder, error) from None
    if taken:
        raise InputError(f"{folder}: a file is there; expected a folder, or nothing")
    for name in names:
        check_output(folder / name)


def _check_folder(path: Path, step: str) -> None:
    if not step:
        raise InputError(f"{path}: a folder is there, and a file is to be written; name the file")
    marker = path / MARKER
    known: set[str] = set()
    if marker.is_file():
        lines = marker.read_text(encoding="utf-8", errors="replace").splitlines()
        known = {MARKER, *lines[1:]}
    foreign = next((name for name in _below(path) if name not in known), None)
    if foreign is not None:
        raise InputError(
            f"{path}: holds {foreign}, which {step} did not write, and would be replaced whole; "
            "name a new or an empty folder, or delete it yourself"
        )


def _below(folder: Path) -> Iterator[str]:
    """Every file below a folder, and every link: what would be gone with it."""
    for at, folders, files in os.walk(folder, onerror=_raise):
        links = [name for name in folders if Path(at, name).is_symlink()]
        for name in (*files, *links):
            yield Path(at, name).relative_to(folder).as_posix()


def _raise(error: OSError) -> None:
    raise error


def _mark(folder: Path, step: str) -> None:
    names = sorted(_below(folder))
    (folder / MARKER).write_text("\n".join([step, *names]) + "\n", encoding="utf-8")


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(f"{shortened(path)}: cannot be written ({error.strerror})")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes `text` (UTF-8), whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """The JSON in `path`; `InputError` where it is missing or not JSON."""
    try:
        with path.open("rb") as stream:
            content = stream.read(_LARGEST_JSON + 1)
        if len(content) > _LARGEST_JSON:
            raise InputError(
                f"{path}: more than {_LARGEST_JSON // 1_000_000} MB, which no JSON file read here "
                "has; restore it"
            )
        return json.loads(content.decode("utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected a JSON file there") from None
    except IsADirectoryError:
        raise InputError(f"{path}: a folder; expected a JSON file") from None
    except RecursionError:
        raise InputError(f"{path}: not JSON (nested too deep); restore the file") from None
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error}); restore the file or delete it") from None


def sha256(path: Path) -> str:
    """The file's SHA-256 in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_READ):
            digest.update(block)
    return digest.hexdigest()
