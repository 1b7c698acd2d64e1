"""Tuning of multimodal models of transformers: their language model, and their own bridge."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import native
import pandas as pd
import pytest
import torch
from peft import PeftModel
from refusal import refused
from safetensors.torch import load_file
from transformers import AutoModelForMultimodalLM, AutoProcessor

from affectlocus.checkpoints.model_pairs import ModelPair
from affectlocus.checkpoints.native_models import NATIVE_MODELS
from affectlocus.config.bridges import BridgeConfig
from affectlocus.config.evaluation import Evaluate
from affectlocus.config.hardware import Hardware
from affectlocus.config.tuning import Tuning
from affectlocus.core.cells import Cell
from affectlocus.data.prepared_task import PreparedTask
from affectlocus.deltas.deltas import deltas
from affectlocus.evaluation.evaluate import NO_CACHE
from affectlocus.evaluation.session import Session
from affectlocus.training.lora_targets import layout_of
from affectlocus.training.tune import Tuner, TuningJob

LABELS = ["sad", "happy"]


@pytest.fixture(scope="module", params=native.READERS)
def base(request, tmp_path_factory) -> tuple[str, Path]:
    """A model type, and the folder of a base of it."""
    folder = tmp_path_factory.mktemp(request.param)
    native.save(folder, request.param)
    return request.param, folder


def frame(medium: str, split: str = "train") -> pd.DataFrame:
    rows = [
        {
            "id": f"s{number}",
            "split": split,
            "prompt": f"<{medium}> She is",
            "answer": LABELS[number % 2],
            f"media.{medium}": f"s{number}",
        }
        for number in range(4)
    ]
    return pd.DataFrame(rows)


def tuned(base: tuple[str, Path], folder: Path, tuner: Tuner | None = None, **recipe: Any) -> dict:
    """Tunes the base into a folder; what was measured."""
    reader = native.READERS[base[0]]
    own = Tuning(
        **{
            "data": ["moods"],
            "steps": 12,
            "batch_size": 4,
            "learning_rate": 1e-2,
            "rank": 2,
            "max_length": 96,
            "bridge": BridgeConfig(kind="native", tokens={reader.medium: 1}),
            **recipe,
        }
    )
    job = TuningJob(own, [frame(reader.medium)], folder, media=[{reader.medium: reader.features}])
    (measured,) = (tuner or Tuner(base[1])).tune([job])
    return measured


def state(folder: Path) -> dict[str, torch.Tensor]:
    return AutoModelForMultimodalLM.from_pretrained(folder).state_dict()


def changed(model_type: str, before: dict, after: dict) -> dict[str, set[str]]:
    """Region → the last parts of the names of the tensors that differ."""
    found: dict[str, set[str]] = {}
    for name, value in before.items():
        if not torch.equal(value, after[name]):
            region = str(NATIVE_MODELS[model_type].region(name))
            found.setdefault(region, set()).add(name.rsplit(".", 2)[-2])
    return found


def test_an_adapter_tunes_its_set_and_the_bridge_and_no_encoder(base, tmp_path) -> None:
    measured = tuned(base, tmp_path / "a", modules="gate")
    losses = [entry["loss"] for entry in measured["log"]]
    assert losses[-1] < losses[0] - 0.5
    whole = AutoModelForMultimodalLM.from_pretrained(base[1])
    merged = PeftModel.from_pretrained(whole, tmp_path / "a").merge_and_unload().state_dict()
    parts = changed(base[0], state(base[1]), merged)
    assert set(parts) == {"language", "bridge"}
    assert parts["language"] == {"gate_proj"}
    in_bridge = [n for n in state(base[1]) if NATIVE_MODELS[base[0]].region(n) == "bridge"]
    sizes = sum(state(base[1])[name].numel() for name in in_bridge)
    assert measured["bridge"] == sizes == sum(layout_of(base[1]).bridge.values())
    assert measured["trainable"] == sizes + 2 * 2 * (32 + 48)  # layers x rank x (in + out)
    rows = pd.DataFrame(deltas(ModelPair(base[1], tmp_path / "a")).rows)
    assert set(rows[rows["adapted"]]["projection"]) == {"gate"}


def plain(base: tuple[str, Path], model: Any, end: str = "") -> list[tuple[float, int]]:
    """With transformers alone, of each sample: log p(answer) in nats, and its number of tokens."""
    reader = native.READERS[base[0]]
    processor = AutoProcessor.from_pretrained(base[1])
    return [
        native.answer_log(reader, model, processor, row.prompt, row.id, f" {row.answer}{end}")
        for row in frame(reader.medium).itertuples()
    ]


def test_the_first_loss_is_that_of_transformers(base, tmp_path) -> None:
    measured = tuned(base, tmp_path / "a", modules="all", steps=1)
    model = AutoModelForMultimodalLM.from_pretrained(base[1]).eval()
    logs, tokens = zip(*plain(base, model, "<|endoftext|>"), strict=True)
    assert measured["log"][0]["loss"] == pytest.approx(-sum(logs) / sum(tokens), abs=1e-4)


def test_tunings_leave_no_trace_in_the_next_one(base, tmp_path) -> None:
    tuner = Tuner(base[1])
    assert tuner.stacks(
        [Tuning(data=["moods"], bridge=BridgeConfig(kind="native", tokens={"voice": 1}))] * 2
    ) == [
        [0],
        [1],
    ]
    tuned(base, tmp_path / "a", tuner, modules="gate")
    tuned(base, tmp_path / "b", tuner, modules="bridge")
    tuned(base, tmp_path / "c", tuner, modules="gate")
    first, again = (load_file(tmp_path / name / "adapter_model.safetensors") for name in "ac")
    assert first.keys() == again.keys()
    assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize("modules", ["all", "bridge"])
def test_the_cells_of_a_tuning_have_its_bridge(base, tmp_path, modules: str) -> None:
    reader = native.READERS[base[0]]
    tuned(base, tmp_path / "a", modules=modules)
    task = PreparedTask("moods", LABELS, frame(reader.medium, "test"))
    media = {"moods": {reader.medium: reader.features}}
    session = Session([base[1]], [task], Evaluate(), Hardware(), media)
    cell = replace(Cell("tune", "b", "p", modules), bridge="tuned")
    found, verified = session.answer(cell, tmp_path / "a", {}, NO_CACHE, lambda _: None)
    assert verified["bridge_changed"] == verified["bridge_tensors"] > 0
    assert verified.get("changed", 0) == (14 if modules == "all" else 0)
    rows = found.rows
    said = rows[rows["candidate"] == rows["label"]]["loglik"].tolist()
    whole = AutoModelForMultimodalLM.from_pretrained(base[1])
    if modules == "all":
        model = PeftModel.from_pretrained(whole, tmp_path / "a").eval()
    else:  # peft loads no adapter without low-rank factors
        stored = load_file(tmp_path / "a" / "adapter_model.safetensors")
        names = {name.removeprefix("base_model.model."): one for name, one in stored.items()}
        assert whole.load_state_dict(names, strict=False).unexpected_keys == []
        model = whole.eval()
    wanted = plain(base, model)
    assert said == pytest.approx([logs for logs, _ in wanted], abs=1e-4)


def test_full_tuning_saves_a_whole_model_with_its_processor(base, tmp_path) -> None:
    tuned(base, tmp_path / "a", modules="gate", method="sft", learning_rate=1e-3)
    parts = changed(base[0], state(base[1]), state(tmp_path / "a"))
    assert set(parts) == {"language", "bridge"}
    assert parts["language"] == {"gate_proj"}
    assert type(AutoProcessor.from_pretrained(tmp_path / "a")).__name__.endswith("Processor")


def test_a_base_in_bfloat16_is_tuned_and_keeps_its_dtype(base, tmp_path) -> None:
    half = tmp_path / "half"
    native.native_model(base[0]).to(torch.bfloat16).save_pretrained(half)
    native.READERS[base[0]].processor().save_pretrained(half)
    measured = tuned((base[0], half), tmp_path / "a", modules="gate")
    assert measured["log"][-1]["loss"] < measured["log"][0]["loss"]
    stored = load_file(tmp_path / "a" / "adapter_model.safetensors")
    kinds = {("lora" in name, value.dtype) for name, value in stored.items()}
    assert kinds == {(True, torch.float32), (False, torch.bfloat16)}


def test_a_long_prompt_loses_text_and_no_medium(base, tmp_path) -> None:
    tuner = Tuner(base[1])
    tuned(base, tmp_path / "a", tuner, modules="gate", steps=1, max_length=96)
    whole = max(example.prompt_length for example in tuner._examples[1])
    with refused("native.no-room-for-media"):
        tuned(base, tmp_path / "b", tuner, modules="gate", steps=1, max_length=12)
    most = whole + 2  # of the answers, at least happy and the end
    tuned(base, tmp_path / "c", tuner, modules="gate", steps=1, max_length=most)
    assert max(len(example.ids) for example in tuner._examples[1]) <= most
    for example in tuner._examples[1]:
        kinds = [one for one in example.inputs() if one not in ("input_ids", "attention_mask")]
        assert kinds


def test_a_task_of_text_and_another_medium_are_read_as_text(base, tmp_path) -> None:
    medium, features = native.READERS[base[0]].medium, native.READERS[base[0]].features
    seen = frame(medium).assign(prompt=f"<{medium}> <other> She is", **{"media.other": "x"})
    words = frame(medium).drop(columns=f"media.{medium}").assign(prompt="It rains. She is")
    recipe = Tuning(
        data=["moods", "words"],
        modules="gate",
        steps=2,
        batch_size=4,
        rank=2,
        max_length=96,
        bridge=BridgeConfig(kind="native", tokens={medium: 1}),
    )
    tuner = Tuner(base[1])
    job = TuningJob(recipe, [seen, words], tmp_path / "a", media=[{medium: features}, {}])
    (measured,) = tuner.tune([job])
    assert measured["samples"] == 8
    lengths = [example.prompt_length for example in tuner._examples[1]]
    assert lengths.count(len("It rains. She is")) >= 4  # a token for each byte
    tuned(base, tmp_path / "b", tuner, modules="gate", steps=1)
    alone = [example.prompt_length for example in tuner._examples[1]]
    assert set(lengths) == {*alone, len("It rains. She is")}  # <other> is no part of the prompt


@pytest.mark.parametrize("code", ["native.other-rate", "native.long-recording"])
def test_a_recording_that_the_model_would_misread_is_refused(
    tmp_path, monkeypatch, code: str
) -> None:
    class Misread(native.Sounds):
        rate = 8_000 if code == "native.other-rate" else 16_000

        def of(self, sample: str) -> torch.Tensor:
            # The tiny model reads one second.
            return torch.zeros(20_000, 1) if self.rate == 16_000 else super().of(sample)

    native.save(tmp_path / "base", "qwen2_audio")
    other = replace(native.READERS["qwen2_audio"], features=Misread())
    monkeypatch.setitem(native.READERS, "qwen2_audio", other)
    with refused(code):
        tuned(("qwen2_audio", tmp_path / "base"), tmp_path / "a", modules="gate", steps=1)
