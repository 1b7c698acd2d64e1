"""Step `senses`: scenes that are drawn as a text, a face and a voice.

The emotion of a scene has a valence, which only the face always shows, and an arousal, which only
the voice always shows. The text states the wish of a person. In the training set it is silent about
the emotion (50 %), ends with a reaction that agrees with face and voice (25 %), or with a reaction
of another of the four emotions (25 %). So no medium alone suffices for an emotion.

The people and speakers of the test split occur in no other split.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from affectlocus.config.corpus import Senses
from affectlocus.core.output_files import replacing
from affectlocus.data.corpus import (
    ADJECTIVES,
    EMOTION,
    FEELS,
    NOUNS,
    VALENCE,
    Row,
    write_csv,
)
from affectlocus.data.faces import draw_expression, draw_face, draw_identity, draw_view, png
from affectlocus.data.scenes import HAPPENINGS, PEOPLE, REACTIONS, TOPICS
from affectlocus.data.voices import draw_delivery, draw_speaker, draw_voice, wav

Kind = Literal["silent", "agreeing", "contradicting"]

EMOTIONS: dict[tuple[bool, bool], str] = {
    (True, True): "happy",
    (True, False): "neutral",
    (False, True): "angry",
    (False, False): "sad",
}
"""(positive, aroused) → emotion of `scenes`; the word for neutral is calm."""

TRAINING = "mini-senses"
SHARES: tuple[Kind, ...] = ("silent", "silent", "agreeing", "contradicting")
"""Kinds of the texts of the training set, each as often as it is drawn."""


@dataclass(frozen=True)
class Scene:
    """An emotion and what the text says about it."""

    positive: bool
    aroused: bool
    kind: Kind

    @property
    def emotion(self) -> str:
        return EMOTIONS[self.positive, self.aroused]

    @property
    def told(self) -> list[str]:
        """The emotions that the text may show; none if the text is silent."""
        if self.kind == "silent":
            return []
        if self.kind == "agreeing":
            return [self.emotion]
        return [other for other in EMOTIONS.values() if other != self.emotion]


@dataclass(frozen=True)
class MediaTask:
    """A generated task with a face and a voice for each sample.

    Attributes:
        kinds: the kinds of texts, equally likely.
        valences, arousals: the levels that occur.
        answers: question → the answer for a scene; one question is drawn for each sample.
    """

    kinds: tuple[Kind, ...]
    answers: dict[str, Callable[[Scene], str]]
    valences: tuple[bool, ...] = (False, True)
    arousals: tuple[bool, ...] = (False, True)


def _adjective(scene: Scene) -> str:
    return ADJECTIVES[scene.emotion]


def _noun(scene: Scene) -> str:
    return NOUNS[scene.emotion]


def _valence(scene: Scene) -> str:
    return "positive" if scene.positive else "negative"


TASKS: dict[str, MediaTask] = {
    TRAINING: MediaTask(SHARES, {FEELS: _adjective, EMOTION: _noun, VALENCE: _valence}),
    # The text is silent: only the face tells.
    "mini-face": MediaTask(("silent",), {VALENCE: _valence}),
    # The text is silent and every face is negative: only the voice tells anger from sadness.
    "mini-voice": MediaTask(("silent",), {FEELS: _adjective}, valences=(False,)),
    # The text is silent: face and voice together tell.
    "mini-quadrant": MediaTask(("silent",), {FEELS: _adjective}),
    # As many texts contradict face and voice as agree with them.
    "mini-conflict": MediaTask(("agreeing", "contradicting"), {EMOTION: _noun}),
}


def _wish(rng: random.Random, person: str) -> str:
    """What a person hoped for or dreaded, without what happened."""
    if rng.random() < 0.5:
        return f"{person} hoped to {rng.choice(TOPICS).good}."
    return f"{person} {rng.choice(('hoped', 'dreaded'))} that {rng.choice(HAPPENINGS).clause}."


def _text(rng: random.Random, scene: Scene, person: str, other: str) -> str:
    text = _wish(rng, person)
    if scene.told:
        text += " " + rng.choice(REACTIONS[rng.choice(scene.told)]).format(p=person)
    return f"{other} said: {text}" if rng.random() < 0.5 else text


def _sample(
    rng: random.Random, task: MediaTask, people: list[int], seed: int
) -> tuple[Row, bytes, bytes]:
    """A row of the table, the picture of its face and the recording of its voice."""
    scene = Scene(rng.choice(task.valences), rng.choice(task.arousals), rng.choice(task.kinds))
    person, other = rng.sample(PEOPLE, 2)
    question = rng.choice([*task.answers])
    who, speaker = rng.choice(people), rng.choice(people)
    row = {
        "text": _text(rng, scene, person, other),
        "question": question.format(person=person),
        "answer": task.answers[question](scene),
        "kind": scene.kind,
        "valence": _valence(scene),
        "arousal": "high" if scene.aroused else "low",
        "identity": str(who),
        "speaker": str(speaker),
    }
    face = draw_face(
        draw_identity(random.Random(f"{seed}/identity/{who}")),
        draw_expression(rng, scene.positive),
        draw_view(rng),
        rng.getrandbits(63),
    )
    voice = draw_voice(
        draw_speaker(random.Random(f"{seed}/speaker/{speaker}")),
        draw_delivery(rng, scene.aroused),
        rng,
    )
    return row, png(face), wav(voice)


def _rows(
    name: str, settings: Senses, splits: Iterable[tuple[str, int]], folder: Path
) -> list[Row]:
    """The rows of a task; writes their faces and voices."""
    held_out = settings.people // 4
    rows = []
    for split, size in splits:
        everyone = range(settings.people)
        people = [*(everyone[-held_out:] if split == "test" else everyone[:-held_out])]
        for number in range(size):
            rng = random.Random(f"{settings.seed}/{name}/{split}/{number}")
            row, face, voice = _sample(rng, TASKS[name], people, settings.seed)
            key = f"{split}-{number}"
            answer = row.pop("answer")
            answered = {"target": f"{answer}."} if name == TRAINING else {"label": answer}
            files = {"face": f"faces/{name}-{key}.png", "voice": f"voices/{name}-{key}.wav"}
            (folder / files["face"]).write_bytes(face)
            (folder / files["voice"]).write_bytes(voice)
            rows.append({"id": key, "split": split, **answered, **files, **row})
    return rows


def write_senses(settings: Senses, folder: Path) -> None:
    """Writes a csv file per task into `folder`, and their media into `faces` and `voices`."""
    with replacing(folder, "senses") as temporary:
        for below in (".", "faces", "voices"):
            (temporary / below).mkdir()
        for name in TASKS:
            if name == TRAINING:
                splits = {"train": settings.tuning_samples, "validation": 50}
            else:
                splits = {"train": settings.benchmark_samples, "test": settings.benchmark_samples}
            write_csv(temporary / f"{name}.csv", _rows(name, settings, splits.items(), temporary))
