"""Step `learning`: the losses of the tunings, and whether they learned more than their nulls."""

from __future__ import annotations

import json
from functools import cached_property

from affectlocus.config.tuning import PairRecipe
from affectlocus.orchestration.rule_values import as_images, checkpoint
from affectlocus.orchestration.steps.step import StepJobs


class LearningJobs(StepJobs):
    """The jobs of rules/learning.smk."""

    @property
    def pairs(self) -> list[str]:
        """The pairs that are tuned here."""
        return [name for name, pair in self.parameters.pairs.items() if pair.tuning is not None]

    @property
    def manifests(self) -> list[str]:
        """The manifests of their checkpoints, which have the losses."""
        return [checkpoint(one) for name in self.pairs for one in self.artifacts.checkpoints[name]]

    @cached_property
    def nulls(self) -> dict[str, str]:
        """Pair → its null: a pair of the same base and recipe with shuffled answers."""
        recipes = {
            name: (pair.base, _recipe(pair.tuning), pair.tuning.shuffled)
            for name, pair in self.parameters.pairs.items()
            if pair.tuning is not None
        }
        found = {}
        for name, (base, recipe, shuffled) in recipes.items():
            alike = [
                other
                for other, (its_base, its_recipe, its_shuffled) in recipes.items()
                if its_shuffled and not shuffled and (its_base, its_recipe) == (base, recipe)
            ]
            if alike:
                found[name] = alike[0]
        return found

    @property
    def nulls_json(self) -> str:
        """`nulls` as JSON."""
        return json.dumps(self.nulls)

    @property
    def files(self) -> list[str]:
        """The table of the losses; nothing if no pair is tuned here."""
        return ["results/training.csv"] if self.pairs else []

    @property
    def figures(self) -> list[str]:
        """A figure for each pair that is tuned here and is no null; it shows the null as well."""
        shown = [name for name in self.pairs if name not in self.nulls.values()]
        return as_images(f"training.{pair}" for pair in shown)


def _recipe(recipe: PairRecipe) -> str:
    """The recipe without what a null may have otherwise, as text."""
    return recipe.model_dump_json(exclude={"shuffled", "trajectory"})
