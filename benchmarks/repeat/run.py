"""Whether Table 1 of the embedded default repeats on other arithmetic.

    python benchmarks/repeat/run.py            about 2 minutes for each setting, on 2 cores
    python benchmarks/repeat/run.py --quick    one replicate and three cells, to see that it runs
    python benchmarks/repeat/run.py --real     two replicates of experiments/real; two hours

Libraries choose their instructions by the CPU. Each run here allows other ones, as another CPU
would, and computes Table 1 and the verdicts that rest on it from the same shipped bases.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT / "workflow"))
sys.path.insert(0, str(HERE.parent))

from timing import machine, put_tables  # noqa: E402

from affectlocus.core.provenance import revision  # noqa: E402

SETTINGS: dict[str, dict[str, str]] = {
    "all instructions of this CPU": {},
    "up to AVX2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    },
    "up to SSE4": {
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    },
}
# Of a real model: matrix products are in other libraries than ATen, and too slow without AVX-512.
REAL: dict[str, dict[str, str]] = {
    "all instructions of this CPU": {},
    "ATen without them": {"ATEN_CPU_CAPABILITY": "default"},
}
PAIR = "qwen2-affective"


def parameters(quick: bool) -> dict[str, Any]:
    """The embedded default with the pair and the cells of Table 1 only."""
    config: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    config["pairs"] = {PAIR: config["pairs"][PAIR]}
    config["bases"] = {"qwen2": config["bases"]["qwen2"]}
    kept = {"pairs", "load", "cells_per_job"}
    config["matrix"] = {key: value for key, value in config["matrix"].items() if key in kept}
    config["matrix"] |= {"tune": [], "ablate": []}
    if quick:
        config["seeds"] = config["seeds"][:1]
        config["matrix"]["load"] = ["o", "gate", "all"]
        config["pairs"][PAIR]["tuning"] |= {"steps": 60, "trajectory": 0}
    return config


def real_parameters() -> dict[str, Any]:
    """experiments/real with two replicates of the affective pair, and the cells of Table 1 only."""
    file = ROOT / "experiments/real/params.yaml"
    config: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    pair = config["matrix"]["pairs"][0]
    return config | {
        "pairs": {pair: config["pairs"][pair]},
        "seeds": [0, 1],
        "matrix": {"pairs": [pair], "tune": [], "ablate": [], "cells_per_job": 8},
    }


def run(folder: Path, setting: dict[str, str], config: dict[str, Any]) -> None:
    """Computes Table 1 and the verdicts in a new folder."""
    folder.mkdir(parents=True)
    text = yaml.safe_dump(config, sort_keys=False)
    (folder / "params.yaml").write_text(text, encoding="utf-8")
    program = Path(sys.executable).with_name("snakemake")
    targets = ["results/table1.csv", "results/claims.csv"]
    command = [program, "--snakefile", ROOT / "Snakefile", "--directory", folder, "--cores", "all"]
    # Bases that were trained before with other instructions must not come from the cache.
    environment = os.environ | setting | {"AFFECTLOCUS_CACHE": ""}
    subprocess.run([*command, "--quiet", "all", "--", *targets], env=environment, check=True)


def answers(folder: Path) -> pd.Series:
    """(cell, task, sample) → the answer, over all cells."""
    frames = []
    for path in sorted((folder / "results/cells").rglob("predictions.parquet")):
        frame = pd.read_parquet(path, columns=["task", "sample", "candidate", "loglik"])
        frame = frame[frame["candidate"].astype(str) != ""]
        best = frame.loc[frame.groupby(["task", "sample"], sort=False)["loglik"].idxmax()]
        cell = str(path.parent.relative_to(folder / "results/cells"))
        frames.append(best.assign(cell=cell))
    every = pd.concat(frames).set_index(["cell", "task", "sample"])
    return every["candidate"].sort_index()


def means(folder: Path) -> pd.DataFrame:
    """Row of Table 1 → its mean and interval."""
    rows = pd.read_csv(folder / "results/table1_intervals.csv")
    rows = rows[rows["task"] == "mean"]
    return rows.set_index("modules")[["value", "low", "high"]]


def verdicts(folder: Path) -> pd.Series:
    """(claim, what is tested) → the verdict."""
    rows = pd.read_csv(folder / "results/claims.csv", keep_default_na=False)
    keys = [name for name in ("claim", "test", "arm", "by") if name in rows]
    return rows.set_index(keys)["verdict"]


def weights(folder: Path) -> dict[str, bytes]:
    """Tuned checkpoint → the content of its weights."""
    paths = sorted((folder / "checkpoints").glob("*-affective.seed*/*.safetensors"))
    return {path.parent.name: path.read_bytes() for path in paths}


def compared(folders: dict[str, Path]) -> pd.DataFrame:
    """Each setting against the first one.

    Returns:
        `setting`; `adapters`: tuned adapters with the same bits, of all; `answers`: the number of
        answers; `other_answers`: those that differ; `largest_change` of a mean in points;
        `outside`: means outside the other's interval, either way; `verdicts`: their number;
        `other_verdicts`: those that differ.
    """
    first, *_ = folders.values()
    base, base_means, base_verdicts, base_weights = (
        answers(first),
        means(first),
        verdicts(first),
        weights(first),
    )
    rows = []
    for setting, folder in folders.items():
        own, own_means, own_weights = answers(folder), means(folder), weights(folder)
        outside = sum(
            not one.loc[row, "low"] <= other.loc[row, "value"] <= one.loc[row, "high"]
            for one, other in ((base_means, own_means), (own_means, base_means))
            for row in one.index
        )
        own_verdicts = verdicts(folder)
        same = sum(own_weights[name] == content for name, content in base_weights.items())
        rows.append(
            {
                "setting": setting,
                "adapters": f"{same} of {len(base_weights)}",
                "answers": len(own),
                "other_answers": int((own != base).sum()),
                "largest_change": (own_means["value"] - base_means["value"]).abs().max(),
                "outside": outside,
                "verdicts": len(own_verdicts),
                "other_verdicts": int((own_verdicts != base_verdicts).sum()),
            }
        )
    return pd.DataFrame(rows)


def side_by_side(folders: dict[str, Path]) -> Iterable[str]:
    """Table 1's means under each setting, as lines of Markdown."""
    found = {setting: means(folder) for setting, folder in folders.items()}
    yield " | ".join(["| modules", *found]) + " |"
    yield "|---" + "|--:" * len(found) + "|"
    for row in next(iter(found.values())).index:
        cells = [
            f"{one.loc[row, 'value']:.2f} ({one.loc[row, 'low']:.1f} to {one.loc[row, 'high']:.1f})"
            for one in found.values()
        ]
        yield " | ".join([f"| {row}", *cells]) + " |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one replicate; writes no page")
    parser.add_argument("--real", action="store_true", help="of a real model; writes no page")
    parser.add_argument("--folder", type=Path, help="keep the runs here; existing ones are used")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        place = arguments.folder or Path(scratch)
        folders = {}
        settings = REAL if arguments.real else SETTINGS
        config = real_parameters() if arguments.real else parameters(arguments.quick)
        for number, (setting, environment) in enumerate(settings.items()):
            folders[setting] = place / f"setting{number}"
            if not (folders[setting] / "results/claims.csv").exists():
                run(folders[setting], environment, config)
        found = compared(folders)
        lines = list(side_by_side(folders))
    print(found.to_string(index=False), *lines, sep="\n")  # noqa: T201
    if not (arguments.quick or arguments.real):
        found.to_csv(HERE / "results.csv", index=False, float_format="%.4f")
        head = "| " + " | ".join(name.replace("_", " ") for name in found) + " |"
        table = [head, "|---" * len(found.columns) + "|"]
        for row in found.itertuples(index=False):
            cells = [f"{one:.2f}" if isinstance(one, float) else str(one) for one in row]
            table.append("| " + " | ".join(cells) + " |")
        about = f"{machine()}; commit {revision()[:8]}."
        put_tables(HERE / "README.md", "\n".join([about, "", *table, "", *lines, ""]))
    return int((found["other_verdicts"] > 0).any() or (found["outside"] > 0).any())


if __name__ == "__main__":
    sys.exit(main())
