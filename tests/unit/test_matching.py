"""Whole models whose names differ, or of which one side has more: measured, with a note."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from refusal import refused
from safetensors.torch import load_file, save_file
from single import build

from affectlocus.checkpoints.model_pairs import ModelPair
from affectlocus.checkpoints.pairs import Pair
from affectlocus.config.experiment import Parameters
from affectlocus.core.cells import Cell
from affectlocus.deltas.delta_tables import summary
from affectlocus.deltas.deltas import deltas
from affectlocus.evaluation.evaluate import HARDWARE
from affectlocus.evaluation.graft import graft
from affectlocus.lm.devices import load
from affectlocus.orchestration.preflight import check_pairs

BASE = tiny.llama()
TUNED = tiny.moved(BASE)
GATES = [name for name in BASE if "gate_proj" in name]
RIGHT = float(np.mean([np.linalg.norm(TUNED[g].double() - BASE[g].double()) for g in GATES]))


def prefixed(prefix: str) -> Callable[[tiny.Tensors], tiny.Tensors]:
    return lambda tensors: tiny.renamed(tensors, lambda name: prefix + name)


def multimodal(tensors: tiny.Tensors) -> tiny.Tensors:
    """As Gemma 3 and LLaVA were saved before transformers 4.52."""
    return prefixed("language_model.")(tensors) | vision()


def newer(tensors: tiny.Tensors) -> tiny.Tensors:
    """As transformers saves them since."""
    return tiny.renamed(
        tensors, lambda name: name.replace("model.", "model.language_model.")
    ) | prefixed("model.")(vision())


def vision() -> tiny.Tensors:
    return {
        "vision_tower.encoder.layers.0.self_attn.q_proj.weight": torch.ones(8, 8),
        "multi_modal_projector.linear.weight": torch.ones(8, 8),
    }


def headless(tensors: tiny.Tensors) -> tiny.Tensors:
    return {name: value for name, value in tensors.items() if name != "lm_head.weight"}


def fsdp(tensors: tiny.Tensors) -> tiny.Tensors:
    inner = "_fsdp_wrapped_module._checkpoint_wrapped_module."
    return tiny.renamed(
        tensors,
        lambda name: (
            "_fsdp_wrapped_module."
            + name.replace("layers.0.", f"layers.0.{inner}").replace(
                "layers.1.", f"layers.1.{inner}"
            )
        ),
    )


def measured(base: Path, tuned: Path, prefix: str = "") -> tuple[dict, list[str]]:
    found = deltas(Pair(base, tuned, prefix=prefix), companions=False)
    return summary(found.rows), found.notes


def check(found: dict) -> None:
    assert found["gate"]["l2"] == pytest.approx(RIGHT, rel=1e-6)
    assert all(found[name]["l2"] == 0 for name in ("q", "k", "v", "o", "up", "down"))


FORMS = {
    "plain": lambda tensors: tensors,
    "multimodal": multimodal,
    "newer multimodal": newer,
    "text model alone": lambda tensors: tiny.renamed(
        headless(tensors), lambda name: name.removeprefix("model.")
    ),
    "multimodal without a head": lambda tensors: multimodal(headless(tensors)),
    "torch.compile": prefixed("_orig_mod."),
    "DDP": prefixed("module."),
    "DDP and torch.compile": prefixed("module._orig_mod."),
    "peft": prefixed("base_model.model."),
    "FSDP": fsdp,
}


@pytest.mark.parametrize("tuned", FORMS)
@pytest.mark.parametrize("base", ["plain", "multimodal", "newer multimodal", "DDP"])
def test_models_under_other_prefixes_are_measured(tmp_path, base, tuned) -> None:
    found, _ = measured(
        tiny.model(tmp_path / "base", FORMS[base](BASE)),
        tiny.model(tmp_path / "tuned", FORMS[tuned](TUNED)),
    )
    check(found)


@pytest.mark.parametrize("kind", ["bin", "shards"])
def test_a_prefix_is_found_in_every_kind_of_file(tmp_path, kind) -> None:
    base = tiny.model(tmp_path / "base", multimodal(BASE))
    tuned = tmp_path / "tuned"
    tuned.mkdir()
    if kind == "bin":
        torch.save(TUNED, tuned / "pytorch_model.bin")
    else:
        files = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
        for number, file in enumerate(files):
            save_file(dict(sorted(TUNED.items())[number::2]), tuned / file)
    check(measured(base, tuned)[0])


@pytest.mark.parametrize(
    ("base", "tuned", "prefix"),
    [
        ("multimodal", "plain", "language_model."),
        ("plain", "multimodal", "language_model."),
        ("multimodal", "multimodal", "language_model."),
        ("multimodal", "plain", "model."),
        ("plain", "torch.compile", "_orig_mod."),
    ],
)
def test_a_prefix_on_either_side_may_be_given(tmp_path, base, tuned, prefix) -> None:
    found, _ = measured(
        tiny.model(tmp_path / "base", FORMS[base](BASE)),
        tiny.model(tmp_path / "tuned", FORMS[tuned](TUNED)),
        prefix,
    )
    check(found)


def test_a_prefix_that_no_side_has_is_refused(tmp_path) -> None:
    base, tuned = tiny.model(tmp_path / "base", BASE), tiny.model(tmp_path / "tuned", TUNED)
    with refused("model.no-such-prefix", option="prefix", found="llm."):
        Pair(base, tuned, prefix="llm.")


def nextn(layer: int = tiny.LAYERS) -> tiny.Tensors:
    """A layer of GLM-4.5 and DeepSeek-V3 that predicts the token after the next."""
    inner = {
        name.replace("layers.0", f"layers.{layer}"): value
        for name, value in tiny.llama(6).items()
        if "layers.0." in name
    }
    stem = f"model.layers.{layer}."
    return inner | {
        f"{stem}eh_proj.weight": torch.ones(8, 16),
        f"{stem}shared_head.norm.weight": torch.ones(8),
    }


def mtp() -> tiny.Tensors:
    """The same as Qwen3-Next has it."""
    inner = {
        name.replace("model.layers.0", "mtp.layers.0"): value
        for name, value in tiny.llama(6).items()
        if "layers.0." in name
    }
    return inner | {"mtp.fc.weight": torch.ones(8, 16)}


PLAIN_NEXTN = {name: one for name, one in nextn().items() if "_proj." in name and "eh_" not in name}

MORE = {
    "mtp": (mtp(), {}, "layers for multi-token prediction"),
    "MiMo's mtp": (
        {"model.mtp_layers.0.input_proj.weight": torch.ones(8, 16)},
        {},
        "layers for multi-token prediction",
    ),
    "a numbered layer": (nextn(), {}, "layers for multi-token prediction"),
    "a numbered layer, by its configuration": (
        PLAIN_NEXTN,
        {"num_nextn_predict_layers": 1},
        "layers for multi-token prediction",
    ),
    "a vision tower": (vision(), {}, "another part of a multimodal model"),
    "a classifier": ({"score.weight": torch.ones(7, 8)}, {}, "a head"),
    "a value head": ({"v_head.summary.weight": torch.ones(1, 8)}, {}, "a head"),
}


@pytest.mark.parametrize("side", ["base", "tuned"])
@pytest.mark.parametrize("kind", MORE)
def test_what_one_side_alone_has_outside_its_layers_is_a_note(tmp_path, kind, side) -> None:
    more, config, said = MORE[kind]
    both = {"base": BASE, "tuned": TUNED}
    folders = [
        tiny.model(
            tmp_path / name,
            tensors | (more if name == side else {}),
            **(config if name == side else {}),
        )
        for name, tensors in both.items()
    ]
    found, notes = measured(*folders)
    check(found)
    assert found["gate"]["layers"] == tiny.LAYERS
    assert any(note.startswith(f"{tmp_path / side} alone has {said}") for note in notes)
    assert "not measured" in notes[0]


def test_layers_for_further_tokens_on_both_sides_are_not_measured(tmp_path) -> None:
    base = tiny.model(tmp_path / "base", BASE | nextn())
    tuned = tiny.model(tmp_path / "tuned", TUNED | tiny.moved(nextn()))
    found, notes = measured(base, tuned)
    check(found)
    assert found["gate"]["layers"] == tiny.LAYERS
    (note,) = notes
    assert note.startswith("both have layers for multi-token prediction")


@pytest.mark.parametrize("side", ["base", "tuned"])
def test_a_head_that_one_side_alone_has_is_a_note(tmp_path, side) -> None:
    both = {"base": BASE, "tuned": TUNED}
    other = "tuned" if side == "base" else "base"
    folders = [
        tiny.model(tmp_path / name, headless(tensors) if name == other else tensors)
        for name, tensors in both.items()
    ]
    found, notes = measured(*folders)
    check(found)
    assert notes == [
        f"{tmp_path / side} alone has a head (1 tensor, as 'lm_head.weight'): not measured"
    ]


def test_a_second_copy_of_tied_embeddings_is_no_note(tmp_path) -> None:
    base = tiny.model(tmp_path / "base", headless(BASE), tie_word_embeddings=True)
    tuned = tiny.model(tmp_path / "tuned", TUNED, tie_word_embeddings=True)
    found, notes = measured(base, tuned)
    check(found)
    assert notes == []


def test_a_head_of_its_own_on_a_tied_base_is_a_note(tmp_path) -> None:
    base = tiny.model(tmp_path / "base", headless(BASE), tie_word_embeddings=True)
    tuned = tiny.model(tmp_path / "tuned", TUNED, tie_word_embeddings=False)
    _, (note,) = measured(base, tuned)
    assert "alone has a head" in note


@pytest.mark.parametrize(
    "lost",
    [
        "model.norm.weight",
        "model.embed_tokens.weight",
        "model.layers.1.mlp.up_proj.weight",
        "model.layers.1.input_layernorm.weight",
    ],
)
@pytest.mark.parametrize("form", ["plain", "multimodal", "DDP"])
def test_a_model_that_lacks_a_part_of_its_language_model_is_refused(tmp_path, lost, form) -> None:
    base = tiny.model(tmp_path / "base", BASE)
    whole = {name: value for name, value in TUNED.items() if name != lost}
    tuned = tiny.model(tmp_path / "tuned", FORMS[form](whole))
    with refused("pair.tensor-missing", file=tuned, tensor=lost, base=base):
        Pair(base, tuned)


def test_a_plain_layer_too_many_is_refused(tmp_path) -> None:
    base = tiny.model(tmp_path / "base", BASE)
    tuned = tiny.model(tmp_path / "tuned", tiny.llama(layers=3))
    with refused("pair.tensor-not-in-base", file=tuned, base=base) as error:
        Pair(base, tuned)
    assert error.value.fields["tensor"].startswith("model.layers.2.")


def test_another_model_is_refused(tmp_path) -> None:
    base = tiny.model(tmp_path / "base", BASE)
    tuned = tiny.model(
        tmp_path / "tuned",
        tiny.renamed(TUNED, lambda name: name.replace("self_attn.", "attn.").replace("mlp", "ff")),
    )
    with refused("pair.tensor-not-in-base", file=tuned, base=base):
        Pair(base, tuned)


# Quantised, or called so


STALE = [
    {"quant_method": "bitsandbytes", "load_in_4bit": True},
    {"quant_method": "gptq", "bits": 4},
    {"quant_method": "fp8", "weight_block_size": [128, 128]},
    {"load_in_8bit": True},
]


@pytest.mark.parametrize("settings", STALE)
@pytest.mark.parametrize("side", ["base", "tuned"])
def test_plain_weights_are_measured_whatever_their_configuration_calls_them(
    tmp_path, settings, side
) -> None:
    both = {"base": BASE, "tuned": TUNED}
    for name, tensors in both.items():
        more = {"quantization_config": settings} if name == side else {}
        positions = {"model.position_ids": torch.arange(3)[None]}
        tiny.model(tmp_path / name, tensors | positions, **more)
    found, (note,) = measured(tmp_path / "base", tmp_path / "tuned")
    check(found)
    assert note.startswith(str(tmp_path / side / "config.json"))
    assert "they are read as they are stored" in note


def test_a_base_that_is_called_quantised_is_loaded_as_it_is_stored(tmp_path) -> None:
    base = tiny.model(tmp_path / "base", BASE, quantization_config=STALE[0])
    model = load(base, HARDWARE)
    assert all(torch.equal(one, BASE[name]) for name, one in model.state_dict().items())
    assert getattr(model.config, "quantization_config", None) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (GATES[0], torch.ones(12, 8).to(torch.float8_e4m3fn)),
        (GATES[0], torch.ones(48, 1, dtype=torch.uint8)),
        (GATES[0].replace("weight", "weight_scale_inv"), torch.ones(1, 1)),
        (GATES[0].replace("weight", "weight_packed"), torch.ones(12, 1, dtype=torch.int32)),
        (GATES[0].replace("weight", "qweight"), torch.ones(1, 12, dtype=torch.int32)),
        ("model.layers.0.mlp.experts.gate_up_proj_blocks", torch.ones(2, 2, dtype=torch.uint8)),
    ],
)
def test_quantised_weights_are_refused(tmp_path, name, value) -> None:
    base = tiny.model(tmp_path / "base", BASE)
    settings = {"quant_method": "some"}
    tuned = tiny.model(tmp_path / "tuned", TUNED | {name: value}, quantization_config=settings)
    with refused("model.quantised", file=tuned, tensor=name, found="some"):
        Pair(base, tuned)


@pytest.mark.parametrize("name", ["model.embed_tokens.weight", GATES[0]])
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "float8_e4m3fn", "float8_e5m2"])
@pytest.mark.parametrize("side", ["base", "tuned"])
def test_quantised_matrices_are_refused_without_a_configuration_that_says_so(
    tmp_path, name, dtype, side
) -> None:
    both = {"base": BASE, "tuned": TUNED}
    both[side] = both[side] | {name: both[side][name].to(getattr(torch, dtype))}
    for folder, tensors in both.items():
        tiny.model(tmp_path / folder, tensors)
    with refused("model.quantised", file=tmp_path / side, tensor=name, found=dtype):
        Pair(tmp_path / "base", tmp_path / "tuned")


def test_matrices_of_integers_that_are_no_weights_are_not_called_quantised(tmp_path) -> None:
    mask = {"model.layers.0.self_attn.mask": torch.ones(3, 3, dtype=torch.uint8)}
    positions = {"model.position_ids": torch.arange(3, dtype=torch.int32)[None]}
    for side, tensors in (("base", BASE), ("tuned", TUNED)):
        tiny.model(tmp_path / side, tensors | mask | positions)
    found, _ = measured(tmp_path / "base", tmp_path / "tuned")
    check(found)


def test_the_command_prints_the_notes(tmp_path, monkeypatch, capsys) -> None:
    from affectlocus.cli import main

    tiny.model(tmp_path / "base", BASE | mtp())
    tiny.model(tmp_path / "tuned", TUNED)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["affectlocus", "diff", "base", "tuned", "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    said = capsys.readouterr()
    assert said.err.startswith("note: base alone has layers for multi-token prediction (10 tensors")
    check(json.loads(said.out)["projections"])


# Layouts without the seven projections: refused by the true reason, whatever is compared


def layout(modules: dict[str, tuple[int, int]]) -> tiny.Tensors:
    made = {"model.embed_tokens.weight": torch.ones(16, 8), "model.norm.weight": torch.ones(8)}
    for layer in range(tiny.LAYERS):
        for module, shape in modules.items():
            made[f"model.layers.{layer}.{module}.weight"] = torch.ones(*shape)
    return made


ATTENTION = {f"self_attn.{name}_proj": (8, 8) for name in "qkvo"}
FFN = {name: shape for name, shape in tiny.SHAPES.items() if name.startswith("mlp")}
LAYOUTS = {
    "DeepSeek": (
        {
            "self_attn.q_proj": (12, 8),
            "self_attn.kv_a_proj_with_mqa": (6, 8),
            "self_attn.kv_b_proj": (16, 4),
            "self_attn.o_proj": (8, 8),
            **FFN,
        },
        ["k", "v"],
        "model.latent-attention",
    ),
    "OPT": (
        {
            **{name: shape for name, shape in ATTENTION.items() if "o_proj" not in name},
            "self_attn.out_proj": (8, 8),
            "fc1": (32, 8),
            "fc2": (8, 32),
        },
        ["gate", "up", "down"],
        "model.no-gate",
    ),
    "Nemotron": (
        {**ATTENTION, "mlp.up_proj": (12, 8), "mlp.down_proj": (8, 12)},
        ["gate"],
        "model.no-gate",
    ),
    "unknown experts": (
        {**ATTENTION, "mlp.experts.w13": (24, 8), "mlp.experts.w2": (8, 12)},
        ["gate", "up", "down"],
        "model.unknown-layout",
    ),
}


@pytest.mark.parametrize("tuned", ["model", "adapter"])
@pytest.mark.parametrize("kind", LAYOUTS)
def test_a_layout_without_the_seven_is_refused_by_its_reason(tmp_path, kind, tuned) -> None:
    modules, lacking, code = LAYOUTS[kind]
    base = tiny.model(tmp_path / "base", layout(modules))
    other = (
        tiny.model(tmp_path / "tuned", tiny.moved(layout(modules), "proj"))
        if tuned == "model"
        else tiny.adapter(tmp_path / "adapter", tiny.lora())
    )
    with refused(code, file=base, found=lacking):
        Pair(base, other)


# Cells of a model without the base's head


@pytest.mark.parametrize("more", [0, 3], ids=["same tokens", "more tokens"])
def test_a_base_without_a_head_is_not_said_to_tie_it(tmp_path, more) -> None:
    base = tiny.model(
        tmp_path / "base", headless(BASE) | {"score.weight": torch.ones(7, tiny.HIDDEN)}
    )
    grown = {
        name: torch.cat([TUNED[name], TUNED[name][:more]])
        for name in ("lm_head.weight", "model.embed_tokens.weight")
    }
    pair = ModelPair(base, tiny.model(tmp_path / "tuned", TUNED | grown))
    (note,) = pair.notes_on_cells()
    assert note == (
        f"{base}: it stores no lm_head.weight, and its config.json does not tie one to its "
        "embeddings: no cells can be made of this pair"
    )
    with refused("model.no-head", tensor="lm_head.weight"):
        pair.check()


@pytest.mark.parametrize("cell", ["tuned", "ablate"])
def test_no_tuned_or_ablate_cell_is_made_of_a_model_without_a_head(tmp_path, cell) -> None:
    base = tiny.model(tmp_path / "base", BASE)
    score = {"score.weight": torch.ones(7, 8)}
    tuned = tiny.model(tmp_path / "tuned", headless(TUNED) | score)
    made = Cell("tuned", "b", "t") if cell == "tuned" else Cell("ablate", "b", "t", "gate", "zero")
    with refused("model.head-missing", file=tuned, tensor="lm_head.weight"):
        build(base, tuned, made)
    model, counts = build(base, tuned, Cell("load", "b", "t", "gate"))
    assert counts["changed"] == tiny.LAYERS
    assert torch.equal(model.state_dict()[GATES[0]], TUNED[GATES[0]])


@pytest.mark.parametrize("cell", ["tuned", "ablate"])
def test_an_untied_model_that_stores_no_head_has_no_tuned_and_no_ablate_cell(
    tmp_path, cell
) -> None:
    """transformers would draw its head at random, also where the base ties its own."""
    base = tiny.model(tmp_path / "base", headless(BASE), tie_word_embeddings=True)
    tuned = tiny.model(tmp_path / "tuned", headless(TUNED), tie_word_embeddings=False)
    made = Cell("tuned", "b", "t") if cell == "tuned" else Cell("ablate", "b", "t", "gate", "zero")
    file = tuned / "config.json"
    with refused("model.no-head", file=file, tensor="lm_head.weight"):
        build(base, tuned, made)
    with refused("model.no-head", file=file, tensor="lm_head.weight"):
        graft(base, tuned, made, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    pairs = {
        "bases": {"base": {"folder": "base"}},
        "pairs": {"pair": {"base": "base", "tuned": {"folder": "tuned"}}},
        "tasks": {
            "moods": {
                "files": {"train": "train.csv", "test": "test.csv"},
                "columns": {"text": "text", "label": "label"},
                "labels": ["joy", "fear"],
            }
        },
        "matrix": {"pairs": ["pair"], "load": ["gate"], "tune": [], "ablate": []},
    }
    with refused("model.no-head", file=file, tensor="lm_head.weight") as error:
        check_pairs(Parameters.model_validate(pairs), tmp_path)
    assert str(error.value).startswith("params.yaml: pairs.pair: ")
    load_cell = Cell("load", "b", "t", "gate")
    model, _ = build(base, tuned, load_cell)
    assert torch.equal(model.state_dict()[GATES[0]], TUNED[GATES[0]])
    graft(base, tuned, load_cell, tmp_path / "out")
    assert torch.equal(load_file(tmp_path / "out/model.safetensors")[GATES[0]], TUNED[GATES[0]])


def test_an_untied_base_that_stores_no_head_is_not_grafted(tmp_path) -> None:
    base = tiny.model(tmp_path / "base", headless(BASE), tie_word_embeddings=False)
    tuned = tiny.model(tmp_path / "tuned", headless(TUNED), tie_word_embeddings=False)
    with refused("model.no-head", file=base / "config.json"):
        graft(base, tuned, Cell("load", "b", "t", "gate"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_model_that_leaves_its_tying_to_the_default_has_a_head(tmp_path) -> None:
    """A configuration omits tie_word_embeddings where it has the default of its model type."""
    config = {key: value for key, value in tiny.CONFIG.items() if key != "tie_word_embeddings"}
    base = tiny.model(tmp_path / "base", headless(BASE), config, model_type="smollm3")
    tuned = tiny.model(tmp_path / "tuned", headless(TUNED), config, model_type="smollm3")
    pair = ModelPair(base, tuned)
    pair.check()
    assert not pair.is_untied(True)


def test_a_model_that_ties_its_head_has_one(tmp_path) -> None:
    base = tiny.model(tmp_path / "base", BASE)
    tuned = tiny.model(tmp_path / "tuned", headless(TUNED), tie_word_embeddings=True)
    model, _ = build(base, tuned, Cell("tuned", "b", "t"))
    embeddings = TUNED["model.embed_tokens.weight"]
    assert torch.equal(model.state_dict()["lm_head.weight"], embeddings)
