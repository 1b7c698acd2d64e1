"""The Python API. `import affectlocus` exports these names and imports nothing heavy for it."""

from __future__ import annotations

import html
import shlex
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar

from affectlocus.core.errors import InputError
from affectlocus.core.extras import explained, needed

if TYPE_CHECKING:
    import os

    import pandas as pd
    from matplotlib.figure import Figure

    from affectlocus.deltas.delta_tables import DeltaTables

    AnyPath = str | os.PathLike[str]

P = ParamSpec("P")
T = TypeVar("T")


def _public(function: Callable[P, T]) -> Callable[P, T]:
    """Names the extra where a library is missing."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except ModuleNotFoundError as error:
            sentence = explained(error, f"affectlocus.{function.__name__}")
            if sentence is None:
                raise
            raise sentence from None

    return call


class Diff:
    """What a fine-tune changed; made by `diff`. In a notebook it shows its table.

    Attributes:
        base: the base as it was named; None for an adapter alone.
        tuned: the tuned model or adapter as it was named.
        notes: sentences about doubtful input and about parts that are not measured.
    """

    def __init__(self, measured: DeltaTables, base: str | None, tuned: str) -> None:
        self._measured = measured
        self.base = base
        self.tuned = tuned
        self.notes: list[str] = list(measured.notes)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The delta: one row per (layer, projection, weight or bias).

        Columns: `layer` (from 0), `projection` (q, k, v, o, gate, up, down), `parameter` (weight,
        bias), `numel`, `shape` (d_out x d_in), `dtype`, `adapted`; float64 `l2` (Frobenius norm of
        the change), `base_l2`, `relative` (l2 / base_l2), `rms` (per weight), `share_ratio` (1 is
        even), `cosine`, `cosine_distance`, `mean`, `std`, `max_abs`, `spectral_norm`,
        `stable_rank`, `effective_rank`, `dtype_floor`. Empty values were not measured. The sizes
        are in the unit of the weights.
        """
        from affectlocus.deltas.delta_tables import arrow_tables

        frame: pd.DataFrame = arrow_tables(self._measured)[""].to_pandas()
        return frame

    @cached_property
    def summary(self) -> pd.DataFrame:
        """One row per projection, largest `rms` first: `layers`, and the means over layers."""
        import pandas as pd

        from affectlocus.deltas.delta_tables import summary
        from affectlocus.deltas.diff import ranked

        found = summary(self._measured.rows, self._measured.unknown)
        rows = [{"projection": name, **found[name]} for name in ranked(found, "rms")]
        return pd.DataFrame(rows).set_index("projection")

    @_public
    def heat_map(self) -> Figure:
        """Layers by projections: L2, relative and RMS side by side, as a matplotlib figure."""
        import matplotlib as mpl

        from affectlocus.deltas.diff import short_name

        chosen = mpl.get_backend(auto_select=False)
        from affectlocus.reporting.heat_map import heat_map

        if chosen is not None:
            mpl.use(chosen)  # importing reporting selects a backend for files
        import matplotlib.pyplot as plt

        names = [short_name(name) for name in (self.base, self.tuned) if name is not None]
        figure = heat_map(self.frame, " → ".join(names))
        plt.close(figure)  # otherwise a notebook shows it twice
        return figure

    def __repr__(self) -> str:
        sides = " → ".join(name for name in (self.base, self.tuned) if name is not None)
        shown = self.summary[["layers", "l2", "relative", "rms"]]
        return f"Diff {sides}\n{shown.to_string(float_format='{:.3g}'.format, na_rep='')}"

    def _repr_html_(self) -> str:
        sides = " → ".join(name for name in (self.base, self.tuned) if name is not None)
        columns = ["layers", "l2", "relative", "rms", "share_ratio", "spectral_norm", "stable_rank"]
        table = self.summary[columns].dropna(axis="columns", how="all")
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in self.notes)
        return (
            f"<p>{html.escape(sides)}: means over layers, largest RMS first</p>"
            f"{table.to_html(float_format='{:.3g}'.format, na_rep='')}"
            f"{f'<ul>{notes}</ul>' if notes else ''}"
        )


@_public
def diff(
    base: AnyPath,
    tuned: AnyPath | None = None,
    *,
    then: Iterable[AnyPath] = (),
    alpha: float | None = None,
    prefix: str = "",
    any_base: bool = False,
    spectra: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Diff:
    """Measures where a fine-tune changed a model, as `affectlocus diff` does.

    Args:
        base: a model: folder, file, or hub id (`owner/name`, `owner/name@revision`); or an adapter
            without its base.
        tuned: a model or an adapter that was tuned from it, named likewise.
        then: adapters that are merged into `base` first, in order.
        alpha: LoRA alpha of a .pth without one.
        prefix: prefix of the names of the tuned model's tensors, such as `language_model.`.
        any_base: whether to read an adapter that names another base.
        spectra: whether to compute spectra of full deltas; takes minutes for a large model.
        progress: called with the number of finished tensors and of all tensors.

    Raises:
        InputError: checkpoints that cannot be read or do not belong together; an argument without
            effect.
    """
    from affectlocus.data.named_checkpoint import checkpoint_path
    from affectlocus.deltas.diff import compare

    first = checkpoint_path(str(base))
    second = None if tuned is None else checkpoint_path(str(tuned))
    measured = compare(
        first,
        second,
        then=[Path(one) for one in then],
        alpha=alpha,
        prefix=prefix,
        any_base=any_base,
        spectra=spectra,
        progress=progress,
        unused=_without_effect,
    )
    names = (None, str(base)) if tuned is None else (str(base), str(tuned))
    return Diff(measured, *names)


def _without_effect(arguments: dict[str, Any], why: str) -> None:
    for option, value in arguments.items():
        if value:
            name = option.replace("-", "_")
            raise InputError(
                "option.no-effect",
                f"{name}= has no effect: {why}; leave it out",
                option=f"{name}=",
            )


@_public
def convert(
    adapter: AnyPath,
    out: AnyPath,
    *,
    alpha: float | None = None,
    base: str | None = None,
    bridge: str = "auto",
    modules: str | None = None,
    initial: AnyPath | None = None,
    visual: str | None = None,
    file: str | None = None,
    sha256: str | None = None,
) -> dict[str, Any]:
    """Writes an adapter as a PEFT folder with its bridge, or a GGUF file as a Hugging Face model.

    Args:
        adapter: a .pth of trained tensors (needs torch), MLX's adapter folder, or a GGUF file
            (needs gguf and transformers); with `file`, an installed package as NAME==VERSION.
        out: the folder to write; an earlier output of this function is replaced.
        alpha: LoRA alpha, if the file has none.
        base: hub id or folder of the base, for adapter_config.json.
        bridge: of a .pth, the system whose bridge it holds: `affectgpt` or `emotion-llama`; `auto`:
            the one whose tensors it has; `none`: convert the adapter alone.
        modules: of a .pth with a bridge, the module set that has LoRA factors, if it is not the
            released one.
        initial: the checkpoint before training, whose bridge is written as bridge_initial.
        visual: of AffectGPT's .pth, `face` or `frame`: the pictures that it was trained on; by
            default what the configuration in the file says, or `face`.
        file: of a package, its GGUF file; `*` and `?` match any characters.
        sha256: of a GGUF file, the SHA-256 that it must have.

    Returns:
        Of a GGUF file: `quantization`, `label`, `types`, `gguf_sha256`, `model_type`, `tensors` and
        `perplexity` on a paragraph of English. Of an adapter:
        `modules`: how many were converted; their most common `rank` and `alpha`; `other`: the
        trained tensors that were not converted; `bridge`, `bridge_initial`: its kind, the numbers
        of its tensors and parameters, and the tensors that it does not need, with the reasons.

    Raises:
        InputError: no LoRA factors in it; tensors that the system does not have, or does not have
            exactly once; a GGUF file that cannot be converted faithfully; an option without effect;
            or an output that holds other files.
    """
    from affectlocus.checkpoints.gguf_files import is_gguf

    if file is not None or is_gguf(Path(adapter)):
        given = {"alpha": alpha, "base": base, "modules": modules, "initial": initial}
        given |= {"visual": visual, "bridge": None if bridge == "auto" else bridge}
        _without_effect(given, "it applies to adapters, not to GGUF files")
        needed("gguf", "affectlocus.convert, of a GGUF file,")
        from affectlocus.data.gguf_sources import gguf_source
        from affectlocus.lm.gguf_models import write_model

        return write_model(gguf_source(str(adapter), file, sha256), Path(out))
    _without_effect({"sha256": sha256}, "it applies to GGUF files only")
    from affectlocus.checkpoints.adapters import Adapter
    from affectlocus.checkpoints.convert import convert as run
    from affectlocus.checkpoints.released_files import bridges_of

    start = None if initial is None else Path(initial)
    bridges = bridges_of(Path(adapter), bridge, modules, start, visual)
    return run(Adapter(Path(adapter), alpha), Path(out), base, bridges)


@_public
def verify(reference: AnyPath, changed: AnyPath, modules: str) -> dict[str, int]:
    """Checks bit for bit that two checkpoints differ in a module set only.

    Args:
        reference: folder of a model.
        changed: folder of a model or adapter that was made from it.
        modules: the module set that may differ, such as `gate` or `q+k+v+o`.

    Returns:
        Counts of tensors: `inside` the set, those of them that `changed`; `outside`, and those of
        them that are `untouched`.

    Raises:
        InputError: a tensor outside the set differs, or is missing.
    """
    from affectlocus.evaluation.interventions import verify_folders

    return verify_folders(Path(reference), Path(changed), modules)


@_public
def graft(
    base: AnyPath,
    tuned: AnyPath,
    modules: str,
    out: AnyPath,
    *,
    kind: Literal["load", "tuned", "ablate"] = "load",
    mode: str = "",
    seed: int = 0,
) -> dict[str, Any]:
    """Writes a cell as a model of its own, and verifies it bit for bit.

    Args:
        base: folder of the base model.
        tuned: folder of the tuned model, or of an adapter.
        modules: the module set, such as `gate`; without effect for kind `tuned`.
        out: the folder to write; an earlier output of this function is replaced.
        kind: `load`: the base with the delta of the set; `ablate`: the tuned model with the set
            destroyed; `tuned`: the whole tuned model.
        mode: of `ablate`: `revert`, `zero`, `shuffle` or `noise`; the last two need torch.
        seed: of `shuffle` and `noise`.

    Returns:
        The counts of `verify`; `outside_is` and `outside_tuned`: whose tensors are outside the set,
        and the modules outside the seven projections in which base and tuned model differ.

    Raises:
        InputError: checkpoints that do not fit each other, or an output that holds other files.
    """
    from affectlocus.evaluation.graft import save_cell

    return save_cell(Path(base), Path(tuned), modules, Path(out), kind, mode, seed)


@_public
def ledger(
    model: AnyPath,
    modules: Sequence[str] | None = None,
    *,
    rank: int = 16,
    method: Literal["lora", "sft"] = "lora",
) -> pd.DataFrame:
    """Counts the parameters that a tuning trains.

    Args:
        model: a model's folder, its config.json, or the manifest of a checkpoint.
        modules: module sets; by default all, each projection, and three combinations.
        rank: LoRA rank.
        method: `lora`, or `sft` for the weights themselves.

    Returns:
        One row per module set and budget: `parameters`, `share` of LoRA on all seven and
        `share_of_model` in percent, `optimizer_bytes`, `adapter_bytes` and more.

    Raises:
        InputError: a model that cannot be counted, or a set that it cannot be tuned on.
    """
    from affectlocus.core.projections import parse_modules
    from affectlocus.training.ledger import SETS
    from affectlocus.training.ledger import ledger as run
    from affectlocus.training.lora_targets import layout_of

    layout = layout_of(Path(model))
    sets = [str(parse_modules(one)) for one in modules or ()]
    return run(layout, sets or [one for one in SETS if layout.has(one)], rank, method)


@_public
def score(
    gold: AnyPath,
    predictions: AnyPath,
    kind: Literal["hit-rate", "waf"],
    *,
    wheels: AnyPath | None = None,
    own_wheels: bool = False,
    choose: Literal["last", "validation", "test"] = "last",
    validation_gold: AnyPath | None = None,
    validation_predictions: AnyPath | None = None,
) -> dict[str, Any]:
    """Scores any system's answers as MER-UniBench does, and by a corrected protocol.

    Args:
        gold: csv of `sample` and `emotion` (hit-rate), or `value` (waf).
        predictions: csv of `checkpoint`, `sample` and `openset` (labels joined by |; hit-rate), or
            `prediction` (waf).
        kind: `hit-rate` for emotions, `waf` for valence.
        wheels: for hit-rate: folder of AffectGPT's emotion wheels, or `released` to download them.
        own_wheels: whether the wheels in the folder are your own.
        choose: the checkpoint whose scores count: the last by name, the best on the validation
            files, or the best on the test files (as in published results).
        validation_gold: for `choose="validation"`, as `gold`.
        validation_predictions: for `choose="validation"`, as `predictions`.

    Returns:
        Scores as fractions, with n, constant answers and the scores of every checkpoint; the object
        of `affectlocus score --protocol mer-unibench --json`.

    Raises:
        InputError: files that do not fit each other; an argument that is missing, or without
            effect.
    """
    from affectlocus.scoring.score_files import score_files

    options = {
        "gold": gold,
        "predictions": predictions,
        "kind": kind,
        "wheels": wheels,
        "own_wheels": own_wheels,
        "choose": choose,
        "validation_gold": validation_gold,
        "validation_predictions": validation_predictions,
    }
    return score_files(options, lambda name: f"{name}=")


class Experiment:
    """The results of an experiment, read from its folder.

    Args:
        folder: the folder of its params.yaml, such as `experiments/mine`; results are in `results`
            below it.

    Raises:
        InputError: no params.yaml there.
    """

    def __init__(self, folder: AnyPath = ".") -> None:
        self.folder = Path(folder)
        file = self.folder / "params.yaml"
        if not file.is_file():
            raise InputError(
                "params.no-file",
                f"{file}: no such file; expected the folder of an experiment",
                file=file,
            )

    def __repr__(self) -> str:
        return f"Experiment({str(self.folder)!r})"

    def table(self, number: Literal[1, 2, 3], arm: str = "", pair: str = "") -> pd.DataFrame:
        """The numbers of a table, with their intervals.

        Args:
            number: 1 (load), 2 (tune) or 3 (ablate).
            arm: another arm of the table: `even` or `dose` of 1, `fair` of 2.
            pair: a further pair's name; by default the first pair of the matrix.

        Returns:
            One row per (cell, task): `num`, `modules`, `mode`, `kind`, `seeds`, `task` (or mean),
            `metric`, `value` in percent, `n`, its interval `low` to `high`, the paired `gain` over
            the cell `reference` with `gain_low` to `gain_high` in percentage points, the level
            `confidence`, and the name of the `cell`.

        Raises:
            InputError: not computed yet.
        """
        name = f"table{number}{f'_{arm}' if arm else ''}{f'.{pair}' if pair else ''}"
        return self._csv(f"{name}_intervals.csv")

    def claims(self) -> pd.DataFrame:
        """The verdict on each claim, one row per claim and pair."""
        return self._csv("claims.csv")

    def scores(self) -> pd.DataFrame:
        """All scores: one row per (cell, task, metric), `value` in the metric's unit."""
        return self._parquet("scores.parquet")

    def deltas(self, pair: str) -> pd.DataFrame:
        """A pair's delta, with the columns of `Diff.frame`.

        Args:
            pair: its name; a pair that is tuned here has one for each seed, such as `mine.seed0`.
        """
        return self._parquet(f"deltas/{pair}.parquet")

    def _csv(self, name: str) -> pd.DataFrame:
        import pandas as pd

        return pd.read_csv(self._found(name), keep_default_na=True)

    def _parquet(self, name: str) -> pd.DataFrame:
        import pandas as pd

        return pd.read_parquet(self._found(name))

    def _found(self, name: str) -> Path:
        path = self.folder / "results" / name
        if path.is_file():
            return path
        there = sorted(each.name for each in path.parent.glob(f"*{path.suffix}"))
        others = f"; there are {', '.join(there[:9])}" if there else ""
        raise InputError(
            "results.no-file",
            f"{path}: no such file{others}. To compute it: snakemake --cores 2 "
            f"--directory {shlex.quote(str(self.folder))} {shlex.quote(f'results/{name}')}",
            file=path,
            found=there,
        )
