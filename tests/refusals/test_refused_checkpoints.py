"""Every kind of bad checkpoint of `tests/refusals/checkpoints` prints what its page says."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest
from refusal import printed_code
from scripts import PAGES, TESTS, loaded

from affectlocus.cli import main

CASES = loaded(TESTS / "refusals/checkpoints", "cases").CASES
PAGE = (PAGES / "refused-checkpoints.md").read_text(encoding="utf-8")
AGAIN = "run tests/refusals/checkpoints/run.py again"


def identifier(case) -> str:
    return case.kind.lower().replace(" ", "-")


@pytest.mark.parametrize("case", CASES, ids=identifier)
def test_a_bad_checkpoint_prints_what_is_wrong_and_writes_nothing(
    case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    case.write(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["affectlocus", *case.command])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    assert line.startswith("affectlocus: ")
    assert printed_code(line) == case.code
    assert said.out == ""
    assert sorted(tmp_path.rglob("*")) == before
    shown = f"## {case.kind}\n\n```\n$ {shlex.join(['affectlocus', *case.command])}\n{line}\n```\n"
    assert shown in PAGE, AGAIN


def test_there_are_many_kinds_of_bad_checkpoints_and_none_twice() -> None:
    kinds = [case.kind for case in CASES]
    assert len(set(kinds)) == len(kinds) >= 12
    assert PAGE.count("\n```\n$ affectlocus") == len(kinds), AGAIN


def test_the_page_lists_every_test_of_downloads(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = TESTS / "refusals/checkpoints"
    monkeypatch.setattr(sys, "path", [str(folder), str(folder.parent), *sys.path])
    monkeypatch.delitem(sys.modules, "cases", raising=False)
    listed = loaded(TESTS / "refusals/checkpoints", "run").hub_tests()
    monkeypatch.delitem(sys.modules, "cases", raising=False)
    assert "- A cut download resumes from where it was cut\n" in listed
    assert PAGE.endswith(listed), AGAIN
