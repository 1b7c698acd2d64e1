"""The Python API: the numbers of the commands, and nothing heavy at import."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import layouts
import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
import pytest
from command import in_process
from refusal import refused
from safetensors.torch import load_file
from typer.testing import CliRunner

import affectlocus
from affectlocus import api
from affectlocus.cli import app
from affectlocus.core.cells import Cell
from affectlocus.scoring.tables import intervals

ROOT = Path(__file__).parents[2]
HEAVY = ("numpy", "pandas", "torch", "transformers", "matplotlib", "pyarrow", "pydantic", "typer")


def test_the_import_loads_nothing_heavy_and_every_name_is_there() -> None:
    program = f"""
import sys
import affectlocus
loaded = [name for name in {HEAVY!r} if name in sys.modules]
assert not loaded, loaded
assert set(affectlocus.__all__) <= set(dir(affectlocus))
for name in affectlocus.__all__:
    getattr(affectlocus, name)
assert "torch" not in sys.modules
from affectlocus import *
diff, Experiment
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'difff'"):
        _ = affectlocus.difff


@pytest.mark.parametrize("name", [n for n in affectlocus.__all__ if n != "__version__"])
def test_every_public_name_is_documented(name) -> None:
    thing = getattr(affectlocus, name)
    assert inspect.getdoc(thing)
    if name == "InputError":
        return
    page = (ROOT / "docs/reference/python-api.md").read_text(encoding="utf-8")
    assert f"::: affectlocus.{name}\n" in page
    told = thing.__init__ if inspect.isclass(thing) else thing
    for parameter in inspect.signature(told).parameters:
        if name != "Diff" and parameter != "self":
            assert re.search(rf"\b{parameter}: ", inspect.getdoc(thing)), parameter


def test_diff_measures_what_the_command_measures(checkpoint, lora, tmp_path) -> None:
    base = checkpoint("llama", "bfloat16")
    adapter = lora(base, ["q_proj", "gate_proj"])
    in_process(tmp_path, "diff", str(base), str(adapter), "--out", "out")
    changed = affectlocus.diff(base, adapter)
    written = pd.read_parquet(tmp_path / "out/deltas.parquet")
    pd.testing.assert_frame_equal(changed.frame, written, check_like=False)
    assert set(changed.summary.index[:2]) == {"q", "gate"}
    assert changed.summary.loc["gate", "layers"] == 2
    assert changed.base == str(base)


def test_a_diff_is_shown_in_a_notebook(checkpoint, lora) -> None:
    base = checkpoint("llama")
    alone = affectlocus.diff(lora(base, ["q_proj", "k_proj"]))
    assert alone.base is None
    shown = alone._repr_html_()
    assert "<table" in shown
    assert "relative" not in re.findall(r"<th>(\w+)</th>", shown), "it needs a base"
    assert re.search(r"\bq\b.*\d", repr(alone))
    evil = affectlocus.Diff(alone._measured, None, "<b>name</b>")
    assert "<b>name" not in evil._repr_html_()


def test_a_heat_map_leaves_the_backend_and_pyplot_as_they_were(checkpoint, lora) -> None:
    base = checkpoint("llama")
    changed = affectlocus.diff(base, lora(base, ["q_proj"]))
    before = mpl.rcParams["backend"], plt.get_fignums()
    figure = changed.heat_map()
    assert figure.axes[0].get_title().startswith("L2 norm")
    assert (mpl.rcParams["backend"], plt.get_fignums()) == before
    program = """
import matplotlib
matplotlib.use("svg")
import affectlocus, sys
affectlocus.diff(*sys.argv[1:]).heat_map()
assert matplotlib.get_backend() == "svg", matplotlib.get_backend()
"""
    adapter = lora(base, ["q_proj"])
    subprocess.run([sys.executable, "-c", program, str(base), str(adapter)], check=True)


def test_arguments_without_effect_are_refused_by_their_names(checkpoint, lora) -> None:
    base = checkpoint("llama")
    adapter = lora(base, ["q_proj"])
    for given in ({"alpha": 3.0}, {"prefix": "language_model."}):
        (name,) = given
        with refused("option.no-effect", option=f"{name}="):
            affectlocus.diff(base, adapter, **given)
    with refused("option.no-effect", option="any_base="):
        affectlocus.diff(base, base, any_base=True)
    with refused("option.no-effect", option="then="):
        affectlocus.diff(adapter, then=[adapter])


def test_convert_graft_and_verify(checkpoint, lora, tmp_path) -> None:
    base = checkpoint("llama")
    adapter = lora(base, ["q_proj", "gate_proj"])
    mlx = layouts.mlx(adapter, tmp_path / "mlx")
    told = affectlocus.convert(mlx, tmp_path / "peft")
    assert told["modules"] == 4
    assert load_file(tmp_path / "peft/adapter_model.safetensors")
    counts = affectlocus.graft(base, adapter, "gate", tmp_path / "out")
    assert counts["changed"] == 2
    assert affectlocus.verify(base, tmp_path / "out", "gate")["changed"] == 2
    with refused("cell.changed-outside") as caught:
        affectlocus.verify(base, tmp_path / "out", "q")
    assert "gate_proj" in str(caught.value.fields["tensor"])
    with refused("output.is-an-input", file=adapter):
        affectlocus.graft(base, adapter, "gate", adapter)


def test_ledger_counts_what_the_command_counts(checkpoint, tmp_path) -> None:
    base = checkpoint("llama")
    frame = affectlocus.ledger(base, ["gate", "all"], rank=4)
    options = ["--modules", "gate", "--modules", "all", "--rank", "4"]
    out = tmp_path / "ledger.csv"
    CliRunner().invoke(app, ["ledger", str(base), *options, "--out", str(out)])
    assert frame["parameters"].tolist() == pd.read_csv(out)["parameters"].tolist()


def test_score_gives_the_object_of_the_command(tmp_path) -> None:
    gold, answers = tmp_path / "gold.csv", tmp_path / "answers.csv"
    gold.write_text("sample,value\na,1\nb,-1\nc,0.5\n")
    answers.write_text("checkpoint,sample,prediction\n1,a,positive\n1,b,positive\n1,c,negative\n")
    found = affectlocus.score(gold, answers, "waf")
    options = ["--kind", "waf", "--gold", str(gold), "--predictions", str(answers), "--json"]
    done = CliRunner().invoke(app, ["score", "--protocol", "mer-unibench", *options])
    printed = json.loads(done.output)
    assert found == {name: printed[name] for name in found}
    for given, code, option in (
        ({"kind": "f1"}, "option.unknown-value", "kind"),
        ({"kind": "hit-rate"}, "option.missing", "wheels"),
        ({"kind": "waf", "wheels": "released"}, "option.no-effect", "wheels"),
        ({"kind": "waf", "choose": "validation"}, "option.missing", "validation_gold"),
        ({"kind": "waf", "validation_gold": gold}, "option.no-effect", "validation_gold"),
        ({"kind": "waf", "choose": "best"}, "option.unknown-value", "choose"),
    ):
        with refused(code, option=f"{option}="):
            affectlocus.score(gold, answers, **given)


@pytest.fixture
def experiment(tmp_path: Path) -> affectlocus.Experiment:
    folder = tmp_path / "mine"
    (folder / "results/deltas").mkdir(parents=True)
    (folder / "params.yaml").write_text("")
    row = {"task": "mood", "metric": "weighted_f1", "n": 50, "low": 30.0, "high": 40.0}
    row |= {"gain": 1.0, "gain_low": -1.0, "gain_high": 2.0, "confidence": 0.95, "seeds": 1}
    row |= {"reference": "b/base", "draws": 1, "pair": "p"}
    cells = [Cell("base", "b"), Cell("load", "b", "p", "q"), Cell("tuned", "b", "p")]
    scores = pd.DataFrame(
        [vars(cell) | row | {"cell": cell.id, "value": 35.0 + n} for n, cell in enumerate(cells)]
    )
    intervals(scores, "weighted_f1").to_csv(
        folder / "results/table1_intervals.csv", index=False, float_format="%.6f"
    )
    scores.to_parquet(folder / "results/scores.parquet")
    return affectlocus.Experiment(folder)


def test_an_experiments_results_are_read(experiment) -> None:
    table = experiment.table(1)
    assert table["value"].tolist() == [35, 36, 37]
    assert {"low", "high", "gain_low", "gain_high", "cell"} <= set(table.columns)
    assert table["modules"].tolist() == ["base", "q", "all"]
    assert experiment.scores()["value"].tolist() == [35, 36, 37]


def test_what_is_not_computed_is_refused_with_the_command_that_computes_it(experiment) -> None:
    name = "results/table1_dose.other_intervals.csv"
    file = experiment.folder / name
    with refused("results.no-file", file=file, found=["table1_intervals.csv"]) as error:
        experiment.table(1, arm="dose", pair="other")
    assert str(error.value).endswith(f"--directory {experiment.folder} {name}")
    for read in (experiment.claims, lambda: experiment.deltas("mine")):
        with refused("results.no-file"):
            read()


def test_a_folder_without_parameters_is_no_experiment(tmp_path) -> None:
    with refused("params.no-file", file=tmp_path / "params.yaml"):
        affectlocus.Experiment(tmp_path)


def test_a_missing_library_is_named(monkeypatch, tmp_path) -> None:
    def broken(*_: object) -> None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr("affectlocus.checkpoints.adapters.Adapter.__init__", broken)
    with refused("install.no-extra", module="torch"):
        api.convert(tmp_path, tmp_path / "out")
