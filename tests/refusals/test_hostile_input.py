"""Every kind of hostile input in `hostile` prints what its page says; nothing is executed."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from scripts import PAGES, TESTS, loaded

from affectlocus.cli import main

pytestmark = pytest.mark.full
MODULE = loaded(TESTS / "refusals/hostile", "cases")
PAGE = (PAGES / "hostile-input.md").read_text(encoding="utf-8")
LIGHT = [case for case in MODULE.CASES if not case.heavy]


def identifier(case) -> str:
    return case.kind.lower().replace(" ", "-")


@pytest.mark.parametrize("case", LIGHT, ids=identifier)
def test_hostile_input_is_refused_or_taken_for_what_it_is(
    case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    case.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    # Whoever sits there says yes to everything.
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 9))
    for place, command in enumerate(case.commands, 1):
        monkeypatch.setattr(sys, "argv", ["affectlocus", *command])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        refused = case.refused and place == len(case.commands)
        assert (ended.value.code or 0) == int(refused)
    said = capsys.readouterr()
    output = said.err if case.refused else said.out + said.err
    for part in case.says:
        assert part in output
    if case.refused:
        line = output.splitlines()[-1]
        assert line.startswith("affectlocus: ")
        assert line in PAGE, "run tests/refusals/hostile/run.py again"
        assert "Traceback" not in output
    assert not list(tmp_path.rglob(MODULE.MARKER)), "something was run"


def test_every_case_is_on_the_page_and_the_heavy_ones_with_what_was_measured() -> None:
    kinds = [case.kind for case in MODULE.CASES]
    assert len(set(kinds)) == len(kinds) >= 80
    for case in MODULE.CASES:
        _, there, section = PAGE.partition(f"### {case.kind}\n")
        section = section.partition("\n## ")[0].partition("\n### ")[0]
        # What takes minutes is run by hand.
        if there or not case.heavy:
            assert all(part in section for part in case.says), case.kind
            assert case.heavy == section.rstrip().endswith(" MB)"), case.kind
