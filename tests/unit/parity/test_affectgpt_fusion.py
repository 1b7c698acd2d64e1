"""AffectGPT's fusion and Emotion-LLaMA's projections against plain references."""

from __future__ import annotations

import numpy as np
import plain_affectgpt as plain
import pytest
import torch
from layouts import FUSED, HEARD, SEEN
from pydantic import ValidationError
from refusal import refused

from affectlocus.checkpoints.bridge_layouts import LAYOUTS
from affectlocus.config.bridges import BridgeConfig
from affectlocus.lm.affectgpt_bridge import AffectGptBridge
from affectlocus.lm.emotion_llama_bridge import EmotionLlamaBridge

HIDDEN, FRAMES, CLIPS = 12, 8, 8
TOKENS = {"multi": 1, "audio": 1, "face": 1}
VECTORS = ("facemae", "videomae", "hubert")


def bridge(tokens: dict[str, int] = TOKENS, visual: str = "face") -> AffectGptBridge:
    torch.manual_seed(0)
    return AffectGptBridge(HIDDEN, {visual: SEEN, "audio": HEARD}, tokens)


def drawn(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def arrays(module: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in module.state_dict().items()}


def test_every_soft_token_is_the_reference_s_to_a_millionth() -> None:
    module = bridge()
    seen, heard = drawn(3, FRAMES, SEEN), drawn(3, CLIPS, HEARD, seed=2)
    with torch.no_grad():
        found = module({"face": seen, "audio": heard})
    for sample in range(3):
        expected = plain.soft_tokens(arrays(module), seen[sample].numpy(), heard[sample].numpy())
        assert found.keys() == expected.keys()
        for name, vector in expected.items():
            assert found[name].shape == (3, 1, HIDDEN)
            np.testing.assert_allclose(found[name][sample, 0], vector, rtol=0, atol=1e-6)


def test_the_reference_notices_a_softmax() -> None:
    """The comparison can fail: with a softmax over frames, the token differs."""
    module, seen = bridge(), drawn(1, FRAMES, SEEN)
    weights = module.video_attention_mlp(seen).softmax(1)
    other = module.affectgpt_proj((seen.transpose(1, 2) @ weights).squeeze(2))
    expected = plain.soft_tokens(arrays(module), seen[0].numpy(), drawn(CLIPS, HEARD).numpy())
    assert np.abs(other[0].detach().numpy() - expected["face"]).max() > 1e-2


def test_several_tokens_of_a_placeholder_are_copies() -> None:
    module = bridge({"multi": 3, "audio": 1, "face": 2})
    found = module({"face": drawn(2, FRAMES, SEEN), "audio": drawn(2, CLIPS, HEARD)})
    assert found["multi"].shape == (2, 3, HIDDEN)
    assert torch.equal(found["multi"][:, 0], found["multi"][:, 2])
    assert torch.equal(found["face"][:, 0], found["face"][:, 1])


def test_without_a_medium_its_tokens_and_multi_are_missing() -> None:
    module = bridge()
    assert list(module({"audio": drawn(1, CLIPS, HEARD)})) == ["audio"]
    assert list(module({"face": drawn(1, FRAMES, SEEN)})) == ["face"]
    assert module({}) == {}


def test_frames_and_faces_share_their_weights() -> None:
    faces = bridge()
    frames = bridge({"multi": 1, "audio": 1, "frame": 1}, "frame")
    frames.load_state_dict(faces.state_dict())
    seen, heard = drawn(2, FRAMES, SEEN), drawn(2, CLIPS, HEARD)
    assert torch.equal(
        frames({"frame": seen, "audio": heard})["frame"],
        faces({"face": seen, "audio": heard})["face"],
    )


def test_the_number_of_frames_is_free() -> None:
    found = bridge()({"face": drawn(1, 1, SEEN), "audio": drawn(1, 3, HEARD)})
    assert all(one.shape == (1, 1, HIDDEN) for one in found.values())


def emotion_llama() -> EmotionLlamaBridge:
    torch.manual_seed(0)
    widths = {"eva": SEEN, **dict.fromkeys(VECTORS, HEARD)}
    return EmotionLlamaBridge(HIDDEN, widths, {"image": 4, "features": 4})


def test_emotion_llama_joins_four_patches_and_ends_with_the_class_token() -> None:
    module = emotion_llama()
    image = drawn(2, 1 + 16, SEEN)
    vectors = {name: drawn(2, 1, HEARD, seed=n) for n, name in enumerate(VECTORS)}
    with torch.no_grad():
        found = module({"eva": image, **vectors})
    weights = arrays(module)
    for sample in range(2):
        for place in range(4):
            patches = image[sample, 1 + 4 * place : 5 + 4 * place].numpy()
            expected = plain.linear(weights, "llama_proj", patches.reshape(-1))
            np.testing.assert_allclose(found["image"][sample, place], expected, atol=1e-6)
        for place, name in enumerate(VECTORS):
            vector = vectors[name][sample, 0].numpy()
            expected = plain.linear(weights, f"feats_llama_proj{place + 1}", vector)
            np.testing.assert_allclose(found["features"][sample, place], expected, atol=1e-6)
        expected = plain.linear(weights, "cls_tk_llama_proj", image[sample, 0].numpy())
        np.testing.assert_allclose(found["features"][sample, 3], expected, atol=1e-6)


def test_emotion_llama_with_another_number_of_patches_is_refused() -> None:
    with refused("bridge.other-patches", found=16, expected=17):
        emotion_llama()({"eva": drawn(1, 16, SEEN)})


@pytest.mark.parametrize("kind", LAYOUTS)
def test_the_parameters_have_the_names_of_the_released_file(kind: str) -> None:
    module = bridge() if kind == "affectgpt" else emotion_llama()
    assert sorted(module.state_dict()) == sorted(LAYOUTS[kind].tensors)


def test_affectgpt_trains_fourteen_million_parameters_besides_lora() -> None:
    with torch.device("meta"):
        module = AffectGptBridge(3584, {"face": 768, "audio": 1024}, TOKENS)
    assert sum(one.numel() for one in module.parameters()) == 14_042_372


def test_emotion_llama_has_260_soft_tokens() -> None:
    layout = LAYOUTS["emotion-llama"]
    assert sum(layout.tokens.values()) == 260
    with torch.device("meta"):
        module = EmotionLlamaBridge(
            4096, {"eva": 1408, **dict.fromkeys(VECTORS, 1024)}, layout.tokens
        )
        found = module(
            {
                "eva": torch.empty(1, 1 + 32 * 32, 1408),
                **{name: torch.empty(1, 1, 1024) for name in VECTORS},
            }
        )
    assert {name: one.shape for name, one in found.items()} == {
        "image": (1, 256, 4096),
        "features": (1, 4, 4096),
    }


def test_the_default_width_of_the_fusion_is_the_larger_one() -> None:
    assert bridge().multi_llama_proj.in_features == FUSED == max(SEEN, HEARD)


def test_with_faces_and_frames_the_fusion_is_of_the_faces() -> None:
    tokens = {"multi": 1, "audio": 1, "face": 1, "frame": 1}
    torch.manual_seed(0)
    both = AffectGptBridge(HIDDEN, {"face": SEEN, "frame": SEEN, "audio": HEARD}, tokens)
    faces = bridge()
    faces.load_state_dict(both.state_dict())
    seen, other, heard = drawn(2, 8, SEEN), drawn(2, 8, SEEN, seed=5), drawn(2, 8, HEARD, seed=2)
    found = both({"face": seen, "frame": other, "audio": heard})
    expected = faces({"face": seen, "audio": heard})
    assert all(torch.equal(found[name], expected[name]) for name in TOKENS)
    assert torch.equal(found["frame"], faces({"face": other})["face"])
    with refused("bridge.visual-widths", found=SEEN + 1, expected=SEEN):
        AffectGptBridge(HIDDEN, {"face": SEEN, "frame": SEEN + 1, "audio": HEARD}, tokens)


@pytest.mark.parametrize(
    ("kind", "tokens", "code"),
    [
        ("affectgpt", {"multi": 1, "audio": 1}, "bridge.missing-token"),
        ("affectgpt", {"multi": 1, "face": 1}, "bridge.missing-token"),
        ("affectgpt", {"audio": 1, "face": 1, "voice": 1}, "bridge.unknown-token"),
        ("emotion-llama", {"image": 256}, "bridge.missing-token"),
        ("emotion-llama", {"image": 256, "features": 3}, "bridge.fixed-token"),
    ],
)
def test_soft_tokens_that_a_system_does_not_make_are_refused(kind, tokens, code) -> None:
    with pytest.raises(ValidationError) as caught:
        BridgeConfig.model_validate({"kind": kind, "tokens": tokens})
    (problem,) = caught.value.errors()
    assert problem["ctx"]["error"].code == code


def test_the_released_soft_tokens_are_accepted() -> None:
    for kind, layout in LAYOUTS.items():
        found = BridgeConfig.model_validate({"kind": kind, "tokens": layout.tokens})
        assert sorted(found.media) == sorted(layout.media)
