"""The generated parts of the documentation.

    python docs/generate.py                    rewrite them
    python docs/generate.py --check            exit with 1 and name the pages that are out of date
    python docs/generate.py --results results  first take over a run of the embedded default
    python docs/generate.py --results experiments/real/results --of real    or of another experiment

A page, or README.md, marks a generated part with two comments, `begin generated: NAME` and `end
generated`. The sources are the JSON schema of params.yaml, the command line, the presets, the
errors in the source, the tables in docs/data, and the plan of experiments/paper.
"""

from __future__ import annotations

import argparse
import ast
import csv
import inspect
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import typer
import yaml

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
SCHEMA = ROOT / "workflow/schemas/params.schema.json"
RERUNS = DOCS / "data/reruns.yaml"
STORIES = DOCS / "data/stories_overlap.csv"
RUNS = {name: DOCS / "data" / name for name in ("default", "real", "smollm")}
"""Experiment → the tables of a run of it, and run.json: its machine, commit and date."""
PAPER = "opening-the-black-box"
NULL, SAME_TEXT = "table1.smollm2-null", "table1.smollm2-same-text"
"""Tables of experiments on a real model, beside Table 1."""
SINGLES = ("q", "k", "v", "o", "gate", "up", "down")
BEGIN, END = "<!-- begin generated: {} -->\n", "<!-- end generated -->"


def table(head: Iterable[str], rows: Iterable[Iterable[str]], numbers: Iterable[int] = ()) -> str:
    """A Markdown table; `numbers` are the columns that are aligned to the right."""
    head = list(head)
    right = set(numbers)
    rules = ["--:" if column in right else "---" for column in range(len(head))]
    lines = [" | ".join(cells) for cells in (head, rules, *rows)]
    return "".join(f"| {line} |\n" for line in lines)


def cell(text: str) -> str:
    """Text for a cell of a table: no line breaks, column separators, emphasis or HTML."""
    plain = " ".join(text.split()).replace("<", "&lt;")
    return plain.replace("|", "\\|").replace("*", "\\*")


def code(value: str) -> str:
    """A value as code in a cell of a table."""
    plain = " ".join(value.split()).replace("|", "\\|")
    return f"`{plain}`"


# Configuration


def reference(schema: dict[str, Any]) -> str | None:
    """The name of the model that a schema refers to, if it does."""
    return schema["$ref"].rpartition("/")[2] if "$ref" in schema else None


def kind(schema: dict[str, Any]) -> str:
    """The type of a value, in words; another section as a link."""
    if name := reference(schema):
        return f"[{name}](#{name.lower()})"
    if choices := schema.get("anyOf", schema.get("oneOf")):
        return " or ".join(kind(one) for one in choices if one.get("type") != "null")
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        return ", ".join(code(str(value)) for value in values)
    if schema.get("type") == "array":
        return f"list of {kind(schema.get('items', {}))}"
    if schema.get("type") == "object":
        values = schema.get("additionalProperties")
        return f"map of name to {kind(values)}" if isinstance(values, dict) else "map"
    names = {"string": "text", "integer": "whole number", "number": "number", "boolean": "boolean"}
    return names.get(schema.get("type", ""), "value") + limits(schema)


def limits(schema: dict[str, Any]) -> str:
    """The range of a number; bounds that only keep it within 32 bits are left out."""
    low, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    high = schema.get("maximum")
    parts = [f"≥ {low:g}"] if low is not None and abs(low) < 2**31 else []
    parts += [f"> {above:g}"] if above is not None else []
    parts += [f"≤ {high:g}"] if high is not None and high < 2**31 - 1 else []
    return f" ({', '.join(parts)})" if parts else ""


def default(schema: dict[str, Any], required: bool) -> str:
    """What a key is when it is left out."""
    if required:
        return "**required**"
    value = schema.get("default")
    if value is None or reference(schema):
        return ""
    return code(json.dumps(value, ensure_ascii=False))


def meaning(schema: dict[str, Any], models: dict[str, Any]) -> str:
    """What a key means: its own description, or that of the only model that it can hold."""
    if "description" in schema:
        return cell(schema["description"])
    values = schema.get("additionalProperties")
    held = [schema, *schema.get("anyOf", []), *([values] if isinstance(values, dict) else [])]
    names = [name for one in held if (name := reference(one))]
    return cell(models[names[0]].get("description", "")) if len(names) == 1 else ""


def keys(model: dict[str, Any], models: dict[str, Any]) -> str:
    """The table of a model's keys."""
    required = model.get("required", [])
    return table(
        ["key", "value", "default", "meaning"],
        (
            [f"`{key}`", kind(one), default(one, key in required), meaning(one, models)]
            for key, one in model["properties"].items()
        ),
    )


def models(schema: dict[str, Any]) -> Iterator[str]:
    """The models in the order in which the sections of params.yaml refer to them."""
    seen: list[str] = []

    def visit(node: object) -> None:
        if isinstance(node, dict):
            name = reference(node) if isinstance(node.get("$ref"), str) else None
            if name and name not in seen:
                seen.append(name)
                visit(schema["$defs"][name])
            for value in node.values():
                visit(value)
        elif isinstance(node, list):
            for value in node:
                visit(value)

    visit(schema["properties"])
    yield from seen


def configuration() -> str:
    """The keys of params.yaml, a table per model."""
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    parts = ["## params.yaml\n", keys(schema, schema["$defs"])]
    for name in models(schema):
        model = schema["$defs"][name]
        parts += [
            f"## {name}\n",
            f"{cell(model.get('description', ''))}\n",
            keys(model, schema["$defs"]),
        ]
    return "\n".join(parts)


# Command line


def command_line() -> str:
    """Every command with its arguments and options."""
    from affectlocus.cli import app

    group = typer.main.get_command(app)
    commands: dict[str, Any] = group.commands  # type: ignore[attr-defined]
    parts = ["## affectlocus\n", options(group)]
    for name, command in commands.items():
        parts += [f"## {name}\n", help_text(command.help or ""), options(command)]
    return "\n".join(parts)


def help_text(text: str) -> str:
    """A docstring as Markdown: examples as code."""
    lines = []
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        joined = " ".join(paragraph.split())
        if joined.startswith("Example: "):
            lines.append(f"```\n{joined.removeprefix('Example: ')}\n```\n")
        else:
            lines.append(f"{joined.replace('<', '&lt;').replace('*', chr(92) + '*')}\n")
    return "\n".join(lines)


def options(command: Any) -> str:
    """The table of a command's arguments and options."""
    rows = []
    for one in command.params:
        if "--help" in one.opts:
            continue
        if one.param_type_name == "argument":
            name = str(one.name).upper()
        else:
            name = ", ".join([*one.opts, *one.secondary_opts])
        shown = one.default
        given = "" if shown in (None, False, (), []) or callable(shown) else code(str(shown))
        rows.append([code(name), "**required**" if one.required else given, cell(one.help or "")])
    return table(["argument or option", "default", "meaning"], rows)


# Presets, reruns, experiments


def presets() -> str:
    """The presets: what the folder holds, and where the owner hands it out."""
    from affectlocus.config.presets import PRESETS

    return table(
        ["preset", "version", "what `root` holds", "layout from", "owner"],
        (
            [
                f"`{name}`",
                str(one.version),
                cell(one.about),
                "the files" if one.checked else "public documentation",
                cell(one.owner),
            ]
            for name, one in PRESETS.items()
        ),
    )


def reruns() -> str:
    """What a change reruns: the rows that tests/workflow/test_reruns.py checks."""
    rows = yaml.safe_load(RERUNS.read_text(encoding="utf-8"))
    return table(["change", "what runs again"], ([row["change"], row["runs"]] for row in rows))


def stories() -> str:
    """What the data reports of experiments/stories count, as a test compares it with the files."""
    with STORIES.open(encoding="utf-8", newline="") as stream:
        head, *rows = csv.reader(stream)
    return table(head, rows, numbers=range(1, len(head)))


# Errors


def errors() -> str:
    """The code of each error with its message, read from the source; `{…}` is a value."""
    messages: dict[str, set[str]] = {}
    for path in sorted((ROOT / "workflow/affectlocus").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(
                    func=ast.Name(id=name), args=[ast.Constant(value=str(code_)), message]
                ) if name.endswith("Error"):
                    messages.setdefault(code_, set()).add(template(message))
    return table(
        ["code", "message"],
        (
            [code(code_), "<br>".join(cell(one) for one in sorted(said))]
            for code_, said in sorted(messages.items())
        ),
    )


def template(message: ast.expr) -> str:
    """The text of a message in the source; a value that is filled in is shown by its name."""
    match message:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(template(part) for part in parts)
        case ast.FormattedValue(value=ast.Name(id=name) | ast.Attribute(attr=name)):
            return f"{{{name}}}"
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return template(left) + template(right)
        case _:
            return "{…}"


# Runs whose results are shown

_TABLES = ("claims.csv", "random_places.*.csv")
_OF_TABLES = ("_intervals.csv", "_baselines.csv")


def take_over(results: Path, name: str) -> None:
    """Copies the tables of a run into `docs/data/NAME`, with its machine, commit, date and time.

    Machine and commit are in the first lines of the log of Table 1: the checkout may have moved on
    since.
    """
    folder = RUNS[name]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    stems = [table.stem for table in results.glob("table[123]*.csv")]
    wanted = [f"{stem}{end}" for stem in stems for end in _OF_TABLES] if name != "default" else []
    wanted += [f"table1{end}" for end in _OF_TABLES]
    for pattern in dict.fromkeys([*wanted, *_TABLES]):
        for file in results.glob(pattern):  # a run of Table 1 alone has no verdicts
            shutil.copy(file, folder / file.name)
    log = (results / "logs/tables/table1.log").read_text(encoding="utf-8").splitlines()
    facts = dict(line[2:].split(": ", 1) for line in log[:4])
    packages = dict(one.rsplit(" ", 1) for one in facts["versions"].split(", "))
    cores, memory = facts["hardware"].split(", ")[1:3]
    run = {
        "date": facts["step"].split(", ")[1].split()[0],
        "commit": facts["code"].partition(", git ")[2],
        "machine": f"{cores}, {memory}",
        "versions": {name: packages[name] for name in ("Python", "torch", "transformers")},
    }
    if name != "default":
        write_deltas(results / "deltas", folder / "deltas.csv")
        run["cpu_hours"] = round(cpu_seconds(results / "benchmarks") / 3600, 2)
    (folder / "brief.json").write_text(
        json.dumps(briefs_of(results), indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    (folder / "run.json").write_text(json.dumps(run, indent=2) + "\n", encoding="utf-8")


def briefs_of(results: Path) -> dict[str, list[str]]:
    """Pair of the matrix → the sentences that `affectlocus show` and the report begin with."""
    from affectlocus.config.experiment import load
    from affectlocus.reporting.brief import brief, kinds_of

    parameters = load(results.parent / "params.yaml")
    found = {pair: brief(results, pair, kinds_of(parameters)) for pair in parameters.matrix.pairs}
    return {pair: [*one.warnings, *one.sentences] for pair, one in found.items()}


def in_brief(folder: Path) -> str:
    """The pairs of a run in brief."""
    file = folder / "brief.json"
    briefs = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    lines = [f"- {sentence}\n" for sentences in briefs.values() for sentence in sentences]
    return "".join(lines)


def write_deltas(deltas: Path, file: Path) -> None:
    """The mean change of each projection over layers, and in how many layers it is the largest."""
    import pandas as pd

    rows = []
    for path in sorted(deltas.glob("*.parquet")):
        frame = pd.read_parquet(path)
        if "l2" not in frame or "expert" in frame or "neuron" in frame:
            continue
        frame = frame[(frame["parameter"] == "weight") & frame["adapted"]]
        for by in ("l2", "relative", "rms"):
            wide = frame.pivot(index="layer", columns="projection", values=by)
            largest = wide.idxmax(axis=1).value_counts()
            for one in SINGLES:
                mean, count = float(wide[one].mean()), int(largest.get(one, 0))
                rows.append([path.stem, by, one, f"{mean:.6g}", count, len(wide)])
    if rows:
        with file.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(["tuned", "by", "projection", "mean", "largest_in", "layers"])
            writer.writerows(rows)


def largest(folder: Path) -> list[str]:
    """Which projection has the largest L2 change in most layers, of each tuned checkpoint."""
    found: dict[str, list[dict[str, str]]] = {}
    for row in rows_of(folder, "deltas.csv"):
        if row["by"] == "l2":
            found.setdefault(row["tuned"], []).append(row)
    said = []
    for tuned, own in found.items():
        best = max(own, key=lambda row: int(row["largest_in"]))
        said.append(
            f"By L2, `{best['projection']}` changes most in {best['largest_in']} of "
            f"{best['layers']} layers of {tuned}"
        )
    return said


def deltas_table(folder: Path) -> str:
    """The change of each projection: means over layers, and in how many it is the largest."""
    found: dict[tuple[str, str], dict[str, dict[str, str]]] = {}
    for row in rows_of(folder, "deltas.csv"):
        found.setdefault((row["tuned"], row["by"]), {})[row["projection"]] = row
    shown = [
        [tuned, by]
        + [f"{float(own[one]['mean']):.3g} ({own[one]['largest_in']})" for one in SINGLES]
        for (tuned, by), own in found.items()
    ]
    if not shown:
        return "The changes were not measured in this run.\n"
    return table(["tuned checkpoint", "by", *SINGLES], shown, numbers=range(2, 9))


def cpu_seconds(folder: Path) -> float:
    """The CPU time of the jobs whose benchmark files are in a folder."""
    total = 0.0
    for file in folder.rglob("*.tsv"):
        with file.open(encoding="utf-8", newline="") as stream:
            for row in csv.DictReader(stream, delimiter="\t"):
                # A job of less than a second has no CPU time.
                total += float(row["cpu_time"]) if row["cpu_time"] not in ("NA", "-") else 0.0
    return total


def rows_of(folder: Path, name: str) -> list[dict[str, str]]:
    """The rows of a table of a run; none if the run has no such table."""
    if not (folder / name).exists():
        return []
    with (folder / name).open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def stamp(folder: Path) -> str:
    """Where and when the numbers of a run were computed."""
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    packages = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    spent = f", in {run['cpu_hours']:g} hours of CPU time" if "cpu_hours" in run else ""
    return (
        f"Computed on {run['date']} at commit {run['commit'][:7]} on {run['machine']}{spent}, with "
        f"{packages}.\n"
    )


def means_of(folder: Path, table: str) -> list[dict[str, str]]:
    """The rows of a table's means over tasks."""
    return [row for row in rows_of(folder, f"{table}_intervals.csv") if row["task"] == "mean"]


def means_table(folder: Path, name: str = "table1", beside: str = "") -> str:
    """Means of a table with their intervals, and how each cell answers.

    Args:
        beside: words for the mean → another table, whose means of the same module sets are shown.
    """
    means = means_of(folder, name)
    baselines = [row for row in rows_of(folder, f"{name}_baselines.csv") if row["task"] == "mean"]
    metric = means[0]["metric"]
    others = {(row["modules"], row["mode"]): row for row in means_of(folder, beside)}
    modes = any(row["mode"] for row in means)
    shown = [
        [
            row["num"],
            row["modules"],
            *([row["mode"]] if modes else []),
            f"{float(row['value']):.1f}",
            f"{float(row['low']):.1f} to {float(row['high']):.1f}",
            span(row, "gain") if row["reference"] != row["cell"] else "",
            f"{float(row['auc']):.1f}",
            f"{float(row['top_answer']):.0f} %",
            row["one_answer"] if float(row["one_answer"]) else "",
            *([of_other(others.get((row["modules"], row["mode"])))] if beside else []),
        ]
        for row in means
    ]
    names = {"majority": "majority answer", "uniform": "uniform guess"}
    shown += [
        [
            *("", f"*{names[row['baseline']]}*", *([""] if modes else [])),
            *(f"{float(row['value']):.1f}", "", "", "50.0", "", "", *([""] if beside else [])),
        ]
        for row in baselines
        if row["metric"] == metric and row["baseline"] in names
    ]
    of = "the tuned model" if name.startswith("table3") else "the base"
    head = ["num", "modules", *(["mode"] if modes else []), "mean", "95 % interval"]
    head += [f"gain over {of}", "AUC", "top answer", "one answer"]
    head += ["*mean, null*"] if beside else []
    return table(head, shown, numbers=(0, *range(2 + modes, len(head))))


def tasks_table(folder: Path, name: str = "table1") -> str:
    """A table's values by task, in percent, and those of constant answers."""
    rows, baselines = (
        rows_of(folder, f"{name}_intervals.csv"),
        rows_of(folder, f"{name}_baselines.csv"),
    )
    tasks = list(dict.fromkeys(row["task"] for row in rows if row["task"] != "mean"))
    values: dict[tuple[str, str, str], dict[str, str]] = {}
    for row in rows:
        key = (row["num"], row["modules"], row["mode"])
        values.setdefault(key, {})[row["task"]] = f"{float(row['value']):.1f}"
    modes = any(mode for _, _, mode in values)
    shown = [
        [
            num,
            modules,
            *([mode] if modes else []),
            *(own.get(task, "") for task in (*tasks, "mean")),
        ]
        for (num, modules, mode), own in values.items()
    ]
    majority = {
        row["task"]: f"{float(row['value']):.1f}"
        for row in baselines
        if row["baseline"] == "majority" and row["metric"] == rows[0]["metric"]
    }
    last = [majority.get(task, "") for task in (*tasks, "mean")]
    shown.append(["", "*majority answer*", *([""] if modes else []), *last])
    head = ["num", "modules", *(["mode"] if modes else []), *tasks, "mean"]
    return table(head, shown, numbers=(0, *range(2 + modes, len(head))))


def of_other(row: dict[str, str] | None) -> str:
    return "" if row is None else f"{float(row['value']):.1f}"


def span(row: dict[str, str], name: str) -> str:
    """A number with its interval."""
    low, high = float(row[f"{name}_low"]), float(row[f"{name}_high"])
    return f"{float(row[name]):+.1f} ({low:+.1f} to {high:+.1f})"


def claims_of(folder: Path, claim_set: str = PAPER) -> list[dict[str, str]]:
    """The verdicts on the claims of a set that are stated, a row for each."""
    rows = [row for row in rows_of(folder, "claims.csv") if row["level"] == "claim"]
    rows = [row for row in rows if row.get("claim_set", PAPER) == claim_set]
    return [row for row in rows if row["stated"] == "True"]


def counted(folder: Path, claim_set: str = PAPER) -> str:
    """How many claims of a set have which verdict, with their names."""
    found: dict[str, list[str]] = {}
    for row in claims_of(folder, claim_set):
        found.setdefault(row["verdict"], []).append(row["claim"])
    words = {
        "supported": "supported",
        "contradicted": "contradicted",
        "equal": "equal within the margin, each tested at 5 %",
        "undecided": "undecided",
        "untestable": "untestable",
    }
    return "; ".join(
        f"{len(found[verdict])} {word} ({', '.join(found[verdict])})"
        for verdict, word in words.items()
        if verdict in found
    )


def verdicts(folder: Path) -> str:
    """How many of the paper's claims have which verdict, if they were judged; and the stamp."""
    claims = claims_of(folder)
    if not claims:
        return stamp(folder)
    said = f"Of the paper's {len(claims)} claims: {counted(folder)}."
    return f"{said}{same_contrasts(folder)}\n\n{stamp(folder)}"


def same_contrasts(folder: Path) -> str:
    """Sentences about claims that are decided by the same contrast, which is one finding."""
    found: dict[str, list[str]] = {}
    for row in claims_of(folder):
        if row["verdict"] != "untestable":
            found.setdefault(row["contrast"], []).append(row["claim"])
    return "".join(
        f" {' and '.join(claims)} rest on the same comparison, so they are one finding."
        for contrast, claims in found.items()
        if contrast and len(claims) > 1
    )


def claims_table(folder: Path, claim_set: str = PAPER) -> str:
    """Every stated claim of a set that was judged, with its verdict, effect and reason."""
    rows = claims_of(folder, claim_set)
    if not rows:
        return "One tuning decides no claim about tunings; no claim was judged in this run.\n"
    shown = []
    for row in rows:
        effect = ""
        if row["effect"]:
            low, high = (f"{float(row[end]):.3g}" if row[end] else "?" for end in ("low", "high"))
            effect = f"{float(row['effect']):.3g} ({low} to {high})"
        shown.append([row["claim"], row["verdict"], effect, row["unit"], row["replicates"]])
        needed = float(row["needed"]) if row["needed"] else 0.0
        more = "no number" if needed == float("inf") else f"{needed:.0f}" if needed else ""
        shown[-1] += [more, cell(row["why"])]
    head = ["claim", "verdict", "effect", "unit", "replicates", "more would decide it", "why"]
    return table(head, shown, numbers=(4, 5))


def headline() -> str:
    """What the largest real model that was run says, in a few sentences."""
    name = next(name for name in ("smollm", "real") if (RUNS[name] / "run.json").exists())
    folder = RUNS[name]
    of = {(row["kind"], row["modules"]): row for row in means_of(folder, "table1")}
    value = {key: f"{float(row['value']):.1f}" for key, row in of.items()}
    singles = sorted(SINGLES, key=lambda one: -float(of["load", one]["value"]))
    base = next(row for row in means_of(folder, "table1") if row["kind"] == "base")
    tuned = next(row for row in means_of(folder, "table1") if row["kind"] == "tuned")
    null = {row["modules"]: row for row in means_of(folder, NULL)}
    count = int(tuned["seeds"])
    tunings = "one tuning" if count == 1 else f"{count} tunings"
    best = singles[0]
    low, high = float(base["value"]), float(tuned["value"])
    kept = 100 * (float(of["load", "gate"]["value"]) - low) / (high - low)
    text = (
        f"**On a real language model** (SmolLM2-135M, {tunings}; mean weighted F1 in percent): "
        f"base {low:.1f}, tuned {high:.1f}. `gate_proj` loaded alone gives "
        f"{value['load', 'gate']}, {kept:.0f} % of the gain; the best single projection is "
        f"`{best}` with {value['load', best]}; attention gives {value['load', 'q+k+v+o']}, and "
        f"attention with `gate` {value['load', 'q+k+v+o+gate']}."
    )
    if "gate" in null:
        text += f" With shuffled answers `gate` gives {float(null['gate']['value']):.1f}."
    if changed := largest(folder):
        text += f" {changed[0].rpartition(' of ')[0]}."
    claims = claims_of(folder)
    if claims:
        text += f" Of the paper's {len(claims)} claims: {counted(folder)}."
    else:
        text += " One tuning decides no claim about tunings."
    return text + f" [Table, null and verdicts](docs/how-to/{name}-results.md)\n"


def reading(folder: Path, null: str) -> str:
    """A real model's Table 1 in words: which loads lead, and what the null has."""
    of = {row["modules"]: row for row in means_of(folder, "table1") if row["kind"] == "load"}
    tuned = next(row for row in means_of(folder, "table1") if row["kind"] == "tuned")
    beside = {row["modules"]: row for row in means_of(folder, null)}
    order = sorted(SINGLES, key=lambda one: -float(of[one]["value"]))
    shown = ", ".join(f"`{one}` {float(of[one]['value']):.1f}" for one in order)
    lines = [f"- {one}.\n" for one in largest(folder)]
    lines += [f"- Single projections, best first: {shown}.\n"]
    if all(one in beside for one in SINGLES):
        nulls = [float(beside[one]["value"]) for one in SINGLES]
        lines.append(
            f"- Of the null, single projections have {min(nulls):.1f} to {max(nulls):.1f}, and AUC "
            f"{min(float(beside[one]['auc']) for one in SINGLES):.0f} to "
            f"{max(float(beside[one]['auc']) for one in SINGLES):.0f}.\n"
        )
    attention = float(of["q+k+v+o"]["value"])
    added = ", ".join(
        f"with `{one}` {float(of[f'q+k+v+o+{one}']['value']):.1f}" for one in ("gate", "up", "down")
    )
    lines.append(f"- Attention alone {attention:.1f}; {added}.\n")
    down = float(of["q+k+v+o+gate+down"]["value"]) - float(of["q+k+v+o+gate"]["value"])
    lines.append(f"- Adding `down` to attention and `gate` changes the score by {down:+.1f}.\n")
    share = float(of["o+gate"]["value"]) / float(tuned["value"])
    lines.append(
        f"- `o+gate` has {float(of['o+gate']['value']):.1f}, which is {100 * share:.0f} % of the "
        f"tuned model's {float(tuned['value']):.1f}.\n"
    )
    return "".join(lines)


def paper_plan() -> str:
    """What `affectlocus plan` estimates for experiments/paper, where nothing of it is done yet."""
    program = Path(sys.executable).parent / "affectlocus"
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(ROOT / "experiments/paper/params.yaml", folder)
        run = subprocess.run(
            [program, "plan", ".", "--json"],
            cwd=folder,
            env={**os.environ, "HF_HOME": str(Path(folder) / "hub")},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    total = json.loads(run.stdout)["total"]
    return table(
        ["jobs", "GPU hours (A100 with 80 GB)", "downloads", "disk"],
        [
            [
                f"{total['jobs']:,}",
                f"about {round(total['gpu_hours'], -2):,.0f}",
                f"about {round(total['download_gb'], -1):,.0f} GB",
                f"about {round(total['disk_gb'], -1):,.0f} GB",
            ]
        ],
        numbers=range(4),
    )


OF_REAL: dict[str, Callable[[Path], str]] = {
    "brief": in_brief,
    "table": lambda folder: means_table(folder, beside=NULL),
    "tasks": tasks_table,
    "same-text": lambda folder: means_table(folder, SAME_TEXT),
    "tuned": lambda folder: means_table(folder, "table2"),
    "ablated": lambda folder: means_table(folder, "table3"),
    "verdicts": verdicts,
    "reading": lambda folder: reading(folder, NULL),
    "deltas": deltas_table,
    "claims": claims_table,
    "rivals": lambda folder: claims_table(folder, "rivals"),
}
"""Part of a page of results on a real model → its text from the tables of the run."""

PARTS: dict[str, Callable[[], str]] = {
    "configuration": configuration,
    "command-line": command_line,
    "presets": presets,
    "reruns": reruns,
    "stories": stories,
    "paper-plan": paper_plan,
    "errors": errors,
    "default-brief": lambda: in_brief(RUNS["default"]),
    "default-table": lambda: means_table(RUNS["default"]),
    "default-verdicts": lambda: verdicts(RUNS["default"]),
    "headline": headline,
    **{
        f"{name}-{part}": partial(shown, folder)
        for name, folder in RUNS.items()
        if name != "default"
        for part, shown in OF_REAL.items()
    },
}


def filled(text: str) -> str:
    """A page with its generated parts up to date.

    Raises:
        ValueError: a part without an end, or of an unknown name.
    """
    start, *rest = text.split("<!-- begin generated: ")
    parts = [start]
    for one in rest:
        name, there, body = one.partition(" -->\n")
        _, end, after = body.partition(END)
        if not (there and end and name in PARTS):
            raise ValueError(f"generated part {name[:40]!r}: expected one of {', '.join(PARTS)}")
        parts += [BEGIN.format(name), "\n", PARTS[name](), "\n", END, after]
    return "".join(parts)


def outdated() -> dict[Path, str]:
    """Pages whose generated parts differ from their sources → what the pages must be."""
    paths = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
    pages = {path: path.read_text(encoding="utf-8") for path in paths}
    new = {path: filled(text) for path, text in pages.items()}
    return {path: text for path, text in new.items() if text != pages[path]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1")
    parser.add_argument(
        "--results", type=Path, help="results of an experiment, whose tables are shown"
    )
    parser.add_argument("--of", choices=RUNS, default="default", help="the experiment")
    arguments = parser.parse_args()
    check = arguments.check
    if arguments.results is not None:
        take_over(arguments.results, arguments.of)
    pages = outdated()
    for path, text in pages.items():
        name = path.relative_to(ROOT)
        if check:
            print(f"{name}: not up to date; run python docs/generate.py", file=sys.stderr)  # noqa: T201
        else:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {name}")  # noqa: T201
    return int(check and bool(pages))


if __name__ == "__main__":
    sys.exit(main())
