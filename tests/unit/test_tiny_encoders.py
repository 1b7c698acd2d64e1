"""The tiny encoders: shipped ones, repeatable ones, and what a linear probe reads from them."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from command import in_process
from pydantic import ValidationError
from sklearn.linear_model import LogisticRegression
from transformers import (
    AutoFeatureExtractor,
    AutoImageProcessor,
    CLIPVisionModelWithProjection,
    HubertModel,
)

from affectlocus.config.encoder_recipes import EncoderRecipe
from affectlocus.config.experiment import load
from affectlocus.core.files import sha256
from affectlocus.data.faces import SIDE, draw_expression, draw_face, draw_identity, draw_view
from affectlocus.data.voices import RATE, draw_delivery, draw_speaker, draw_voice
from affectlocus.training.shipped import RECORD
from affectlocus.training.shipped_encoders import FOLDER, shipped_encoder
from affectlocus.training.tiny_encoders import _clip, draw_faces, fingerprint

ROOT = Path(__file__).parents[2]
RECIPES = yaml.safe_load((FOLDER / "recipe.yaml").read_text())
RECORDED = json.loads((FOLDER / RECORD).read_text())["encoders"]
TINY = {"architecture": "clip", "hidden_size": 8, "heads": 2, "layers": 1, "examples": 20}
TINY["steps"] = 2


def test_the_record_lists_every_encoder_with_its_files_and_they_are_small() -> None:
    assert list(RECORDED) == list(RECIPES)
    for name in RECIPES:
        files = {path.name: sha256(path) for path in (FOLDER / name).iterdir()}
        assert files == RECORDED[name]["files"]
    assert sum(path.stat().st_size for path in FOLDER.rglob("*")) < 1_000_000


def test_the_experiment_uses_the_shipped_encoders() -> None:
    media = load(ROOT / "experiments/senses").media
    for name, settings in RECIPES.items():
        encoder = media[name].encoder
        assert encoder is not None
        recipe = encoder.pretrain
        assert recipe is not None
        assert recipe == EncoderRecipe(**settings)
        found = shipped_encoder(recipe, fingerprint(recipe))
        assert found is not None
        assert found.name == name


@pytest.mark.parametrize("change", [{"seed": 1}, {"steps": 1499}, {"examples": 15999}])
def test_another_recipe_is_not_shipped(change) -> None:
    recipe = EncoderRecipe(**RECIPES["face"] | change)
    assert shipped_encoder(recipe, RECORDED["face"]["examples"]) is None


def test_faces_that_are_drawn_otherwise_have_no_shipped_encoder() -> None:
    assert shipped_encoder(EncoderRecipe(**RECIPES["face"]), "0" * 64) is None


def test_the_command_copies_a_shipped_encoder_and_says_so(tmp_path: Path) -> None:
    done = in_process(
        *(tmp_path, "encoders", "--settings", json.dumps(RECIPES["voice"])),
        *("--folder", "voice", "--out", "voice.json"),
    )
    assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "voice.json").read_text())
    assert manifest["shipped"] == "voice"
    for name, digest in RECORDED["voice"]["files"].items():
        assert sha256(tmp_path / "voice" / name) == digest


def test_the_same_recipe_trains_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    for name, seed in (("one", 0), ("two", 0), ("other", 1)):
        done = in_process(
            *(tmp_path, "encoders", "--settings", json.dumps(TINY | {"seed": seed})),
            *("--folder", name, "--out", f"{name}.json"),
        )
        assert done.returncode == 0, done.stderr
    one, two, other = (
        sha256(tmp_path / name / "model.safetensors") for name in ("one", "two", "other")
    )
    assert one == two
    assert one != other


def test_steps_train_the_encoder(tmp_path: Path) -> None:
    recipe = EncoderRecipe(**TINY)
    torch.manual_seed(recipe.seed)
    untrained = _clip(recipe).state_dict()
    done = in_process(
        *(tmp_path, "encoders", "--settings", json.dumps(TINY)),
        *("--folder", "face", "--out", "face.json"),
    )
    assert done.returncode == 0, done.stderr
    trained = CLIPVisionModelWithProjection.from_pretrained(tmp_path / "face").state_dict()
    assert any(not torch.equal(trained[name], untrained[name]) for name in untrained)


def test_the_targets_have_one_scale_and_no_label() -> None:
    faces = draw_faces(EncoderRecipe(**TINY | {"examples": 200}))
    assert faces.pixels.shape == (200, 3, SIDE, SIDE)
    numbers = faces.targets[:, :19]
    assert torch.allclose(numbers.std(0), torch.ones(19), atol=1e-3)
    assert faces.targets.shape == (200, 19 + 15 * 14)


def test_a_trained_hubert_is_refused() -> None:
    with pytest.raises(ValidationError, match="hubert is not trained here"):
        EncoderRecipe(architecture="hubert", steps=5)


def _accuracy(features: np.ndarray, levels: list[bool], train: int) -> float:
    mean, deviation = features[:train].mean(0), features[:train].std(0)
    scaled = (features - mean) / deviation
    model = LogisticRegression(C=0.1, max_iter=5000).fit(scaled[:train], levels[:train])
    return float(model.score(scaled[train:], levels[train:]))


def test_a_linear_probe_reads_the_valence_of_faces_of_people_that_it_has_not_seen() -> None:
    count, train = 1000, 700
    pictures, levels = [], []
    for number in range(count):
        rng = random.Random(f"probe/{number}")
        levels.append(rng.random() < 0.5)
        expression = draw_expression(rng, levels[-1])
        pictures.append(draw_face(draw_identity(rng), expression, draw_view(rng), number))
    processor = AutoImageProcessor.from_pretrained(FOLDER / "face")
    pixels = processor(pictures, return_tensors="pt")["pixel_values"]
    trained = CLIPVisionModelWithProjection.from_pretrained(FOLDER / "face").eval()
    torch.manual_seed(0)
    untrained = _clip(EncoderRecipe(**RECIPES["face"])).eval()
    read = {}
    for name, model in (("trained", trained), ("untrained", untrained)):
        with torch.no_grad():
            read[name] = _accuracy(model(pixel_values=pixels).image_embeds.numpy(), levels, train)
    assert read["trained"] > 0.72
    assert read["untrained"] < read["trained"] - 0.1


def test_a_linear_probe_reads_the_arousal_of_voices_of_speakers_that_it_has_not_heard() -> None:
    count, train = 600, 400
    recordings, levels = [], []
    for number in range(count):
        rng = random.Random(f"probe/{number}")
        levels.append(rng.random() < 0.5)
        voice = draw_voice(draw_speaker(rng), draw_delivery(rng, levels[-1]), rng)
        recordings.append(voice / 32768)
    extractor = AutoFeatureExtractor.from_pretrained(FOLDER / "voice")
    values = extractor(recordings, sampling_rate=RATE, return_tensors="pt")["input_values"]
    model = HubertModel.from_pretrained(FOLDER / "voice").eval()
    with torch.no_grad():
        states = torch.cat([model(part).last_hidden_state.mean(1) for part in values.split(100)])
    assert _accuracy(states.numpy(), levels, train) > 0.75
