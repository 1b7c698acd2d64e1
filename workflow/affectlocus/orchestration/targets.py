"""What Snakemake can make of an experiment: its targets, in groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from affectlocus.core.errors import nearest
from affectlocus.orchestration.dag import Dag

_ALONE = ("-n", "--dry-run", "-k", "--keep-going", "-p", "--printshellcmds", "-F", "--forceall")
_WITH_VALUE = ("-c", "--cores", "-j", "--jobs")


def targets(jobs: Dag) -> dict[str, list[str]]:
    """Group → its files, relative to the experiment's folder; figures as PNG alone."""
    manifests = [f"results/checkpoints/{name}.json" for name in [*jobs.bases, *jobs.tunings]]
    groups = {
        "Everything": ["all"],
        "Report and verdicts": ["results/report.html", "results/claims.csv"],
        "Tables": [name for name in jobs.tables.files if not name.endswith(_COMPANIONS)],
        "Figures": [name for name in jobs.all_figures if name.endswith(".png")],
        "Scores": ["results/scores.parquet", "results/metrics.json", *jobs.score.files()],
        "Changes of the weights": [
            *jobs.deltas.files,
            *jobs.trajectory.files,
            *jobs.directions.files,
            *jobs.neurons.files,
        ],
        "Fluency, costs and losses": [
            *(name for name in jobs.fluency.files if name.endswith(".csv")),
            *jobs.ledger.files,
            *jobs.learning.files,
        ],
        "Data": [f"results/data/{task}.parquet" for task in jobs.parameters.tasks],
        "Media": [
            *(file for task in jobs.parameters.tasks for file in jobs.encode.features(task)),
            *jobs.probes.files,
        ],
        "Checkpoints": manifests,
    }
    return {name: list(dict.fromkeys(files)) for name, files in groups.items() if files}


_COMPANIONS = ("_intervals.csv", "_baselines.csv")


def unknown_targets(words: Sequence[str], jobs: Dag, folder: Path) -> list[str]:
    """A sentence for each target among Snakemake's arguments that is not one, with the nearest.

    Only the words before the first option whose number of values is not known here are read.

    Args:
        folder: the experiment's folder; a file there is not a mistake.
    """
    known = [name for files in targets(jobs).values() for name in files]
    known += [*jobs.tables.files, *jobs.all_figures]
    sentences = []
    for word in _first_words(words):
        if word in known or (folder / word).exists():
            continue
        near = nearest(word, known) or nearest(f"results/{word}", known)
        meant = f"; {near}?" if near else ""
        sentences.append(
            f"{word}: perhaps no target{meant} (affectlocus targets {folder} lists them)"
        )
    return sentences


def _first_words(words: Sequence[str]) -> Iterator[str]:
    rest = iter(words)
    for word in rest:
        if word in _WITH_VALUE:
            next(rest, None)
        elif not word.startswith("-"):
            yield word
        elif word not in _ALONE and "=" not in word:
            return
