"""Scores any system's answers in csv files; for the command line and the Python API."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from affectlocus.core.errors import InputError, check_choice
from affectlocus.scoring.outputs import CHOICES, KINDS, read_outputs, score_outputs, scorer
from affectlocus.scoring.wheels import load

# Option → the other option and its value that it is for.
_ONLY_FOR = {
    "wheels": ("kind", "hit-rate"),
    "own_wheels": ("kind", "hit-rate"),
    "validation_gold": ("choose", "validation"),
    "validation_predictions": ("choose", "validation"),
}


def score_files(options: Mapping[str, Any], name_of: Callable[[str], str]) -> dict[str, Any]:
    """Scores answers under the protocol mer-unibench and a corrected one.

    Args:
        options: kind, gold, predictions, choose, wheels, own_wheels, validation_gold and
            validation_predictions; None if not given.
        name_of: the name of an option as the user writes it, for messages.

    Returns:
        The protocol, the kind, the wheels, and what `score_outputs` returns.

    Raises:
        InputError: an option is missing, unknown or without effect; or files that do not fit each
            other.
    """
    chosen = {"kind": options["kind"], "choose": options["choose"] or "last"}
    for option, choices in (("kind", KINDS), ("choose", CHOICES)):
        if chosen[option] is not None:
            check_choice(name_of(option), chosen[option], choices)
    needed = ["kind"]
    for option, (other, value) in _ONLY_FOR.items():
        if chosen[other] == value:
            needed += [] if option == "own_wheels" else [option]
        elif options[option]:
            name = name_of(option)
            raise InputError(
                "option.no-effect",
                f"{name} has no effect without {name_of(other)} {value}; leave it out",
                option=name,
            )
    for option in [*needed, "gold", "predictions"]:
        if options[option] is None:
            name = name_of(option)
            raise InputError(
                "option.missing",
                f"{name} is missing; expected {_EXPECTED.get(option, 'a csv file')}",
                option=name,
            )
    kind, wheels = chosen["kind"], None
    if kind == "hit-rate":
        wheels = load(str(options["wheels"]), bool(options["own_wheels"]))
    test = read_outputs(kind, Path(options["gold"]), Path(options["predictions"]))
    validation = None
    if chosen["choose"] == "validation":
        files = options["validation_gold"], options["validation_predictions"]
        validation = read_outputs(kind, *map(Path, files))
    return {
        "protocol": "mer-unibench",
        "kind": kind,
        **({"wheels": {"from": str(options["wheels"]), "commit": wheels.commit}} if wheels else {}),
        **score_outputs(test, scorer(kind, wheels), chosen["choose"], validation),
    }


_EXPECTED = {"kind": " or ".join(KINDS), "wheels": "a folder, or released"}
