"""Cells as JSON: option `--cells` of the command `evaluate`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, RootModel, model_validator

from affectlocus.config.fields import Name, Seed, Strict
from affectlocus.config.messages import ParameterError
from affectlocus.core.cells import BridgeState, Cell, Kind, validated
from affectlocus.core.errors import InputError


class CellFields(Strict):
    """The fields of a `Cell`; `base` may be left out."""

    kind: Kind
    base: Name | None = None
    pair: Name | None = None
    modules: str = ""
    mode: str = ""
    seed: Seed | None = None
    draw: Seed | None = None
    bridge: BridgeState | Literal[""] = ""
    media: str = ""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.kind == "base") != (self.pair is None):
            expected = "no pair" if self.kind == "base" else "the name of a pair"
            raise ParameterError(
                "cell.wrong-pair",
                f"kind {self.kind!r} with pair {self.pair!r}; expected {expected}",
                found=self.pair,
                kind=self.kind,
            )
        try:
            self.of("base")
        except InputError as error:
            raise ParameterError(error.code, str(error), **error.fields) from None
        return self

    def of(self, base: str) -> Cell:
        """The cell.

        Args:
            base: the base's name if the fields do not state it.

        Raises:
            InputError: the fields do not fit together.
        """
        return validated(Cell(**{**self.model_dump(), "base": self.base or base}))


class CellList(RootModel[Any]):
    """One cell, or a list of cells."""

    root: Annotated[
        list[CellFields],
        Field(min_length=1),
        BeforeValidator(lambda cells: [cells] if isinstance(cells, dict) else cells),
    ]

    @classmethod
    def json_of(cls, cells: Iterable[Cell]) -> str:
        """Cells as JSON text, without fields that are not set."""
        fields = [CellFields(**vars(cell)) for cell in cells]
        return cls(fields).model_dump_json(exclude_defaults=True)
