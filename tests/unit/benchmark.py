"""The benchmarks' scripts, which lie outside the package, as modules."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
# As the scripts do: what several of them share lies there.
sys.path.append(str(BENCHMARKS))


def loaded(benchmark: str, name: str) -> ModuleType:
    """The script `name` of a benchmark, run as a module of its own."""
    path = BENCHMARKS / benchmark / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"benchmark_{benchmark}_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
