"""Step `corpus`: generated pre-training text, training sets and eight small benchmarks.

All texts are drawn from `scenes` and `arithmetic`. The pre-training text holds scenes followed by
what the person did next, word games whose emotion words are unrelated to the scene, and arithmetic
word problems. A base trained on it knows the events and the words, but not which word fits which
event: the affective training set adds that. With `corpus.answered`, a share of the documents also
shows the form of a question and its answer. The benchmarks copy the form of the paper's eight
benchmarks (number of labels, dialogue or not, valence or emotion), not their text. Their names
begin with `mini-`.
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
# Topic and agent of a scene: non-emotion labels of the same texts, for the same-text control.
PLACES = {
    "leisure": ("match", "music"),
    "work": ("exam", "job", "shop"),
    "travel": ("bus", "train", "ship"),
    "home": ("keys", "vase", "lamp"),
    "family": ("dog", "guests"),
    "garden": ("roses", "rain"),
    "kitchen": ("cake", "soup", "mice", "fish", "bread"),
}
AGENTS = {"self": "oneself", "other": "another", "nobody": "nobody"}

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
    """A small benchmark: its emotions, its question, its label function and its text style."""

    emotions: tuple[str, ...]
    question: str
    answer: Callable[[Scene], str]
    style: Callable[[Scene], str]


def _plain(scene: Scene) -> str:
    return scene.text


def _quoted(scene: Scene) -> str:
    """The scene as reported by the other person."""
    return f"{scene.other} said: {scene.text}"


def _as_dialogue(scene: Scene) -> str:
    """The scene as a dialogue of the two persons, who say one sentence each in turn."""
    speakers = (scene.other, scene.person)
    sentences = scene.text.split(". ")
    return " ".join(
        f"{speakers[turn % 2]}: {sentence.rstrip('.')}." for turn, sentence in enumerate(sentences)
    )


_SPEAKER = re.compile(rf"\b(?:{'|'.join(PEOPLE)})(?: said)?: ")


def _without_speakers(text: str) -> str:
    """The text without speaker names, the same for every style of a scene; finds duplicates."""
    return _SPEAKER.sub("", text)


def _adjective(scene: Scene) -> str:
    return ADJECTIVES[scene.emotion]


def _noun(scene: Scene) -> str:
    return NOUNS[scene.emotion]


def _valence(scene: Scene) -> str:
    return scene.valence


def place(scene: Scene) -> str:
    """The topic of a scene (a key of `PLACES`), by the thing that its text mentions."""
    words = set(re.findall(r"[a-z]+", scene.text.lower()))
    things = ((place, thing) for place, things in PLACES.items() for thing in things)
    return next(place for place, thing in things if words & {thing, f"{thing}ed"})


def doer(scene: Scene) -> str:
    """Who did it: the focal person (oneself), another person, or nobody."""
    return AGENTS[scene.appraisal.agent]


BINARY = ("happy", "sad", "angry", "worried", "hopeful")
TERNARY = (*BINARY, "neutral")

BENCHMARKS: dict[str, Benchmark] = {
    "mini-MER23": Benchmark(SIX, FEELS, _adjective, _plain),
    "mini-MER24": Benchmark(SIX, FEELS, _adjective, _quoted),
    "mini-MELD": Benchmark(SEVEN, EMOTION, _noun, _as_dialogue),
    "mini-IEMOCAP": Benchmark(
        ("happy", "sad", "angry", "neutral"), FEELS, _adjective, _as_dialogue
    ),
    "mini-MOSI": Benchmark(BINARY, VALENCE, _valence, _plain),
    "mini-MOSEI": Benchmark(TERNARY, VALENCE, _valence, _quoted),
    "mini-SIMS": Benchmark(TERNARY, VALENCE, _valence, _plain),
    "mini-SIMSv2": Benchmark(TERNARY, VALENCE, _valence, _as_dialogue),
}
# Tasks of the same-text control; they have no counterpart in the paper.
PLOTS: dict[str, Benchmark] = {
    "mini-place": Benchmark(SEVEN, MATTER, place, _plain),
    "mini-doer": Benchmark(SEVEN, DOER, doer, _quoted),
}
TRAINING = "mini-caption"
CONTROL = "mini-sums"
SAME_TEXT = "mini-plot"
PRETRAINING = "pretraining.txt"
TEXT = "mini-text"
HELD_OUT = 0.05
"""Share of the pre-training documents, the last ones, that no base is trained on."""

Row = dict[str, str]


NEGATED_IN_TEXT = 0.25
"""Share of negated clues in the training texts; in the benchmarks it is 0.5."""


def held_out(documents: int) -> int:
    """Number of pre-training documents that are held out, at the end of the text."""
    return max(1, round(HELD_OUT * documents))


def _scene(
    rng: random.Random,
    emotions: tuple[str, ...],
    negated_share: float = NEGATED_IN_TEXT,
    luck_share: float = 0.0,
) -> Scene:
    return write_scene(rng, draw_appraisal(rng, rng.choice(emotions)), negated_share, luck_share)


def _draw_style(rng: random.Random) -> Callable[[Scene], str]:
    return rng.choice((_plain, _plain, _quoted, _as_dialogue))


def pretraining_document(rng: random.Random, answered: float = 0.0) -> str:
    """An arithmetic problem (10 %), a word game (10 %), or a scene with a reaction.

    Args:
        answered: share of the documents that are a scene with a question and its answer.
    """
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
                (DOER, [*AGENTS.values()]),
            )
        )
        prompt = question.format(person=scene.person)
        return f"{scene.person} and {scene.other} played with words. {prompt} {rng.choice(words)}."
    if kind < 0.20 + answered:
        return _answered_document(rng)
    return f"{_draw_style(rng)(scene)} {write_reaction(rng, scene)}"


_QUESTIONS: tuple[tuple[str, Callable[[Scene], str], tuple[str, ...]], ...] = (
    (FEELS, _adjective, SEVEN),
    (EMOTION, _noun, SEVEN),
    (VALENCE, _valence, (*SEVEN, "hopeful")),
)
"""The affective questions: text, answer, and the emotions of their scenes."""


def _answered_document(rng: random.Random) -> str:
    """A scene, an affective question and its answer, which the text states outright.

    The luck of the person states the valence; the reaction shows the emotion. The benchmarks state
    neither. So a base learns the form of an answer, but not how to infer it.
    """
    question, answer, emotions = rng.choice(_QUESTIONS)
    if question == VALENCE:
        scene = _scene(rng, emotions, luck_share=1.0)
        text = _draw_style(rng)(scene)
    else:
        scene = _scene(rng, emotions, luck_share=0.5)
        text = f"{_draw_style(rng)(scene)} {write_reaction(rng, scene)}"
    return f"{text} {question.format(person=scene.person)} {answer(scene)}."


def training_row(rng: random.Random) -> Row:
    """A scene with an affective question and its answer, and those of the same-text control.

    Returns:
        `text`; `question` and `target` of the affective training set; `plot_question` and
        `plot_target` of the control.
    """
    question, answer, emotions = rng.choice(_QUESTIONS)
    scene = _scene(rng, emotions)
    text = _draw_style(rng)(scene)
    # Seeded by the text: a draw from `rng` would change the affective rows that follow.
    plot_question, plot_answer = random.Random(text).choice(
        ((PLACE, place), (MATTER, place), (DOER, doer))
    )
    return {
        "text": text,
        "question": question.format(person=scene.person),
        "target": f"{answer(scene)}.",
        "plot_question": plot_question.format(person=scene.person),
        "plot_target": f"{plot_answer(scene)}.",
    }


def control_row(rng: random.Random) -> Row:
    """An arithmetic word problem, in the columns of the affective training set."""
    problem = write_problem(rng)
    return {"text": problem.text, "question": problem.question, "target": problem.answer}


def benchmark_row(benchmark: Benchmark, rng: random.Random) -> Row:
    """A labelled sample: `text`, `question`, `label`."""
    scene = _scene(rng, benchmark.emotions, negated_share=0.5)
    return {
        "text": benchmark.style(scene),
        "question": benchmark.question.format(person=scene.person),
        "label": benchmark.answer(scene),
    }


def draw_rows(
    rng: random.Random, draw: Callable[[random.Random], Row], sizes: dict[str, int], seen: set[str]
) -> list[Row]:
    """Rows with `id` and `split`, without the scenes in `seen`; adds the drawn scenes to `seen`.

    All tasks share one `seen`, so that no scene occurs in two splits, or in a benchmark and a
    training set.

    Args:
        draw: draws one row.
        sizes: split → number of rows.
        seen: texts of scenes without speaker names.
    """
    rows: list[Row] = []
    for split, size in sizes.items():
        for number in range(size):
            row = draw(rng)
            while _without_speakers(row["text"]) in seen:
                row = draw(rng)
            seen.add(_without_speakers(row["text"]))
            rows.append({"id": f"{split}-{number}", "split": split, **row})
    return rows


def write_corpus(settings: Corpus, folder: Path) -> None:
    """Writes `pretraining.txt` (one document per line) and a csv file per task into `folder`.

    `mini-text`, the text that perplexity is measured on, consists of held-out documents.
    """

    def generator(name: str) -> random.Random:
        # Each file has its own random stream, so that a new benchmark does not change the others.
        return random.Random(f"{settings.seed}/{name}")

    samples = settings.benchmark_samples
    seen: set[str] = set()
    tasks: dict[str, list[Row]] = {}
    for name, benchmark in (BENCHMARKS | PLOTS).items():
        draw = partial(benchmark_row, benchmark)
        tasks[name] = draw_rows(generator(name), draw, dict.fromkeys(SPLITS, samples), seen)
    for name, row, size in (
        (TRAINING, training_row, settings.tuning_samples),
        (CONTROL, control_row, settings.control_samples),
    ):
        tasks[name] = draw_rows(generator(name), row, {"train": size, "validation": samples}, seen)
    tasks[SAME_TEXT] = [
        {
            **{key: row[key] for key in ("id", "split", "text")},
            "question": row.pop("plot_question"),
            "target": row.pop("plot_target"),
        }
        for row in tasks[TRAINING]
    ]
    rng = generator("pretraining")
    documents = [pretraining_document(rng, settings.answered) for _ in range(settings.documents)]
    general = documents[-held_out(len(documents)) :][:samples]
    tasks[TEXT] = [
        {"id": f"test-{number}", "split": "test", "text": text}
        for number, text in enumerate(general)
    ]
    with replacing(folder, "corpus") as temporary:
        temporary.mkdir()
        (temporary / PRETRAINING).write_text("\n".join(documents) + "\n", encoding="utf-8")
        for name, rows in tasks.items():
            write_csv(temporary / f"{name}.csv", rows)


def write_csv(path: Path, rows: list[Row]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
