"""Where a model goes. No card is here: what a card would do is checked as far as that goes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from accelerate import dispatch_model
from refusal import refused

from affectlocus.config.hardware import Hardware
from affectlocus.lm.candidates import log_likelihoods
from affectlocus.lm.devices import CARDS, autocast, check_device_map, load, uses_several_gpus

HARDWARE = Hardware()
needs_no_card = pytest.mark.skipif(torch.cuda.is_available(), reason="a card is here")


@needs_no_card
def test_without_a_card_a_model_stays_on_the_cpu_in_its_own_dtype(
    monkeypatch: pytest.MonkeyPatch, checkpoint: Callable[..., Path]
) -> None:
    monkeypatch.setenv(CARDS, "2")
    assert not uses_several_gpus()
    model = load(checkpoint(), Hardware(attention="eager"))
    assert model.device.type == "cpu"
    assert model.dtype == torch.float32
    assert isinstance(autocast(model, HARDWARE), contextlib.nullcontext)


def test_one_card_or_none_asked_for_spreads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for asked in ("0", "1", "", "many"):
        monkeypatch.setenv(CARDS, asked)
        assert not uses_several_gpus()


def test_a_model_behind_accelerates_hooks_answers_and_is_edited_as_without(
    checkpoint: Callable[..., Path],
) -> None:
    plain = load(checkpoint(), HARDWARE).eval()
    hooked = load(checkpoint(), HARDWARE).eval()
    layers = [f"model.layers.{n}" for n in range(hooked.config.num_hidden_layers)]
    parts = ["model.embed_tokens", *layers, "model.norm", "model.rotary_emb", "lm_head"]
    hooked = dispatch_model(hooked, dict.fromkeys(parts, "cpu"), force_hooks=True)
    for model in (plain, hooked):
        model.state_dict()["model.layers.0.mlp.gate_proj.weight"].mul_(2)
    asked = ([[3, 4, 5], [6]], [[7], [8, 9]], 100)
    assert torch.equal(log_likelihoods(plain, *asked), log_likelihoods(hooked, *asked))


def test_a_model_that_only_partly_fits_the_cards_is_refused(tmp_path: Path) -> None:
    check_device_map(tmp_path, {"model.embed": 0, "model.layers.0": 1})
    placed = {"model.embed": 0, "model.layers.0": "cpu", "model.layers.1": "disk"}
    outside = ["model.layers.0", "model.layers.1"]
    with refused("model.too-large-for-gpus", file=tmp_path, modules=outside, key="plan.card_gb"):
        check_device_map(tmp_path, placed)


@needs_no_card
def test_a_cpu_multiplies_in_bfloat16_where_this_is_asked_for(
    checkpoint: Callable[..., Path],
) -> None:
    """The answers are near those of float32, and not the same; the weights keep their bits."""
    hardware = Hardware(cpu_precision="bfloat16")
    model = load(checkpoint(), hardware).eval()
    before = {name: one.clone() for name, one in model.state_dict().items()}
    asked = ([[3, 4, 5], [6]], [[7], [8, 9]], 100)
    exact = log_likelihoods(model, *asked)
    with autocast(model, hardware):
        found = log_likelihoods(model, *asked)
    assert found.dtype == torch.float32
    assert not torch.equal(found, exact)
    assert torch.allclose(found, exact, atol=0.3)
    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())
    small = load(checkpoint(dtype="bfloat16"), hardware)
    assert isinstance(autocast(small, hardware), contextlib.nullcontext)
