"""A digest of the code that a command runs, so that changed code reruns only the jobs that use it.

Snakemake does not see imported modules and versions of packages. So every rule has the parameter
`digest("command")` with the command that its shell line runs.

Imports are followed from the command's function: absolute, relative, inside functions, of a module
or of a name in it. An imported module counts as a whole. Of modules in `_BY_DEFINITION`, of which
each command uses another part, only the definitions that are reached count. So a changed option of
one command does not rerun the jobs of another. Data files of the package count for the modules that
name them.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TypeGuard

from affectlocus.core.version import installed_version
from affectlocus.orchestration.syntax import Reader, unread

PACKAGE = Path(__file__).parents[1]
NAME = "affectlocus"

# Import name → package, of libraries whose version can change a number: they compute it (torch,
# numpy, scipy, scikit-learn, numba with the compiler behind it), choose what a model computes on
# (transformers, peft, tokenizers, accelerate, jinja2's chat templates), dequantise weights (gguf),
# parse, group and round samples and scores (pandas; openpyxl reads the cells of .xlsx), or decode
# media (av, soundfile, pillow). Left out: safetensors and pyarrow store the bits they are given;
# pydantic and yaml hand over values that are parameters of the job; libraries that draw, download
# or print do not compute.
NUMERICAL = {
    "torch": "torch",
    "transformers": "transformers",
    "peft": "peft",
    "tokenizers": "tokenizers",
    "accelerate": "accelerate",
    "jinja2": "jinja2",
    "numpy": "numpy",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "pandas": "pandas",
    "numba": "numba",
    "llvmlite": "llvmlite",
    "openpyxl": "openpyxl",
    "gguf": "gguf",
    "av": "av",
    "soundfile": "soundfile",
    "PIL": "pillow",
    "torchvision": "torchvision",
}
# Libraries that another library computes with, without an import in this package.
_BEHIND = {
    # With torchvision, transformers has other image processors.
    "transformers": ("tokenizers", "accelerate", "jinja2", "torchvision"),
    "numba": ("llvmlite",),
}

_BY_DEFINITION = (
    *("core.files", "core.checkpoint_files", "core.manifests", "core.output_files"),
    *("core.provenance", "core.projections", "orchestration.plan"),
)
"""Also all of `cli` and `config`. Other top-level statements count with every definition."""

# Code that can only stop a job, or that decides how its output is written. It changes no result.
_INERT = frozenset(
    {
        "orchestration.code_digest",  # names code; it would count itself
        "core.durable",  # when bytes reach the disk, not which
        "core.errors",  # the words of refusals
        "core.output_files.check_output",  # refuses an output
        "core.output_files.replacing",  # gives a complete file its name
        "claims.listing",  # prints the claims of a params.yaml
        "lm.config_limits",  # refuses a checkpoint that would not fit
        "core.regex_timeout",  # refuses a pattern that takes too long
        "checkpoints.checksums",  # refuses a file that is not what its manifest lists
        "reporting.terminal",  # prints on a terminal
        "reporting.terminal_outputs",  # likewise
        "core.stop_signals",  # ends a job on a signal; the next one repeats or continues it
    }
)

_ALL, _TOP = "*", ""
Part = tuple[str, str]
"""A module and a definition in it; `*` for the whole module, empty for its other statements."""


@dataclass(frozen=True)
class _Content:
    """A part's code as text, the parts it uses, and the libraries and data files it names."""

    code: str
    uses: frozenset[Part]
    libraries: frozenset[str]
    data: frozenset[str]


@cache
def digest(command: str) -> str:
    """Sixteen hex digits that change with a command's code or a numerical library's version.

    Comments, docstrings, help texts and error messages do not count. The rest of the syntax tree is
    hashed.

    Raises:
        ValueError: no such command.
    """
    return _digest(parts(command))


@cache
def module_digest(module: str) -> str:
    """The same of a module and everything that it reaches, whichever command uses it."""
    return _digest(_reached((module, _ALL)))


def _digest(reached: frozenset[Part]) -> str:
    total = hashlib.sha256()
    libraries: set[str] = set()
    data: set[str] = set()
    for part in sorted(reached):
        content = _content(part)
        total.update("\0".join((*part, content.code, "")).encode())
        libraries |= content.libraries
        data |= content.data
    for package in sorted(libraries):
        total.update(f"{package}\0{installed_version(package)}\0".encode())
    for name in sorted(data):
        total.update(_bytes(name))
    return total.hexdigest()[:16]


@cache
def parts(command: str) -> frozenset[Part]:
    """The parts of the package that a command reaches, except those that change no result."""
    if command not in _commands():
        raise ValueError(f"{command}: no command of {NAME}; a digest is that of a command")
    return _reached((_commands()[command], command))


def _reached(first: Part) -> frozenset[Part]:
    found: set[Part] = set()
    waiting = [first]
    while waiting:
        part = waiting.pop()
        if part not in found and _INERT.isdisjoint((part[0], ".".join(part))):
            found.add(part)
            waiting += _content(part).uses
    return frozenset(found)


@cache
def _commands() -> dict[str, str]:
    """Command → the module that defines it, as the command line imports them."""
    return {
        alias.name: (node.module or "").removeprefix(f"{NAME}.")
        for node in _tree("cli.entry").body
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{NAME}.cli.")
        for alias in node.names
    }


def _file(module: str) -> Path:
    """Where a module's code is; a folder's is its __init__."""
    path = PACKAGE.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _is_module(name: str) -> bool:
    return bool(name) and _file(name).is_file()


def _by_definition(module: str) -> bool:
    return module in _BY_DEFINITION or module.startswith(("cli.", "config."))


@cache
def _tree(module: str) -> ast.Module:
    return ast.parse(_file(module).read_text(encoding="utf-8"))


@cache
def _definitions(module: str) -> dict[str, list[ast.stmt]]:
    """Name → the statements on a module's top level that bind it; under `_TOP` all others."""
    found: dict[str, list[ast.stmt]] = {_TOP: []}
    for statement in _tree(module).body:
        if unread(statement):
            continue
        if isinstance(statement, (ast.Import, ast.ImportFrom)):
            for alias in statement.names:
                one = type(statement)(**{**vars(statement), "names": [alias]})
                name = _TOP if alias.name == "*" else _bound(alias)
                found.setdefault(name, []).append(one)
        elif isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.setdefault(statement.name, []).append(statement)
        elif isinstance(statement, (ast.Assign, ast.AnnAssign)):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            names = {one.id for target in targets for one in ast.walk(target) if _stored(one)}
            for name in names or {_TOP}:
                found.setdefault(name, []).append(statement)
        else:
            found[_TOP].append(statement)
    return found


def _stored(node: ast.AST) -> TypeGuard[ast.Name]:
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)


def _bound(alias: ast.alias) -> str:
    """The name that an import gives to what it imports."""
    return alias.asname or alias.name.partition(".")[0]


@cache
def _content(part: Part) -> _Content:
    module, name = part
    if not _by_definition(module):
        return _contents(module, _tree(module).body)
    defined = _definitions(module)
    if name == _ALL:
        every = frozenset((module, one) for one in defined)
        return _Content("", every, frozenset(), frozenset())
    found = _contents(module, defined[name], defined)
    return found if name == _TOP else replace(found, uses=found.uses | {(module, _TOP)})


def _contents(module: str, body: list[ast.stmt], own: Iterable[str] = ()) -> _Content:
    """What some statements of a module hold.

    Args:
        own: the names of the module's definitions, where each counts for itself.
    """
    known = frozenset(own) - {_TOP}
    found = Reader()
    code = found.text_of(body)
    uses: set[Part] = {(module, name) for name in found.names if name in known}
    libraries: set[str] = set()
    aliases: dict[str, str] = {}
    for node in found.imports:
        for imported, target, alias in _targets(module, node):
            if target is None:
                libraries |= _counted(imported)
            elif target[1] == _ALL and alias.name != "*" and _by_definition(target[0]):
                aliases[_bound(alias)] = target[0]
            else:
                uses.add(target)
    for bound, target_module in aliases.items():
        # Used otherwise than by an attribute, or in another definition: then all of it counts.
        taken = [attribute for base, attribute in found.attributes if base == bound]
        if not taken or len(taken) < found.names.count(bound):
            uses.add((target_module, _ALL))
        uses |= {_named(target_module, attribute) for attribute in taken}
    return _Content(
        code, frozenset(uses), frozenset(libraries), frozenset(found.texts & _data_files().keys())
    )


def _targets(
    module: str, node: ast.Import | ast.ImportFrom
) -> Iterator[tuple[str, Part | None, ast.alias]]:
    """What an import names: a module, the part of the package it refers to (None outside of it)."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            top, _, below = alias.name.partition(".")
            if top != NAME:
                yield alias.name, None, alias
            elif _is_module(below):
                yield alias.name, (below, _ALL), alias
            else:
                raise ValueError(f"{_file(module)}: import {alias.name}; name the module in it")
        return
    inside, named = _package_of(module, node), node.module or ""
    for alias in node.names:
        if inside is None:
            yield named, None, alias
        elif _is_module(below := f"{inside}.{alias.name}".lstrip(".")):
            yield named, (below, _ALL), alias
        else:
            yield named, _named(inside or "__init__", alias.name), alias


def _package_of(module: str, node: ast.ImportFrom) -> str | None:
    """The module that names are imported from, below the package; None for a library's."""
    if node.level == 0:
        top, _, below = (node.module or "").partition(".")
        return below if top == NAME else None
    here = module.split(".")
    if _file(module).name != "__init__.py":
        here = here[:-1]
    here = here[: len(here) - node.level + 1]
    return ".".join([*here, *([node.module] if node.module else [])])


def _named(module: str, name: str) -> Part:
    """A name of a module as a part: the module, unless it counts by its definitions."""
    defined = _by_definition(module) and name != _TOP and name in _definitions(module)
    return (module, name) if defined else (module, _ALL)


def _counted(imported: str) -> frozenset[str]:
    """The packages whose version counts where a library is imported."""
    name = imported.partition(".")[0]
    return frozenset(NUMERICAL[one] for one in (name, *_BEHIND.get(name, ())) if one in NUMERICAL)


@cache
def _data_files() -> dict[str, Path]:
    """Name → file or folder of the package that holds no code."""
    folders = [PACKAGE, *(one for one in PACKAGE.iterdir() if (one / "__init__.py").is_file())]
    return {
        path.name: path
        for folder in folders
        for path in folder.iterdir()
        if path.suffix != ".py" and not path.name.startswith(("_", "."))
        if path.is_file() or not (path / "__init__.py").is_file()
    }


def _bytes(name: str) -> bytes:
    """A data file, or every file below a folder, with their names."""
    path = _data_files()[name]
    files = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
    return b"".join(
        one.relative_to(PACKAGE).as_posix().encode() + b"\0" + one.read_bytes() + b"\0"
        for one in files
    )
