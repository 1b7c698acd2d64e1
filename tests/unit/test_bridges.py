"""Bridges: their soft tokens, their files, and what is drawn from a seed."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from refusal import refused

from affectlocus.checkpoints.bridge_files import read_bridge
from affectlocus.config.bridges import KINDS, BridgeConfig
from affectlocus.lm.bridges import (
    CLASSES,
    LinearBridge,
    built,
    described,
    drawn,
    fit_standardise,
    loaded,
    save,
    soft_tokens,
)

WIDTHS = {"face": 6, "voice": 4, "other": 3}


def config(kind: str = "linear", **keys) -> BridgeConfig:
    return BridgeConfig.model_validate({"kind": kind, "tokens": {"face": 1, "voice": 2}} | keys)


def test_every_kind_of_the_parameters_has_a_class():
    assert {name for name, kind in KINDS.items() if not kind.own} == set(CLASSES)


def test_a_linear_bridge_averages_equal_parts_of_the_tokens():
    bridge = built(described(config(), WIDTHS, 8))
    assert isinstance(bridge, LinearBridge)
    face, voice = torch.randn(2, 5, 6), torch.randn(2, 4, 4)
    found = bridge({"face": face, "voice": voice})
    assert {name: tuple(one.shape) for name, one in found.items()} == {
        "face": (2, 1, 8),
        "voice": (2, 2, 8),
    }
    layer = bridge.media["voice"]
    halves = torch.stack([voice[:, :2].mean(1), voice[:, 2:].mean(1)], dim=1)
    assert torch.allclose(found["voice"], halves @ layer.weight.T + layer.bias, atol=1e-6)
    whole = soft_tokens(bridge, {"face": face, "voice": voice}, "cpu")
    assert torch.equal(whole, torch.cat([found["face"], found["voice"]], dim=1))


@pytest.mark.parametrize(("width", "between"), [(None, 8), (5, 5)])
def test_an_mlp_has_two_layers_and_a_gelu(width, between):
    bridge = built(described(config("mlp", width=width), WIDTHS, 8))
    first, last = bridge.media["face"][0], bridge.media["face"][2]
    assert first.weight.shape == (between, 6)
    assert last.weight.shape == (8, between)
    face = torch.randn(1, 1, 6)
    want = torch.nn.functional.gelu(face @ first.weight.T + first.bias) @ last.weight.T + last.bias
    found = bridge({"face": face, "voice": torch.randn(1, 2, 4)})["face"]
    assert torch.allclose(found, want, atol=1e-6)


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_features_are_standardised_over_the_training_samples_in_each_dimension(kind):
    bridge = built(described(config(kind), WIDTHS, 8))
    plain = built(described(config(kind, standardise=False), WIDTHS, 8))
    plain.load_state_dict(dict(bridge.named_parameters()))
    face = [50 + torch.randn(3, 6) * torch.tensor([0.1, 1, 10, 1, 1, 0]) for _ in range(40)]
    voice = [torch.randn(2, 4) for _ in face]
    media = [{"face": one, "voice": two} for one, two in zip(face, voice, strict=True)]
    fit_standardise(bridge, [*media, {}])
    every = torch.cat(face).double()
    mean, deviation = every.mean(0), every.std(0, correction=0)
    given = {name: one[None] for name, one in media[0].items()}
    wanted = (face[0].double() - mean) / deviation
    wanted[:, 5] = 0  # one value throughout
    voices = torch.cat(voice)
    other = (voice[0] - voices.mean(0)) / voices.std(0, correction=0)
    expected = plain({"face": wanted.float()[None], "voice": other[None]})
    for name, found in bridge(given).items():
        assert torch.allclose(found, expected[name], atol=1e-4), name


def test_what_standardises_is_saved_with_the_bridge_and_is_no_parameter(tmp_path):
    description = described(config("mlp"), WIDTHS, 8)
    bridge = drawn(description, 0)
    fit_standardise(bridge, [{"face": torch.randn(4, 6), "voice": torch.randn(4, 4)}])
    save(bridge, description, tmp_path)
    again = loaded(read_bridge(tmp_path))
    assert torch.equal(again.standardise["face"].mean, bridge.standardise["face"].mean)
    assert again.standardise["face"].mean.abs().sum() > 0
    assert not [name for name, _ in bridge.named_parameters() if "standardise" in name]


def test_a_kind_with_released_weights_does_not_standardise():
    given = {"kind": "affectgpt", "tokens": {"multi": 1, "audio": 1, "face": 1}}
    with pytest.raises(ValidationError, match="standardise has no meaning for kind affectgpt"):
        BridgeConfig.model_validate(given | {"standardise": True})


def test_a_bridge_is_drawn_from_its_seed_and_leaves_other_random_numbers_alone():
    description = described(config(), WIDTHS, 8)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, same, other = (drawn(description, seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_a_saved_bridge_has_the_same_bits(tmp_path):
    description = described(config("mlp", width=5), WIDTHS, 8)
    bridge = drawn(description, 3)
    save(bridge, description, tmp_path)
    stored = read_bridge(tmp_path)
    assert stored.description == description
    again = loaded(stored)
    for name, one in bridge.state_dict().items():
        assert torch.equal(again.state_dict()[name], one)


def test_a_medium_without_features_is_refused():
    with refused("bridge.no-medium", expected="voice"):
        described(config(), {"face": 6}, 8)


def test_a_width_for_a_kind_without_one_is_refused():
    with pytest.raises(ValidationError, match="width has no meaning for kind linear"):
        config(width=4)


def test_the_media_of_a_fused_bridge_are_its_other_placeholders():
    tokens = {"multi": 1, "audio": 1, "face": 1}
    assert BridgeConfig(kind="affectgpt", tokens=tokens).media == ["audio", "face"]
