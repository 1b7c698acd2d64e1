"""The kinds of statements on scores: how each is tested.

The paper's claims C5 to C14 are such statements. Their texts were written before any result was
seen. Each function takes the comparisons of one group of pairs and a statement, and gives findings;
a finding is true if all of its contrasts are above 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.stats import rankdata

from affectlocus.claims.evidence import COLUMNS, GroupKey, MissingEvidenceError
from affectlocus.claims.findings import ClaimFinding
from affectlocus.claims.score_comparisons import ScoreComparisons, name_of
from affectlocus.config.claim_kinds import Above, CostsMost, Equal, Interaction, Keeps, Leads, Ranks
from affectlocus.config.claim_terms import FORECASTS, parse_cell
from affectlocus.core.ablations import ABLATIONS
from affectlocus.core.projections import parse_modules

GAIN_KEPT = "gain kept"
FLUENCY = "perplexity"
PLACE = 1.0
"""The margin of mean ranks: one place."""


def _rivals(test: ScoreComparisons, what: str, over: Sequence[str]) -> list[GroupKey]:
    """A cell, and the same cell with each other module set."""
    kind, own, mode = parse_cell(what)
    return [(test.pair, kind, one, mode) for one in (own, *(one for one in over if one != own))]


def leads(test: ScoreComparisons, statement: Leads) -> list[ClaimFinding]:
    """One cell has the best mean score of several, or the best mean rank over tasks."""
    key, *rivals = _rivals(test, statement.what, statement.over)
    start = test.finding(statement)
    if statement.by == "score":
        return [test.compare_with_rivals(start, key, rivals)]
    if missing := test.no_answers([key, *rivals]):
        return [replace(start, missing=missing)]
    # (sets, 1 + draws, replicates); 1 is best
    ranks = rankdata(-test.scores.by_task([key, *rivals]), axis=0).mean(axis=-1)
    margin = PLACE if statement.margin is None else statement.margin
    found = test.against_rivals(start, key, rivals, -ranks, "mean rank", margin, -1.0)
    return [replace(found, why=f"mean rank over tasks: {found.why}")]


def above(test: ScoreComparisons, statement: Above) -> list[ClaimFinding]:
    """One cell has a higher mean score than each of some others, a part for each."""
    first = test.key(statement.what)
    found = []
    for cell in statement.than:
        second = test.key(cell, statement.what)
        same_arm = (first[1], first[3]) == (second[1], second[3])
        name = f"above {second[2] if same_arm else cell}" if len(statement.than) > 1 else ""
        found.append(test.compare(test.finding(statement, name), first, second))
    return found


def keeps(test: ScoreComparisons, statement: Keeps) -> list[ClaimFinding]:
    """A cell's mean score is at least a share of another's, which has to be above a third.

    The contrast is what - share · of, in points. With `gain`, the third score is subtracted from
    both.
    """
    own, whole = test.key(statement.what), test.key(statement.of)
    base = test.key(statement.above, statement.what)
    start = test.finding(statement)
    if statement.gain:
        start = replace(start, by=GAIN_KEPT)
    if missing := test.no_answers([own, whole, base]):
        return [replace(start, missing=missing)]
    names = [_short(key) for key in (own, whole, base)]
    means = [test.scores.mean(key) for key in (own, whole, base)]
    share = statement.share
    requires = test.contrast(f"{names[1]} - {names[2]}", {whole: 1.0, base: -1.0})
    contrast = test.contrast(
        f"{names[0]} - {share} · {names[1]}" + (f", above the {names[2]}" * statement.gain),
        {own: 1.0, whole: -share, base: share - 1 if statement.gain else 0.0},
    )
    floor = means[2] if statement.gain else 0.0
    kept = (means[0] - floor) / (means[1] - floor) if means[1] != floor else math.nan
    why = (
        f"{names[0]} {means[0]:.2f}, {names[1]} {means[1]:.2f}, {names[2]} {means[2]:.2f}; "
        f"{names[0]} keeps {100 * kept:.1f}%" + " of the gain" * statement.gain
    )
    why += f", {test.says} says {100 * share:.1f}%"
    # A part of a score varies as the scores do, and more than a difference of two of them.
    contrast, requires = (replace(one, moderate=False) for one in (contrast, requires))
    start = replace(start, contrasts=(contrast,), requires=requires, why=why)
    finding = test.with_statistics(start, own, whole)
    return [replace(finding, why=finding.why + _share_of_parameters(test, own))]


def _short(key: GroupKey) -> str:
    """The module set of a cell, or its kind if it has none."""
    return "all seven" if key[2] == "all" else key[2] or key[1]


def _share_of_parameters(test: ScoreComparisons, key: GroupKey) -> str:
    """The share of the parameters that a cell's module set has, from the shapes of the deltas."""
    locus = next((one for one in test.loci if one.name == test.pair), None)
    if locus is None or not key[2]:
        return ""
    rows = next(iter(locus.tables.values())).query("parameter == 'weight'")
    sides = rows["shape"].str.split("x", expand=True).astype(float)
    counts = {"LoRA": sides.sum(axis=1), "all": sides.prod(axis=1)}
    modules = parse_modules(key[2])
    inside = [
        modules.contains(int(layer), str(name))
        for layer, name in zip(rows["layer"], rows["projection"], strict=True)
    ]
    shares = [
        f"{100 * count[inside].sum() / count.sum():.2f}% of {kind} parameters"
        for kind, count in counts.items()
    ]
    return f"; {_short(key)} has {' and '.join(shares)} of the seven"


def costs_most(test: ScoreComparisons, statement: CostsMost) -> list[ClaimFinding]:
    """Destroying a module set lowers the tuned model's mean score most: a part for each mode."""
    own = statement.what
    modes = [mode for mode in ABLATIONS if test.scores.has((test.pair, "ablate", own, mode))]
    additional = statement.additional_modes
    found = []
    if not set(modes) - set(additional):
        missing = f"no {test.scores.noun} ablate {own}"
        missing += f" in a mode other than {', '.join(additional)}" if modes else ""
        if test.scores.noun == "cell":
            missing += "; add a mode to matrix.modes" if modes else f"; add {own} to matrix.ablate"
        found.append(replace(test.finding(statement), missing=missing))
    for mode in modes:
        key, *rivals = _rivals(test, f"ablate {own} {mode}", statement.over)
        start = test.finding(statement, mode)
        start = replace(start, stated=start.stated and mode not in additional)
        tuned: GroupKey = (test.pair, "tuned", "", "")
        if missing := test.no_answers([tuned, key, *rivals]):
            found.append(replace(start, missing=missing))
            continue
        scores = test.scores.by_task([tuned, key, *rivals]).mean(axis=-1)
        finding = test.against_rivals(start, key, rivals, scores[0] - scores[1:])
        why = f"drop of the tuned model's mean: {finding.why}"
        found.append(replace(finding, why=why, cohens_h=-finding.cohens_h))
    return found


def equal(test: ScoreComparisons, statement: Equal) -> list[ClaimFinding]:
    """A cell differs from another by less than the margin, in both directions.

    Two one-sided tests: supported if the difference is above -margin and below the margin,
    contradicted if it is outside. Perplexities are compared by the logarithm of their ratio.
    """
    groups = [statement.to] if statement.average else [[cell] for cell in statement.to]
    found = []
    for cells in groups:
        name = f"to {', '.join(cells)}" if len(groups) > 1 else ""
        start = test.finding(statement, name)
        own = test.key(statement.what)
        others = [test.key(cell, statement.what) for cell in cells]
        if statement.measure == "perplexity":
            found.append(_equal_perplexity(test, statement, start, own, others))
        else:
            found.append(_equal_score(test, start, own, others))
    return found


def _equal_score(
    test: ScoreComparisons, start: ClaimFinding, own: GroupKey, others: Sequence[GroupKey]
) -> ClaimFinding:
    if missing := test.no_answers([own, *others]):
        return replace(start, missing=missing)
    margin = test.scores.margin
    values = test.scores.by_task([own, *others]).mean(axis=-1)
    gap = values[0] - values[1:].mean(axis=0)
    mean = " of the mean" if len(others) > 1 else ""
    other = f"the mean of {', '.join(map(name_of, others))}" if mean else name_of(others[0])
    contrasts = tuple(
        test.from_draws(name, each, "points", math.nan)
        for name, each in (
            (f"{margin:g} - ({name_of(own)} - {other})", margin - gap),
            (f"({name_of(own)} - {other}) + {margin:g}", gap + margin),
        )
    )
    why = (
        f"{name_of(own)} {values[0, 0].mean():.2f}, {other} {values[1:, 0].mean():.2f}; "
        f"within {margin:g} points they are equal"
    )
    return test.with_statistics(replace(start, contrasts=contrasts, why=why), own, *others)


def _equal_perplexity(
    test: ScoreComparisons,
    statement: Equal,
    start: ClaimFinding,
    own: GroupKey,
    others: Sequence[GroupKey],
) -> ClaimFinding:
    start, draws = replace(start, by=FLUENCY), test.scores.fluency
    if draws is None:
        return replace(start, missing="no fluency was measured: no task of general text")
    if missing := test.missing([own, *others]):
        return replace(start, missing=missing)
    logs = test.scores.by_task([own, *others], draws).mean(axis=-1)
    factor = statement.factor
    log_ratio, edge = logs[0] - logs[1:].mean(axis=0), math.log(factor)
    name, other = _short(own), "the mean" if len(others) > 1 else _short(others[0])
    contrasts = tuple(
        test.from_draws(text, values, "log ratio of perplexities", math.nan)
        for text, values in (
            (f"log {factor} - log({name} / {other})", edge - log_ratio),
            (f"log({name} / {other}) + log {factor}", edge + log_ratio),
        )
    )
    ppl = [
        math.exp(np.mean([test.scores.mean(key, draws) for key in keys]))
        for keys in ([own], others)
    ]
    why = (
        f"{ppl[0]:.2f}, the {other.removeprefix('the ')}'s {ppl[1]:.2f}: "
        f"{math.exp(log_ratio[0].mean()):.4f} times; within a factor of {factor} it is unchanged"
    )
    start = replace(start, contrasts=contrasts, why=why)
    finding = test.with_statistics(start, own, *others)
    return replace(finding, n=test.scores.texts, cohens_h=math.nan, mcnemar_p=math.nan)


def ranks(test: ScoreComparisons, statement: Ranks) -> list[ClaimFinding]:
    """Spearman's correlation of the module sets' scores and a measure, in each replicate."""
    start = test.finding(statement)
    keys = [test.key(cell) for cell in statement.cells]
    if missing := test.no_answers(keys):
        return [replace(start, missing=missing)]
    try:
        measured, replicates = _measured(test, statement, keys)
    except MissingEvidenceError as error:
        return [replace(start, missing=str(error))]
    common = test.scores.common(keys)
    places = [common.index(one) for one in replicates]
    scores = test.scores.by_task(keys).mean(axis=-1)[..., places]  # (sets, 1 + draws, replicates)
    first, second = rankdata(scores, axis=0), rankdata(measured, axis=0)[:, None]
    first, second = (each - each.mean(axis=0) for each in (first, second))
    size = np.sqrt((first**2).sum(axis=0) * (second**2).sum(axis=0))
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.where(size > 0, (first * second).sum(axis=0) / size, 0.0)
    sign = 1.0 if statement.direction == "same" else -1.0
    margin = math.nan if statement.margin is None else statement.margin
    name = f"rank correlation of {statement.arm} with {statement.like}"
    contrast = test.from_draws(
        name if sign > 0 else f"- {name}", sign * found, "rank correlation", margin
    )
    order = np.argsort(-scores[:, 0].mean(axis=1), kind="stable")
    why = (
        f"Spearman's correlation {found[0].mean():.2f}; by score "
        f"{', '.join(keys[at][2] for at in order)}; by {statement.like} "
        f"{', '.join(keys[at][2] for at in np.argsort(-measured.mean(axis=1), kind='stable'))}"
    )
    start = replace(start, contrasts=(contrast,), why=why)
    finding = test.with_statistics(start, *keys)
    return [replace(finding, cohens_h=math.nan, mcnemar_p=math.nan)]


def _measured(
    test: ScoreComparisons, statement: Ranks, keys: Sequence[GroupKey]
) -> tuple[np.ndarray, list[object]]:
    """(sets, replicates), the mean over layers of the measure; and these replicates.

    Raises:
        MissingEvidenceError: the pair has no deltas, or they do not have the measure.
    """
    locus = next((one for one in test.loci if one.name == test.pair), None)
    if locus is None:
        raise MissingEvidenceError(f"no deltas of {test.pair}")
    if any(statement.like not in table for table in locus.tables.values()):
        set_it = "set matrix.forecast" if statement.like in FORECASTS else "set deltas.spectra"
        raise MissingEvidenceError(f"{statement.like} of {test.pair} was not measured; {set_it}")
    places = [COLUMNS.index(key[2]) for key in keys]
    sizes = locus.sizes(statement.like).mean(axis=1)[:, places].T  # (sets, seeds)
    common = test.scores.common(keys)
    if sizes.shape[1] == 1:
        return np.repeat(sizes, len(common), axis=1), list(common)
    seeds = [seed for seed in common if seed in locus.seeds]
    if not seeds:
        raise MissingEvidenceError(f"the deltas and the cells of {test.pair} have no common seed")
    return sizes[:, [locus.seeds.index(seed) for seed in seeds]], list(seeds)


def interaction(test: ScoreComparisons, statement: Interaction) -> list[ClaimFinding]:
    """A difference of two cells minus the same difference of each pair of the other domain."""
    if test.domains.get(test.pair) != statement.domain:
        return []
    start = test.finding(statement)
    first = test.key(statement.what)
    second = test.key(statement.than, statement.what)
    if missing := test.no_answers([first, second]):
        return [replace(start, missing=missing)]
    found = []
    for scores in test.everything:
        for pair in scores.matrices:
            keys: list[GroupKey] = [(pair, *key[1:]) for key in (first, second)]
            if test.domains.get(pair) == statement.against and all(map(scores.has, keys)):
                part = replace(test, pair=pair, scores=scores)
                beside = test.finding(statement, f"against {pair}")
                found.append(_difference(test, part, beside, [first, second], keys))
    if not found:
        cells = f"{statement.what} and {statement.than}"
        return [replace(start, missing=f"no {statement.against} pair with cells {cells}")]
    return found


def _difference(
    test: ScoreComparisons,
    other: ScoreComparisons,
    start: ClaimFinding,
    own_keys: list[GroupKey],
    other_keys: list[GroupKey],
) -> ClaimFinding:
    sides = []
    for side, keys in ((test, own_keys), (other, other_keys)):
        if missing := side.no_answers(keys):
            return replace(start, missing=f"{side.pair}: {missing}")
        values = side.scores.by_task(keys).mean(axis=-1)
        sides.append((values[0] - values[1], side.scores.common(keys)))
    (gap, seeds), (other_gap, other_seeds) = sides
    if seeds != (None,) and other_seeds != (None,):
        common = [one for one in seeds if one in other_seeds]
        if not common:
            return replace(start, missing=f"{test.pair} and {other.pair} have no seed in common")
        gap = gap[:, [seeds.index(one) for one in common]]
        other_gap = other_gap[:, [other_seeds.index(one) for one in common]]
    cells = f"({name_of(own_keys[0])} - {name_of(own_keys[1])})"
    contrast = test.from_draws(f"{cells} of {test.pair} - of {other.pair}", gap - other_gap)
    why = (
        f"{cells[1:-1]} is {gap[0].mean():.2f} points in {test.pair} and "
        f"{other_gap[0].mean():.2f} in {other.pair}"
    )
    finding = test.with_statistics(replace(start, contrasts=(contrast,), why=why), *own_keys)
    n = test.scores.n + (0 if other.scores is test.scores else other.scores.n)
    basis = f"{finding.basis}; {other.scores.basis(*other_keys)}"
    return replace(finding, n=n, basis=basis, cohens_h=math.nan, mcnemar_p=math.nan)
