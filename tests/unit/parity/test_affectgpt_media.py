"""AffectGPT's frames, clips and features against a plain reference: its presets of media."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import plain_affectgpt as plain
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_encoders import save_encoder
from transformers import CLIPImageProcessorPil, CLIPVisionModelWithProjection, HubertModel

from affectlocus.config.media import Medium
from affectlocus.data.clips import clip_starts, clips_of, frame_indices
from affectlocus.data.pictures import read_pictures
from affectlocus.lm.encoders import MediaEncoder

RATE = 16_000


def medium(preset: str, encoder: Path | str = "encoder") -> Medium:
    return Medium.model_validate({"preset": preset, "encoder": str(encoder)})


@given(st.integers(1, 3000))
def test_the_frames_are_the_released_ones(frames: int) -> None:
    expected = plain.frame_indices(frames)
    assert frame_indices(frames, medium("affectgpt-face")) == expected
    assert frame_indices(frames, medium("affectgpt-frame")) == expected
    assert len(expected) == 8


@pytest.mark.parametrize("samples", [1, 31_999, 32_000, 32_001, 47_777, 160_000, 333_333])
def test_the_clips_are_the_released_ones(samples: int) -> None:
    sound = np.random.default_rng(samples).normal(size=samples).astype(np.float32) + 0.25
    found = clips_of(sound, medium("affectgpt-audio"))
    assert found.shape == (8, 2 * RATE)
    np.testing.assert_allclose(found, plain.clips(sound), rtol=0, atol=1e-6)


@given(st.integers(2 * RATE, 60 * RATE))
def test_clips_start_where_the_released_ones_do(samples: int) -> None:
    expected = [int(start * RATE) for start in plain.clip_starts(samples / RATE)]
    assert clip_starts(samples, 2 * RATE, medium("affectgpt-audio")) == expected


def test_audio_features_are_the_reference_s(tmp_path: Path) -> None:
    folder = save_encoder("hubert", tmp_path / "hubert", num_hidden_layers=5)
    sound = np.random.default_rng(0).normal(size=3 * RATE).astype(np.float32)
    given_clips = clips_of(sound, medium("affectgpt-audio"))
    found = MediaEncoder(folder, medium("affectgpt-audio", folder))(given_clips)
    together = plain.normalised_together(plain.clips(sound)).astype(np.float32)
    model = HubertModel.from_pretrained(folder).eval()
    with torch.no_grad():
        states = model(torch.from_numpy(together), output_hidden_states=True).hidden_states
    expected = plain.audio_features([one.numpy().astype(float) for one in states])
    assert found.shape == expected.shape == (8, 16)
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-6)


def test_faces_are_read_without_changing_their_colours_and_projected(tmp_path: Path) -> None:
    """The released code gives CLIP OpenCV's blue as red."""
    folder = save_encoder("clip", tmp_path / "clip")
    faces = np.random.default_rng(0).integers(0, 256, (11, 224, 224, 3), dtype=np.uint8)
    np.save(tmp_path / "faces.npy", faces)
    preset = medium("affectgpt-face", folder)
    read = read_pictures(tmp_path / "faces.npy", preset)
    expected = faces[plain.frame_indices(11)]
    assert np.array_equal(read, expected)
    found = MediaEncoder(folder, preset)(read)
    model = CLIPVisionModelWithProjection.from_pretrained(folder).eval()
    prepared = CLIPImageProcessorPil.from_pretrained(folder)(list(expected), return_tensors="pt")
    with torch.no_grad():
        one_by_one = torch.cat(
            [model(pixel_values=pixels[None]).image_embeds for pixels in prepared["pixel_values"]]
        )
    assert found.shape == (8, 12)
    torch.testing.assert_close(found, one_by_one, rtol=0, atol=1e-6)
    corrected = Medium.model_validate(preset.model_dump() | {"array_channels": "bgr"})
    turned = read_pictures(tmp_path / "faces.npy", corrected)
    assert np.array_equal(turned, expected[..., ::-1])
