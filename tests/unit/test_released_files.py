"""Files of trained tensors of AffectGPT and Emotion-LLaMA: split exactly, or refused by name."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import layouts
import pytest
import torch
from command import in_process as run
from layouts import HEARD, SEEN, Tensors
from peft import PeftModel
from refusal import printed_code, refused
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import affectlocus
from affectlocus.checkpoints.bridge_files import compare_bridges, read_bridge, write_bridge
from affectlocus.checkpoints.pairs import Pair
from affectlocus.checkpoints.released_files import (
    check_bridges,
    released_bridge,
    stored_bridge,
)

SEVEN = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
LORA_A = "llama_model.base_model.model.model.layers.1.mlp.gate_proj.lora_A.default.weight"


@pytest.fixture
def affectgpt(checkpoint, lora, tmp_path) -> Callable[..., Path]:
    """`affectgpt(change)`: the file of a tiny AffectGPT, with changed tensors."""
    adapter = lora(checkpoint("qwen2"), SEVEN, r=3, lora_alpha=6)

    def write(change: Callable[[Tensors], Any] = lambda _: None, name: str = "a.pth") -> Path:
        return layouts.trained_only(adapter, tmp_path / name, {"lora_alpha": 6}, change=change)

    return write


@pytest.fixture
def emotion_llama(checkpoint, lora, tmp_path) -> Path:
    adapter = lora(checkpoint("llama"), ["q_proj", "v_proj"], r=4, lora_alpha=1)
    parts = layouts.emotion_llama_parts
    return layouts.trained_only(adapter, tmp_path / "e.pth", {"lora_alpha": 1}, parts)


def converted(folder: Path, *arguments: object) -> dict[str, Any]:
    done = run(folder, "convert", *map(str, arguments))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_affectgpt_s_file_is_split_into_adapter_and_bridge(checkpoint, affectgpt, tmp_path) -> None:
    file = affectgpt()
    said = converted(tmp_path, file, "--out", "out")
    stored = torch.load(file, weights_only=True)["model"]
    bridge = load_file(tmp_path / "out/bridge.safetensors")
    assert len(bridge) == said["bridge"]["tensors"] == 18
    assert all(torch.equal(value, stored[name]) for name, value in bridge.items())
    assert said["bridge"]["parameters"] == sum(value.numel() for value in bridge.values())
    assert list(said["bridge"]["unused"]) == ["image_llama_proj.bias", "image_llama_proj.weight"]
    assert said["other"] == list(said["bridge"]["unused"])
    about = read_bridge(tmp_path / "out").description
    assert (about.kind, about.hidden) == ("affectgpt", 32)
    assert about.widths == {"face": SEEN, "audio": HEARD}
    assert about.tokens == {"multi": 1, "audio": 1, "face": 1}
    base = AutoModelForCausalLM.from_pretrained(checkpoint("qwen2"))
    adapter = PeftModel.from_pretrained(base, tmp_path / "out").state_dict()
    for name, value in stored.items():
        if ".lora_" in name:
            assert torch.equal(adapter[name.removeprefix("llama_model.")], value), name


def test_the_python_api_converts_the_same(affectgpt, tmp_path) -> None:
    told = affectlocus.convert(affectgpt(), tmp_path / "api")
    said = converted(tmp_path, tmp_path / "a.pth", "--out", "out")
    assert told == {key: value for key, value in said.items() if key != "out"}
    assert (tmp_path / "api/bridge.json").read_text() == (tmp_path / "out/bridge.json").read_text()
    with refused("bridge.other-kind"):
        affectlocus.convert(tmp_path / "a.pth", tmp_path / "no", bridge="emotion-llama")


def test_every_tensor_of_the_file_is_used_once_or_reported(affectgpt, tmp_path) -> None:
    said = converted(tmp_path, affectgpt(), "--out", "out")
    used = [*load_file(tmp_path / "out/bridge.safetensors"), *said["bridge"]["unused"]]
    factors = load_file(tmp_path / "out/adapter_model.safetensors")
    stored = torch.load(tmp_path / "a.pth", weights_only=True)["model"]
    lora = [f"llama_model.{name.replace('.weight', '.default.weight')}" for name in factors]
    assert sorted([*used, *lora]) == sorted(stored)


def test_emotion_llama_s_gate_is_not_adapted(checkpoint, emotion_llama, tmp_path) -> None:
    said = converted(tmp_path, emotion_llama, "--out", "out")
    assert (said["bridge"]["kind"], said["bridge"]["tensors"]) == ("emotion-llama", 10)
    pair = Pair(checkpoint("llama"), tmp_path / "out")
    assert not pair.adapted("model.layers.0.mlp.gate_proj.weight")
    assert pair.adapted("model.layers.0.self_attn.q_proj.weight")


def test_emotion_llama_s_unused_classifier_is_reported(checkpoint, lora, tmp_path) -> None:
    adapter = lora(checkpoint("llama"), ["q_proj", "v_proj"], r=4)
    file = layouts.trained_only(
        adapter,
        tmp_path / "e.pth",
        {"lora_alpha": 6},
        layouts.emotion_llama_parts,
        lambda model: model.update({"attention.fc_att.weight": torch.ones(2, 2)}),
    )
    said = converted(tmp_path, file, "--out", "out")
    assert list(said["bridge"]["unused"]) == ["attention.fc_att.weight"]


def test_the_untrained_checkpoint_gives_the_initial_bridge(
    checkpoint, lora, affectgpt, tmp_path
) -> None:
    def untrained(model: Tensors) -> None:
        for name, value in model.items():
            if "lora_B" in name:
                value.zero_()

    start = layouts.trained_only(
        lora(checkpoint("qwen2"), SEVEN, r=3, lora_alpha=6),
        tmp_path / "checkpoint_000000_loss_2.3.pth",
        change=untrained,
        seed=7,
    )
    converted(tmp_path, affectgpt(), "--initial", start, "--out", "out")
    initial = load_file(tmp_path / "out/bridge_initial.safetensors")
    stored = torch.load(start, weights_only=True)["model"]
    assert all(torch.equal(value, stored[name]) for name, value in initial.items())
    assert not torch.equal(
        initial["fc_att.weight"],
        load_file(tmp_path / "out/bridge.safetensors")["fc_att.weight"],
    )
    found = stored_bridge(tmp_path / "out", "affectgpt", "bridge_initial").read()
    assert found.keys() == initial.keys()


@pytest.mark.parametrize(
    ("saved", "visual", "tokens"),
    [
        (None, None, ["face"]),
        ("multiface_audio_face_text", None, ["face"]),
        ("multiframe_audio_frame_text", None, ["frame"]),
        ("multiface_audio_face_frame_text", None, ["face", "frame"]),
        ("multiface_audio_face_text", "frame", ["frame"]),
        (17, None, ["face"]),
    ],
)
def test_the_configuration_in_the_file_says_what_the_system_saw(
    checkpoint, lora, tmp_path, saved, visual, tokens
) -> None:
    adapter = lora(checkpoint("qwen2"), SEVEN, r=3, lora_alpha=6)
    config = {"datasets": {"mercaptionplus": {"face_or_frame": saved}}}
    file = layouts.trained_only(adapter, tmp_path / "a.pth", config)
    found = released_bridge(file, visual=visual).description
    assert list(found.tokens) == ["multi", "audio", *tokens]
    assert found.widths == {**dict.fromkeys(tokens, SEEN), "audio": HEARD}
    check_bridges(file, "affectgpt", None, 2)
    if visual is None:
        check_bridges(file, "affectgpt", None, 2, found.tokens)
        with refused("bridge.other-soft-tokens", found=dict(found.tokens)):
            check_bridges(file, "affectgpt", None, 2, {"multi": 1, "audio": 1, "other": 1})


def test_a_trained_checkpoint_is_not_an_initial_one(affectgpt, tmp_path) -> None:
    done = run(
        tmp_path, "convert", affectgpt(), "--initial", affectgpt(name="b.pth"), "--out", "out"
    )
    assert (done.returncode, printed_code(done.stderr)) == (1, "bridge.not-initial")
    assert not (tmp_path / "out").exists()


def renamed(old: str, new: str) -> Callable[[Tensors], None]:
    def change(model: Tensors) -> None:
        model[new] = model.pop(old)

    return change


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        (
            renamed("fc_att.weight", "fc_attention.weight"),
            {"renamed": {"fc_att.weight": "fc_attention.weight"}, "missing": [], "unexpected": []},
        ),
        (
            lambda model: model.pop("multi_llama_proj.bias"),
            {"missing": ["multi_llama_proj.bias"], "renamed": {}, "unexpected": []},
        ),
        (
            lambda model: model.update({"video_Qformer.query": torch.ones(1)}),
            {"unexpected": ["video_Qformer.query"], "missing": [], "renamed": {}},
        ),
        (lambda model: model.pop(LORA_A), {"missing": [LORA_A]}),
        (
            renamed(LORA_A, LORA_A.replace("lora_A", "lora_a")),
            {"renamed": {LORA_A: LORA_A.replace("lora_A", "lora_a")}},
        ),
        (
            lambda model: model.update({LORA_A.replace(".default", ""): torch.ones(3, 32)}),
            {"unexpected": [LORA_A.replace(".default", "")]},
        ),
        (
            renamed(LORA_A, LORA_A.replace("layers.1.", "layers.999999999999999.")),
            {"missing": [], "unexpected": []},
        ),
    ],
    ids=["renamed", "missing", "extra", "lora-missing", "lora-renamed", "lora-twice", "lora-far"],
)
def test_a_key_that_is_renamed_missing_or_extra_is_named(affectgpt, change, fields) -> None:
    file = affectgpt(change)
    with refused("bridge.other-tensors", file=file, **fields) as error:
        released_bridge(file)
    for names in fields.values():
        assert all(name in str(error.value) for name in names)


def test_of_many_missing_tensors_the_first_are_named_and_counted(affectgpt) -> None:
    def change(model: Tensors) -> None:
        for name in [name for name in model if ".lora_" in name]:
            del model[name]

    with refused("bridge.other-tensors") as error:
        released_bridge(affectgpt(change))
    assert "and 6 more" in str(error.value)  # a layer of 7 projections is the least


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (
            lambda model: model.update({"multi_llama_proj.weight": torch.ones(31, 10)}),
            "bridge.sizes-differ",
        ),
        (
            lambda model: model.update({"attention_mlp.weight": torch.ones(10, 21)}),
            "bridge.sizes-differ",
        ),
        (lambda model: model.update({"fc_att.bias": torch.ones(3)}), "bridge.sizes-differ"),
        (lambda model: model.update({"fc_att.bias": torch.ones(2, 1)}), "bridge.not-a-linear-map"),
        (
            lambda model: model.update({"fc_att.bias": torch.ones(2, dtype=torch.int8)}),
            "tensor.not-float",
        ),
    ],
    ids=["hidden", "twice-fusion", "two-weights", "axes", "integers"],
)
def test_tensors_that_contradict_each_other_are_refused(affectgpt, change, code) -> None:
    file = affectgpt(change)
    with refused(code, file=file):
        released_bridge(file)


def test_a_bridge_of_another_language_model_is_refused(affectgpt) -> None:
    def change(model: Tensors) -> None:
        for name in ("affectgpt_proj", "audio_llama_proj", "multi_llama_proj"):
            model[f"{name}.weight"] = model[f"{name}.weight"][:30]
            model[f"{name}.bias"] = model[f"{name}.bias"][:30]

    with refused("bridge.other-width", found=30, expected=32):
        released_bridge(affectgpt(change))


def test_a_bridge_of_the_other_kind_is_refused(affectgpt, emotion_llama) -> None:
    with refused("bridge.other-kind", file=emotion_llama, found="emotion-llama"):
        released_bridge(emotion_llama, "affectgpt")
    with refused("bridge.other-kind", found="affectgpt"):
        released_bridge(affectgpt(), "emotion-llama")


@pytest.mark.parametrize("modules", ["gate", "down", "o@1"])
def test_affectgpt_tuned_on_other_modules_is_read_if_they_are_named(
    checkpoint, lora, tmp_path, modules
) -> None:
    name, _, layer = modules.partition("@")
    only = {"layers_to_transform": [int(layer)]} if layer else {}
    adapter = lora(checkpoint("qwen2"), [f"{name}_proj"], r=3, lora_alpha=6, **only)
    file = layouts.trained_only(adapter, tmp_path / "a.pth", {"lora_alpha": 6})
    with refused("bridge.other-tensors", modules="all"):
        released_bridge(file)
    said = converted(tmp_path, file, "--modules", modules, "--out", "out")
    assert (said["modules"], said["bridge"]["tensors"]) == (1 if layer else 2, 18)


def test_a_file_without_a_bridge_is_converted_as_before(checkpoint, lora, tmp_path) -> None:
    adapter = lora(checkpoint("llama"), ["q_proj"], r=4)
    file = layouts.trained_only(adapter, tmp_path / "a.pth", {"lora_alpha": 6}, lambda _: {})
    said = converted(tmp_path, file, "--out", "out")
    assert "bridge" not in said
    assert not (tmp_path / "out/bridge.json").exists()


def test_a_file_of_another_recipe_is_converted_without_its_bridge(affectgpt, tmp_path) -> None:
    file = affectgpt(lambda model: model.update({"video_Qformer.query": torch.ones(1)}))
    done = run(tmp_path, "convert", file, "--out", "out")
    assert printed_code(done.stderr) == "bridge.other-tensors"
    assert not (tmp_path / "out").exists()
    said = converted(tmp_path, file, "--bridge", "none", "--out", "out")
    assert said["modules"] == 14
    assert "video_Qformer.query" in said["other"]


def test_old_names_of_factors_and_saved_buffers_are_read(affectgpt) -> None:
    def change(model: Tensors) -> None:
        for name in [name for name in model if ".default." in name]:
            model[name.replace(".default.", ".")] = model.pop(name)
        stem = "llama_model.base_model.model.model.layers.0.self_attn."
        model[f"{stem}rotary_emb.inv_freq"] = torch.ones(4)

    assert len(released_bridge(affectgpt(change)).names) == 18


def test_a_file_of_another_number_of_layers_is_refused(affectgpt) -> None:
    """Without the base, a file whose last layer is missing cannot be told from a smaller one."""
    file = affectgpt()
    check_bridges(file, "affectgpt", None, 2)
    with refused("bridge.other-tensors") as error:
        check_bridges(file, "affectgpt", None, 3)
    assert len(error.value.fields["missing"]) == 14
    with refused("bridge.other-tensors", missing=[]) as error:
        check_bridges(file, "affectgpt", None, 1)
    assert len(error.value.fields["unexpected"]) == 14


def test_a_changed_bridge_is_refused(affectgpt, tmp_path) -> None:
    converted(tmp_path, affectgpt(), "--out", "out")
    file = tmp_path / "out/bridge.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with refused("bridge.other-bytes", file=file):
        read_bridge(tmp_path / "out")
    file.unlink()
    with refused("bridge.no-file", file=file):
        read_bridge(tmp_path / "out")


@pytest.mark.parametrize(
    ("key", "value"),
    [("kind", 3), ("hidden", 0), ("widths", {"face": -1}), ("tokens", {}), ("settings", [])],
)
def test_a_description_with_another_value_is_refused(affectgpt, tmp_path, key, value) -> None:
    converted(tmp_path, affectgpt(), "--out", "out")
    file = tmp_path / "out/bridge.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    with refused("bridge.not-a-description", file=file, key=key):
        read_bridge(tmp_path / "out")


def test_the_option_needs_a_file_of_trained_tensors(checkpoint, lora, tmp_path) -> None:
    mlx = layouts.mlx(lora(checkpoint("llama"), ["q_proj"]), tmp_path / "mlx")
    done = run(tmp_path, "convert", mlx, "--bridge", "affectgpt", "--out", "out")
    assert printed_code(done.stderr) == "bridge.none-to-convert"
    done = run(tmp_path, "convert", mlx, "--modules", "gate", "--out", "out")
    assert printed_code(done.stderr) == "bridge.none-to-convert"
    done = run(tmp_path, "convert", mlx, "--bridge", "qformer", "--out", "out")
    assert printed_code(done.stderr) == "option.unknown-value"


@pytest.fixture
def two(checkpoint, affectgpt, tmp_path) -> tuple[Path, Path, Path]:
    """A base, and two adapters with bridges; the second has another bridge."""

    def other(model: Tensors) -> None:
        model["fc_att.bias"] = model["fc_att.bias"] + 1

    converted(tmp_path, affectgpt(), "--out", "first")
    converted(tmp_path, affectgpt(other, "b.pth"), "--out", "second")
    return checkpoint("qwen2"), tmp_path / "first", tmp_path / "second"


def test_bridges_are_compared_bit_for_bit(two) -> None:
    _, first, second = two
    assert compare_bridges(first, first, may_differ=False) == {
        "bridge_tensors": 18,
        "bridge_changed": 0,
    }
    with refused("bridge.changed", tensor="fc_att.bias"):
        compare_bridges(first, second, may_differ=False)
    assert compare_bridges(first, second, may_differ=True)["bridge_changed"] == 1


def test_verify_counts_a_bridge_that_was_tuned_alone(two, tmp_path) -> None:
    base, first, second = two
    alone = tmp_path / "alone"
    alone.mkdir()
    for stem, source in (("bridge", second), ("bridge_initial", first)):
        stored = read_bridge(source)
        write_bridge(alone, stored.description, stored.read(), stem)
    done = run(tmp_path, "verify", base, alone, "--modules", "bridge")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        **dict.fromkeys(("inside", "changed", "outside", "untouched"), 0),
        "bridge_tensors": 18,
        "bridge_changed": 1,
    }
    done = run(tmp_path, "verify", base, first, "--modules", "all")
    assert json.loads(done.stdout)["changed"] == 14
    assert "bridge_tensors" not in json.loads(done.stdout)


def test_a_model_s_bridge_may_differ_in_the_module_set_bridge_alone(two, tmp_path) -> None:
    base, first, second = two
    folders = []
    for source in (first, second):
        folders.append(shutil.copytree(base, tmp_path / f"model-{source.name}"))
        stored = read_bridge(source)
        write_bridge(folders[-1], stored.description, stored.read())
    done = run(tmp_path, "verify", *folders, "--modules", "gate")
    assert (done.returncode, printed_code(done.stderr)) == (1, "bridge.changed")
    done = run(tmp_path, "verify", *folders, "--modules", "bridge")
    found = json.loads(done.stdout)
    assert (found["bridge_changed"], found["changed"]) == (1, 0)
    assert found["outside"] == found["untouched"] > 0


def test_a_bridge_whose_header_claims_two_gigabytes_is_refused(two) -> None:
    _, first, _ = two
    file = first / "bridge.safetensors"
    file.write_bytes(struct.pack("<Q", 2**31) + b"{")
    described = first / "bridge.json"
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    described.write_text(json.dumps(json.loads(described.read_text()) | {"sha256": digest}))
    with refused("checkpoint.broken-safetensors", file=file):
        read_bridge(first)
