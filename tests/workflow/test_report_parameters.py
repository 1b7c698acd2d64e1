"""The report of a run says what the run's jobs were given, whatever params.yaml says by then."""

from __future__ import annotations

import html
import re
import shlex
import sys
from pathlib import Path

import pytest
from small import Project

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("workflow")]


def test_an_edit_while_the_run_works_does_not_change_what_the_page_says(
    project: Project, tmp_path: Path
) -> None:
    """The file is edited right before the report's own command starts, after Snakemake read it."""
    bin_folder = Path(sys.executable).parent
    edit = "s/steps: 5/steps: 77/"
    wrapper = tmp_path / "affectlocus"
    wrapper.write_text(
        f"#!/bin/sh\nsed -i {shlex.quote(edit)} params.yaml\n"
        f'exec {shlex.quote(str(bin_folder / "affectlocus"))} "$@"\n'
    )
    wrapper.chmod(0o755)
    page = project.folder / "results/report.html"
    before = page.read_bytes()
    assert "steps: 5" in (project.folder / "params.yaml").read_text()
    with project.changed("params.yaml"):
        path = f"{tmp_path}:{bin_folder}:/usr/bin:/bin"
        project.snakemake("--forcerun", "report", "--", "results/report.html", PATH=path)
        assert "steps: 77" in (project.folder / "params.yaml").read_text()
        text = page.read_text(encoding="utf-8")
    said = " ".join(html.unescape(re.sub(r"<[^>]*>", " ", text)).split())
    assert "params.yaml was edited after the run had read it." in said
    assert re.search(r"tuning\.steps 5 77", said)
    # Nothing was edited in the run before.
    assert b"was edited" not in before
