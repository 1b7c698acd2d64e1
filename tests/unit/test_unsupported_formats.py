"""Checkpoints in pieces, and models with adapters in them or next to them: read, or named."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from refusal import refused
from safetensors.torch import save_file

from affectlocus.checkpoints.pairs import Pair, holds_model
from affectlocus.core.checkpoint_files import checkpoint_files
from affectlocus.data.retrieve import retrieve
from affectlocus.deltas.delta_tables import summary
from affectlocus.deltas.deltas import deltas
from affectlocus.evaluation.evaluate import HARDWARE
from affectlocus.lm.devices import load

BASE = tiny.llama()
TUNED = tiny.moved(BASE)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tiny.model(tmp_path / "base", BASE)


def measured(base: Path, tuned: Path, alpha: float | None = None) -> dict:
    return summary(deltas(Pair(base, tuned, alpha), companions=False).rows)


def norm(name: str, change: dict[str, torch.Tensor]) -> float:
    return float(np.mean([float(one.norm()) for key, one in change.items() if name in key]))


# A whole model with LoRA factors in it


def wrapped(tensors: tiny.Tensors, layer: str = ".base_layer") -> tiny.Tensors:
    """What a state dict of peft's model holds; older versions of peft have no `base_layer`."""
    factors = tiny.renamed(tiny.lora(), lambda name: name.replace(".weight", ".default.weight"))
    inner = tiny.renamed(
        tensors,
        lambda name: (
            name.replace("_proj.weight", f"_proj{layer}.weight")
            if "q_proj" in name or "v_proj" in name
            else name
        ),
    )
    return tiny.renamed(inner, lambda name: f"base_model.model.{name}") | factors


def expected(own: tiny.Tensors) -> dict[str, torch.Tensor]:
    """What the wrapped model adds to the base: own + 4/2·B·A − W, in float64."""
    factors = tiny.lora()
    change = {}
    for name, value in BASE.items():
        change[name] = own[name].double() - value.double()
        stem = f"base_model.model.{name.removesuffix('.weight')}"
        if f"{stem}.lora_A.weight" in factors:
            a, b = (factors[f"{stem}.lora_{one}.weight"].double() for one in "AB")
            change[name] = change[name] + 2 * b @ a
    return change


def save(form: str, tensors: tiny.Tensors, folder: Path) -> Path:
    folder.mkdir()
    if form == "shards":
        ordered = sorted(tensors.items())
        for number in (0, 1):
            file = folder / f"model-0000{number + 1}-of-00002.safetensors"
            save_file({key: one.contiguous() for key, one in ordered[number::2]}, file)
    elif form.endswith("safetensors"):
        save_file(
            {key: one.contiguous() for key, one in tensors.items()}, folder / "model.safetensors"
        )
    else:
        torch.save(tensors, folder / "pytorch_model.bin")
    return next(folder.iterdir()) if form.startswith("file") else folder


FORMS = ["safetensors", "bin", "shards", "file safetensors", "file bin"]


@pytest.mark.parametrize("layer", [".base_layer", ""])
@pytest.mark.parametrize("own", ["the base's", "its own"])
@pytest.mark.parametrize("form", FORMS)
def test_a_model_whose_lora_was_not_merged_is_read(tmp_path, base, form, own, layer) -> None:
    weights = BASE if own == "the base's" else tiny.moved(tiny.moved(BASE, "q_proj"), "up_proj")
    tuned = save(form, wrapped(weights, layer), tmp_path / "tuned")
    with refused("adapter.no-alpha", option="alpha"):
        deltas(Pair(base, tuned), companions=False)
    found, change = measured(base, tuned, 4), expected(weights)
    for name in ("q", "k", "v", "up"):
        assert found[name]["l2"] == pytest.approx(norm(f".{name}_proj", change), rel=1e-6)


@pytest.mark.parametrize("form", ["safetensors", "bin", "shards"])
def test_a_configuration_next_to_it_tells_alpha(tmp_path, base, form) -> None:
    tuned = save(form, wrapped(BASE), tmp_path / "tuned")
    (tuned / "adapter_config.json").write_text(json.dumps(tiny.PEFT), encoding="utf-8")
    found = measured(base, tuned)
    assert found["q"]["l2"] == pytest.approx(norm(".q_proj", expected(BASE)), rel=1e-6)


def test_a_wrapped_model_of_all_seven_projections_in_one_file(tmp_path, base) -> None:
    tensors = {
        name.replace("_proj.weight", "_proj.base_layer.weight"): one for name, one in BASE.items()
    }
    factors = tiny.lora(tuple(tiny.SHAPES))
    made = tiny.renamed(tensors, lambda name: f"base_model.model.{name}") | factors
    tuned = save("file safetensors", made, tmp_path / "tuned")
    assert all(row["l2"] > 0 for row in measured(base, tuned, 4).values())


def test_an_adapter_file_alone_still_needs_its_folder(tmp_path, base) -> None:
    folder = tiny.adapter(tmp_path / "adapter", tiny.lora())
    with refused("adapter.no-settings", file=folder / "adapter_model.safetensors"):
        Pair(base, folder / "adapter_model.safetensors")


# An adapter and other files in one folder


def test_what_llava_saves_next_to_an_adapter_is_measured(tmp_path, base) -> None:
    adapter = tiny.adapter(tmp_path / "adapter", tiny.lora())
    gate = "model.layers.0.mlp.gate_proj.weight"
    more = {f"base_model.model.{gate}": TUNED[gate], "base_model.model.mm.weight": torch.ones(2)}
    torch.save(more, adapter / "non_lora_trainables.bin")
    found = measured(base, adapter)
    assert found["gate"]["layers"] == 1
    assert found["gate"]["l2"] == pytest.approx(float((TUNED[gate] - BASE[gate]).double().norm()))
    assert found["q"]["l2"] > 0


def test_what_llava_saves_is_among_the_files_of_an_adapter_alone() -> None:
    more = "non_lora_trainables.bin"
    names = ["adapter_config.json", "adapter_model.safetensors", "model.safetensors", more]
    assert checkpoint_files(names) == sorted({*names} - {"model.safetensors"})
    assert more not in checkpoint_files(["model.safetensors", more])


@pytest.fixture
def both(tmp_path: Path) -> Path:
    folder = tiny.model(tmp_path / "both", BASE)
    adapter = tiny.adapter(tmp_path / "adapter", tiny.lora())
    for file in adapter.iterdir():
        shutil.copy(file, folder)
    return folder


def test_a_folder_with_a_model_and_an_adapter_is_a_base(tmp_path, both) -> None:
    assert holds_model(both)
    pair = Pair(both, tmp_path / "adapter")
    assert pair.notes == [
        f"{both} holds a whole model and an adapter: as the base, the model alone is read"
    ]
    assert summary(deltas(pair, companions=False).rows)["q"]["l2"] > 0


def test_a_folder_with_a_model_and_an_adapter_is_an_adapter(base, both) -> None:
    (note,) = Pair(base, both).notes
    assert (
        note
        == f"{both} holds an adapter and a whole model: the adapter is read, and the model is not"
    )


def test_no_cell_is_made_of_a_base_with_an_adapter_in_its_folder(both) -> None:
    with refused("model.adapter-in-folder"):
        load(both, HARDWARE)


def test_an_adapter_is_no_base(tmp_path, both) -> None:
    with refused("checkpoint.adapter-alone", file=tmp_path / "adapter"):
        Pair(tmp_path / "adapter", both)


# DeepSpeed


def states(folder: Path, names: list[str], tensors: tiny.Tensors) -> Path:
    folder.mkdir(parents=True)
    for name in names:
        torch.save({"module": OrderedDict(tensors), "ds_version": "0.16.0"}, folder / name)
    return folder


def test_the_states_of_zero_2_are_read(tmp_path, base) -> None:
    step = states(tmp_path / "run/global_step10", ["mp_rank_00_model_states.pt"], TUNED)
    (step / "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt").write_bytes(b"not read")
    change = {name: TUNED[name].double() - BASE[name].double() for name in BASE}
    for path in (step, step / "mp_rank_00_model_states.pt"):
        assert measured(base, path)["gate"]["l2"] == pytest.approx(norm("gate", change))


@pytest.mark.parametrize("latest", [True, False])
def test_the_folder_above_the_states_leads_to_them(tmp_path, base, latest) -> None:
    step = states(tmp_path / "run/global_step10", ["mp_rank_00_model_states.pt"], TUNED)
    if latest:
        (step.parent / "latest").write_text("global_step10\n", encoding="utf-8")
    with refused("checkpoint.deepspeed-steps", file=step.parent, expected=step):
        Pair(base, step.parent)
    measured(base, step)


EMPTY = {name: torch.empty(0) for name in TUNED}
ZERO3 = [f"zero_pp_rank_{rank}_mp_rank_00_model_states.pt" for rank in (0, 1)]


@pytest.mark.parametrize("place", ["file", "folder", "folder above"])
def test_zero_3_is_refused_by_its_name_and_tool(tmp_path, base, place) -> None:
    step = states(tmp_path / "run/global_step10", ZERO3, EMPTY)
    (step.parent / "latest").write_text("global_step10", encoding="utf-8")
    path = {"file": step / ZERO3[0], "folder": step, "folder above": step.parent}[place]
    with refused("checkpoint.zero3-parts", file=path) as error:
        Pair(base, path)
    assert "zero_to_fp32.py" in str(error.value)


@pytest.mark.parametrize("kind", ["safetensors", "pt", "adapter"])
def test_weights_without_entries_are_refused_as_zero_3s(tmp_path, base, kind) -> None:
    if kind == "adapter":
        empty = {name: torch.empty(0) for name in tiny.lora()}
        tuned = tiny.adapter(tmp_path / "tuned", empty)
    elif kind == "pt":
        tuned = tmp_path / "renamed.pt"
        torch.save({"module": EMPTY}, tuned)
    else:
        tuned = tiny.model(tmp_path / "tuned", EMPTY)
    with refused("tensor.empty", file=tuned) as error:
        Pair(base, tuned)
    assert "zero_to_fp32.py" in str(error.value)


def test_tensor_parallel_states_are_refused(tmp_path, base) -> None:
    names = [f"mp_rank_0{rank}_model_states.pt" for rank in (0, 1)]
    folder = states(tmp_path / "run", names, TUNED)
    with refused("checkpoint.tensor-parallel-parts", file=folder):
        Pair(base, folder)


# FSDP


@pytest.mark.parametrize("nested", [True, False])
def test_a_distributed_checkpoint_is_refused_and_the_advice_works(tmp_path, base, nested) -> None:
    from torch.distributed import checkpoint

    folder = tmp_path / "run" / "pytorch_model_fsdp_0"
    checkpoint.save({"model": TUNED} if nested else dict(TUNED), checkpoint_id=str(folder))
    (part,) = folder.glob("*.distcp")
    for path in (folder.parent, folder, part):
        with refused("checkpoint.fsdp-parts", file=path) as error:
            Pair(base, path)
        command = str(error.value).partition("(python ")[2].partition(")")[0].split()
        assert command[-2:] == [str(folder), "model.pt"]
    subprocess.run([sys.executable, *command], cwd=tmp_path, check=True, capture_output=True)
    change = {name: TUNED[name].double() - BASE[name].double() for name in BASE}
    assert measured(base, tmp_path / "model.pt")["gate"]["l2"] == pytest.approx(
        norm("gate", change)
    )


@pytest.mark.parametrize("above", [True, False])
def test_a_manifest_of_parts_is_refused_by_the_same_sentence(tmp_path, above) -> None:
    step = states(tmp_path / "run/global_step10", ZERO3, EMPTY)
    path = step.parent if above else step
    with refused("checkpoint.zero3-parts", file=path):
        retrieve(str(path))


# GGUF


@pytest.mark.parametrize("kind", ["file", "folder", "adapter"])
def test_gguf_is_refused_by_its_name(tmp_path, base, kind) -> None:
    folder = tmp_path / "gguf"
    folder.mkdir()
    (folder / "adapter_model.gguf").write_bytes(b"GGUF" + bytes(64))
    if kind == "adapter":
        (folder / "adapter_config.json").write_text(json.dumps(tiny.PEFT), encoding="utf-8")
    file = folder / "adapter_model.gguf"
    with refused("checkpoint.gguf", file=file):
        Pair(base, file if kind == "file" else folder)
