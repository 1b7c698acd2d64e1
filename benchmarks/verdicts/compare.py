"""Old verdicts next to new ones: `python benchmarks/verdicts/compare.py OLD.csv NEW.csv`.

Writes a table of markdown: each claim's verdict in both files, its effect, and why it changed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer


def main(
    old: Annotated[Path, typer.Argument(help="claims.csv of the earlier rules")],
    new: Annotated[Path, typer.Argument(help="claims.csv of the present rules")],
    page: Annotated[
        Path | None,
        typer.Option(help="page that gets the table, at <!-- compared -->"),
    ] = None,
) -> None:
    """Compare the verdicts of two claims.csv."""
    text = comparison(_read(old), _read(new))
    if page is None:
        typer.echo(text)
        return
    before, mark, rest = page.read_text(encoding="utf-8").partition("<!-- compared -->\n")
    if not mark:
        raise SystemExit(f"{page}: no line <!-- compared -->; add it and <!-- end -->")
    _, _, after = rest.partition("<!-- end -->")
    page.write_text(f"{before}{mark}{text}<!-- end -->{after}", encoding="utf-8")


def _read(path: Path) -> dict[str, dict[str, Any]]:
    """Claim → its row, by the measure that the paper uses."""
    frame = pd.read_csv(path, keep_default_na=False, na_values=[""])
    heads = frame[(frame["level"] == "claim") & frame["stated"].astype(bool)]
    return {str(row["claim"]): row for row in heads.to_dict("records")}


def comparison(old: dict[str, dict[str, Any]], new: dict[str, dict[str, Any]]) -> str:
    """The table: a row for each claim of either file."""
    lines = [
        "| claim | verdict was | effect was | verdict | effect | contrast | replicates "
        "| why it changed |",
        "|---|---|--:|---|--:|---|--:|---|",
    ]
    for claim in dict.fromkeys([*new, *old]):
        before, after = old.get(claim), new.get(claim)
        lines.append(
            f"| {claim} | {_verdict(before)} | {_effect(before)} | {_verdict(after)} | "
            f"{_effect(after)} | {_contrast(after)} | {_count(after)} | {reason(before, after)} |"
        )
    return "\n".join(lines) + "\n"


def _verdict(row: dict[str, Any] | None) -> str:
    return "" if row is None else str(row["verdict"])


def _effect(row: dict[str, Any] | None) -> str:
    if row is None or pd.isna(row["effect"]):
        return ""
    interval = "" if pd.isna(row["low"]) else f" ({row['low']:.3g} to {row['high']:.3g})"
    unit = "" if pd.isna(row["unit"]) else f" {row['unit']}"
    return f"{row['effect']:.3g}{interval}{unit}"


def _contrast(row: dict[str, Any] | None) -> str:
    """The comparison whose effect is shown."""
    if row is None or pd.isna(row.get("contrast")):
        return ""
    return str(row["contrast"]).replace("|", "\\|")


def _count(row: dict[str, Any] | None) -> str:
    return "" if row is None else f"{row.get('replicates', row.get('seeds', 0)):.0f}"


def reason(before: dict[str, Any] | None, after: dict[str, Any] | None) -> str:
    """What made the verdict another one, from the columns of both rows."""
    if before is None or after is None:
        return "only in one of the files"
    if str(before["verdict"]) == str(after["verdict"]):
        return "unchanged"
    reasons = []
    had = before.get("replicates", before.get("seeds"))
    if had != after["replicates"]:
        reasons.append(f"{had:.0f} → {after['replicates']:.0f} replicates")
    if before["unit"] != after["unit"]:
        reasons.append("another measure of the effect")
    elif not pd.isna(before["effect"]) and before["effect"] * after["effect"] < 0:
        reasons.append("the effect has the other sign")
    if after["verdict"] == "equal":
        reasons.append(f"equality within {after['margin']:.3g} is tested")
    elif after["verdict"] in ("supported", "contradicted"):
        was = before.get("p_bh", before.get("p"))
        known = "" if was is None or pd.isna(was) else f"{was:.2g} → "
        reasons.append(f"corrected p {known}{after['p_bh']:.2g}")
    elif after["verdict"] == "undecided" and before["verdict"] == "inconclusive":
        reasons.append("now called undecided, with its price")
    return "; ".join(reasons)


if __name__ == "__main__":
    typer.run(main)
