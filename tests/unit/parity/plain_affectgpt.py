"""AffectGPT's forward pass, written plainly from the facts about the released code.

Every stage is a few lines of numpy in float64, one sample at a time, so that it can be compared
with the description by eye. Nothing here is imported from the project.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

Weights = Mapping[str, np.ndarray]


def linear(weights: Weights, name: str, values: np.ndarray) -> np.ndarray:
    """W·x + b for one vector."""
    return weights[f"{name}.weight"].astype(float) @ values + weights[f"{name}.bias"].astype(float)


def pooled(weights: Weights, name: str, frames: np.ndarray) -> np.ndarray:
    """The sum of the frames (T, W), each times a number that a linear map gives it."""
    total = np.zeros(frames.shape[1])
    for frame in frames:
        total += linear(weights, name, frame)[0] * frame
    return total


def fused(weights: Weights, seen: np.ndarray, heard: np.ndarray) -> np.ndarray:
    """The vector of both media: two plain weights from both, and no softmax."""
    video = linear(weights, "multi_video_embs", seen.mean(0))
    audio = linear(weights, "multi_audio_embs", heard.mean(0))
    hidden = linear(weights, "attention_mlp", np.concatenate([video, audio]))
    first, second = linear(weights, "fc_att", hidden)
    return first * video + second * audio


def soft_tokens(weights: Weights, seen: np.ndarray, heard: np.ndarray) -> dict[str, np.ndarray]:
    """The three soft tokens of one sample, from frames (T, W) and clips (T, W)."""
    return {
        "multi": linear(weights, "multi_llama_proj", fused(weights, seen, heard)),
        "audio": linear(weights, "audio_llama_proj", pooled(weights, "audio_attention_mlp", heard)),
        "face": linear(weights, "affectgpt_proj", pooled(weights, "video_attention_mlp", seen)),
    }
