"""A comparison of two results on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from affectlocus.core.errors import printable
from affectlocus.core.provenance import Difference
from affectlocus.reporting.compare_results import Comparison
from affectlocus.reporting.number_format import figures
from affectlocus.reporting.terminal_grid import Grid, print_grid

_MOST = 20  # rows of a table; --json has all
_MOST_CHARACTERS = 60  # of a parameter


def print_comparison(found: Comparison) -> None:
    """Prints what differs, and the conclusion last."""
    parameters = found.parameters
    if parameters is None:
        _say("parameters: not compared, because a params.yaml next to the results cannot be read")
    else:
        _differences("parameters", parameters)
    _differences("made with", found.circumstances)
    changed = [one for one in found.verdicts if one.first != one.second]
    _grid(
        f"verdicts: {len(changed)} of {len(found.verdicts)} differ",
        ("claim", "by", "in first", "in second", "effect, first", "effect, second", "inside"),
        [
            (
                one.claim,
                one.by,
                one.first,
                one.second,
                figures(one.first_effect),
                figures(one.second_effect),
                _yes(one.within),
            )
            for one in changed
        ],
    )
    outside = [one for one in found.means if not one.within]
    outside.sort(key=lambda one: -abs(one.first - one.second))
    _grid(
        f"mean scores: {len(outside)} of {len(found.means)} are outside the interval of the other",
        ("cell", "metric", "in first", "in second", "difference"),
        [
            (
                one.cell,
                one.metric,
                f"{one.first:.2f}",
                f"{one.second:.2f}",
                f"{one.second - one.first:+.2f}",
            )
            for one in outside
        ],
    )
    shared = [one for one in found.answers if one.samples]
    differing = sorted((one for one in shared if one.differing), key=lambda one: -one.differing)
    _grid(
        f"answers: {len(differing)} of {len(shared)} common cells have other answers",
        ("cell", "differing", "samples"),
        [(one.cell, str(one.differing), str(one.samples)) for one in differing],
    )
    for kind, (one, two) in found.only.items():
        if one or two:
            _say(f"{kind} in one of them only: {one} in the first, {two} in the second")
    _say(found.conclusion)


def _differences(title: str, found: Sequence[Difference]) -> None:
    rows = [(one.key, _short(one.used), _short(one.now)) for one in found]
    said = f"{len(rows)} differ" if len(rows) > 1 else f"{len(rows) or 'nothing'} differs"
    _grid(f"{title}: {said}", ("key", "in first", "in second"), rows)


def _short(value: str) -> str:
    """A value as JSON writes it, without the quotes of a text."""
    text = value.strip('"')
    return text if len(text) <= _MOST_CHARACTERS else f"{text[: _MOST_CHARACTERS - 1]}…"


def _grid(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if not rows:
        _say(title)
        return
    shown = [[printable(cell) for cell in row] for row in rows[:_MOST]]
    print_grid(Grid(list(columns), shown, title=title, rest="--json has them"), everything=True)
    if len(rows) > _MOST:
        _say(f"{_MOST} of {len(rows)} rows; --json has all")


def _yes(value: bool | None) -> str:
    return "" if value is None else "yes" if value else "no"


def _say(text: str) -> None:
    Console(highlight=False).print(Text(printable(text)))
