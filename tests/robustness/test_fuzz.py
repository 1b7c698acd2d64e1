"""Some cases of each target of `tests/robustness/fuzz`, the same at every run.

`pytest --hypothesis-profile explore` tries a thousand new ones of each; the script any number.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from scripts import PAGES, TESTS, loaded

from affectlocus.core.errors import InputError

pytestmark = pytest.mark.full
TARGETS = loaded(TESTS / "robustness/fuzz", "targets").TARGETS
PAGE = (PAGES / "fuzzing.md").read_text(encoding="utf-8")
# Cases of a second or so for each target; more where somebody explores.
CASES = {"parameters": 40, "parameters-text": 40, "table": 40, "wheels": 25}


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_a_reader_gives_its_result_or_refuses_in_one_line(target: Any) -> None:
    exploring = settings().max_examples >= 1000
    most = settings().max_examples if exploring else CASES.get(target.name, 60)

    @settings(max_examples=most, suppress_health_check=list(HealthCheck))
    @given(target.strategy)
    def check(example: Any) -> None:
        target.check(example)

    check()


def test_a_target_notices_what_a_reader_must_not_do() -> None:
    refusing = loaded(TESTS / "robustness/fuzz", "targets").refusing

    def long(error: InputError) -> InputError:
        error.args = ("x" * 5000,)
        return error

    with refusing():
        raise InputError("test.refused", "a sentence")
    for error in (ValueError("a traceback"), long(InputError("test.refused", "x"))):
        with pytest.raises((ValueError, AssertionError)), refusing():
            raise error


def test_the_page_names_every_target_and_how_many_cases_ran() -> None:
    for target in TARGETS:
        (row,) = re.findall(rf"^\| {re.escape(target.name)} \|.*$", PAGE, re.M)
        assert re.search(r"\| [\d,]+ \| \d+ \| 0 \|$", row), row
