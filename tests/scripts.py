"""Scripts that lie outside the package (benchmarks, pages of refusals and faults), as modules."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

TESTS = Path(__file__).resolve().parent
BENCHMARKS = TESTS.parent / "benchmarks"
PAGES = TESTS.parent / "docs/reference"
"""The pages of the documentation that scripts of the tests write."""
# As the scripts do: what several of them share is in the folder above theirs.
sys.path += [str(BENCHMARKS), str(TESTS / "refusals"), str(TESTS / "robustness")]


def loaded(folder: Path, name: str) -> ModuleType:
    """The script `name` in a folder, run as a module of its own."""
    spec = importlib.util.spec_from_file_location(f"{folder.name}_{name}", folder / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
