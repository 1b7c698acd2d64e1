"""The generated tasks with faces and voices: bytes, shares, held-out people, what each holds."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import random
import wave
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from command import in_process
from PIL import Image

from affectlocus.config.corpus import SENSES_TASKS, Senses
from affectlocus.data.faces import (
    SIDE,
    Expression,
    View,
    draw_expression,
    draw_face,
    draw_identity,
    png,
)
from affectlocus.data.scenes import REACTIONS
from affectlocus.data.senses import EMOTIONS, TASKS, write_senses
from affectlocus.data.voices import (
    RATE,
    SECONDS,
    Delivery,
    draw_delivery,
    draw_speaker,
    draw_voice,
    wav,
)

SMALL = Senses(people=8, tuning_samples=60, benchmark_samples=24)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("senses") / "senses"
    write_senses(SMALL, place)
    return place


def rows(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / f"{name}.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_every_listed_task_is_written_with_a_face_and_a_voice_for_each_sample(folder: Path) -> None:
    assert tuple(TASKS) == SENSES_TASKS
    for name in TASKS:
        for row in rows(folder, name):
            with Image.open(folder / row["face"]) as face:
                assert (face.format, face.mode, face.size) == ("PNG", "RGB", (SIDE, SIDE))
            with wave.open(str(folder / row["voice"])) as voice:
                assert (voice.getframerate(), voice.getnchannels()) == (RATE, 1)
                assert (voice.getsampwidth(), voice.getnframes()) == (2, round(RATE * SECONDS))


def test_the_command_writes_the_same_bytes_in_another_process(folder: Path, tmp_path: Path) -> None:
    settings = json.dumps(SMALL.model_dump())
    done = in_process(tmp_path, "senses", "--settings", settings, "--out", "again")
    assert done.returncode == 0, done.stderr
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert files == sorted(
        path.relative_to(tmp_path / "again")
        for path in (tmp_path / "again").rglob("*")
        if path.is_file()
    )
    for file in files:
        assert (folder / file).read_bytes() == (tmp_path / "again" / file).read_bytes()


def test_another_seed_draws_other_faces_voices_and_texts(tmp_path: Path, folder: Path) -> None:
    write_senses(SMALL.model_copy(update={"seed": 1}), tmp_path / "other")
    for name in TASKS:
        ours, theirs = rows(folder, name), rows(tmp_path / "other", name)
        assert [row["text"] for row in ours] != [row["text"] for row in theirs]
        for medium in ("face", "voice"):
            first = (folder / ours[0][medium]).read_bytes()
            assert first != (tmp_path / "other" / theirs[0][medium]).read_bytes()


def test_people_of_the_test_split_occur_in_no_other_split(folder: Path) -> None:
    for key in ("identity", "speaker"):
        everywhere = [row for name in TASKS for row in rows(folder, name)]
        tested = {row[key] for row in everywhere if row["split"] == "test"}
        others = {row[key] for row in everywhere if row["split"] != "test"}
        assert tested
        assert not tested & others


def test_the_label_follows_from_face_and_voice_whatever_the_text_says(folder: Path) -> None:
    words = {"happy": "happy", "neutral": "calm", "angry": "angry", "sad": "sad"}
    for row in rows(folder, "mini-quadrant"):
        emotion = EMOTIONS[row["valence"] == "positive", row["arousal"] == "high"]
        assert row["label"] == words[emotion]
    assert all(row["label"] == row["valence"] for row in rows(folder, "mini-face"))
    loud = {"high": "angry", "low": "sad"}
    assert all(row["label"] == loud[row["arousal"]] for row in rows(folder, "mini-voice"))


def test_texts_are_silent_agree_or_contradict_in_their_shares() -> None:
    from affectlocus.data.senses import TRAINING, _sample

    kinds: Counter[str] = Counter()
    for number in range(400):
        row, _, _ = _sample(random.Random(number), TASKS[TRAINING], [0], 0)
        kinds[row["kind"]] += 1
        words = row["question"].split()
        person = words[1] if words[0] == "For" else words[-2]
        shown = [
            emotion
            for emotion, sentences in REACTIONS.items()
            if any(one.format(p=person) in row["text"] for one in sentences)
        ]
        if row["kind"] == "silent":
            assert shown == []
        else:
            own = EMOTIONS[row["valence"] == "positive", row["arousal"] == "high"]
            assert len(shown) == 1
            assert (shown == [own]) == (row["kind"] == "agreeing")
    for kind, share in (("silent", 0.5), ("agreeing", 0.25), ("contradicting", 0.25)):
        assert abs(kinds[kind] / 400 - share) < 0.08


def test_the_mouth_of_a_positive_face_is_lower_in_the_middle_than_at_its_corners() -> None:
    person = draw_identity(random.Random(0))
    view = View(size=1, across=0, down=0, light=1, side=0, background=0.5)
    positive = draw_face(person, Expression(1, 0, 0), view, 0).astype(int)
    negative = draw_face(person, Expression(-1, 0, 0), view, 0).astype(int)
    changed = np.abs(positive - negative).sum(axis=2) > 120
    assert changed.any()
    assert changed[: SIDE // 2].sum() == 0  # brow and eyes are the same
    # Lips are darker than skin: in the middle column those of the smile are further down.
    middle = slice(SIDE // 2 - 2, SIDE // 2 + 2)

    def lips(face: np.ndarray) -> float:
        column = face[SIDE // 2 + 6 :, middle, 1].mean(axis=1)
        return float(np.argmin(column[: SIDE // 4]))

    assert lips(positive) > lips(negative)


def test_expressions_and_deliveries_differ_by_valence_and_arousal_on_average() -> None:
    rng = random.Random(0)
    for positive in (True, False):
        drawn = [draw_expression(rng, positive) for _ in range(200)]
        for part in ("mouth", "brow", "eyes"):
            mean = np.mean([getattr(one, part) for one in drawn])
            assert mean > 0.5 if positive else mean < -0.5
    loud, quiet = ([draw_delivery(rng, level) for _ in range(200)] for level in (True, False))
    for part in ("pitch", "tempo", "energy", "modulation"):
        assert np.mean([getattr(one, part) for one in loud]) > np.mean(
            [getattr(one, part) for one in quiet]
        )


def test_a_higher_energy_is_a_louder_recording() -> None:
    speaker = draw_speaker(random.Random(0))

    def loudness(energy: float) -> float:
        delivery = Delivery(pitch=1, tempo=4, energy=energy, modulation=0.05)
        return float(np.std(draw_voice(speaker, delivery, random.Random(1)).astype(float)))

    assert loudness(0.3) > 1.5 * loudness(0.15)


def test_pixels_and_samples_are_those_that_were_drawn_when_the_encoders_were_made() -> None:
    rng = random.Random("golden")
    person, expression = draw_identity(rng), draw_expression(rng, True)
    view = View(size=0.9, across=0.05, down=-0.05, light=0.8, side=0.2, background=0.3)
    pixels = draw_face(person, expression, view, 7)
    samples = draw_voice(draw_speaker(rng), draw_delivery(rng, True), rng)
    assert Image.open(io.BytesIO(png(pixels))).tobytes() == pixels.tobytes()
    assert wav(samples)[44:] == samples.astype("<i2").tobytes()
    assert hashlib.sha256(pixels.tobytes()).hexdigest()[:16] == GOLDEN_FACE
    assert hashlib.sha256(samples.tobytes()).hexdigest()[:16] == GOLDEN_VOICE


GOLDEN_FACE, GOLDEN_VOICE = "c83cfc950b161d0f", "6b4156454efe91d9"
