"""Output files and folders: written completely or not at all, never over a user's own files."""

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
"""The file in an output folder that lists the step and, one a line, the files that it wrote."""

COMPLETE = ".complete"
"""In a folder of weights: the file that Snakemake writes once the job that made them has ended."""

PARTIAL = re.compile(r"\..+\.\d+\.partial(\..*)?", re.DOTALL)
"""Names of the temporary files of `replacing`; one remains only if the process was killed."""

# What libraries in Rust add around the system's error message.
_RUST = re.compile(r"^Error while serializing: I/O error: | \(os error \d+\).*$")


@contextmanager
def replacing(path: Path, step: str = "", *, inputs: Iterable[Path] = ()) -> Iterator[Path]:
    """Yields a path for a temporary file or folder; renames it to `path` if the block succeeds.

    After a crash or a power failure `path` is unchanged, so that a reader never sees half a file.
    If `path` is a symbolic link, its target is replaced, not the link.

    Args:
        step: as in `check_output`; it is written into the folder's `MARKER`.
        inputs: as in `check_output`.

    Raises:
        InputError: `path` must not be replaced or cannot be; raised before the block runs.
    """
    check_output(path, step, inputs=inputs)
    if path.is_symlink() or path.name == "..":
        path = path.resolve()
    # Writers choose the format and the compression by the suffix, so it must be the last one.
    temporary = path.with_name(f".{path.stem[:100]}.{os.getpid()}.partial{path.suffix}")
    old = temporary.with_name(f"{temporary.name}.old")
    try:
        make_folder(path.parent)
        _remove(temporary)
    except OSError as error:
        raise _cannot_write(path, error) from None
    try:
        try:
            yield temporary
            if temporary.is_dir():
                _mark(temporary, step)
            # Some file systems report a full disk only here.
            sync(temporary)
        except OSError as error:
            # An error of another file, which the block read, is not one of the output.
            if error.errno is None or not str(error.filename or temporary).startswith(
                str(temporary)
            ):
                raise
            raise _cannot_write(path, error) from None
        except Exception as error:
            # safetensors and tokenizers report a full disk with exceptions that are not OSError.
            if not _RUST.search(str(error)):
                raise
            raise InputError(
                "output.not-writable",
                f"{path}: cannot be written ({_RUST.sub('', str(error))})",
                file=path,
                reason=_RUST.sub("", str(error)),
            ) from None
        aside = path.is_dir() and temporary.exists()
        if aside:
            # A folder cannot be renamed onto an existing one. The old one is renamed first and
            # deleted last.
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
            raise _cannot_write(path, error) from None
    finally:
        _remove(temporary)
    _remove(old)


def check_output(path: Path, step: str = "", *, inputs: Iterable[Path] = ()) -> None:
    """Refuses an output that would delete a user's files, or that cannot be written.

    A folder may be replaced if it is empty or holds only the files that its `MARKER` lists.

    Args:
        step: the step that writes a folder; empty if the output is a file.
        inputs: the files that the step reads; the output must not be or contain one of them.

    Raises:
        InputError: the output must not be replaced, or cannot be written.
    """
    try:
        target = path.resolve()
        for source in map(Path, inputs):
            if source.resolve() == target:
                raise InputError(
                    "output.is-an-input",
                    f"{path}: is an input, which would be overwritten; choose another output",
                    file=path,
                )
            if target in source.resolve().parents:
                raise InputError(
                    "output.contains-input",
                    f"{path}: contains the input {source}, which would be overwritten; choose "
                    "another output",
                    file=path,
                    input=source,
                )
        if target == Path.cwd() or target in Path.cwd().parents:
            raise InputError(
                "output.is-working-directory",
                f"{path}: would replace the working directory; choose another output",
                file=path,
            )
        above = next(parent for parent in target.parents if os.path.lexists(parent))
        if not above.is_dir():
            raise InputError(
                "output.below-a-file",
                f"{path}: cannot be written: {above} is not a folder",
                file=path,
                found=above,
            )
        if not os.access(above, os.W_OK | os.X_OK):
            read_only = os.statvfs(above).f_flag & os.ST_RDONLY
            why = "is on a read-only disk" if read_only else "is not writable for this user"
            raise InputError(
                "output.not-writable",
                f"{path}: cannot be written: {above} {why}",
                file=path,
                reason=why,
            )
        if not target.exists():
            return
        if target.is_dir():
            _check_folder(path, step)
        elif not target.is_file():
            raise InputError(
                "output.not-a-file", f"{path}: not a regular file; choose another output", file=path
            )
        elif step:
            raise InputError(
                "output.is-a-file",
                f"{path}: is a file; {step} writes a folder; choose another output",
                file=path,
            )
    except OSError as error:
        raise _cannot_write(path, error) from None
    except RuntimeError:
        raise InputError(
            "output.endless-link",
            f"{path}: a symbolic link to itself; choose another output",
            file=path,
        ) from None


def check_outside_inputs(out: Path, *inputs: Path) -> None:
    """Refuses an output in the folder of an input, because that would change the input."""
    for source in inputs:
        if source.resolve() in out.resolve().parents:
            raise InputError(
                "output.inside-input",
                f"{out}: is inside the input {source}; choose another output",
                file=out,
                input=source,
            )


def check_folder_of_outputs(folder: Path, names: Iterable[str]) -> None:
    """Refuses a folder into which the named files cannot be written."""
    try:
        taken = folder.exists() and not folder.is_dir()
    except OSError as error:
        raise _cannot_write(folder, error) from None
    if taken:
        raise InputError(
            "output.is-a-file", f"{folder}: is a file; expected a folder or a new name", file=folder
        )
    for name in names:
        check_output(folder / name)


def _check_folder(path: Path, step: str) -> None:
    if not step:
        raise InputError(
            "output.is-a-folder",
            f"{path}: is a folder; expected the name of the file to write",
            file=path,
        )
    marker = path / MARKER
    known = {COMPLETE}
    if marker.is_file():
        lines = marker.read_text(encoding="utf-8", errors="replace").splitlines()
        known |= {MARKER, *lines[1:]}
    unknown = next((name for name in _below(path) if name not in known), None)
    if unknown is not None:
        raise InputError(
            "output.holds-other-files",
            f"{path}: contains {unknown}, which {step} did not write and would delete; choose a "
            "new or an empty folder, or delete this one yourself",
            file=path,
            found=unknown,
            step=step,
        )


def _below(folder: Path) -> Iterator[str]:
    """Every file and symbolic link below a folder, relative to it."""
    for at, folders, files in os.walk(folder, onerror=_raise):
        links = [name for name in folders if Path(at, name).is_symlink()]
        for name in (*files, *links):
            yield Path(at, name).relative_to(folder).as_posix()


def _raise(error: OSError) -> None:
    raise error


def _mark(folder: Path, step: str) -> None:
    names = sorted(_below(folder))
    (folder / MARKER).write_text("\n".join([step, *names]) + "\n", encoding="utf-8")


def _cannot_write(path: Path, error: OSError) -> InputError:
    return InputError(
        "output.not-writable",
        f"{shortened(path)}: cannot be written ({error.strerror})",
        file=path,
        reason=error.strerror,
    )


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
