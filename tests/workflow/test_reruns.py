"""What a change reruns, and what it spares: a test for each row of docs/data/reruns.yaml.

The rows of media are tested in test_media.py.

The tests share the run of the very small experiment and put back what they change. What a row
promises is compared with all first outputs of the jobs that Snakemake plans: nothing more, and
nothing less.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
import yaml
from project import ASIDE, BIN, ROOT, environment
from rerun_rows import MEDIA_ROWS, Row, check, outputs
from small import Project, jobs

from affectlocus.orchestration.plan import FOUND

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("workflow")]

PAIR = "tiny-affective"
# What any new score reaches.
JUDGED = [
    "results/scores.parquet",
    "results/fluency.csv",
    "results/claims.csv",
    "results/revisions/verdicts.json",
    "results/report.html",
]
# What shows all scores.
SCORED = [
    *JUDGED,
    "results/scores/*",
    "results/table*",
    *(f"results/figures/{name}.*" for name in ("fig7_load", "fig8_tune", "fig9_get")),
    *(f"results/figures/{name}.*" for name in ("ablate", "even", "dose", "fluency")),
]
TUNE_TABLE = [
    "results/scores/*/tune.parquet",
    "results/table2.csv",
    *(f"results/figures/{name}.*" for name in ("fig8_tune", "fig9_get", "fluency.tune")),
]
ANSWERS = ["results/cells/*/predictions.parquet", "results/cells/*/openset.parquet"]
ACTIVATIONS = ["results/activations/*", "results/figures/activations.*"]
DELTAS = [
    "results/deltas/*",
    "results/neurons/*",
    *(f"results/figures/{name}.*" for name in ("deltas", "fig10_relative", "neurons")),
    *ACTIVATIONS,
]
TRAJECTORY = ["results/trajectory/*", "results/figures/trajectory.*"]
LEARNING = ["results/training.csv", "results/figures/training.*"]
FIGURES = ["results/figures/*", "results/report.html"]


RECIPE = "{data: [mini-caption], rank: 3, steps: 5, batch_size: 8, learning_rate: 5.0e-3}"
SETS = ("  load: [gate, all]", "  tune: [gate, up, all]", "  ablate: [gate]")
OPENED = "workflow/affectlocus"

ROWS = {
    "`tune.rank`": Row(
        "params.yaml",
        [("tune: *recipe", f"tune: {RECIPE}")],
        [
            "results/checkpoints/*.tune.*",
            "results/cells/*/tune/*",
            "results/ledger.csv",
            "results/step_times.csv",
            *TUNE_TABLE,
            *JUDGED,
        ],
    ),
    "the recipe of a pair (`tuning.rank`)": Row(
        "params.yaml",
        # The tune cells' recipe, which refers to it, stays as it was.
        [("rank: 2", "rank: 3"), ("tune: *recipe", f"tune: {RECIPE.replace('3', '2', 1)}")],
        [
            f"results/checkpoints/{PAIR}.seed0.json",
            *(f"results/cells/{PAIR}/{kind}/*" for kind in ("tuned", "load", "ablate")),
            # It had the recipe of this cell, and was tuned for both.
            f"results/checkpoints/{PAIR}.tune.all.seed0.json",
            f"results/cells/{PAIR}/tune/all/*",
            *LEARNING,
            *DELTAS,
            *TRAJECTORY,
            *SCORED,
        ],
    ),
    "a module set more": Row(
        "params.yaml",
        [(one, f"{one[:-1]}, q]") for one in SETS],
        [
            f"results/checkpoints/{PAIR}.tune.q.seed0.json",
            *(f"results/cells/{PAIR}/{kind}/q/*" for kind in ("load", "tune", "ablate")),
            # Two cells share a job (cells_per_job): these take their answers from the cache.
            *(f"results/cells/{PAIR}/{kind}/all/*" for kind in ("load", "tune")),
            "results/scores/others.parquet",
            *(f"results/scores/{PAIR}/{arm}.parquet" for arm in ("load", "tune", "ablate")),
            *(f"results/table{number}.csv" for number in (1, 2, 3)),
            *(f"results/figures/{name}.*" for name in ("fig7_load", "fig8_tune", "fig9_get")),
            *(f"results/figures/fluency.{arm}.*" for arm in ("load", "tune", "ablate")),
            "results/figures/ablate.*",
            "results/ledger.csv",
            "results/step_times.csv",
            *JUDGED,
        ],
    ),
    "a module set fewer, or their order": Row(
        "params.yaml",
        [(SETS[1], "  tune: [gate, up]"), (SETS[0], "  load: [all, gate]")],
        [
            "results/scores/*/tune.parquet",
            *TUNE_TABLE,
            "results/ledger.csv",
            "results/step_times.csv",
            *JUDGED,
        ],
    ),
    "a seed more": Row(
        "params.yaml",
        [("evaluate:\n", "seeds: [0, 1]\nevaluate:\n")],
        [
            "results/*seed1*",
            *LEARNING,
            # Two cells share a job, of both seeds: these take their answers from the cache.
            *(f"results/cells/{PAIR}/load/gate/{mode}/*" for mode in ("even", "x0.5")),
            *SCORED,
            *(f"results/figures/{name}.*" for name in ("deltas", "fig10_relative", "neurons")),
            "results/figures/trajectory.*",
            "results/figures/directions.*",
            "results/neurons/*",
            "results/directions/*",
            *ACTIVATIONS,
        ],
    ),
    "a task more": Row(
        "params.yaml",
        [
            ("  mini-SIMS:\n", "  mini-SIMS: &labelled\n"),
            ("evaluate:\n", "  mini-MOSEI: *labelled\nevaluate:\n"),
        ],
        # It has neutral samples, which the gate's activations are compared on.
        ["results/data/mini-MOSEI.parquet", *ANSWERS, *SCORED, *ACTIVATIONS],
    ),
    "`score.metric`": Row(
        "params.yaml", [("  resamples: 200", "  metric: accuracy\n  resamples: 200")], SCORED
    ),
    "another key of `evaluate`": Row(
        "params.yaml",
        [("  readouts:", "  batch_tokens: 4096\n  readouts:")],
        [*ANSWERS, *SCORED, *ACTIVATIONS],
    ),
    "one row of a benchmark": Row(
        "results/corpus/mini-MOSI.csv",
        [(" ", "  ")],
        ["results/data/mini-MOSI.parquet", *ANSWERS, *SCORED],
    ),
    "one row of a training set": Row(
        "results/corpus/mini-caption.csv",
        [(" ", "  ")],
        [
            "results/data/mini-caption.parquet",
            f"results/checkpoints/{PAIR}.*",
            f"results/cells/{PAIR}/*",
            *LEARNING,
            *DELTAS,
            *TRAJECTORY,
            *SCORED,
        ],
    ),
    "code of `score`": Row(
        f"{OPENED}/scoring/score.py",
        [("def ", "MORE = 1\n\n\ndef ")],
        SCORED,
        spares="results/claims.csv",
    ),
    "the rules by which free text is read (`openset`)": Row(
        f"{OPENED}/scoring/openset.py",
        [("_LONGEST = 3", "_LONGEST = 4")],
        ["results/cells/*/openset.parquet", *SCORED],
    ),
    "code of the load step (`interventions`)": Row(
        f"{OPENED}/evaluation/interventions.py",
        [("order = torch.randperm(delta.size,", "order = torch.randperm(1 * delta.size,")],
        [*ANSWERS, *SCORED, *ACTIVATIONS],
    ),
    "code of `tune`": Row(
        f"{OPENED}/training/tune.py",
        [("\ndef ", "\nMORE = 1\n\n\ndef ")],
        [
            f"results/checkpoints/{PAIR}.*",
            f"results/cells/{PAIR}/*",
            *LEARNING,
            *DELTAS,
            *TRAJECTORY,
            *SCORED,
        ],
    ),
    "code of `deltas`": Row(
        f"{OPENED}/deltas/deltas.py",
        [("def ", "MORE = 1\n\n\ndef ")],
        [
            *DELTAS,
            *TRAJECTORY,
            "results/claims.csv",
            "results/revisions/*",
            "results/report.html",
        ],
    ),
    "code of a plot (`figures`)": Row(
        f"{OPENED}/reporting/figure_style.py",
        [('"font.size": 9', '"font.size": 8')],
        # One command lays out and draws fluency.
        [*FIGURES, "results/fluency.csv"],
    ),
    "a comment, or a docstring": Row(
        f"{OPENED}/scoring/score.py", [("import numpy", "# why\nimport numpy")], []
    ),
}

DONE: dict[str, Callable[..., None]] = {}
"""The rows whose tests are functions of their own."""


def row(name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Marks the test of a row."""

    def mark(test: Callable[..., None]) -> Callable[..., None]:
        DONE[name] = test
        return test

    return mark


@pytest.fixture(scope="module")
def every(project: Project) -> set[str]:
    """The first outputs of all jobs of the experiment."""
    return outputs(project.plan("--forceall"))


@pytest.mark.parametrize("name", ROWS)
def test_a_change_reruns_what_its_row_says_and_nothing_else(
    project: Project, every: set[str], name: str
) -> None:
    given = ROWS[name]
    with project.changed(given.file, *given.changes):
        planned = outputs(project.plan())
    check(every, planned, given.runs, given.spares)


@pytest.fixture
def another_version(tmp_path: Path) -> Callable[[str], Path]:
    """`another_version("torch")`: a folder where that package is found in version 99."""

    def make(package: str) -> Path:
        about = tmp_path / f"{package}-99.0.dist-info/METADATA"
        about.parent.mkdir()
        about.write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 99.0\n")
        return tmp_path

    return make


@row("the version of torch, transformers or peft")
def test_another_torch_reruns_every_job_that_computes_with_it(
    project: Project, every: set[str], another_version: Callable[[str], Path]
) -> None:
    planned = outputs(project.plan(before=another_version("torch")))
    # The corpus and the prepared tasks stay. The ledger reads the base, which is trained again.
    kept = ["results/corpus/*", "results/data/*"]
    check(every, planned, ["results/*"], "{" + ",".join(kept) + "}")


@row("the version of any other package")
def test_another_matplotlib_or_pyarrow_reruns_nothing(
    project: Project, another_version: Callable[[str], Path]
) -> None:
    another_version("pyarrow")
    assert project.plan(before=another_version("matplotlib")) == {}


@row("nothing")
def test_a_second_run_has_nothing_to_do(project: Project) -> None:
    assert "Nothing to be done" in project.snakemake()


@pytest.fixture(scope="module")
def brought(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An experiment on a base and an adapter of one's own, every result an empty file.

    They are recorded as Snakemake records what a run has made.
    """
    folder = tmp_path_factory.mktemp("brought")
    for name, files in {
        "model": [
            "config.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
        ],
        "adapter": ["adapter_config.json", "adapter_model.safetensors"],
    }.items():
        (folder / name).mkdir()
        for file in files:
            (folder / name / file).write_text("{}")
    labelled = {"corpus": True, "columns": {"label": "label"}, "labels": ["positive", "negative"]}
    parameters = {
        "corpus": {},
        "bases": {"mine": {"folder": "model"}, "own": {"pretrain": {"architecture": "llama"}}},
        "pairs": {
            "mine-tuned": {"base": "mine", "tuned": "adapter"},
            "own-tuned": {"base": "own", "tuning": {"data": ["mini-caption"]}},
        },
        "tasks": {
            "mini-MOSI": labelled,
            "mini-caption": {"corpus": True, "columns": {"target": "target"}},
        },
        "matrix": {
            "pairs": ["mine-tuned", "own-tuned"],
            "load": ["q", "all"],
            "tune": [],
            "ablate": [],
        },
    }
    (folder / "params.yaml").write_text(yaml.safe_dump(parameters))
    for line in elsewhere(project, folder, "--summary").splitlines():
        name = line.partition("\t")[0]
        if name.startswith("results/"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
    # Without hooks: onstart refuses weights that are not real.
    touch = ("--touch", "--forceall", "--no-hooks", "--quiet", "all", "--cores", "1")
    elsewhere(project, folder, *touch)
    yield folder


def elsewhere(project: Project, folder: Path, *arguments: str) -> str:
    """What Snakemake says in another experiment's folder."""
    flags = ("--snakefile", str(project.folder / "Snakefile"), "--directory", str(folder))
    return project.planner.said(folder, *flags, *arguments)


@row("one file of a checkpoint of yours (a shard)")
def test_a_shard_reruns_what_reads_its_checkpoint(project: Project, brought: Path) -> None:
    everything = outputs(jobs(elsewhere(project, brought, "--dry-run", "--forceall")))
    assert "Nothing to be done" in elsewhere(project, brought, "--dry-run")
    (brought / "model/model-00002-of-00002.safetensors").write_text("[]")
    planned = outputs(jobs(elsewhere(project, brought, "--dry-run")))
    check(
        everything,
        planned,
        [
            "results/checkpoints/mine.json",
            *(f"results/{what}/mine*" for what in ("cells", "deltas", "neurons", "scores")),
            "results/scores/others.parquet",
            "results/table1.csv",
            *(
                f"results/figures/{name}.png"
                for name in ("fig6_architectures", "fig7_load", "fig10_relative")
            ),
            "results/figures/*mine*",
            *(one for one in JUDGED if "fluency" not in one),
        ],
    )


@pytest.fixture
def copy(project: Project, tmp_path: Path) -> Project:
    """The experiment as it is, to do with as a test likes."""
    folder = tmp_path / "copy"
    shutil.copytree(project.folder, folder, symlinks=True)
    return Project(folder, project.planner)


def test_a_task_more_asks_a_cell_that_task_and_no_other(copy: Project) -> None:
    answers = copy.folder / "results/cells/tiny/base/predictions.parquet"
    before = pd.read_parquet(answers)
    added = ROWS["a task more"]
    with copy.changed(added.file, *added.changes):
        copy.snakemake("--", str(answers.relative_to(copy.folder)))
    log = (copy.folder / "results/logs/evaluate/tiny/base.log").read_text()
    assert f"4 of 5 {FOUND}, in results/answers" in " ".join(log.split())
    after = pd.read_parquet(answers)
    assert set(after["task"]) - set(before["task"]) == {"mini-MOSEI"}
    old = after[after["task"] != "mini-MOSEI"].reset_index(drop=True)
    pd.testing.assert_frame_equal(old, before)


def written(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Content and time of every result, but for what tells when and where a job ran."""
    return {
        name: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in (folder / "results").rglob("*")
        if path.is_file()
        and not (name := path.relative_to(folder).as_posix()).startswith(tuple(ASIDE))
    }


@row("weights that are gone, and then something that reads them")
def test_weights_that_are_gone_are_made_again_where_a_job_reads_them(
    project: Project, copy: Project, every: set[str]
) -> None:
    cache = project.folder.with_name("cache")
    shutil.rmtree(copy.folder / "checkpoints")
    assert "Nothing to be done" in copy.snakemake()
    cell = f"results/cells/{PAIR}/load/q/seed0/predictions.parquet"
    before = written(copy.folder)
    with copy.changed("params.yaml", ("  load: [gate, all]", "  load: [gate, all, q]")):
        planned = outputs(copy.plan())
        # With them, whatever is made from them; no prepared task.
        assert {"results/checkpoints/tiny.json", cell} <= planned
        assert not [name for name in planned if name.startswith(("results/data/", "results/corp"))]
        # As targets of a run of their own they take nothing with them.
        weights = ("checkpoints/tiny/.complete", f"checkpoints/{PAIR}.seed0/.complete")
        copy.snakemake("--", *weights, AFFECTLOCUS_CACHE=str(cache))
        there = {path.name for path in (copy.folder / "checkpoints").iterdir()}
        assert there == {"tiny", f"{PAIR}.seed0"}
        after = written(copy.folder)
        assert {name: content for name, (content, _) in after.items()} == {
            name: content for name, (content, _) in before.items()
        }
        planned = outputs(copy.plan())
    check(
        every,
        planned,
        [
            # The cell that shares its job takes its answers from results/answers.
            *(f"results/cells/{PAIR}/load/{name}/*" for name in ("q", "all")),
            *(f"results/scores/{PAIR}/load.parquet", "results/scores/others.parquet"),
            "results/table1.csv",
            *("results/figures/fig7_load.*", "results/figures/fluency.load.*"),
            *JUDGED,
        ],
    )


@row("bits of weights, or of any result, that are others")
def test_a_flipped_bit_and_a_cut_input_are_refused_and_doctor_is_the_way_out(
    copy: Project,
) -> None:
    weights = copy.folder / f"checkpoints/{PAIR}.seed0/adapter_model.safetensors"
    deltas = copy.folder / f"results/deltas/{PAIR}.seed0.parquet"
    data = copy.folder / "results/data/mini-MOSI.parquet"
    before = written(copy.folder)
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.truncate(data, data.stat().st_size - 9)
    deltas.unlink()
    target = str(deltas.relative_to(copy.folder))
    with pytest.raises(AssertionError, match="but with other bytes") as refused:
        copy.snakemake("--", target)
    assert "affectlocus doctor --fix" in str(refused.value)
    assert not deltas.exists()
    done = copy.affectlocus("doctor", "--fix")
    aside = {path.name for path in (copy.folder / ".affectlocus/aside").rglob("*.*")}
    assert {"mini-MOSI.parquet", "adapter_model.safetensors"} <= aside
    (words,) = re.findall(
        r"to make the missing files again: affectlocus run -- --cores all (.*)", done
    )
    copy.snakemake("--", *words.split(), target)
    assert weights.read_bytes() == content
    after = written(copy.folder)
    assert {name: content for name, (content, _) in after.items()} == {
        name: content for name, (content, _) in before.items()
    }
    # Of the same bytes, what was made again reruns nothing.
    assert copy.plan() == {}


@row("some results deleted")
def test_a_deleted_result_is_made_again_with_the_same_bytes_and_nothing_else_is(
    project: Project, every: set[str]
) -> None:
    results = project.folder / "results"
    lost = [
        results / f"cells/{PAIR}/load/gate/seed0/openset.parquet",
        results / "table1.csv",
        results / "deltas" / f"{PAIR}.seed0.parquet",
    ]
    before = {path: path.read_bytes() for path in lost}
    for path in lost:
        path.unlink()
    planned = outputs(project.plan())
    check(
        every,
        planned,
        [
            f"results/cells/{PAIR}/load/gate/seed0/openset.parquet",
            *(f"results/scores/{PAIR}/{arm}.parquet" for arm in ("load", "dose")),
            "results/table1.csv",
            "results/table1_dose.csv",
            "results/figures/fig7_load.*",
            "results/figures/dose.*",
            *(f"results/figures/fluency.{arm}.*" for arm in ("load", "dose")),
            *DELTAS,
            *JUDGED,
        ],
    )
    project.snakemake("--", *(str(path.relative_to(project.folder)) for path in lost))
    assert {path: path.read_bytes() for path in lost} == before
    # What reads them sees the same content: nothing of it is made again.
    assert project.plan() == {}


@row("the folder moved, or its name changed")
def test_a_moved_folder_has_nothing_to_do(project: Project) -> None:
    moved = project.folder.with_name("moved to here")
    project.folder.rename(moved)
    try:
        # Not by the planner, whose package lay in the folder.
        said = project.snakemake("--dry-run", cwd=moved, PYTHONPATH=str(moved / "workflow"))
        assert "Nothing to be done" in said
    finally:
        moved.rename(project.folder)


@row("`.snakemake` lost")
def test_a_lost_memory_is_written_anew_by_touch_forceall(project: Project) -> None:
    touch = ("--touch", "--forceall", "--cores", "1")
    # Times in order, as a run leaves them: what was made again above is younger than its readers.
    project.planner.said(project.folder, *touch)
    memory = project.folder / ".snakemake"
    away = memory.with_name("away")
    memory.rename(away)
    try:
        # By times alone only the report, which shows params.yaml, is out of date: a changed rank
        # stays unnoticed.
        with project.changed("params.yaml", ("rank: 2", "rank: 3")):
            assert project.planned() == {"report"}
        project.planner.said(project.folder, *touch)
        assert project.plan() == {}
        with project.changed("params.yaml", ("rank: 2", "rank: 3")):
            assert "tune" in project.plan()
    finally:
        shutil.rmtree(memory, ignore_errors=True)
        away.rename(memory)


def test_another_number_of_tunings_in_a_job_reruns_nothing(project: Project) -> None:
    for size in (1, 3):
        change = ("tunings_per_job: 2", f"tunings_per_job: {size}")
        with project.changed("params.yaml", change):
            # The report shows params.yaml.
            assert project.planned() <= {"report"}


@row("a fresh clone and `dvc pull`")
def test_a_fresh_clone_that_pulled_has_nothing_to_do(project: Project, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    shutil.copytree(project.folder, here)
    record = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    stage = record["stages"]["workflow"]
    # The very small experiment has no pair beside, so not every output of the default.
    stage["outs"] = [out for out in stage["outs"] if (here / next(iter(out))).exists()]
    written = yaml.safe_load((here / "params.yaml").read_text())
    stage["params"] = [key for key in stage["params"] if key in written]
    (here / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"workflow": stage}}))
    shutil.copy(ROOT / ".gitignore", here)

    def run(folder: Path, *command: str) -> None:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment(project.folder) | {"GIT_CONFIG_GLOBAL": os.devnull},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    git = ("git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main")
    dvc = str(BIN / "dvc")
    run(here, *git, "init", "--quiet")
    run(here, dvc, "init", "--quiet")
    run(here, dvc, "remote", "add", "--quiet", "--default", "store", str(tmp_path / "store"))
    run(here, dvc, "commit", "--quiet", "--force")
    run(here, *git, "add", ".")
    run(here, *git, "commit", "--quiet", "--message", "all of it")
    run(here, dvc, "push", "--quiet")
    run(tmp_path, *git, "clone", "--quiet", str(here), str(there))
    assert not (there / "results").exists()
    run(there, dvc, "pull", "--quiet")
    assert "Nothing to be done" in project.planner.said(there, "--dry-run")


@row("another experiment with the same base, or the same downloads")
def test_another_experiment_takes_the_base_that_this_one_trained(
    project: Project, tmp_path: Path
) -> None:
    shutil.copy(project.folder / "params.yaml", tmp_path)
    flags = ("--snakefile", str(project.folder / "Snakefile"), "--directory", str(tmp_path))
    cache = str(project.folder.with_name("cache"))
    project.snakemake(*flags, "results/checkpoints/tiny.json", AFFECTLOCUS_CACHE=cache)
    log = (tmp_path / "results/logs/pretrain/tiny.log").read_text()
    assert "trained before with the same recipe, text and code" in log
    for name in ("results/checkpoints/tiny.json", "checkpoints/tiny"):
        first, second = project.folder / name, tmp_path / name
        files = (
            [first.relative_to(first)]
            if first.is_file()
            else sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
        )
        assert files
        for file in files:
            assert (first / file).read_bytes() == (second / file).read_bytes()


def test_every_documented_change_has_a_test_and_every_test_is_documented() -> None:
    rows = yaml.safe_load((ROOT / "docs/data/reruns.yaml").read_text(encoding="utf-8"))
    assert sorted(row["test"] for row in rows) == sorted([*ROWS, *DONE, *MEDIA_ROWS])
