"""Commands ledger, neurons, directions and activations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from affectlocus.cli.shared import (
    Features,
    HardwareText,
    Out,
    Reading,
    Then,
    Tuned,
    importing,
    read_frame,
    settings_of,
    settings_option,
    without_effect,
    write_csv,
    write_frame,
)
from affectlocus.core.errors import InputError, check_choice


def ledger(
    models: Annotated[
        list[Path],
        typer.Argument(help="a model's folder, its config.json, or the manifest of a checkpoint"),
    ],
    modules: Annotated[
        list[str] | None,
        typer.Option(help="module set, such as gate or q+k+v+o; repeat for several"),
    ] = None,
    rank: Annotated[int, typer.Option(min=1, help="LoRA rank r")] = 16,
    method: Annotated[str, typer.Option(help="lora, or sft for full tuning")] = "lora",
    others: Annotated[
        list[str] | None,
        typer.Option(
            help="parameters that are trained in addition: NAME=COUNT, a yaml or json file of "
            "names and counts (also in groups), or affectgpt for AffectGPT's parts; repeat for "
            "several"
        ),
    ] = None,
    bridge: Annotated[
        str | None,
        typer.Option(
            help="JSON of a bridge (kind, tokens, …), which is trained in addition; needs "
            "--features of each medium that it reads, except for kind native"
        ),
    ] = None,
    features: Features = None,
    measure: Annotated[
        bool, typer.Option(help="measure the time of a step of each set instead, on a small model")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="csv to write; by default printed as a table")
    ] = None,
) -> None:
    """Count the parameters that a tuning trains, and the sizes of optimizer and adapter.

    The counts are exact and follow from the configuration; no weights are read. The row of gate is
    GET (the paper's Algorithm 1). Each module set has two rows: at the given rank, and at the rank
    at which it has about as many parameters as all seven projections (equal parameters). Shares are
    in percent: share (of LoRA on all seven), share_of_saved (--others in the denominator too),
    share_of_trained (the same without parts that are saved and not trained), share_plus_others
    (--others in the numerator too), share_plus_GROUP (one group of them). The column bridge has the
    parameters that are trained in addition to the language model, with --others or --bridge.

    Example: affectlocus ledger Qwen2.5-7B --modules all --modules gate --others affectgpt
    """
    import pandas as pd

    from affectlocus.core.projections import parse_modules
    from affectlocus.training.ledger import SETS

    check_choice("--method", method, ("lora", "sft"))
    sets = [str(parse_modules(one)) for one in modules or ()]
    if measure:
        without_effect({"others": others, "bridge": bridge}, "--measure computes no shares")
        if method == "sft":
            raise InputError(
                "option.no-effect",
                "--measure measures LoRA only; leave --method out",
                option="--method",
            )
    with importing():
        from affectlocus.training.ledger import ledger as count
        from affectlocus.training.lora_targets import config_of, layout_of
    frames = []
    for path in models:
        found = layout_of(path)
        asked = sets or [one for one in SETS if found.has(one)]
        if measure:
            from affectlocus.training.step_times import step_times

            frame = step_times(config_of(path), asked, rank)
            frame.insert(0, "model", found.name)
        else:
            beside = _others(others, found) | _bridge(bridge, features, found)
            frame = count(found, asked, rank, "lora" if method == "lora" else "sft", beside)
        frames.append(frame)
    frame = pd.concat(frames, ignore_index=True)
    if out is None:
        from affectlocus.reporting.terminal import print_frame

        # Columns with one value are shown in the title.
        same = [n for n in ("model", "method") if n in frame and frame[n].nunique() == 1]
        title = ", ".join([str(frame[n].iloc[0]) for n in same] + ["measured"] * measure)
        if "bridge" in frame:
            title += f", {frame['bridge'].iloc[0]:,} trained in addition"
            same.append("bridge")
        if not frame.get("beyond_full_rank", pd.Series(dtype=bool)).any():
            same.append("beyond_full_rank")
        print_frame(frame.drop(columns=same, errors="ignore"), title)
        return
    write_csv(frame, out, "%.4f")


def _bridge(text: str | None, features: list[Path] | None, model: Any) -> Any:
    """The parameters of a bridge by group and part; empty without one."""
    if text is None:
        without_effect({"features": features}, "it is for --bridge")
        return {}
    from affectlocus.config.bridges import KINDS, BridgeConfig
    from affectlocus.lm.features import Features
    from affectlocus.training.ledger import bridge_parameters

    config = settings_of(BridgeConfig, text, "--bridge")
    if KINDS[config.kind].own:
        without_effect({"features": features}, "a bridge of kind native is a part of the model")
        if not model.bridge:
            raise InputError(
                "native.no-bridge",
                f"{model.name}: a bridge of kind native, and the model has none",
                found=model.name,
            )
        return {"bridge": dict(model.bridge)}
    widths = {file.stem: Features.read(file).width for file in features or []}
    return bridge_parameters(config, widths, model.hidden_size)


def _others(given: list[str] | None, model: Any) -> dict[str, dict[str, int]]:
    """Parts that are trained in addition to the language model, by group."""
    from affectlocus.config.yaml_text import parsed
    from affectlocus.training.ledger import affectgpt, others_of

    found: dict[str, dict[str, int]] = {}
    for text in given or ():
        name, equals, count = text.partition("=")
        if text == "affectgpt":
            if model.hidden_size is None:
                raise InputError(
                    "model.no-hidden-size",
                    f"{model.name}: no hidden_size, which AffectGPT's parts depend on",
                    file=model.name,
                    key="hidden_size",
                )
            groups: Any = affectgpt(model.hidden_size)
        elif equals and not Path(text).exists():
            if not count.isdigit():
                raise InputError(
                    "option.not-a-count",
                    f"--others {text}: expected NAME=COUNT, a number of parameters",
                    option="--others",
                    found=text,
                )
            groups = {"others": {name: int(count)}}
        else:
            try:
                written = Path(text).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                line = " ".join(str(error).split())
                raise InputError(
                    "option.unreadable-file",
                    f"--others {text}: cannot be read ({line}); expected NAME=COUNT, affectgpt, or "
                    "a yaml or json file",
                    option="--others",
                    file=text,
                ) from None
            groups = others_of(parsed(written, f"--others {text}"), text)
        for group, parts in groups.items():
            found.setdefault(group, {}).update(parts)
    return found


def neurons(
    affective: Annotated[
        list[Path] | None,
        typer.Option(help="PAIR.neurons.parquet of an affective pair's deltas; repeat for several"),
    ] = None,
    others: Annotated[
        list[Path] | None,
        typer.Option(help="the same file of a control or null on this base; repeat for several"),
    ] = None,
    pairs: Annotated[
        str,
        typer.Option(
            help="JSON: file name without .neurons.parquet → pair, if several files are seeds of "
            "one pair; by default each file is a pair"
        ),
    ] = "{}",
    share: Annotated[
        float, typer.Option(help="share of the neurons that count as moved: the most changed ones")
    ] = 0.01,
    out: Annotated[
        Path | None, typer.Option(help="parquet to write; by default summaries are printed")
    ] = None,
) -> None:
    """Measure how the change is distributed over feed-forward neurons of pairs on one base.

    A neuron is a row of gate or up, or a column of down. --out has the moved neurons, and in how
    many affective and other pairs each moved. Files next to it: .concentration (Gini coefficient,
    and the share of the squared change in the top 1 %), .overlaps (the number of neurons that moved
    in both of two pairs, the number expected by chance, and the hypergeometric p value), .chance
    (the number that moved in two or more affective pairs and in no other, and the number expected
    by chance; empty with fewer than two affective pairs). Pairs are counted, not files: the squared
    changes of the seeds of a pair (--pairs) are averaged first.

    Example: affectlocus neurons --affective results/deltas/mine.neurons.parquet
    --others results/deltas/control.neurons.parquet --out neurons.parquet
    """
    if not 0 < share <= 0.5:
        raise InputError(
            "option.out-of-range",
            f"--share {share:g}: expected more than 0, and 0.5 at most",
            option="--share",
            found=share,
        )
    given = {
        path: read_frame(path, "layer", "projection", "neuron", "l2")
        for path in [*(affective or []), *(others or [])]
    }
    if not given:
        raise InputError(
            "option.missing",
            "no input; give a PAIR.neurons.parquet with --affective or --others",
            option="--affective",
        )
    import pandas as pd
    from pydantic import RootModel

    from affectlocus.deltas import neurons as step

    names = {path: path.name.removesuffix(".parquet").removesuffix(".neurons") for path in given}
    if len(set(names.values())) < len(names):
        raise InputError(
            "pair.same-file-names",
            "two files have the same name; give the file of each pair another name",
            found=sorted(path.name for path in given),
        )
    pair_of = settings_of(RootModel[dict[str, str]], pairs, "--pairs").root
    if unknown := sorted(set(pair_of) - set(names.values())):
        raise InputError(
            "pair.no-file",
            f"--pairs: no file is named {unknown[0]!r}; expected {', '.join(names.values())}",
            option="--pairs",
            found=unknown[0],
            expected=list(names.values()),
        )
    one = {names[path]: given[path] for path in affective or []}
    two = {names[path]: given[path] for path in others or []}
    each = [step.concentration(frame).assign(pair=name) for name, frame in (one | two).items()]
    felt, rest = step.pooled(one, pair_of), step.pooled(two, pair_of)
    chance = step.again_by_chance(felt, rest, share)
    if out is None:
        from affectlocus.reporting.terminal import print_frame

        met = step.overlaps(one | two, share)
        met = met[met["layer"].isna()].drop(columns=["layer", "expert"])
        spread = pd.concat(each).groupby(["pair", "projection"], sort=False)
        print_frame(spread[["gini", "top_share"]].mean().reset_index(), "mean over layers")
        print_frame(met, "moved neurons that two pairs share")
        print_frame(chance, "moved in several affective pairs, in no other")
        return
    write_frame(step.moved_neurons(felt, rest, share), out)
    write_frame(pd.concat(each, ignore_index=True), out.with_suffix(".concentration.parquet"))
    write_frame(step.overlaps(one | two, share), out.with_suffix(".overlaps.parquet"))
    write_frame(chance, out.with_suffix(".chance.parquet"))


def directions(
    base: Annotated[Path, typer.Option(help="manifest of the base checkpoint")],
    tuned: Annotated[
        list[Path], typer.Option(help="manifest of a tuned model or adapter; two or more")
    ],
    out: Annotated[
        Path | None, typer.Option(help="parquet to write; by default means are printed")
    ] = None,
    settings: Annotated[str, settings_option("rank")] = "{}",
    readings: Annotated[
        str, typer.Option(help="JSON: name of a tuned manifest → how it is read (alpha, prefix, …)")
    ] = "{}",
    then: Then = None,
) -> None:
    """Compare the directions of the deltas of pairs on one base.

    For every two tuned checkpoints and every weight matrix: the cosine of the deltas, and the
    overlap of the subspaces of their leading singular vectors, left (what the change writes) and
    right (what it reads), each with its value by chance. Two LoRAs with the same seed start with
    the same A, so that their right subspaces overlap from the start. Compare their overlap with
    that of a control with the same seed.

    Example: affectlocus directions --base qwen2.json --tuned affective.json --tuned control.json
    """
    from pydantic import RootModel

    from affectlocus.checkpoints.checkpoint_manifests import checkpoint_folder
    from affectlocus.checkpoints.pairs import Pair
    from affectlocus.config.measures import Directions
    from affectlocus.config.pairs import Reading

    chosen = settings_of(Directions, settings)
    names = [path.stem for path in tuned]
    if len(names) < 2 or len(set(names)) < len(names):
        raise InputError(
            "option.too-few-checkpoints",
            "--tuned: expected two or more manifests with different names",
            option="--tuned",
            found=names,
        )
    how = settings_of(RootModel[dict[str, Reading]], readings, "--readings").root
    with importing():
        from affectlocus.deltas.directions import directions as run
    chain = [checkpoint_folder(base), *(then or [])]
    frame = run(
        {
            path.stem: Pair(
                chain, checkpoint_folder(path), **how.get(path.stem, Reading()).model_dump()
            )
            for path in tuned
        },
        chosen.rank,
    )
    if out is not None:
        write_frame(frame, out)
        return
    from affectlocus.reporting.terminal import print_frame

    scores = ["cosine", "left_overlap", "left_expected", "right_overlap", "right_expected"]
    means = frame.groupby(["first", "second", "projection"], sort=False)[scores].mean()
    print_frame(means.reset_index(), f"mean over layers, {chosen.rank} leading directions")


def activations(
    base: Annotated[Path, typer.Option(help="manifest of the base checkpoint")],
    tuned: Tuned,
    neurons: Annotated[Path, typer.Option(help="PAIR.neurons.parquet of the pair's deltas")],
    data: Annotated[
        list[Path], typer.Option(help="prepared task with neutral samples; repeat for several")
    ],
    out: Out,
    summary: Annotated[
        Path, typer.Option(help="parquet to write: moved neurons compared with the others")
    ],
    again: Annotated[
        Path | None,
        typer.Option(help="output of neurons for the pairs on this base"),
    ] = None,
    settings: Annotated[str, settings_option("share, neutral")] = "{}",
    evaluate: Annotated[str, typer.Option(help="JSON, any of: batch_tokens, max_length")] = "{}",
    reading: Reading = "{}",
    then: Then = None,
    hardware: HardwareText = "{}",
) -> None:
    """Measure how the activations of the gate differ between emotional and neutral texts.

    For the base and the tuned model: the mean activation of every gate neuron on the test samples
    with a neutral label and on the others, and the difference as Hedges' g. The summary tests
    (Mann-Whitney) whether the neurons that the tuning moved differ more than the others.

    Example: affectlocus activations --base qwen2.json --tuned mine.json
    --neurons results/deltas/mine.neurons.parquet --data results/data/MELD-emotion.parquet
    --out activations.parquet --summary summary.parquet
    """
    from affectlocus.checkpoints.checkpoint_manifests import checkpoint_folder
    from affectlocus.config.evaluation import Evaluate
    from affectlocus.config.hardware import Hardware
    from affectlocus.config.measures import Neurons
    from affectlocus.config.pairs import Reading
    from affectlocus.data.prepared_task import PreparedTask

    chosen = settings_of(Neurons, settings)
    limits = settings_of(Evaluate, evaluate)
    devices = settings_of(Hardware, hardware, "--hardware")
    how = settings_of(Reading, reading)
    tasks = [PreparedTask.read(path) for path in data]
    changed = read_frame(neurons, "layer", "projection", "neuron", "l2")
    repeated = read_frame(again, "layer", "projection", "neuron", "again") if again else None
    folders = checkpoint_folder(base), checkpoint_folder(tuned)
    with importing():
        from affectlocus.evaluation.activations import gate_shifts
    rows, found = gate_shifts(
        [folders[0], *(then or [])],
        folders[1],
        {task.name: task.samples for task in tasks},
        changed,
        repeated,
        chosen,
        limits,
        how.model_dump(),
        devices,
    )
    write_frame(found, summary)
    write_frame(rows, out)
