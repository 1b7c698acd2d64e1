"""What dvc compares revisions by, and that dvc.yaml names files that the workflow makes."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pandas as pd
import yaml
from typer.testing import CliRunner

from affectlocus.cli import app
from affectlocus.config.experiment import load
from affectlocus.core.projections import PROJECTIONS
from affectlocus.orchestration.dag import Dag
from affectlocus.reporting.revisions import by_layer, summary, verdicts

ROOT = Path(__file__).parents[2]
CLAIMS = (
    "claim,level,stated,verdict,effect\n"
    "C1,claim,True,supported,0.75\nC1,detail,True,undecided,0.5\nC1,claim,False,untestable,\n"
    "C14,claim,True,untestable,\n"
)


def deltas() -> pd.DataFrame:
    """Two layers; o is not adapted, q has a bias as well."""
    rows = [
        {"layer": layer, "projection": name, "parameter": "weight", "l2": 10.0 * layer + place}
        for layer in (0, 1)
        for place, name in enumerate(PROJECTIONS)
    ]
    frame = pd.DataFrame([*rows, {**rows[0], "parameter": "bias", "l2": 99.0}])
    frame.loc[frame["projection"] == "o", "l2"] = math.nan
    return frame


def test_a_layer_is_a_row_and_a_projection_a_column_in_their_order() -> None:
    wide = by_layer(deltas())
    assert list(wide.columns) == ["layer", *PROJECTIONS]
    assert wide["gate"].tolist() == [4.0, 14.0]
    assert wide["q"].tolist() == [0.0, 10.0]
    assert wide["o"].isna().all()


def test_a_claim_has_its_verdict_as_stated_and_an_effect_where_there_is_one(
    tmp_path: Path,
) -> None:
    path = tmp_path / "claims.csv"
    path.write_text(CLAIMS)
    wanted = {
        "C1": {"verdict": "supported", "effect": 0.75},
        "C14": {"verdict": "untestable"},
    }
    assert verdicts(pd.read_csv(path)) == wanted
    deltas().to_parquet(tmp_path / "mine.parquet")
    command = ["revisions", str(tmp_path / "mine.parquet"), "--claims", str(path)]
    done = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "out/verdicts.json").read_text()) == wanted
    head = (tmp_path / "out/l2/mine.csv").read_text().splitlines()
    assert head[0] == "layer,q,k,v,o,gate,up,down"
    assert head[1] == "0,0,1,2,,4,5,6"


def test_a_changed_claim_shows_in_the_metrics() -> None:
    rows = pd.DataFrame(
        [
            {"claim": "mine", "level": "claim", "stated": True, "verdict": "equal"}
            | {"effect": 1.0, "claim_sha256": "ab"}
        ]
    )
    assert verdicts(rows)["mine"] == {"verdict": "equal", "effect": 1.0, "claim_sha256": "ab"}


def outs_of(record: dict) -> list[str]:
    """The paths that dvc stores."""
    outs = record["stages"]["workflow"]["outs"]
    return [next(iter(one)) if isinstance(one, dict) else one for one in outs]


def test_dvc_stores_every_result_of_the_default() -> None:
    record = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    jobs = Dag(load(ROOT / "params.yaml"))
    outs = outs_of(record)
    made = [
        *jobs.report.shown,
        *jobs.deltas.files,
        *jobs.trajectory.files,
        *jobs.neurons.files,
        *jobs.directions.files,
    ]
    made += [*jobs.neurons.activations, *jobs.score.files(), *jobs.all_figures]
    lost = [file for file in made if not any(f"{file}/".startswith(f"{out}/") for out in outs)]
    assert lost == []
    manifest = record["artifacts"]["qwen2-affective"]["path"]
    assert manifest in {f"results/checkpoints/{name}.json" for name in jobs.pair_of}


def test_dvc_plots_and_metrics_lie_in_outs_and_are_results_of_the_default() -> None:
    record = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    outs = outs_of(record)
    named = list(record["metrics"])
    for plot in record["plots"]:
        name, about = next(iter(plot.items())) if isinstance(plot, dict) else (plot, {})
        named += about["y"] if isinstance(about.get("y"), dict) else [name]
    jobs = Dag(load(ROOT / "params.yaml"))
    made = {"results/revisions/summary.json", "results/revisions/l2"}
    made |= {*jobs.all_figures, *jobs.tables.files}
    for name in named:
        assert name in made
        assert any(name == out or name.startswith(f"{out}/") for out in outs), name


def test_the_summary_has_few_numbers(tmp_path: Path) -> None:
    path = tmp_path / "claims.csv"
    path.write_text(CLAIMS)
    means = {
        "small": {"base": 37.9},
        "felt": {"tuned": 67.7, "load": {"q": 40.5, "o": 42.4, "q+k+v+o": 59.9}},
    }
    assert summary(means, pd.read_csv(path)) == {
        "score": {"small": 37.9, "felt": {"tuned": 67.7, "best_single (o)": 42.4}},
        "claims": {"supported": 1, "untestable": 1},
    }
