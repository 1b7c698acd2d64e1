"""A digest of the code that a step runs, so that a changed module reruns just the jobs it feeds.

Snakemake sees neither an imported module nor a package's version. Every rule therefore carries
`digest("step")` among its params.
"""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
# Their versions can change a number; those of plotting or logging libraries cannot.
NUMERICAL = (
    "torch",
    "transformers",
    "peft",
    "tokenizers",
    "accelerate",
    "jinja2",
    "numpy",
    "numba",
)
# What a library computes with, though no module of ours names it.
_BEHIND = {"transformers": ("tokenizers", "accelerate", "jinja2")}
# Sentences, refusals, file names, and what is kept for a later job change no result; what
# parameters hold reaches a job through its own params, default values included.
_INERT = (
    "evaluation.prediction_cache",
    "core.durable",
    "core.errors",
    "core.files",
    "config.parameters",
    "config.presets",
    "training.pretrained_cache",
    "lm.config_limits",
    "config.name_collisions",
    "core.regex_timeout",
    "core.redaction",
    "checkpoints.checksums",
    "config.yaml_text",
    "checkpoints.model_size",
    "core.stop_signals",
    "training.training_state",
)


@cache
def _tree(module: str) -> ast.Module:
    """A module's syntax tree, without comments and docstrings."""
    tree = ast.parse((PACKAGE / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            body[:] = [statement for statement in body if not _is_text(statement)]
    return tree


@cache
def _code(module: str) -> bytes:
    """The tree as text, the same by any Python that has its grammar."""
    return f"{module}\0{_told(_tree(module))}\0".encode()


def _told(node: object) -> str:
    if isinstance(node, list):
        return f"[{','.join(map(_told, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    # ast.dump shows fields that are empty, and each Python has other ones.
    fields = ((name, getattr(node, name, None)) for name in node._fields)
    given = (f"{name}={_told(value)}" for name, value in fields if value not in (None, []))
    return f"{type(node).__name__}({','.join(given)})"


@cache
def imports(module: str) -> frozenset[str]:
    """The package's modules that a module imports, itself and all that those import included."""
    found = {module}
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("affectlocus."):
            source = str(node.module).removeprefix("affectlocus.")
            if "." in source:
                found |= imports(source)
            else:  # modules out of a room
                for alias in node.names:
                    found |= imports(f"{source}.{alias.name}")
    return frozenset(found)


def _is_text(statement: ast.stmt) -> bool:
    """A string that stands alone: a docstring, of whatever it follows."""
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


@cache
def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


@cache
def _third_party(module: str) -> frozenset[str]:
    names = set()
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return frozenset(names).union(*(_BEHIND.get(name, ()) for name in names))


@cache
def digest(step: str) -> str:
    """Sixteen hex digits that change with the step's code or a numerical library's version.

    Comments and docstrings do not count: the syntax tree is what is hashed.
    """
    total = hashlib.sha256()
    libraries: set[str] = set()
    for module in sorted(imports(step) - set(_INERT)):
        total.update(_code(module))
        libraries |= _third_party(module) & set(NUMERICAL)
    for package in sorted(libraries):
        total.update(f"{package}\0{_installed(package)}\0".encode())
    return total.hexdigest()[:16]


@cache
def digest_of(folder: str) -> str:
    """Likewise of a folder of the package that holds no code: its files, byte by byte."""
    total = hashlib.sha256()
    for path in sorted((PACKAGE / folder).iterdir()):
        total.update(f"{path.name}\0".encode() + path.read_bytes() + b"\0")
    return total.hexdigest()[:16]
