"""The files by which others install the workflow are complete."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]


def test_the_catalogue_s_entry_has_the_keys_that_the_catalogue_reads() -> None:
    entry = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert set(entry) == {"mandatory-flags", "software-stack-deployment", "report"}
    assert any(entry["software-stack-deployment"].values())


def test_the_image_installs_the_lock_and_the_package() -> None:
    recipe = (ROOT / "envs/Containerfile").read_text()
    assert "--requirement envs/requirements.lock" in recipe
    copied = re.findall(r"^COPY (\S+)", recipe, re.M)
    assert all((ROOT / name).exists() for name in copied)
    # What the wheel takes from the checkout is not left out of the image.
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert not {"rules", "workflow", "envs", "profiles", "Snakefile"} & set(ignored)


def test_an_installation_without_a_checkout_has_every_file_that_the_rules_name() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    installed = {
        place.removeprefix("share/affectlocus").strip("/"): [
            file.name for pattern in patterns for file in ROOT.glob(pattern)
        ]
        for place, patterns in settings["data-files"].items()
    }
    assert installed[""] == ["Snakefile"]
    assert sorted(installed["rules"]) == sorted(one.name for one in (ROOT / "rules").iterdir())
    text = "".join(one.read_text() for one in (ROOT / "rules").glob("*.smk"))
    for folder, name in re.findall(r'"\.\./(\w+)/([\w.-]+)"', text):
        assert name in installed[folder]
    assert sorted(installed["workflow/report"]) == sorted(
        one.name for one in (ROOT / "workflow/report").iterdir()
    )
    assert "config.yaml" in installed["profiles/default"]
