"""Rows of docs/data/reruns.yaml: what a change reruns, compared with what Snakemake plans."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True)
class Row:
    """A change of a file of the project, and the first outputs of the jobs that it reruns."""

    file: str
    changes: list[tuple[str, str]]
    runs: list[str]
    spares: str = ""  # what of these does not run, or is gone


_OF_NO_SAMPLE = "results/checkpoints/tiny.json,results/corpus/*,results/step_times.csv"
_OTHER_MEDIUM = f"{{{_OF_NO_SAMPLE},results/features/moods/face.safetensors}}"
MEDIA_ROWS = {
    "a setting of a medium (`media.X`)": Row(
        "params.yaml",
        [("  voice: {kind: features}", "  voice: {kind: features, store: float16}")],
        ["results/*"],
        spares=_OTHER_MEDIUM,
    ),
    "a file of a medium": Row("voice/test0.npy", [], ["results/*"], spares=_OTHER_MEDIUM),
    "a bridge (`bridges.X`)": Row(
        "params.yaml",
        [("learning_rate: 1.0e-2}\npairs", "learning_rate: 2.0e-2}\npairs")],
        ["results/*"],
        spares=f"{{{_OF_NO_SAMPLE},results/features/*,results/data/*,results/probes.csv,"
        "results/cells/tiny/*}",
    ),
}
"""Those of the experiment media.yaml."""


def outputs(plan: dict[str, set[str]]) -> set[str]:
    return {file for files in plan.values() for file in files}


def alternatives(pattern: str) -> list[str]:
    """A pattern with {a,b} in it, written out."""
    found = re.fullmatch(r"(.*)\{(.*)\}(.*)", pattern)
    if found is None:
        return [pattern] if pattern else []
    return [f"{found[1]}{one}{found[3]}" for one in found[2].split(",")]


def check(every: set[str], planned: set[str], runs: list[str], spares: str = "") -> None:
    """All that a row names would run, and nothing else would."""
    apart = alternatives(spares)
    expected = {
        file
        for file in every | planned
        if any(fnmatchcase(file, pattern) for pattern in runs)
        and not any(fnmatchcase(file, pattern) for pattern in apart)
    }
    assert sorted(planned - expected) == []
    assert sorted(expected - planned) == []
    # No pattern is there for nothing; what it names may all be spared.
    seen = every | planned if spares else planned
    assert [one for one in runs if not any(fnmatchcase(file, one) for file in seen)] == []
