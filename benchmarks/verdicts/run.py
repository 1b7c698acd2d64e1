"""The simulation of verdicts: `python benchmarks/verdicts/run.py --help`."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from material import (  # noqa: E402
    COMPONENTS,
    Components,
    SimulatedClaim,
    claims,
    components,
    measure,
)
from repeated import RepeatedRow, repeated  # noqa: E402
from simulate import NOISES, NULLS, PROCEDURES, simulate  # noqa: E402
from timing import put_tables  # noqa: E402

DOCUMENT = HERE.parents[1] / "docs/explanation/statistics-and-claims.md"
VERDICTS = "moderated, BH (the verdicts)"


def main(
    results: Annotated[
        Path | None, typer.Option(help="folder of results; its components replace the stored ones")
    ] = None,
    pair: Annotated[str, typer.Option(help="pair of the matrix, with --results")] = (
        "qwen2-affective"
    ),
    draws: Annotated[int, typer.Option(help="simulated experiments of each kind")] = 1000,
    replicates: Annotated[str, typer.Option(help="numbers of replicates")] = "3,4,5,6,8,10,12",
    out: Annotated[Path, typer.Option(help="csv of all rows")] = HERE / "results.csv",
    write: Annotated[bool, typer.Option(help="put the tables into README and the docs")] = True,
) -> None:
    """Simulate experiments from measured variance components, and decide their claims."""
    if results is not None:
        measure(results, pair).to_csv(COMPONENTS, index=False)
    table = pd.read_csv(COMPONENTS, keep_default_na=False)
    parts, stated = components(table), claims()
    start = time.perf_counter()
    rows = [
        row
        for noise in NOISES
        for number in map(int, replicates.split(","))
        if noise == "measured" or number in (3, 6)
        for row in simulate(parts, stated, noise, number, draws)
    ]
    seconds = time.perf_counter() - start
    frame = pd.json_normalize([asdict(row) for row in rows])
    frame.to_csv(out, index=False, float_format="%.4f", lineterminator="\n")
    contrasts = np.concatenate([claim.weights for claim in stated])
    sd = np.sqrt(np.einsum("kc,cd,kd->k", contrasts, parts.covariance, contrasts))
    text = (
        f"{draws} experiments of each kind, {seconds:.0f} s. Standard deviation of contrasts: "
        f"{sd.min():.1f} to {sd.max():.1f} points (median {np.median(sd):.1f}); test samples add "
        f"{parts.samples**0.5:.1f}.\n\n"
        + procedures_table(frame)
        + "\n"
        + noises_table(frame)
        + "\n"
        + claims_table(frame, stated, parts)
        + "\n"
        + looks_table(list(repeated(parts, stated, draws)))
    )
    typer.echo(text)
    if write:
        put_tables(HERE / "README.md", text)
        put_tables(DOCUMENT, text)


def _of(frame: pd.DataFrame, **where: object) -> pd.DataFrame:
    for name, value in where.items():
        frame = frame[frame[name] == value]
    return frame


def _numbers(rows: pd.DataFrame) -> list[str]:
    nulls = rows[rows["scenario"].isin(NULLS)]
    edges = rows[rows["scenario"].str.startswith("edge")]
    power = [
        _of(rows, scenario=scenario, delta=delta)["power"].iloc[0]
        for delta in (5, 10)
        for scenario in ("rival", "true")
    ]
    equal = _of(rows, scenario="null")["equal"].iloc[0]
    return [
        f"{nulls['any_false'].max():.3f}",
        f"{rows['fdr'].max():.3f}",
        f"{rows['worst'].max():.3f}",
        *(f"{one:.2f}" for one in power),
        f"{equal:.2f}",
        f"{edges['worst'].max():.3f}",
    ]


HEAD = [
    "any false verdict, no claim true",
    "false among decided",
    "worst claim",
    "5 points, a rival leads",
    "5 points, the claim is true",
    "10, rival",
    "10, true",
    "equal, no difference",
    "false at the margin",
]


def _table(first: list[str], rows: list[list[str]]) -> str:
    head = "| " + " | ".join([*first, *HEAD]) + " |\n"
    rule = "|" + "---|" * len(first) + "--:|" * len(HEAD) + "\n"
    return head + rule + "".join("| " + " | ".join(row) + " |\n" for row in rows)


def procedures_table(frame: pd.DataFrame) -> str:
    """Procedures and numbers of replicates, with the measured noise."""
    own = _of(frame, noise="measured")
    rows = []
    for procedure in PROCEDURES:
        for number in own["replicates"].unique():
            if procedure != VERDICTS and number not in (3, 6):
                continue
            found = _of(own, procedure=procedure, replicates=number)
            rows.append([procedure, str(number), *_numbers(found)])
    return _table(["procedure", "replicates"], rows)


def noises_table(frame: pd.DataFrame) -> str:
    """The verdicts' own procedure with other noise, at six replicates."""
    own = _of(frame, procedure=VERDICTS, replicates=6)
    rows = [[noise, *_numbers(_of(own, noise=noise))] for noise in NOISES]
    return _table(["noise, six replicates"], rows)


def claims_table(frame: pd.DataFrame, stated: list[SimulatedClaim], parts: Components) -> str:
    """The power of each claim, by the verdicts' own procedure with the measured noise."""
    own = _of(frame, noise="measured", procedure=VERDICTS)
    numbers = [number for number in own["replicates"].unique() if number >= 5]
    head = ["claim", "contrasts", "standard deviation"]
    head += [f"{delta} points, {number}" for delta in (5, 10) for number in numbers]
    rows = [head, ["---", *["--:"] * (len(head) - 1)]]
    for claim in stated:
        sd = np.sqrt(np.einsum("kc,cd,kd->k", claim.weights, parts.covariance, claim.weights))
        powers = [
            _of(own, replicates=number, delta=delta)
            .query("scenario in ('rival', 'true')")[f"powers.{claim.name}"]
            .mean()
            for delta in (5, 10)
            for number in numbers
        ]
        span = f"{sd.min():.1f} to {sd.max():.1f}" if len(sd) > 1 else f"{sd[0]:.1f}"
        rows.append([claim.name, str(len(sd)), span, *(f"{one:.2f}" for one in powers)])
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)


def looks_table(rows: list[RepeatedRow]) -> str:
    """Rules for repeated looks, each claim by itself."""
    head = ["looks at 6, 8, 10, 12, 16 and 20 replicates", "what is true", "false, mean of claims"]
    head += ["false, worst claim", "right", "decided", "replicates used"]
    cells = [head, ["---", "---", *["--:"] * 5]]
    for row in rows:
        truth = f"{row.scenario}, {row.delta:g} points" if row.delta else row.scenario
        right = "" if np.isnan(row.right) else f"{row.right:.2f}"
        numbers = [f"{row.false:.3f}", f"{row.worst:.3f}", right, f"{row.decided:.2f}"]
        cells.append([row.rule, truth, *numbers, f"{row.replicates:.1f}"])
    return "".join("| " + " | ".join(row) + " |\n" for row in cells)


if __name__ == "__main__":
    typer.run(main)
