"""The claims of an experiment as a list: texts, sources, digests, and the cells that are missing.

It changes no result, so it does not count for the digest of the command's code.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from affectlocus.claims.kinds import sentence
from affectlocus.config.claim_kinds import OnScores, kind_of, statements_of
from affectlocus.config.claims import claim_sha256
from affectlocus.config.experiment import load
from affectlocus.config.matrix import Matrix
from affectlocus.core.cells import EVEN, FAIR
from affectlocus.core.projections import BRIDGE


def listed(params: Path) -> list[dict[str, str | list[str]]]:
    """A row for each claim: set, claim, kind, text, source, claim_sha256, missing_cells.

    Args:
        params: a params.yaml, or a folder with one.

    Raises:
        InputError: the file is missing or invalid.
    """
    experiment = load(params, planning=True)
    known = set(_cells(experiment.matrix))
    if any(experiment.pairs[name].bridge for name in experiment.matrix.pairs):
        known |= set(_bridge_cells(experiment.matrix))
    rows: list[dict[str, str | list[str]]] = []
    for name, members in experiment.claims.judged().items():
        for claim, says in members.claims.items():
            statements = statements_of(says)
            wanted = [cell for one in statements if isinstance(one, OnScores) for cell in one.cells]
            rows.append(
                {
                    "set": name,
                    "claim": claim,
                    "kind": ", ".join(dict.fromkeys(kind_of(type(one)) for one in statements)),
                    "text": sentence(says),
                    "source": ", ".join(filter(None, (members.source, says.source))),
                    "claim_sha256": claim_sha256(says, experiment.score.margin),
                    "missing_cells": [one for one in dict.fromkeys(wanted) if one not in known],
                }
            )
    return rows


def _cells(matrix: Matrix) -> Iterator[str]:
    """The cells of the matrix's pairs, as claims write them."""
    yield from ("base", "tuned")
    for kind, sets, modes in (
        ("load", matrix.sets("load"), [""]),
        ("load", matrix.even, [EVEN]),
        ("load", matrix.dose.modules, [f"x{times:g}" for times in matrix.dose.times]),
        ("tune", matrix.tune, [""]),
        ("tune", matrix.fair, [FAIR]),
        ("ablate", matrix.ablate, matrix.modes),
    ):
        yield from (" ".join(filter(None, (kind, one, mode))) for one in sets for mode in modes)


def _bridge_cells(matrix: Matrix) -> Iterator[str]:
    """The cells of the bridge alone, which every pair with a bridge has."""
    yield f"load {BRIDGE}"
    if matrix.tune:
        yield f"tune {BRIDGE}"
    if matrix.ablate:
        yield from (f"ablate {BRIDGE} {mode}" for mode in matrix.modes)
