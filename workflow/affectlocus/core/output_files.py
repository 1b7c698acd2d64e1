"""Output files and folders: written completely or not at all, and never over a user's own files."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from affectlocus.core.durable import make_folder, sync, sync_names
from affectlocus.core.errors import InputError, shortened

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


def check_outside_inputs(out: Path, *inputs: Path) -> None:
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
