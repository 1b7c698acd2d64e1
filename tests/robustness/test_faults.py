"""Every fault of a step in `tests/robustness/faults` prints what its page says."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from refusal import printed_code
from scripts import PAGES, TESTS

from affectlocus.cli import main

sys.path[:0] = [str(TESTS / "robustness/faults"), str(TESTS / "robustness")]
import cases  # noqa: E402
import disks  # noqa: E402
import steps  # noqa: E402

PAGE = (PAGES / "faults.md").read_text(encoding="utf-8")


def identifier(step: steps.Step) -> str:
    return step.kind.lower().replace(" ", "-")


@pytest.mark.parametrize("step", steps.STEPS, ids=identifier)
def test_a_step_that_meets_a_fault_prints_a_line_of_the_page_and_writes_nothing(
    step: steps.Step,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if step.read_only and not disks.mountable():
        pytest.skip("nothing can be mounted here: unshare --mount is refused")
    step.write(tmp_path)
    if step.read_only or step.largest or step.variables:
        code, output = step.printed(tmp_path)
    else:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["affectlocus", *step.command])
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        output = steps.shortened("".join(capsys.readouterr()), tmp_path)
    assert code == 1
    (line,) = output.splitlines()
    assert printed_code(line) == step.code
    assert line.startswith(f"affectlocus: {step.says}")
    assert not list((tmp_path / "out").iterdir())
    # Behind these words stands what another package's version may say otherwise.
    assert line.partition("parquet file (")[0] in PAGE, "run tests/robustness/faults/run.py again"


def test_the_page_has_every_fault_once() -> None:
    kinds = [fault.kind for fault in (*cases.FAULTS, *steps.STEPS)]
    shown = [line[4:] for line in PAGE.splitlines() if line.startswith("### ")]
    assert sorted(shown) == sorted(kinds)
    # Some kinds are met by a run and by a step alone.
    runs = PAGE.partition("## A step by itself")[0]
    for fault in cases.FAULTS:
        assert f"### {fault.kind}\n" in runs
        assert all(part in runs for part in fault.says), fault.kind
