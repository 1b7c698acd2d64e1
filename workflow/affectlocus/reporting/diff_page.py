"""A page about two checkpoints, to be sent: one file of HTML that loads nothing else.

It is written without jinja2, because `affectlocus diff` works in the light install.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from affectlocus.deltas.delta_tables import Row
from affectlocus.deltas.diff import TITLES, ranked
from affectlocus.deltas.layer_values import (
    SCORE_NAMES,
    conclusion,
    largest_layers,
    layer_rows,
)
from affectlocus.reporting.drawings import Picture
from affectlocus.reporting.number_format import figures

_STYLE = """
body { margin: 0 auto; max-width: 64rem; padding: 1rem; color: #1a1a1a; background: #fff;
  font: 1rem/1.5 system-ui, "Segoe UI", Roboto, Arial, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.4rem; line-height: 1.25; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; font-size: 0.85rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.25rem 0.7rem; text-align: right; border-bottom: 1px solid #d0d0d0; }
th:first-child { text-align: left; } thead th { border-bottom-color: #1a1a1a; }
caption { text-align: left; color: #5a5a5a; padding-bottom: 0.3rem; }
.scroll { overflow-x: auto; } .scroll:focus-visible { outline: 2px solid #0b4f8a; }
img { max-width: 100%; height: auto; } .lead { font-size: 1.1rem; } .note { color: #5a5a5a; }
@media print { thead { display: table-header-group; } tr { break-inside: avoid; } }
"""


def diff_page(
    title: str,
    rows: Sequence[Row],
    projections: Mapping[str, Row],
    score: str,
    picture: Picture,
    notes: Sequence[str] = (),
) -> str:
    """The text of the page.

    Args:
        title: the two checkpoints.
        rows: the rows of step `deltas`.
        projections: the result of `delta_tables.summary`.
        picture: the heat map.
        notes: what the comparison remarks.
    """
    layers = layer_rows(rows)
    said = conclusion(rows, score)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; \
img-src data:; style-src 'unsafe-inline'">
<title>{escape(title)}: affectlocus diff</title>
<link rel="icon" href="data:,">
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>{escape(title)}</h1>
<p class="lead">{escape(said)}</p>
{"".join(f'<p class="note">Note: {escape(note)}</p>' for note in notes)}
<h2>By projection</h2>
{_projection_table(projections, rows, score)}
<h2>By layer and projection</h2>
<img src="{picture.uri}" width="{picture.width}" height="{picture.height}" \
alt="Heat maps of the change: layers as rows, the seven projections as columns. \
The numbers are in the table below.">
<p class="note">{escape(picture.caption)}</p>
{_layer_table(layers)}
<p class="note">L2 is the norm of the change, and grows with the size of the matrix. Relative is L2
divided by the norm of the base's matrix. RMS is the change per weight. The share ratio is the share
of all squared change divided by the share of all weights: 1 is even.</p>
</main>
</body>
</html>
"""


def _table(caption: str, heads: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    top = "".join(f'<th scope="col">{escape(head)}</th>' for head in heads)
    lines = "".join(
        f'<tr><th scope="row">{escape(first)}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in rest)
        + "</tr>\n"
        for first, *rest in body
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}">\n<table>\n'
        f"<caption>{escape(caption)}</caption>\n<thead><tr>{top}</tr></thead>\n"
        f"<tbody>\n{lines}</tbody>\n</table>\n</div>"
    )


def _projection_table(projections: Mapping[str, Row], rows: Sequence[Row], score: str) -> str:
    shown = [name for name in TITLES if any(row[name] is not None for row in projections.values())]
    largest = largest_layers(rows, score)
    body = []
    for name in ranked(dict(projections), score):
        row = projections[name]
        if row["adapted"]:
            numbers = [figures(row[column]) for column in shown]
            body.append([name, str(row["layers"]), largest.get(name, ""), *numbers])
        else:
            text = "unknown" if row["adapted"] is None else "not adapted"
            body.append([name, text, *[""] * (len(shown) + 1)])
    return _table(
        f"Means over layers, the largest {SCORE_NAMES[score]} first",
        ["projection", "layers", "largest layer", *(TITLES[name] for name in shown)],
        body,
    )


def _layer_table(layers: Sequence[Mapping[str, object]]) -> str:
    shown = [name for name in SCORE_NAMES if any(row[name] is not None for row in layers)]
    body = [
        [
            f"{row['layer']} {row['projection']}",
            *(figures(row[name]) for name in shown),  # type: ignore[arg-type]
        ]
        for row in layers
        if row["adapted"]
    ]
    return _table(
        "Every adapted weight", ["layer, projection", *(SCORE_NAMES[name] for name in shown)], body
    )
