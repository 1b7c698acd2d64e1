"""Reading the Snakefile changes nothing on disk, whatever the command line."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from small import Project

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("workflow")]

Tree = dict[str, tuple[bytes | str, int]]


@pytest.fixture(scope="module")
def damaged(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The finished experiment with all that an earlier version removed, dated or wrote down."""
    folder = tmp_path_factory.mktemp("damaged") / "copy"
    shutil.copytree(project.folder, folder, symlinks=True)
    results = folder / "results"
    for name in ("table1.csv", "data/mini-MOSI.parquet", "metrics.json"):
        os.truncate(results / name, (results / name).stat().st_size - 1)
    (results / "mine.csv").write_text("a,b\n1,2")
    (results / ".table1.99999999.partial.csv").write_text("a,")
    shutil.rmtree(folder / "checkpoints/tiny-affective.seed0")
    ahead = results / "scores.parquet"
    os.utime(ahead, ns=(ahead.stat().st_atime_ns, ahead.stat().st_mtime_ns + 10**17))
    return Project(folder, project.planner)


def tree(folder: Path) -> Tree:
    """Every file and folder but Snakemake's own and compiled bytecode: content and time."""
    found: Tree = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name.startswith(".snakemake") or "__pycache__" in name or path == folder:
            continue
        content = path.read_bytes() if path.is_file() else "folder"
        found[name] = content, path.stat().st_mtime_ns
    return found


@pytest.mark.parametrize(
    "line",
    [
        "--list",
        "--list-target-rules",
        "--summary",
        "--detailed-summary",
        "--dag",
        "--rulegraph",
        "--filegraph",
        "--lint",
        "--dry-run",
        "-n results/table1.csv",
        "--dry-run --forceall",
        "--lc code",
        "--list-changes params",
        "--list-input-changes",
        "--list-untracked",
        "--unlock",
        "--persistence-backend db --dry-run",
        "--report page.html",
    ],
)
def test_what_only_reads_leaves_every_file_as_it_was(damaged: Project, line: str) -> None:
    before = tree(damaged.folder)
    # Whether Snakemake can do what it is asked, with such results, is its own business.
    code, said = damaged.planner.tried(damaged.folder, *line.split())
    after = tree(damaged.folder)
    page = after.pop("page.html", None)
    assert (page is not None) == (line == "--report page.html" and code == 0), said
    assert after.keys() == before.keys(), said
    assert [name for name in after if after[name] != before[name]] == []
    assert not list((damaged.folder / ".snakemake").glob("affectlocus*"))


def test_touch_dates_results_and_changes_no_content(damaged: Project) -> None:
    before = tree(damaged.folder)
    damaged.planner.tried(damaged.folder, "--touch", "--tou", "--cores", "1")
    after = tree(damaged.folder)
    kept = {name: after.get(name, ("gone", 0))[0] for name in before}
    assert kept == {name: content for name, (content, _) in before.items()}
