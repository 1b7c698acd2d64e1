"""Every text model of transformers: built tiny, saved, and read or refused by its true name.

With AFFECTLOCUS_WRITE=1 in the environment, it writes the table docs/reference/model-types.md.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_configs import LAYERS, NOT_MADE, model_types, tiny_model

from affectlocus import InputError
from affectlocus.api import diff
from affectlocus.checkpoints.architectures import place
from affectlocus.checkpoints.layout_checks import check_projections, no_projections
from affectlocus.checkpoints.weights import Weights
from affectlocus.core.projections import PROJECTIONS

pytestmark = [pytest.mark.full, pytest.mark.xdist_group("model types")]

PAGE = Path(__file__).parents[2] / "docs/reference/model-types.md"
TRUE_NAMES = {
    "model.no-gate": "no gate in the feed-forward block",
    "model.latent-attention": "latent attention: no matrix is k or v alone",
    "model.other-layout": "other modules than the seven",
    "model.projection-twice": "two stacks of layers with the same numbers",
}
"""The refusals that name what the model has."""


@dataclass
class Read:
    """What of a model is read: the layers of each projection, and the sentences about the rest."""

    layers: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    adapted: dict[str, bool] = field(default_factory=dict)
    refusal: str = ""
    adapter_refusal: str = ""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Read]:
    return {name: _read(name, tmp_path_factory.mktemp("model")) for name in model_types()}


def _read(model_type: str, folder: Path) -> Read:
    model = tiny_model(model_type)
    base, adapter = folder / "base", folder / "adapter"
    model.save_pretrained(base)
    try:
        weights = Weights(base)
        notes = check_projections(weights)
        if not weights.projections:
            raise no_projections(weights)
    except InputError as error:
        return Read(refusal=error.code)
    places = {(one.layer, one.projection) for one in weights.projections}
    layers = Counter(projection for _, projection in places)
    found = Read(dict(layers), [note.partition(": ")[2] for note in notes])
    torch.manual_seed(0)
    settings = LoraConfig(
        r=2, target_modules=_linear(model), target_parameters=_fused_experts(model)
    )
    tuned = get_peft_model(model, settings)
    for name, value in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(value)
    tuned.save_pretrained(adapter)
    try:
        rows = diff(base, adapter, any_base=True).frame
    except InputError as error:
        found.adapter_refusal = str(error.fields.get("key", error.code))
    else:
        found.adapted = rows.groupby("projection")["adapted"].any().to_dict()
    return found


def _linear(model: torch.nn.Module) -> list[str]:
    """The linear modules with known names: peft refuses those of Mamba blocks."""
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and place(f"{name}.weight") is not None
    ]


def _fused_experts(model: torch.nn.Module) -> list[str]:
    """The parameters that hold all experts of a layer."""
    return [
        name
        for name, value in model.named_parameters()
        if name.endswith(("experts.gate_up_proj", "experts.down_proj")) and value.ndim == 3
    ]


def test_every_text_model_is_read_or_refused_by_its_true_name(found: dict[str, Read]) -> None:
    unnamed = {
        name: one.refusal
        for name, one in found.items()
        if one.refusal and one.refusal not in TRUE_NAMES
    }
    assert not unnamed
    for name, one in found.items():
        if not one.refusal:
            assert set(one.layers) == set(PROJECTIONS), name
            short = {part for part, count in one.layers.items() if count < LAYERS}
            assert not short or any("not measured" in note for note in one.notes), name


def test_the_table_in_the_documentation_is_what_was_found(found: dict[str, Read]) -> None:
    text = _page(found)
    if os.environ.get("AFFECTLOCUS_WRITE"):
        PAGE.write_text(text, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == text, (
        "run: AFFECTLOCUS_WRITE=1 pytest tests/unit/test_model_types.py"
    )


def _page(found: dict[str, Read]) -> str:
    read = {name: one for name, one in found.items() if not one.refusal}
    rows = ["| model types | measured | LoRA changes |", "|---|---|---|"]
    rows += [
        f"| {', '.join(names)} | {_measured(one)} | {_adapted(one)} |"
        for names, one in _alike(read)
    ]
    refused = ["| why | model types |", "|---|---|"]
    for code, reason in TRUE_NAMES.items():
        names = [name for name, one in found.items() if one.refusal == code]
        refused.append(f"| {reason} (`{code}`) | {', '.join(names)} |")
    missing = [f"- {name}: {why}" for name, why in sorted(NOT_MADE.items())]
    return "\n".join(
        (
            "# Model types",
            "",
            "Which text models are read. A test made this page: it built a tiny model with four "
            "layers of every type for",
            f"which transformers has a class of a language model ({len(found)} types), saved it, "
            "tuned its linear modules and fused experts with peft, and read both.",
            "",
            f"## Read: {len(read)} types",
            "",
            *rows,
            "",
            f"## Refused: {len(found) - len(read)} types",
            "",
            "A command ends with one sentence that names the reason.",
            "",
            *refused,
            "",
            "## Not tried",
            "",
            "transformers could not make a tiny model of these types from their settings.",
            "",
            *missing,
            "",
        )
    )


def _alike(read: dict[str, Read]) -> list[tuple[list[str], Read]]:
    def key(name: str) -> tuple[int, str, str]:
        one = read[name]
        return len(one.notes), _measured(one), _adapted(one)

    groups = groupby(sorted(read, key=lambda name: (key(name), name)), key)
    listed = [sorted(names) for _, names in groups]
    return [(names, read[names[0]]) for names in listed]


def _measured(one: Read) -> str:
    parts = []
    for note in one.notes:
        left, _, reason = note.partition(": there the model has ")
        if reason:
            names = re.split(" (?:is|are) not measured", left)[0]
            parts.append(f"{names} not in layers with {reason}")
        elif "holds the query and a gate" in note:
            parts.append("q includes a gate of the attention's output")
        else:
            parts.append(note)
    return "; ".join(["all seven", *parts])


def _adapted(one: Read) -> str:
    if one.adapter_refusal:
        return f"refused: `{one.adapter_refusal}`"
    lacking = [name for name in PROJECTIONS if not one.adapted[name]]
    return f"all but {', '.join(lacking)}" if lacking else "all seven"
