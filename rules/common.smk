# What every rule leans on: the checked parameters, the cell table, paths and wildcards.
# No rule stands here, and no torch is imported: this runs whenever snakemake starts.
import json
import os
import sys
from pathlib import Path
from shlex import quote

from affectlocus import cells, parameters
from affectlocus.digest import digest
from affectlocus.errors import InputError


def checked(config):
    """The experiment's parameters; bad ones end in one sentence before any job starts."""
    try:
        return parameters.validate(config, Path.cwd(), "params.yaml")
    except InputError as error:
        print(f"affectlocus: {error}", file=sys.stderr)
        sys.exit(1)


EXPERIMENT = checked(config)
CELLS = {cell.id: cell for cell in cells.matrix(EXPERIMENT)}
# The order of the paper's tables; a further pair's are named after it (table1.PAIR.csv).
ARMS = {"table1": "load", "table2": "tune", "table3": "ablate"}
TABLE_ROWS = {
    name if pair == EXPERIMENT.matrix.pairs[0] else f"{name}.{pair}": (pair, arm)
    for pair in EXPERIMENT.matrix.pairs
    for name, arm in ARMS.items()
    if getattr(EXPERIMENT.matrix, arm)
}
TABLES = [
    f"results/{name}{suffix}" for name in TABLE_ROWS for suffix in (".csv", "_intervals.csv")
]
DELTAS = [f"results/deltas/{pair}.parquet" for pair in EXPERIMENT.pairs]
FIGURES = [
    f"results/figures/{name}.{suffix}"
    for name in (
        *(f"deltas.{pair}" for pair in EXPERIMENT.pairs),
        *(f"{arm}.{pair}" for pair, arm in TABLE_ROWS.values()),
    )
    for suffix in ("png", "svg")
]
GPU = int(bool(os.environ.get("CUDA_VISIBLE_DEVICES")) or Path("/dev/nvidia0").exists())


def alternatives(names):
    """A regular expression of exactly these names; one that matches nothing for none."""
    return "|".join(re.escape(name) for name in names) or "(?!)"


def external(path):
    """A path of params.yaml, which starts from data_root."""
    return os.path.normpath(os.path.join(EXPERIMENT.data_root, path))


def settings(model, **more):
    """A section of params.yaml as the JSON text that a step takes."""
    return json.dumps(model.model_dump(mode="json") | more, sort_keys=True)


def checkpoint(name):
    """The manifest that stands for a checkpoint's weights."""
    return f"results/checkpoints/{name}.json"


def source_folder(wildcards):
    """The folder of a base or tuned checkpoint that the user brings."""
    base = EXPERIMENT.bases.get(wildcards.name)
    return external(base.folder if base else EXPERIMENT.pairs[wildcards.name].tuned)


def source_files(wildcards):
    """Its files, so that a changed weight reruns what reads it."""
    kept = (".json", ".safetensors", ".model", ".txt", ".jinja")
    folder = Path(source_folder(wildcards))
    return [str(path) for path in sorted(folder.iterdir()) if path.suffix in kept]


def task_files(wildcards):
    """Split → file of a task; `all` for one that the corpus generator writes."""
    task = EXPERIMENT.tasks[wildcards.task]
    if task.corpus:
        return {"all": f"results/corpus/{wildcards.task}.csv"}
    return {split: external(file) for split, file in task.files.items()}


def task_flags(wildcards):
    """The same as options of the command line."""
    return " ".join(f"--{split} {quote(path)}" for split, path in task_files(wildcards).items())


TUNED_CELLS = {cell.tuned: cell for cell in CELLS.values() if cell.kind == "tune"}


def tuning(wildcards):
    """The recipe of a tuned checkpoint: a pair's own, or the matrix's with a cell's modules."""
    cell = TUNED_CELLS.get(wildcards.name)
    if cell is None:
        return EXPERIMENT.pairs[wildcards.name].tuning
    return parameters.Tuning(
        **EXPERIMENT.tune.model_dump(), modules=cell.modules, seed=cell.seed
    )


def tuning_base(wildcards):
    """The manifest of the base that a checkpoint is tuned from."""
    cell = TUNED_CELLS.get(wildcards.name)
    return checkpoint(cell.base if cell else EXPERIMENT.pairs[wildcards.name].base)


def tuning_data(wildcards):
    """The prepared tasks that a checkpoint is tuned on."""
    return [f"results/data/{task}.parquet" for task in tuning(wildcards).data]


def tuning_settings(wildcards):
    """The recipe as JSON."""
    return settings(tuning(wildcards))


def cell_checkpoints(wildcards):
    """The manifests that a cell's model is made from."""
    cell = CELLS[wildcards.cell]
    inputs = {"base": checkpoint(cell.base)}
    return inputs | ({"tuned": checkpoint(cell.tuned)} if cell.tuned else {})


def cell_flags(wildcards, input):
    """The tuned checkpoint as an option; nothing for a base."""
    return f"--tuned {quote(input.tuned)}" if CELLS[wildcards.cell].tuned else ""


def cell_json(wildcards):
    """The cell as JSON."""
    return json.dumps(vars(CELLS[wildcards.cell]), sort_keys=True)


def predictions(wanted):
    """Where the answers of some cells lie."""
    return [f"results/cells/{cell.id}/predictions.parquet" for cell in wanted]


def arm_predictions(wildcards):
    """The answers of a table's cells, in its order; an unlisted `load all` at the end."""
    rows = cells.arm(list(CELLS.values()), wildcards.pair, wildcards.arm)
    return predictions(rows)


def other_predictions(wildcards):
    """The answers of cells in no table, each with the base that it is compared with."""
    listed = {
        cell.id
        for pair, arm in TABLE_ROWS.values()
        for cell in cells.arm(list(CELLS.values()), pair, arm)
    }
    rest = [cell for cell in CELLS.values() if cell.id not in listed]
    bases = [CELLS[f"{name}/base"] for name in dict.fromkeys(cell.base for cell in rest)]
    return predictions(dict.fromkeys([*bases, *rest]))


def all_scores(wildcards):
    """The scores of every table and of the cells in none."""
    tables = [f"results/scores/{pair}/{arm}.parquet" for pair, arm in TABLE_ROWS.values()]
    return [*tables, *(["results/scores/others.parquet"] if other_predictions(None) else [])]


def table_scores(wildcards):
    """The scores that a table shows."""
    pair, arm = TABLE_ROWS[wildcards.table]
    return f"results/scores/{pair}/{arm}.parquet"


def table_intervals(wildcards):
    """The companion of the table that a figure draws."""
    (table,) = (
        name
        for name, row in TABLE_ROWS.items()
        if row == (wildcards.pair, wildcards.arm)
    )
    return f"results/{table}_intervals.csv"


def arm_title(wildcards):
    """What stands above a figure of a table."""
    said = {
        "load": "base + delta of one module",
        "tune": "base tuned on one module",
        "ablate": "tuned model with modules destroyed",
    }
    return f"{wildcards.pair}: {said[wildcards.arm]}"


def base_size_mb(name):
    """Megabytes of a base's weights on disk; a tiny pre-trained one counts as nothing."""
    base = EXPERIMENT.bases[name]
    if base.folder is None:
        return 0
    return sum(p.stat().st_size for p in Path(external(base.folder)).glob("*.safetensors")) >> 20


def memory_of_cell(wildcards, attempt):
    """MB: the libraries, and three copies of the weights; twice as much on a retry."""
    return (2000 + 3 * base_size_mb(CELLS[wildcards.cell].base)) * attempt


def memory_of_tuning(wildcards, attempt):
    """MB: the libraries, weights, gradients and two moments in float32."""
    name = Path(tuning_base(wildcards)).stem
    return (2500 + 10 * base_size_mb(name)) * attempt


wildcard_constraints:
    task=alternatives(EXPERIMENT.tasks),
    pair=alternatives(EXPERIMENT.pairs),
    arm=alternatives(ARMS.values()),
    table=alternatives(TABLE_ROWS),
    cell=alternatives(CELLS),
