from __future__ import annotations

import ast
import pickle
import re
from pathlib import Path

import pytest
from refusal import refused

from affectlocus.config.messages import ParameterError
from affectlocus.core.errors import (
    CombinedError,
    InputError,
    LayoutError,
    Problems,
    exit_on_error,
)
from affectlocus.core.extras import missing_extra
from affectlocus.core.provenance import PACKAGE


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


def test_several_problems_are_a_line_each_and_keep_their_codes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    problems = Problems()
    for name in ("a", "b", "a"):
        with problems.collected():
            raise InputError("some.thing", f"{name} is wrong", found=name)
    with pytest.raises(CombinedError) as caught:
        problems.raise_any()
    error = pickle.loads(pickle.dumps(caught.value.within("mine.yaml")))
    with pytest.raises(SystemExit):
        exit_on_error(_raise, error)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "affectlocus: mine.yaml: a is wrong [some.thing]",
        "affectlocus: mine.yaml: b is wrong [some.thing]",
    ]


def test_one_problem_is_raised_as_it_is() -> None:
    problems = Problems()
    with problems.collected():
        raise InputError("some.thing", "a is wrong")
    with refused("some.thing") as caught:
        problems.raise_any()
    assert type(caught.value) is InputError


def _raise(error: InputError) -> None:
    raise error


def test_a_command_prints_the_code_after_the_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> None:
        raise InputError("table.no-column", "t.csv: no column\n'text'")

    with pytest.raises(SystemExit) as ended:
        exit_on_error(command)
    assert ended.value.code == 1
    assert capsys.readouterr().err == ("affectlocus: t.csv: no column 'text' [table.no-column]\n")


# No errors that a command prints: Python's own, and two that other code catches.
_WITHOUT_CODE = (
    *("AttributeError", "KeyError", "ValueError"),
    *("MissingEvidenceError", "UnusableError"),
)


def _codes() -> dict[str, list[str]]:
    """Code → the messages in the source, of every error of the package with a literal code."""
    found: dict[str, list[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Name(id=name), args=[code, message, *_]) if (
                    name.endswith("Error") and name not in _WITHOUT_CODE
                ):
                    # An error that is raised again keeps the code that it has.
                    if isinstance(code, ast.Attribute) and code.attr == "code":
                        continue
                    assert isinstance(code, ast.Constant), f"{path}:{node.lineno}: no literal code"
                    found.setdefault(code.value, []).append(ast.unparse(message))
    return found


def test_every_error_has_a_literal_code_of_a_subject_and_a_reason() -> None:
    codes = _codes()
    assert len(codes) > 300
    for code in codes:
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*\.[a-z0-9]+(-[a-z0-9]+)*", code), code


def test_the_page_of_errors_has_every_code() -> None:
    page = (PACKAGE.parents[1] / "docs/reference/errors.md").read_text(encoding="utf-8")
    missing = [code for code in _codes() if f"| `{code}` |" not in page]
    assert missing == [], "run docs/generate.py"
