"""The evidence on where a tuning landed: the deltas of groups of pairs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from affectlocus.claims.evidence import COLUMNS, MissingEvidenceError
from affectlocus.claims.pair_facts import PairFacts
from affectlocus.claims.settings import ClaimsSettings
from affectlocus.deltas.delta_tables import TuningFacts


@dataclass(frozen=True)
class Locus:
    """The deltas of a group of pairs that differ only in seed.

    Attributes:
        name: the group's name.
        facts: those of the group's first pair.
        facts_of: pair → its facts.
        tables, histograms: pair → rows as `deltas` writes them.
    """

    name: str
    facts: PairFacts
    facts_of: Mapping[str, PairFacts]
    tables: Mapping[str, pd.DataFrame]
    histograms: Mapping[str, pd.DataFrame] = field(default_factory=dict)

    @property
    def seeds(self) -> list[int]:
        """The seed of each pair, in the order of `tables`."""
        return [self.facts_of[pair].seed for pair in self.tables]

    @property
    def basis(self) -> str:
        """The source of the numbers, as text; the files of several seeds are one pattern."""
        names = list(self.tables)
        if len(names) > 1 and all(re.fullmatch(r".+\.seed\d+", name) for name in names):
            stems = dict.fromkeys(name.rpartition(".")[0] for name in names)
            names = [f"{stem}.seed*" for stem in stems]
        files = ", ".join(f"results/deltas/{name}.parquet" for name in names)
        return f"{files}, weights of all layers"

    def sizes(self, by: str) -> np.ndarray:
        """(pairs, layers, 7), a score of `deltas` for the weights of every layer and projection.

        Raises:
            MissingEvidenceError: a projection was not adapted in every layer, or the pairs have
                different numbers of layers.
        """
        tables = []
        for pair, table in self.tables.items():
            rows = table[(table["parameter"] == "weight") & table["adapted"]]
            wide = rows.pivot(index="layer", columns="projection", values=by)
            missing = [name for name in COLUMNS if name not in wide or wide[name].isna().any()]
            if missing:
                raise MissingEvidenceError(
                    f"{', '.join(missing)} of {pair} not adapted, or not in every layer"
                )
            tables.append(wide[COLUMNS].to_numpy(float))
        if len({table.shape for table in tables}) != 1:
            raise MissingEvidenceError(f"the pairs of {self.name} have different numbers of layers")
        return np.stack(tables)


def gather_loci(
    tables: Mapping[str, pd.DataFrame],
    histograms: Mapping[str, pd.DataFrame],
    settings: ClaimsSettings,
    tunings: Mapping[str, TuningFacts] | None = None,
    forecasts: Mapping[str, pd.DataFrame] | None = None,
) -> list[Locus]:
    """The deltas of each group of pairs that differ only in seed, in order.

    Args:
        tables, histograms: pair → its deltas, and their histogram.
        tunings: pair → what its files say about its tuning.
        forecasts: pair → a row per layer and projection; their measures become columns of the
            rows of weights.
    """
    found = []
    for group in dict.fromkeys(map(settings.group, tables)):
        pairs = [pair for pair in settings.members(group) if pair in tables]
        found.append(
            Locus(
                group,
                settings.facts(pairs[0]).completed((tunings or {}).get(pairs[0], TuningFacts())),
                {pair: settings.facts(pair) for pair in pairs},
                {pair: _with_forecast(tables[pair], forecasts, pair) for pair in pairs},
                {pair: histograms[pair] for pair in pairs if pair in histograms},
            )
        )
    return found


def _with_forecast(
    table: pd.DataFrame, forecasts: Mapping[str, pd.DataFrame] | None, pair: str
) -> pd.DataFrame:
    """The deltas of a pair with the measures that were taken before its tuning, if any."""
    if not forecasts or pair not in forecasts:
        return table
    return table.merge(forecasts[pair], how="left", on=["layer", "projection"])
