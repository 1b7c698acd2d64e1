"""Every unusable media file of `tests/refusals/media` prints what its page says."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from refusal import printed_code
from scripts import PAGES, TESTS, loaded

from affectlocus.cli import main
from affectlocus.data.unusable import REASONS

CASES = loaded(TESTS / "refusals/media", "cases").CASES
PAGE = (PAGES / "refused-media.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.kind.lower().replace(" ", "-"))
def test_an_unusable_file_is_named_with_what_is_wrong(
    case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    case.write(tmp_path)
    capsys.readouterr()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["affectlocus", *case.command])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().err
    assert ended.value.code == 1
    assert printed_code(said) == "encode.unusable-files"
    last = said.splitlines()[-1]
    assert case.name in last
    assert REASONS[case.reason] in last
    assert not (tmp_path / "it.safetensors").exists()
    # The reason in brackets may come from another library and differ between its versions.
    assert last.partition(" (")[0] in PAGE, "run tests/refusals/media/run.py again"
    assert f"## {case.kind}\n" in PAGE
