"""The terms of claims: domains, measures, cells and module sets.

A cell is written as in the tables: `load gate`, `tune q+k+v+o fair`, `load gate x0.5`, `load gate
even`, `base`, `tuned`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
)

from affectlocus.config.fields import (
    ModuleSets,
    distinct,
    module_set,
    one_of,
)
from affectlocus.config.messages import ParameterError
from affectlocus.core.ablations import ABLATIONS
from affectlocus.core.cells import Cell, validated
from affectlocus.core.errors import InputError
from affectlocus.core.projections import BRIDGE, PROJECTIONS

Domain = Literal["affective", "control", "null"]
SIZES = (
    *("l2", "relative", "rms", "share_ratio", "max_abs"),
    *("spectral_norm", "stable_rank", "effective_rank"),
)
"""Columns of the deltas that a claim can compare."""
FORECASTS = ("gradient_norm", "adapter_gradient", "feature_norm", "base_stable_rank")
"""Measures of the base, which step `forecast` takes before the tuning."""
MEASURES = (*SIZES, *FORECASTS)
"""What a ranking of module sets can be compared with."""
SizeName = Annotated[str, *one_of("measure of the deltas", SIZES)]
MeasureName = Annotated[str, *one_of("measure", MEASURES)]
Projection = Annotated[str, *one_of("projection", PROJECTIONS)]


def parse_cell(text: str) -> tuple[str, str, str]:
    """Kind, module set and mode of a cell, as in `load gate` or `tune o fair`.

    Raises:
        InputError: no cell of an experiment is written so.
    """
    kind, modules, mode = (*text.split(), "", "", "")[:3]
    if len(text.split()) not in (1, 2, 3):
        raise InputError(
            "claim.not-a-cell",
            f"found {text!r}; expected an arm, a module set and sometimes a mode, such as load "
            "gate, tune q+k+v+o fair or base",
            found=text,
        )
    cell = Cell(
        kind,  # type: ignore[arg-type]
        "base",
        None if kind == "base" else "pair",
        modules,
        mode,
        bridge="tuned" if modules == BRIDGE else "",
    )
    validated(cell)
    return kind, module_set(modules) if modules else "", mode


def _cell_text(text: str) -> str:
    try:
        return " ".join(filter(None, parse_cell(text)))
    except InputError as error:
        message = str(error).removeprefix("cell: ")
        raise ParameterError(error.code, message, **error.fields) from None


CellText = Annotated[
    str, AfterValidator(_cell_text), Field(examples=["load gate", "tune o fair", "base"])
]


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


CellTexts = Annotated[
    list[CellText],
    AfterValidator(distinct),
    Field(min_length=1),
    BeforeValidator(_listed, json_schema_input_type=str | list[str]),
]
SINGLES = "singles"


def sets_or_singles(value: Any) -> Any:
    return list(PROJECTIONS) if value == SINGLES else _listed(value)


Sets = Annotated[
    ModuleSets,
    Field(min_length=1),
    BeforeValidator(sets_or_singles, json_schema_input_type=str | list[str]),
]


AblationName = Annotated[str, *one_of("ablation", ABLATIONS)]
