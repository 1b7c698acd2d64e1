"""The workflow as a module of another Snakefile, as snakedeploy writes it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from programs import heavy
from project import ROOT, environment
from small import PARAMETERS

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("runs")]

MODULE = """
configfile: "{config}"

module affectlocus:
    snakefile: "{snakefile}"
    config: config

use rule * from affectlocus
"""


@pytest.mark.parametrize(
    ("place", "config"),
    [("workflow/Snakefile", "config/config.yaml"), ("Snakefile", "params.yaml")],
)
def test_a_module_plans_the_experiment_of_its_folder(
    tmp_path: Path, place: str, config: str
) -> None:
    shutil.copytree(ROOT / "config", tmp_path / "config")
    shutil.copy(PARAMETERS, tmp_path / "params.yaml")
    file = tmp_path / place
    file.parent.mkdir(exist_ok=True)
    file.write_text(MODULE.format(config=config, snakefile=ROOT / "Snakefile"), encoding="utf-8")
    done = subprocess.run(
        [heavy() / "snakemake", "--cores", "1", "--dry-run", "results/table1.csv"],
        cwd=tmp_path,
        env=environment(ROOT, heavy()),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "results/cells/tiny-affective/load/gate/seed0/predictions.parquet" in done.stdout
