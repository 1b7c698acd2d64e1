"""Step `corpus`: the embedded default's text, training sets and eight small benchmarks.

Everything is drawn from `scenes` and `arithmetic`. The pre-training text holds scenes with what
people did next, word games with words of feeling that have nothing to do with any scene, and sums
told out. So a base that has read it knows the events and the words, and has never been told which
word fits which event: that is what the affective training set adds. The benchmarks borrow the
shape of the paper's eight (number of labels, dialogue or not, valence or emotion), not their text;
their names begin with `mini-`.
"""

from __future__ import annotations

import csv
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from affectlocus.config.corpus import Corpus
from affectlocus.config.files import SPLITS
from affectlocus.core.output_files import replacing
from affectlocus.data.arithmetic import write_problem
from affectlocus.data.scenes import PEOPLE, Scene, draw_appraisal, write_reaction, write_scene

ADJECTIVES = {
    "happy": "happy",
    "sad": "sad",
    "angry": "angry",
    "worried": "worried",
    "surprised": "surprised",
    "disgusted": "disgusted",
    "neutral": "calm",
}
NOUNS = {
    "happy": "joy",
    "sad": "sadness",
    "angry": "anger",
    "worried": "fear",
    "surprised": "surprise",
    "disgusted": "disgust",
    "neutral": "calmness",
}
VALENCES = ("positive", "negative", "neutral")
# What a scene is about and who did it: labels of the same texts that are no emotion.
PLACES = {
    "leisure": ("match", "music"),
    "work": ("exam", "job", "shop"),
    "travel": ("bus", "train", "ship"),
    "home": ("keys", "vase", "lamp"),
    "family": ("dog", "guests"),
    "garden": ("roses", "rain"),
    "kitchen": ("cake", "soup", "mice", "fish", "bread"),
}
DOERS = {"self": "oneself", "other": "another", "nobody": "nobody"}

FEELS = "In a word, {person} was"
EMOTION = "The feeling of {person} was"
VALENCE = "For {person} the news was"
PLACE = "In a word, the scene of {person} was about"
MATTER = "The matter of {person} was one of"
DOER = "For {person} it was done by"

SIX = ("happy", "sad", "angry", "worried", "surprised", "neutral")
SEVEN = (*SIX, "disgusted")


@dataclass(frozen=True)
class Benchmark:
    """A small benchmark: which emotions occur, what is asked, and how the scene is told."""

    emotions: tuple[str, ...]
    question: str
    answer: Callable[[Scene], str]
    told: Callable[[Scene], str]


def _plainly(scene: Scene) -> str:
    return scene.text


def _quoted(scene: Scene) -> str:
    """As a third person reports it."""
    return f"{scene.other} said: {scene.text}"


def _as_dialogue(scene: Scene) -> str:
    """As a dialogue of the two, a sentence each in turn."""
    speakers = (scene.other, scene.person)
    sentences = scene.text.split(". ")
    return " ".join(
        f"{speakers[turn % 2]}: {sentence.rstrip('.')}." for turn, sentence in enumerate(sentences)
    )


_TELLERS = re.compile(rf"\b(?:{'|'.join(PEOPLE)})(?: said)?: ")


def _untold(text: str) -> str:
    """The scene behind any of the three tellings: the same scene told twice is no new sample."""
    return _TELLERS.sub("", text)


def _adjective(scene: Scene) -> str:
    return ADJECTIVES[scene.emotion]


def _noun(scene: Scene) -> str:
    return NOUNS[scene.emotion]


def _valence(scene: Scene) -> str:
    return scene.valence


def place(scene: Scene) -> str:
    """The field of life that a scene is of, by the thing that it tells of."""
    said = set(re.findall(r"[a-z]+", scene.text.lower()))
    things = ((place, thing) for place, things in PLACES.items() for thing in things)
    return next(place for place, thing in things if said & {thing, f"{thing}ed"})


def doer(scene: Scene) -> str:
    """Whose doing it was."""
    return DOERS[scene.appraisal.agent]


BINARY = ("happy", "sad", "angry", "worried", "hopeful")
TERNARY = (*BINARY, "neutral")

BENCHMARKS: dict[str, Benchmark] = {
    "mini-MER23": Benchmark(SIX, FEELS, _adjective, _plainly),
    "mini-MER24": Benchmark(SIX, FEELS, _adjective, _quoted),
    "mini-MELD": Benchmark(SEVEN, EMOTION, _noun, _as_dialogue),
    "mini-IEMOCAP": Benchmark(
        ("happy", "sad", "angry", "neutral"), FEELS, _adjective, _as_dialogue
    ),
    "mini-MOSI": Benchmark(BINARY, VALENCE, _valence, _plainly),
    "mini-MOSEI": Benchmark(TERNARY, VALENCE, _valence, _quoted),
    "mini-SIMS": Benchmark(TERNARY, VALENCE, _valence, _plainly),
    "mini-SIMSv2": Benchmark(TERNARY, VALENCE, _valence, _as_dialogue),
}
# Not among the paper's eight: what a same-text control learns.
PLOTS: dict[str, Benchmark] = {
    "mini-place": Benchmark(SEVEN, MATTER, place, _plainly),
    "mini-doer": Benchmark(SEVEN, DOER, doer, _quoted),
}
TRAINING = "mini-caption"
CONTROL = "mini-sums"
SAME_TEXT = "mini-plot"
PRETRAINING = "pretraining.txt"
TEXT = "mini-text"
HELD_OUT = 0.05
"""Share of the pre-training text, at its end, that no base is trained on."""

Row = dict[str, str]


NEGATED_IN_TEXT = 0.25
"""Share of negated clues in running text; the benchmarks have as many negated as plain ones."""


def held_out(documents: int) -> int:
    """How many of the pre-training documents, the last ones, are held out."""
    return max(1, round(HELD_OUT * documents))


def _scene(
    rng: random.Random,
    emotions: tuple[str, ...],
    negated_share: float = NEGATED_IN_TEXT,
    luck_share: float = 0.0,
) -> Scene:
    return write_scene(rng, draw_appraisal(rng, rng.choice(emotions)), negated_share, luck_share)


def _tell(rng: random.Random) -> Callable[[Scene], str]:
    return rng.choice((_plainly, _plainly, _quoted, _as_dialogue))


def pretraining_document(rng: random.Random) -> str:
    """A scene and what its person did next, a word game, or a sum; in shares of 80, 10, 10 %."""
    kind = rng.random()
    if kind < 0.10:
        problem = write_problem(rng)
        return f"{problem.text} {problem.question} {problem.answer}"
    scene = _scene(rng, (*SEVEN, "hopeful"), luck_share=0.9)
    if kind < 0.20:
        question, words = rng.choice(
            (
                (FEELS, [*ADJECTIVES.values()]),
                (EMOTION, [*NOUNS.values()]),
                (VALENCE, VALENCES),
                (PLACE, [*PLACES]),
                (MATTER, [*PLACES]),
                (DOER, [*DOERS.values()]),
            )
        )
        said = question.format(person=scene.person)
        return f"{scene.person} and {scene.other} played with words. {said} {rng.choice(words)}."
    return f"{_tell(rng)(scene)} {write_reaction(rng, scene)}"


def training_row(rng: random.Random) -> Row:
    """A scene, one of the three questions, and its answer; beside it what the control is asked."""
    question, answer, emotions = rng.choice(
        (
            (FEELS, _adjective, SEVEN),
            (EMOTION, _noun, SEVEN),
            (VALENCE, _valence, (*SEVEN, "hopeful")),
        )
    )
    scene = _scene(rng, emotions)
    text = _tell(rng)(scene)
    # By the text, not by `rng`: the control leaves the affective stream as it is.
    asked, about = random.Random(text).choice(((PLACE, place), (MATTER, place), (DOER, doer)))
    return {
        "text": text,
        "question": question.format(person=scene.person),
        "target": f"{answer(scene)}.",
        "plot_question": asked.format(person=scene.person),
        "plot_target": f"{about(scene)}.",
    }


def control_row(rng: random.Random) -> Row:
    """An arithmetic word problem in the columns of the affective training set."""
    problem = write_problem(rng)
    return {"text": problem.text, "question": problem.question, "target": problem.answer}


def benchmark_row(benchmark: Benchmark, rng: random.Random) -> Row:
    """One labelled sample."""
    scene = _scene(rng, benchmark.emotions, negated_share=0.5)
    return {
        "text": benchmark.told(scene),
        "question": benchmark.question.format(person=scene.person),
        "label": benchmark.answer(scene),
    }


def draw_rows(
    rng: random.Random, draw: Callable[[random.Random], Row], sizes: dict[str, int], seen: set[str]
) -> list[Row]:
    """Rows with `id` and `split`; no scene that is in `seen`, which grows by these.

    One `seen` for all tasks keeps every split apart from every other, and every benchmark apart
    from the training sets.
    """
    rows: list[Row] = []
    for split, size in sizes.items():
        for number in range(size):
            row = draw(rng)
            while _untold(row["text"]) in seen:
                row = draw(rng)
            seen.add(_untold(row["text"]))
            rows.append({"id": f"{split}-{number}", "split": split, **row})
    return rows


def write_corpus(settings: Corpus, folder: Path) -> None:
    """Writes `pretraining.txt` (a document a line) and a csv for each task into `folder`.

    The text to read, `mini-text`, is of what every base's pre-training holds out.
    """

    def generator(name: str) -> random.Random:
        # A stream of its own for each file: a new benchmark leaves the others as they were.
        return random.Random(f"{settings.seed}/{name}")

    few = settings.benchmark_samples
    seen: set[str] = set()
    tasks: dict[str, list[Row]] = {}
    for name, benchmark in (BENCHMARKS | PLOTS).items():
        draw = partial(benchmark_row, benchmark)
        tasks[name] = draw_rows(generator(name), draw, dict.fromkeys(SPLITS, few), seen)
    for name, row, size in (
        (TRAINING, training_row, settings.tuning_samples),
        (CONTROL, control_row, settings.control_samples),
    ):
        tasks[name] = draw_rows(generator(name), row, {"train": size, "validation": few}, seen)
    tasks[SAME_TEXT] = [
        {
            **{key: row[key] for key in ("id", "split", "text")},
            "question": row.pop("plot_question"),
            "target": row.pop("plot_target"),
        }
        for row in tasks[TRAINING]
    ]
    rng = generator("pretraining")
    documents = [pretraining_document(rng) for _ in range(settings.documents)]
    general = documents[-held_out(len(documents)) :][:few]
    tasks[TEXT] = [
        {"id": f"test-{number}", "split": "test", "text": text}
        for number, text in enumerate(general)
    ]
    with replacing(folder, "corpus") as temporary:
        temporary.mkdir()
        (temporary / PRETRAINING).write_text("\n".join(documents) + "\n", encoding="utf-8")
        for name, rows in tasks.items():
            _write_csv(temporary / f"{name}.csv", rows)


def _write_csv(path: Path, rows: list[Row]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
