"""Step `claims`: the verdicts on the claims."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from affectlocus.claims.pair_facts import PairFacts, family_of
from affectlocus.claims.settings import ClaimsSettings
from affectlocus.config.pairs import PairConfig
from affectlocus.core.errors import InputError
from affectlocus.core.files import read_json
from affectlocus.orchestration import rule_values
from affectlocus.orchestration.artifacts import Artifacts
from affectlocus.orchestration.matrix import seeds_of
from affectlocus.orchestration.steps.forecast import ForecastJobs
from affectlocus.orchestration.steps.step import StepJobs


class ClaimsJobs(StepJobs):
    """The jobs of rules/claims.smk."""

    def __init__(self, artifacts: Artifacts, forecast: ForecastJobs) -> None:
        super().__init__(artifacts)
        self.forecasts = forecast.files

    @property
    def histograms(self) -> list[str]:
        """The histograms of the relative changes, if they are counted."""
        names = self.artifacts.pair_of if self.parameters.deltas.companions else []
        return [f"results/deltas/{name}.histogram.parquet" for name in names]

    def settings(self, _: Any = None) -> str:
        """How the claims are judged, with the facts about each pair, as JSON."""
        score = self.parameters.score
        facts = {name: self.facts(pair) for name, pair in self.parameters.pairs.items()}
        for name, checkpoints in self.artifacts.checkpoints.items():
            for tuned, seed in zip(checkpoints, seeds_of(self.parameters, name), strict=True):
                if seed is not None:
                    facts[tuned] = facts[name].model_copy(update={"group": name, "seed": seed})
        return rule_values.settings(
            ClaimsSettings(
                metric=score.metric,
                confidence=score.confidence,
                margin=score.margin,
                seed=score.seed,
                tasks=self.parameters.scorings.root,
                pairs=facts,
                claims=self.parameters.claims,
            )
        )

    def facts(self, pair: PairConfig) -> PairFacts:
        """The facts that a recipe states; those of a brought checkpoint are in its deltas."""
        recipe = pair.tuning
        apart = {"data", "shuffled", "trajectory"}
        budget = recipe.model_dump(mode="json", exclude=apart) if recipe else None
        base = self.parameters.bases[pair.base]
        return PairFacts(
            domain=pair.evidence,
            base=pair.base,
            method=recipe.method if recipe else "",
            family=family_of(base.pretrain.architecture) if base.pretrain else "",
            own_base=base.replicated,
            budget=json.dumps(budget, sort_keys=True) if budget else "",
        )

    def family(self, base: str) -> str:
        """A base's model family, by which figures are planned; empty if it is unknown.

        Of a model that is downloaded or converted the family follows from its name, so that the
        planned figures are the same before and after. The claims read the model's configuration.
        """
        source = self.artifacts.bases[
            self.artifacts.base_checkpoint(base, self.parameters.seeds[0])
        ]
        if source.pretrain is not None:
            return family_of(source.pretrain.architecture)
        if source.folder is None:
            return family_of(" ".join(source.named))
        try:
            config = read_json(Path(self.artifacts.external(source.folder)) / "config.json")
        except (InputError, OSError):
            return ""
        return family_of(str(config.get("model_type", ""))) if isinstance(config, dict) else ""
