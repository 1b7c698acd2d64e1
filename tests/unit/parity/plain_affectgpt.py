"""AffectGPT's forward pass, written plainly from the facts about the released code.

Every stage is a few lines of numpy in float64, one sample at a time, so that it can be compared
with the description by eye. Nothing here is imported from the project.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction

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


def frame_indices(frames: int, wanted: int = 8) -> list[int]:
    """The frames that are taken of `frames`: evenly from the first, and the last again if few."""
    taken = min(wanted, frames)
    step = frames / taken
    found = [int(number * step) for number in range(taken)]
    return found + [found[-1]] * (wanted - taken)


def clip_starts(duration: float, clips: int = 8, seconds: int = 2) -> list[Fraction]:
    """The starts of the clips in seconds: exact fractions of a difference of floats."""
    last = Fraction(max(duration - seconds, 0.0))
    return [last * number / (clips - 1) for number in range(clips)]


def clips(sound: np.ndarray, rate: int = 16_000, count: int = 8, seconds: int = 2) -> np.ndarray:
    """Clips (count, samples) of a recording with one channel, each without its mean."""
    if len(sound) < seconds * rate:
        sound = np.concatenate([sound, np.zeros(seconds * rate - len(sound), sound.dtype)])
    starts = [int(start * rate) for start in clip_starts(len(sound) / rate, count, seconds)]
    found = [sound[start : start + seconds * rate] for start in starts]
    return np.stack([clip - clip.mean() for clip in found])


def normalised_together(clips: np.ndarray) -> np.ndarray:
    """All clips of a sample to mean 0 and variance 1 together, as one array."""
    return (clips - clips.mean()) / np.sqrt(clips.var() + 1e-7)


def audio_features(hidden_states: list[np.ndarray]) -> np.ndarray:
    """(clips, width): the mean of the last four hidden states (clips, T, width), then over time."""
    return np.mean(hidden_states[-4:], axis=0).mean(axis=1)


MULTI = "The audio and video merged info is: <Multi><MultiHere></Multi>. "
AUDIO = "The audio content is as follows: <Audio><AudioHere></Audio>. "
FACE = (
    "Meanwhile, we uniformly sample raw frames from the video and extract faces from these frames: "
    "<Video><FaceHere></Video>. "
)
ASKED = (
    "The subtitle of this video is: <Subtitle>{subtitle}</Subtitle>. Now, please answer my "
    "question based on all the provided information. {question} ###Assistant: "
)
HERE = ("<MultiHere>", "<AudioHere>", "<FaceHere>")
"""The added tokens, in the order of the prompt."""


def prompt(subtitle: str, question: str) -> str:
    """The prompt with all three soft tokens and the subtitle."""
    return "###Human: " + MULTI + AUDIO + FACE + ASKED.format(subtitle=subtitle, question=question)


def training_sample(
    encode: Callable[[str], list[int]], text: str, answer: str, bos: int, eos: int
) -> tuple[list[int], list[int]]:
    """Ids and labels of a sample: bos, prompt, answer and ###, eos; the prompt is not learned.

    Prompt and target are encoded apart. The label of eos is eos, although its attention is masked.
    """
    asked, target = encode(text), encode(answer + "###")
    return [bos, *asked, *target, eos], [-100] * (1 + len(asked)) + target + [eos]
