from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from refusal import refused

from affectlocus.config.messages import ParameterError
from affectlocus.core.errors import InputError, LayoutError, exit_on_error
from affectlocus.core.extras import missing_extra


@pytest.mark.parametrize(
    "error",
    [
        LayoutError("table.no-column", "t.csv: no column 'text'", file="t.csv", found=["a"]),
        ParameterError("params.listed-twice", "'a' is listed twice; list it once", found="a"),
        missing_extra("affectlocus tune", "torch"),
    ],
)
def test_an_error_keeps_its_code_and_fields_on_the_way_to_another_process(
    error: InputError,
) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert (copy.code, str(copy), copy.fields) == (error.code, str(error), error.fields)


def test_an_error_within_a_place_names_the_place_and_keeps_code_and_fields() -> None:
    error = InputError("table.no-column", "no column 'text'", found=["a"])
    with refused("table.no-column", found=["a"], file=Path("t.csv")) as caught:
        raise error.within(Path("t.csv"), file=Path("t.csv"))
    assert str(caught.value) == "t.csv: no column 'text'"


def test_a_command_prints_the_code_after_the_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> None:
        raise InputError("table.no-column", "t.csv: no column\n'text'")

    with pytest.raises(SystemExit) as ended:
        exit_on_error(command)
    assert ended.value.code == 1
    assert capsys.readouterr().err == ("affectlocus: t.csv: no column 'text' [table.no-column]\n")
