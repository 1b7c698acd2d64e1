"""Frozen encoders of every family: their features are what transformers gives."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from media_writer import RATE, pictures, tone
from refusal import refused
from safetensors.torch import load_file, save_file
from tiny_encoders import ENCODERS, OF_PICTURES, OF_SOUND, save_encoder

from affectlocus.config.media import Medium
from affectlocus.data.clips import clips_of
from affectlocus.data.unusable import UnusableError
from affectlocus.lm.encoders import FAMILIES, MediaEncoder

REAL = Path(__file__).parents[3] / "shared/real"
POSITIONS = 16  # of a picture of 32 pixels in patches of 8


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A folder with a tiny encoder of a family, made once."""
    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in made:
            made[name] = save_encoder(name, tmp_path_factory.mktemp(name))
        return made[name]

    return folder


def kind_of(name: str) -> str:
    return {"videomae": "video"}.get(name, "frames" if name in OF_PICTURES else "audio")


def medium(name: str, **keys: Any) -> Medium:
    frames = {"frames": 4} if name == "videomae" else {}
    return Medium.model_validate({"kind": kind_of(name), "encoder": name, **frames, **keys})


def example(name: str, one: Medium, seed: int = 0) -> np.ndarray:
    if kind_of(name) == "audio":
        return clips_of(tone(1.0 + 0.3 * seed, pitch=200 + 90 * seed), one)
    return pictures(4, seed=40 * seed)


def states_of(name: str, folder: Path, read: np.ndarray) -> tuple[torch.Tensor, ...]:
    """The hidden states by transformers alone, called as its documentation says."""
    t = transformers
    with torch.inference_mode():
        if name == "whisper":
            inputs = t.WhisperFeatureExtractor.from_pretrained(folder)(
                list(read), sampling_rate=RATE, return_tensors="pt"
            )
            model: Any = t.WhisperModel.from_pretrained(folder).get_encoder().eval()
        elif kind_of(name) == "audio":
            inputs = t.AutoFeatureExtractor.from_pretrained(folder)(
                list(read), sampling_rate=RATE, return_tensors="pt"
            )
            model = t.AutoModel.from_pretrained(folder).eval()
        else:
            prepare = t.AutoImageProcessor.from_pretrained(folder, backend="pil")
            several = [list(read)] if name == "videomae" else list(read)
            inputs = prepare(several, return_tensors="pt")
            loaders = {"clip": t.CLIPVisionModelWithProjection, "siglip": t.SiglipVisionModel}
            model = loaders.get(name, t.AutoModel).from_pretrained(folder).eval()
        inputs.pop("attention_mask", None)
        return model(**inputs, output_hidden_states=True).hidden_states


def test_every_family_is_tested() -> None:
    assert {name.removesuffix("_vision_model") for name in FAMILIES} == set(ENCODERS)


@pytest.mark.parametrize("name", ENCODERS)
def test_features_are_the_hidden_states_of_transformers(
    name: str, encoder: Callable[[str], Path]
) -> None:
    one = medium(name, layers=[-1, -2], pool="none")
    read = example(name, one)
    states = states_of(name, encoder(name), read)
    expected = torch.stack([states[-1], states[-2]]).mean(dim=0)
    if name == "whisper":
        expected = expected[:, : len(read[0]) // 320]
    assert torch.equal(MediaEncoder(encoder(name), one)(read), expected.flatten(0, 1))


@pytest.mark.parametrize("name", ENCODERS)
def test_features_depend_on_nothing_but_the_file(name: str, encoder: Callable[[str], Path]) -> None:
    one = medium(name)
    run = MediaEncoder(encoder(name), one)
    reads = [example(name, one, seed) for seed in range(3)]
    forward = [run(read) for read in reads]
    backward = [run(read) for read in reversed(reads)]
    again = MediaEncoder(encoder(name), one)
    for index, found in enumerate(forward):
        assert torch.equal(found, backward[2 - index])
        assert torch.equal(found, again(reads[index]))
    assert not torch.equal(forward[0], forward[1])
    assert forward[0].dtype == torch.float32


@pytest.mark.parametrize("name", OF_PICTURES)
def test_a_picture_is_pooled_as_the_setting_says(name: str, encoder: Callable[[str], Path]) -> None:
    read = pictures(4)
    every = MediaEncoder(encoder(name), medium(name, pool="none"))(read)
    positions = POSITIONS + (name != "siglip")
    assert every.shape == (4 * positions, 16)
    mean = MediaEncoder(encoder(name), medium(name))(read)
    assert torch.allclose(mean, every.reshape(4, positions, 16).mean(dim=1), atol=1e-6)
    parts = MediaEncoder(encoder(name), medium(name, parts=2))(read)
    assert parts.shape == (8, 16)
    whole = MediaEncoder(encoder(name), medium(name, pool="encoder"))(read)
    assert whole.shape == (4, 12 if name == "clip" else 16)
    if name != "siglip":
        first = MediaEncoder(encoder(name), medium(name, pool="first"))(read)
        assert torch.equal(first, every.reshape(4, positions, 16)[:, 0])


def test_clips_projection_is_image_embeds(encoder: Callable[[str], Path]) -> None:
    folder, read = encoder("clip"), pictures(4)
    prepare = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    model = transformers.CLIPVisionModelWithProjection.from_pretrained(folder).eval()
    with torch.inference_mode():
        expected = model(**prepare(list(read), return_tensors="pt")).image_embeds
    assert torch.equal(MediaEncoder(folder, medium("clip", pool="encoder"))(read), expected)


@pytest.mark.parametrize("name", OF_SOUND)
def test_sound_is_normalised_by_clip_by_sample_or_not(
    name: str, encoder: Callable[[str], Path]
) -> None:
    clips = {"clips": 3, "seconds": 0.5}
    read = example(name, medium(name, **clips)) * np.float32([[1], [2], [3]])
    found = {
        how: MediaEncoder(encoder(name), medium(name, **clips, normalise=how))(read)
        for how in ("encoder", "none", "clip", "sample")
    }
    assert torch.equal(found["encoder"], found["clip"])
    assert not torch.equal(found["clip"], found["sample"])
    assert not torch.equal(found["none"], found["sample"])
    assert found["sample"].shape == (3, 16)


def test_jointly_normalised_clips_are_what_the_feature_extractor_gives_for_one_tensor(
    encoder: Callable[[str], Path],
) -> None:
    """AffectGPT's code hands all clips to the extractor as one array of two axes in a list."""
    one = Medium.model_validate({"preset": "affectgpt-audio", "encoder": "x", "layers": [-1, -2]})
    read = clips_of(tone(5.0), one)
    folder = encoder("hubert")
    model = transformers.HubertModel.from_pretrained(folder).eval()
    joint = (read - read.mean()) / np.sqrt(read.var() + 1e-7)
    with torch.inference_mode():
        states = model(torch.from_numpy(joint), output_hidden_states=True).hidden_states
    expected = torch.stack([states[-1], states[-2]]).mean(dim=0).mean(dim=1)
    found = MediaEncoder(folder, one)(read)
    assert found.shape == (8, 16)
    assert torch.allclose(found, expected, atol=1e-6)


def test_the_silence_that_whisper_adds_is_no_token(encoder: Callable[[str], Path]) -> None:
    read = tone(1.5)[None]
    trained = MediaEncoder(encoder("whisper"), medium("whisper", pool="none"))(read)
    bare = MediaEncoder(encoder("whisper"), medium("whisper", pool="none", window="none"))(read)
    assert trained.shape == bare.shape == (75, 16)
    assert not torch.equal(trained, bare)


def test_whisper_without_its_window_computes_only_the_sound(
    encoder: Callable[[str], Path],
) -> None:
    """The same as a model that was made for recordings of this length."""
    folder = encoder("whisper")
    read = tone(1.5)[None]
    whole = transformers.WhisperModel.from_pretrained(folder)
    config = transformers.WhisperConfig.from_pretrained(folder, max_source_positions=75)
    short = transformers.WhisperModel(config).eval()
    weights = whole.state_dict()
    name = "encoder.embed_positions.weight"
    short.load_state_dict({**weights, name: weights[name][:75]})
    inputs = transformers.WhisperFeatureExtractor.from_pretrained(folder)(
        list(read), sampling_rate=RATE, padding="do_not_pad", return_tensors="pt"
    )
    with torch.inference_mode():
        expected = short.get_encoder()(inputs["input_features"]).last_hidden_state[0]
    run = MediaEncoder(folder, medium("whisper", pool="none", window="none"))
    assert torch.equal(run(read), expected)
    # A longer and an odd length in between change nothing.
    assert run(tone(3.0)[None]).shape == (150, 16)
    assert run(tone(0.99)[None, :15_821]).shape == (50, 16)
    assert torch.equal(run(read), expected)


def test_sound_of_a_wrong_length_is_unusable(encoder: Callable[[str], Path]) -> None:
    with pytest.raises(UnusableError, match="399 samples"):
        MediaEncoder(encoder("hubert"), medium("hubert"))(tone(1.0)[None, :399])
    for window in ("trained", "none"):
        run = MediaEncoder(encoder("whisper"), medium("whisper", window=window))
        with pytest.raises(UnusableError, match="expected 30 s at most"):
            run(tone(31.0)[None])


def test_settings_that_do_not_fit_the_encoder_are_refused(
    encoder: Callable[[str], Path],
) -> None:
    for name, keys in (
        ("hubert", {"pool": "first"}),
        ("hubert", {"pool": "encoder"}),
        ("hubert", {"window": "none"}),
        ("siglip", {"pool": "first"}),
        ("videomae", {"short": "keep"}),
        ("whisper", {"normalise": "clip"}),
    ):
        with refused("encoder.settings"):
            MediaEncoder(encoder(name), medium(name, **keys))
    for name, kind in (("hubert", "frames"), ("clip", "audio"), ("videomae", "image")):
        one = Medium.model_validate({"kind": kind, "encoder": "x"})
        with refused("encoder.settings"):
            MediaEncoder(encoder(name), one)
    with refused("encoder.no-such-layer", found=-5):
        MediaEncoder(encoder("clip"), medium("clip", layers=[-5]))
    with refused("encoder.other-frames", expected=4):
        MediaEncoder(encoder("videomae"), medium("videomae", frames=8))
    with refused("encoder.other-rate", expected=16_000):
        MediaEncoder(encoder("hubert"), medium("hubert", rate=8000))


def changed(folder: Path, encoder: Path, name: str, **keys: Any) -> Path:
    shutil.copytree(encoder, folder)
    file = folder / name
    file.write_text(json.dumps({**json.loads(file.read_text()), **keys}), encoding="utf-8")
    return folder


def test_a_model_that_is_no_encoder_is_refused(
    tmp_path: Path, encoder: Callable[[str], Path]
) -> None:
    folder = changed(tmp_path / "a", encoder("clip"), "config.json", model_type="llama")
    with refused("encoder.unknown-type", found="llama"):
        MediaEncoder(folder, medium("clip"))


def test_a_missing_preprocessor_is_refused_unless_sound_is_normalised_here(
    tmp_path: Path, encoder: Callable[[str], Path]
) -> None:
    for name in ("clip", "hubert"):
        shutil.copytree(encoder(name), tmp_path / name)
        (tmp_path / name / "preprocessor_config.json").unlink()
        with refused("encoder.no-preprocessor"):
            MediaEncoder(tmp_path / name, medium(name))
    MediaEncoder(tmp_path / "hubert", medium("hubert", normalise="sample"))


@pytest.mark.parametrize("name", ["clip", "whisper", "hubert"])
def test_an_encoder_without_one_of_its_weights_is_refused(
    tmp_path: Path, name: str, encoder: Callable[[str], Path]
) -> None:
    shutil.copytree(encoder(name), tmp_path / name)
    file = tmp_path / name / "model.safetensors"
    weights = load_file(file)
    gone = {
        "clip": "visual_projection.weight",
        "whisper": "encoder.conv1.weight",
        "hubert": "encoder.layers.1.attention.q_proj.weight",
    }[name]
    (key,) = [one for one in weights if one.endswith(gone)]
    del weights[key]
    save_file(weights, file, {"format": "pt"})
    with refused("model.missing-weight"):
        MediaEncoder(tmp_path / name, medium(name))


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason="the real material is not here")
def test_the_real_whisper_hears_a_real_recording() -> None:
    from affectlocus.data.media_files import read_media

    one = medium("whisper", pool="none", window="none")
    run = MediaEncoder(REAL / "encoders/whisper-base-encoder", one)
    clips = sorted((REAL / "audio/ravdess/clips").rglob("*.flac"))[:2]
    found = [run(read_media(clip, one)) for clip in clips]
    assert all(one.shape[1] == 512 and len(one) > 50 for one in found)
    assert torch.equal(found[0], run(read_media(clips[0], one)))
