"""Which pairs a figure of several deltas shows: the paper's Figs. 4, 5 and 6.

The pairs are chosen by their properties, so that every experiment with such pairs has the figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from affectlocus.claims.pair_facts import PairFacts
from affectlocus.config.experiment import Parameters

_METHODS = {"lora": "LoRA", "sft": "full tuning", "": "method unknown"}


@dataclass(frozen=True)
class Panels:
    """The panels of one figure.

    Attributes:
        title: the title of the figure.
        grid: row → column → pair.
        lines: whether lines of gate and up are drawn below.
    """

    title: str
    grid: dict[str, dict[str, str]]
    lines: bool = False

    @property
    def pairs(self) -> list[str]:
        """The pairs, row by row."""
        return [pair for members in self.grid.values() for pair in members.values()]


def panels(parameters: Parameters, facts: Mapping[str, PairFacts]) -> dict[str, Panels]:
    """Name of a figure → its panels.

    If there are several figures of a kind, the first has the paper's name and the others have the
    name of a pair as suffix. Pairs of the matrix come first.

    Args:
        facts: pair → its properties.
    """
    first = dict.fromkeys(parameters.matrix.pairs)
    affective = [
        name
        for name in dict.fromkeys([*first, *parameters.pairs])
        if facts[name].domain == "affective"
    ]
    found: dict[str, Panels] = {}
    for stem, figures in (
        ("fig4_l2", _sizes(parameters, facts, affective)),
        ("fig5_control", _controls(facts, affective)),
        ("fig6_architectures", _architectures(parameters, facts, affective)),
    ):
        for number, (name, one) in enumerate(figures.items()):
            found[stem if number == 0 else f"{stem}.{name}"] = one
    return found


def _sizes(
    parameters: Parameters, facts: Mapping[str, PairFacts], affective: list[str]
) -> dict[str, Panels]:
    """Affective pairs that differ only in the size of the base: one recipe, one architecture."""
    groups: dict[tuple[str, ...], dict[str, str]] = {}
    for name in affective:
        fact, recipe = facts[name], parameters.pairs[name].tuning
        if fact.family:
            key = (fact.family, fact.method, fact.budget, *(recipe.data if recipe else ()))
            groups.setdefault(key, {}).setdefault(fact.base, name)
    figures = {}
    for (_, method, *__), members in groups.items():
        if len(members) < 2:
            continue
        bases = sorted(members, key=lambda base: _size(parameters, base))
        how = f" by {_METHODS[method]}" if method else ""
        title = f"Affective tuning of bases of {len(bases)} sizes{how}: change of the weights"
        figures[members[next(iter(members))]] = Panels(
            title, {"": {_sized(parameters, base): members[base] for base in bases}}
        )
    return figures


def _size(parameters: Parameters, base: str) -> int:
    """A sort key: the size of a base that is pre-trained here, 0 for other bases."""
    recipe = parameters.bases[base].pretrain
    return recipe.layers * recipe.hidden_size * recipe.intermediate_size if recipe else 0


def _sized(parameters: Parameters, base: str) -> str:
    recipe = parameters.bases[base].pretrain
    return f"{base} (width {recipe.hidden_size})" if recipe else base


def _controls(facts: Mapping[str, PairFacts], affective: list[str]) -> dict[str, Panels]:
    """An affective pair and its controls with the same base, method and budget."""
    figures = {}
    for name in affective:
        fact = facts[name]
        twins = [
            other
            for other, one in facts.items()
            if one.domain == "control"
            and (one.base, one.method, one.budget) == (fact.base, fact.method, fact.budget)
        ]
        if twins:
            within = "same budget" if fact.budget else "same base"
            title = f"{fact.base}: change by affective tuning and by controls, {within}"
            columns = {pair: pair for pair in (name, *twins)}
            figures[name] = Panels(title, {"": columns}, lines=True)
    return figures


def _architectures(
    parameters: Parameters, facts: Mapping[str, PairFacts], affective: list[str]
) -> dict[str, Panels]:
    """The first affective pair of every architecture and method."""
    grid: dict[str, dict[str, str]] = {}
    for name in affective:
        fact = facts[name]
        recipe = parameters.bases[fact.base].pretrain
        column = recipe.architecture if recipe else fact.family or fact.base
        grid.setdefault(_METHODS[fact.method], {}).setdefault(column, name)
    order = [label for label in _METHODS.values() if label in grid]
    one = Panels(
        "Affective tuning by architecture and method: change of the weights",
        {label: grid[label] for label in order},
    )
    return {one.pairs[0]: one} if len(one.pairs) > 1 else {}
