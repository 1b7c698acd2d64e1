"""How numbers are written on the report's page."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from affectlocus.reporting.number_format import (
    cell,
    clock,
    count,
    figures,
    percent,
    probability,
    sentence,
)


@pytest.mark.parametrize(
    ("write", "value", "written"),
    [
        (percent, 25.0286, "25.03"),
        (percent, -0.5, "−0.50"),
        (percent, -0.001, "0.00"),
        (figures, 1.0, "1.00"),
        (figures, 0.0084, "0.00840"),
        (figures, -31.9029, "−31.9"),
        (figures, 123.4, "123"),
        (figures, 40370176.0, "40,370,176"),
        (probability, 0.00019998, "< 0.001"),
        (probability, 0.0036, "0.0036"),
        (probability, 0.317, "0.32"),
        (probability, 1.0, "1.00"),
        (count, 1600, "1,600"),
        (clock, 6.17, "6.2 s"),
        (clock, 75.0, "1:15 min"),
        (clock, 3725.4, "1:02:05 h"),
        (cell, "gate", "gate"),
        (cell, True, "yes"),
        (cell, 5760, "5,760"),
        (cell, 20.5479, "20.55"),
        (cell, 0.865079, "0.865"),
        (sentence, "in every pair", "In every pair"),
        (sentence, "gate_proj alone", "gate_proj alone"),
    ],
)
def test_a_value_is_written_as_a_reader_expects(
    write: Callable[[Any], str], value: Any, written: str
) -> None:
    assert write(value) == written


@pytest.mark.parametrize("write", [percent, figures, probability, count, cell])
@pytest.mark.parametrize("nothing", [None, math.nan])
def test_what_is_unknown_is_empty(write: Callable[[Any], str], nothing: Any) -> None:
    assert write(nothing) == ""


@pytest.mark.parametrize(
    ("value", "written"), [(999, "999 B"), (13072, "13.1 kB"), (80_740_352, "80.7 MB")]
)
def test_a_column_of_bytes_is_written_in_units(value: int, written: str) -> None:
    assert cell(value, "adapter_bytes") == written
