"""Every kind of bad data of `tests/refusals/data` prints what its page says."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from refusal import printed_code
from scripts import PAGES, TESTS, loaded

from affectlocus.cli import main

CASES = loaded(TESTS / "refusals/data", "cases").CASES
PAGE = (PAGES / "refused-data.md").read_text(encoding="utf-8")


def identifier(case) -> str:
    return case.kind.lower().replace(" ", "-")


@pytest.mark.parametrize("case", CASES, ids=identifier)
def test_bad_data_prints_what_is_wrong_and_what_to_do(
    case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    case.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["affectlocus", *case.command])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert (ended.value.code or 0) == int(case.refused)
    output = said.err if case.refused else said.out
    for part in case.says:
        assert part in output
    if case.refused:
        (line,) = output.splitlines()
        assert printed_code(output) == case.code
        assert line.startswith("affectlocus: ")
        assert said.out == ""
    # The reason after these words comes from another package and differs between its versions.
    ours = output.strip().partition("cannot be read as parquet")[0]
    assert ours in PAGE, "run tests/refusals/data/run.py again"


def test_there_are_many_kinds_and_none_twice() -> None:
    kinds = [case.kind for case in CASES]
    assert len(set(kinds)) == len(kinds) >= 30
