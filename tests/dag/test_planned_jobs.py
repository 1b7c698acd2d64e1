"""The plan, without running it: its shape, its style, and what is refused before any job."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from programs import heavy
from refusal import printed_code
from safetensors.numpy import save_file

from affectlocus.config.experiment import load
from affectlocus.orchestration.dag import Dag
from affectlocus.orchestration.matrix import all_cells, arm_of
from affectlocus.orchestration.plan import plan

ROOT = Path(__file__).parents[2]


def snakemake(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Snakemake on the project's Snakefile, in an experiment's folder."""
    command: list[str | Path] = [
        heavy() / "snakemake",
        "--snakefile",
        ROOT / "Snakefile",
        "--directory",
        folder,
    ]
    command += ["--cores", "2", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def planned(folder: Path, *targets: str) -> dict[str, int]:
    """Jobs by rule in a dry run."""
    run = snakemake(folder, "--dry-run", *targets)
    assert run.returncode == 0, run.stdout + run.stderr
    stats = run.stdout.partition("Job stats:")[2].partition("\n\n")[0]
    return {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", stats, re.M)}


@pytest.fixture
def default(tmp_path: Path) -> Path:
    """A folder with the embedded default's params.yaml and no results."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    return tmp_path


@pytest.fixture
def apart(default: Path) -> Path:
    """The same with a job for each cell and each tuning, of one seed."""
    file = default / "params.yaml"
    text = file.read_text()
    for before, after in (
        ("  cells_per_job: 85\n", ""),
        ("  tunings_per_job: 16\n", ""),
        ("  checkpoints_per_job: 10\n", ""),
        ("seeds: [12, 13, 14, 15, 16, 17, 18, 19, 20, 21]", "seeds: [0]"),
    ):
        assert before in text
        text = text.replace(before, after)
    file.write_text(text)
    return default


def test_table_1_needs_one_base_one_pair_and_its_loads_only(apart: Path) -> None:
    jobs = planned(apart, "results/table1.csv")
    # base, tuned and the fifteen load cells of the table
    assert jobs["evaluate"] == 17
    for rule in ("corpus", "pretrain", "tune", "score", "tables"):
        assert jobs[rule] == 1


def test_everything_is_one_job_for_each_cell_pair_and_figure(apart: Path) -> None:
    jobs = planned(apart)
    # 5 bases, 11 tuned; 16 loads, 7 modules in 5 doses, 7 as noise, 7 of two pairs beside; 16 tunes
    # and 9 at equal parameters; 9 sets ablated in 4 modes
    loads = 16 + 7 * 5 + 7 + 2 * 7
    assert jobs["evaluate"] == 5 + 11 + loads + 16 + 9 + 9 * 4
    # The pair's own tuning is that of its tune cell `all`.
    assert jobs["tune"] == 11 + (16 - 1) + 9
    assert jobs["deltas"] == jobs["heat_map"] == 11
    # Figs. 4, 5 and 6; two pairs are followed along their tuning.
    assert jobs["draw_panels"] == 3
    assert jobs["trajectory"] == jobs["draw_trajectory"] == 2
    # Load, noise, doses, tune, equal parameters, ablate; loads of the two pairs beside.
    assert jobs["tables"] == jobs["score"] == 6 + 2
    assert jobs["draw_dose"] == 1
    assert jobs["bars"] == jobs["tables"] - jobs["draw_dose"]
    assert jobs["claims"] == 1


def test_any_other_module_set_is_one_line_and_one_more_cell(apart: Path) -> None:
    file = apart / "params.yaml"
    before = planned(apart)
    file.write_text(file.read_text().replace("    - o+gate\n", "    - o+gate\n    - k+down\n"))
    after = planned(apart)
    # The list is shared by load and tune: a cell each, and one tuning.
    assert after["evaluate"] == before["evaluate"] + 2
    assert after["tune"] == before["tune"] + 1


def test_the_default_shares_starts(default: Path) -> None:
    jobs = planned(default)
    together = {name: count for name, count in jobs.items() if name.startswith("evaluate_group")}
    # At most 85 share a job. Of ten seeds each: 17 tuned and load cells, 16 tune cells, 8 of the
    # control beside, 36 ablations. Of five: 8 of the null. Of three: 35 doses, 7 of noise, 9 at
    # equal parameters. The bases of 5 names, and the tuned models of the 8 other pairs.
    assert len(together) == 2 + 2 + 1 + 5 + 1 + 2 + 1 + 1 + 5 + 8
    assert set(together.values()) == {1}
    # The tunings of a pair of the matrix are two jobs, and so are the seeds of its base. Tune cells
    # are jobs of a seed: 15 of each seed, and 9 more of the first three.
    assert sum(name.startswith("tune_group") for name in jobs) == 3 * 2 + 8 + 3 * 2 + 7
    assert sum(name.startswith("pretrain_group") for name in jobs) == 2 + 4
    assert sum(name.startswith("deltas_group") for name in jobs) == 11
    assert sum(name.startswith("trajectory_group") for name in jobs) == 2
    assert not jobs.keys() & {"evaluate", "tune", "pretrain", "deltas", "trajectory"}
    table = planned(default, "results/table1.csv")
    for kind, count in (("evaluate", 2 + 1), ("tune", 2), ("pretrain", 2)):
        assert sum(name.startswith(f"{kind}_group") for name in table) == count
        assert kind not in table


def test_planning_imports_neither_torch_nor_transformers(default: Path) -> None:
    run = subprocess.run(
        [
            sys.executable,
            *("-X", "importtime", "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")),
            *("--directory", str(default), "--dry-run", "--cores", "1"),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    imported = {line.rpartition("|")[2].strip() for line in run.stderr.splitlines()}
    assert "affectlocus.orchestration.dag" in imported
    assert not imported & {"torch", "transformers", "peft", "huggingface_hub", "httpx2"}


@pytest.mark.parametrize("name", ["paper", "smollm", "real", "senses"])
def test_an_experiment_on_real_models_is_planned_with_nothing_here(
    name: str, tmp_path: Path
) -> None:
    text = (ROOT / f"experiments/{name}/params.yaml").read_text(encoding="utf-8")
    data = (ROOT / "experiments/smollm/../../../shared/real").resolve()
    if name == "smollm" and not data.is_dir():
        pytest.skip("its data are not here")
    file = tmp_path / "params.yaml"
    file.write_text(text.replace("data_root: ../../../shared/real", f"data_root: {data}"))
    jobs = planned(tmp_path)
    parameters = load(file, planning=True)
    dag = Dag(parameters)
    cells = Counter(cell.kind for cell in all_cells(parameters))
    # In each seed the pair's own tuning is that of its tune cell `all`.
    apart = [one for one in all_cells(parameters) if one.kind == "tune" and one.modules != "all"]
    pairs = [name for name, pair in parameters.pairs.items() if pair.tuning is not None]
    assert len(dag.tuned) == sum(len(parameters.tuning_seeds(name)) for name in pairs) + len(apart)
    shared = sum(count for rule, count in jobs.items() if rule.startswith("tune_group"))
    assert shared == len(dag.tune.groups)
    assert jobs.get("tune", 0) == len(dag.tuned) - sum(map(len, dag.tune.groups))
    if name == "paper":
        # Tables 1 and 2 in three seeds, and the ablations that the paper only claims; the bridge
        # alone: tuned, initial, trained alone, and ablated
        arms = Counter((cell.pair, arm_of(cell)) for cell in all_cells(parameters))
        assert arms["affect-7b", "load"] == (16 + 2) * 3
        assert arms["affect-7b", "tune"] == (16 + 1) * 3
        assert arms["affect-7b", "load_initial"] == arms["affect-7b", "load_none"] == 16 * 3
        assert arms["affect-7b", "ablate"] == (9 + 1) * 4 * 3
        assert arms["affectgpt-7b", "load"] > 0
        # faces and audio of the training set and of the eight test sets
        assert jobs["encode"] == 9 * 2
        # and what it lacks
        assert arms["affect-7b", "fair"] == arms["affect-7b", "even"] == 7 * 3
        assert arms["null-7b", "load"] >= 7 * 3
        assert jobs["evaluate"] == jobs["extract"] == jobs["openset"] == sum(cells.values())
    grouped = sum(count for rule, count in jobs.items() if rule.startswith("deltas_group"))
    assert grouped == len(dag.deltas.groups)
    assert jobs.get("deltas", 0) == len(dag.deltas.single)
    counted = plan(dag).total.jobs
    assert counted + 1 == jobs["total"]  # the rule all


def test_what_is_awaited_is_said_and_a_run_refuses(tmp_path: Path) -> None:
    shutil.copy(ROOT / "experiments/paper/params.yaml", tmp_path)
    dry = snakemake(tmp_path, "--dry-run")
    assert dry.returncode == 0
    said = dry.stdout + dry.stderr
    assert "awaited: tasks.MER-Caption" in said
    assert "pairs.affectgpt-7b" in said
    run = snakemake(tmp_path)
    assert run.returncode == 1
    # Everything that is missing is named at once.
    missing = next(one for one in run.stderr.splitlines() if "tasks.MER-Caption.files.train" in one)
    assert printed_code(missing) == "task.no-file"


def test_the_workflow_is_lint_clean(default: Path) -> None:
    run = snakemake(default, "--lint")
    assert run.returncode == 0, run.stdout + run.stderr


def test_every_job_has_a_log_a_benchmark_and_resources() -> None:
    for file in sorted((ROOT / "rules").glob("*.smk")):
        rules = re.findall(r"^((?:use )?rule .*\n(?:(?:    .*)?\n)*)", file.read_text(), flags=re.M)
        for rule in rules:
            rule = rule.replace("**SMALL_JOB", "mem_mb=, runtime=")
            own = () if rule.startswith("use ") else ("mem_mb=", "runtime=", "conda:")
            for directive in ("log:", "benchmark:", *own):
                assert directive in rule, f"{file.name}: {rule.split(':')[0]} lacks {directive}"


def own_task(train: str, test: str) -> dict[str, Any]:
    """A task on files of one's own, labels x and z in column y."""
    files = {"train": train, "test": test}
    return {"files": files, "columns": {"label": "y"}, "labels": ["x", "z"]}


BAD = {
    "an unknown key": (
        lambda p: p["tune"].update(ranc=3),
        "params.unknown-key",
        "tune.ranc",
    ),
    "an unknown projection": (
        lambda p: p["matrix"]["load"].append("o+gates"),
        "modules.unknown-projection",
        "matrix.load.16",
    ),
    "a task without its file": (
        lambda p: p["tasks"].update(mine=own_task("a.csv", "b.csv")),
        "task.no-file",
        "tasks.mine.files.train",
    ),
    "a split that is another": (
        lambda p: p["tasks"].update(mine=own_task("rows.csv", "rows.csv")),
        "task.same-file-twice",
        "tasks.mine.files.test",
    ),
    "a negative rank": (
        lambda p: p["tune"].update(rank=-8),
        "params.invalid-value",
        "tune.rank",
    ),
    "a base that is not there": (
        lambda p: p["pairs"]["llama-affective"].update(base="lama"),
        "params.unknown-name",
        "pairs.llama-affective.base",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_parameters_end_in_a_line_each_before_any_job(default: Path, what: str) -> None:
    change, code, key = BAD[what]
    (default / "rows.csv").write_text("text,y\na,x\n")
    parameters = yaml.safe_load((default / "params.yaml").read_text())
    change(parameters)
    (default / "params.yaml").write_text(yaml.safe_dump(parameters))
    run = snakemake(default)
    assert run.returncode == 1
    said = [line for line in run.stderr.splitlines() if not line.startswith("Using workflow")]
    assert said[0].startswith(f"affectlocus: params.yaml: {key}: ")
    # An alias in the file repeats a mistake; every line is one.
    assert {printed_code(line) for line in said} == {code}, run.stderr
    assert not (default / "results").exists()


DATA = {
    "a column that is not there": ("text,mood\na,x\n", "table.no-column"),
    "a label that is not listed": ("text,y\na,q\n", "label.unlisted"),
    "splits that overlap": ("text,y\na,x\nb,z\n", "split.overlap"),
}


@pytest.mark.parametrize("what", DATA)
def test_bad_data_end_in_one_line_before_any_job(default: Path, what: str) -> None:
    content, code = DATA[what]
    for split in ("train", "test"):
        (default / f"{split}.csv").write_text(content)
    parameters = yaml.safe_load((default / "params.yaml").read_text())
    parameters["tasks"]["mine"] = own_task("train.csv", "test.csv")
    (default / "params.yaml").write_text(yaml.safe_dump(parameters))
    run = snakemake(default)
    assert run.returncode == 1
    said = [line for line in run.stderr.splitlines() if not line.startswith("Using workflow")]
    assert len(said) == 1, run.stderr
    assert said[0].startswith("affectlocus: params.yaml: tasks.mine: ")
    assert printed_code(said[0]) == code
    assert not (default / "results").exists()


def brought_model(folder: Path, head: bool) -> None:
    """A llama of one layer with random weights, with its head or without it."""
    shapes = {"q_proj": (8, 8), "k_proj": (8, 8), "v_proj": (8, 8), "o_proj": (8, 8)}
    wide = {"gate_proj": (16, 8), "up_proj": (16, 8), "down_proj": (8, 16)}
    names = {f"model.layers.0.self_attn.{name}.weight": shape for name, shape in shapes.items()}
    names |= {f"model.layers.0.mlp.{name}.weight": shape for name, shape in wide.items()}
    names |= {"model.embed_tokens.weight": (32, 8), "model.norm.weight": (8,)}
    names |= {"lm_head.weight": (32, 8)} if head else {}
    draw = np.random.default_rng(0)
    folder.mkdir()
    weights = {name: draw.normal(size=shape).astype("f4") for name, shape in names.items()}
    save_file(weights, folder / "model.safetensors")
    config = {"model_type": "llama", "num_hidden_layers": 1, "tie_word_embeddings": False}
    config |= {"architectures": ["LlamaForCausalLM"], "hidden_size": 8, "vocab_size": 32}
    config |= {"num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 16}
    (folder / "config.json").write_text(json.dumps(config))


def test_a_brought_pair_that_is_refused_ends_a_run_before_any_job(tmp_path: Path) -> None:
    brought_model(tmp_path / "base", head=True)
    brought_model(tmp_path / "tuned", head=False)
    (tmp_path / "t.csv").write_text("text,label\ngood,joy\nbad,fear\n")
    task = {"files": {"test": "t.csv"}, "columns": {"label": "label"}, "labels": ["joy", "fear"]}
    parameters = {
        "bases": {"small": {"folder": "base"}},
        "pairs": {"felt": {"base": "small", "tuned": "tuned"}},
        "tasks": {"moods": task},
        "matrix": {"pairs": ["felt"], "load": ["gate"], "tune": [], "ablate": []},
    }
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(parameters))
    before = sorted(tmp_path.rglob("*"))
    # This target does not even need the pair.
    run = snakemake(tmp_path, "results/data/moods.parquet")
    assert run.returncode == 1
    assert "affectlocus: params.yaml: pairs.felt: " in run.stderr
    assert "lm_head" in run.stderr
    kept = [path for path in tmp_path.rglob("*") if ".snakemake" not in path.parts]
    assert sorted(kept) == before


WORDS = """
tasks:
  mine:
    files: {test: labels.csv}
    join: {file: said.csv, on: clip}
    columns: {text: said, label: mood}
    labels: {yes: yes, no: no}
"""
MORE = "tasks: {mine: {labels: {no: off}, rename: {y: n}}}\n"
LAST = "tasks={mine: {labels: {yes: on}}}"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), '"labels": {"yes": "yes", "no": "no"}'),
        (("--configfile", "more.yaml"), '"labels": {"yes": "yes", "no": "off"}'),
        (("--config", LAST), '"labels": {"yes": "on", "no": "no"}'),
        (("--configfile", "more.yaml", "--config", LAST), '"labels": {"yes": "on", "no": "off"}'),
    ],
    ids=["params.yaml", "a configfile", "config", "both"],
)
def test_on_yes_and_no_are_words_wherever_they_are_given(
    default: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], expected: str
) -> None:
    config = (default / "params.yaml").read_text()
    (default / "params.yaml").write_text(config.replace("\ntasks:\n", WORDS))
    (default / "labels.csv").write_text("clip,mood\n1,yes\n2,no\n")
    (default / "said.csv").write_text("clip,said\n1,She won\n2,He lied\n")
    (default / "more.yaml").write_text(MORE)
    monkeypatch.chdir(default)
    run = snakemake(default, "results/data/mine.parquet", "--dry-run", "--printshellcmds", *options)
    assert run.returncode == 0, run.stdout + run.stderr
    assert '"on": "clip"' in run.stdout
    assert expected in run.stdout


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("tune: [", "params.not-yaml"),
        ("- a list", "params.not-a-mapping"),
        ("", "params.not-a-mapping"),
    ],
)
def test_a_file_that_is_no_mapping_ends_in_one_line(default: Path, text: str, code: str) -> None:
    (default / "params.yaml").write_text(text)
    run = snakemake(default)
    assert run.returncode == 1
    assert printed_code(run.stderr) == code
    assert "affectlocus: params.yaml: " in run.stderr
    assert "Traceback" not in run.stderr
