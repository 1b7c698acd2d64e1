"""Synthetic voices: the arousal is in pitch, tempo, energy and modulation.

The speaker and the noise are nuisance. Speakers differ more in pitch than arousal changes it, so
that pitch alone does not tell. A voice is a row of syllables of a harmonic tone, without words.
"""

from __future__ import annotations

import io
import random
import wave
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RATE = 8000
"""Samples a second."""
SECONDS = 0.8
_HARMONICS = 14

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Speaker:
    """The voice of a person: pitch in hertz, two formants in hertz, and the slope of the tone."""

    pitch: float
    formants: tuple[float, float]
    slope: float


@dataclass(frozen=True)
class Delivery:
    """What shows the arousal: factor of the pitch, syllables a second, loudness, modulation."""

    pitch: float
    tempo: float
    energy: float
    modulation: float


def draw_speaker(rng: random.Random) -> Speaker:
    """A speaker, uniformly drawn."""
    return Speaker(
        pitch=rng.uniform(100, 230),
        formants=(rng.uniform(420, 760), rng.uniform(1100, 2100)),
        slope=rng.uniform(1.2, 1.8),
    )


def draw_delivery(rng: random.Random, aroused: bool) -> Delivery:
    """A way of speaking; each part of it varies within a level of arousal."""
    sign = 1 if aroused else -1
    pitch, tempo, energy, modulation = (
        sign * rng.uniform(0.4, 1.0) + rng.gauss(0, 0.25) for _ in range(4)
    )
    return Delivery(
        pitch=1.35**pitch,
        tempo=4.4 * 1.5**tempo,
        energy=0.22 * 1.6**energy,
        modulation=0.05 * 2.2**modulation,
    )


def draw_voice(speaker: Speaker, delivery: Delivery, rng: random.Random) -> NDArray[np.int16]:
    """The samples of a voice, (RATE * SECONDS,)."""
    time = np.arange(round(RATE * SECONDS)) / RATE
    start, turn = rng.uniform(0, 2 * np.pi), rng.uniform(0, 2 * np.pi)
    wobble = np.sin(2 * np.pi * rng.uniform(1.0, 2.0) * delivery.tempo / 2 * time + turn)
    pitch = speaker.pitch * delivery.pitch * (1 + delivery.modulation * wobble)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    tone = np.zeros_like(time)
    for harmonic in range(1, _HARMONICS + 1):
        at = harmonic * pitch
        near = sum(np.exp(-(((at - formant) / 180) ** 2)) for formant in speaker.formants)
        # The upper harmonics of a loud voice are stronger.
        slope = speaker.slope - 3.0 * delivery.energy
        loud = (0.25 + near) * harmonic**-slope * (at < RATE / 2)
        tone += loud * np.sin(harmonic * phase)
    syllables = np.sin(np.pi * delivery.tempo * time + start) ** 2
    tone *= delivery.energy * (0.08 + 0.92 * syllables) / 1.5
    noise = np.random.default_rng(rng.getrandbits(63)).normal(0, 1, time.shape)
    level = 10 ** rng.uniform(-3.0, -2.0)
    gain = rng.uniform(0.7, 1.4)  # the distance of the microphone
    return np.rint(np.clip((tone + level * noise) * gain, -1, 1) * 32767).astype(np.int16)


def wav(samples: NDArray[np.int16]) -> bytes:
    """The samples as a wav file: mono, 16 bit."""
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.astype("<i2").tobytes())
    return stream.getvalue()
