"""The generated corpus: its files and labels, its seeds, and no leaks between splits."""

from __future__ import annotations

import csv
import random
import re
from collections import Counter
from pathlib import Path

import pytest
import yaml
from refusal import refused

from affectlocus.config.corpus import Corpus
from affectlocus.core.output_files import MARKER
from affectlocus.data.corpus import (
    BENCHMARKS,
    CONTROL,
    PRETRAINING,
    SAME_TEXT,
    TEXT,
    TRAINING,
    Row,
    control_row,
    draw_rows,
    held_out,
    place,
    pretraining_document,
    training_row,
    write_corpus,
)
from affectlocus.data.scenes import EMOTIONS, PEOPLE, draw_appraisal, write_scene

SMALL = Corpus(documents=60, tuning_samples=300, control_samples=200, benchmark_samples=40)
SIX = {"happy", "sad", "angry", "worried", "surprised", "calm"}
TERNARY = {"positive", "negative", "neutral"}
LABELS = {
    "mini-MER23": SIX,
    "mini-MER24": SIX,
    "mini-MELD": {"joy", "sadness", "anger", "fear", "surprise", "disgust", "calmness"},
    "mini-IEMOCAP": {"happy", "sad", "angry", "calm"},
    "mini-MOSI": {"positive", "negative"},
    "mini-MOSEI": TERNARY,
    "mini-SIMS": TERNARY,
    "mini-SIMSv2": TERNARY,
}
PLOTS = {
    "mini-place": {"leisure", "work", "travel", "home", "family", "garden", "kitchen"},
    "mini-doer": {"oneself", "another", "nobody"},
}


def read(folder: Path) -> dict[str, list[Row]]:
    """Task → its rows."""
    tasks = {}
    for path in sorted(folder.glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as stream:
            tasks[path.stem] = list(csv.DictReader(stream))
    return tasks


def question_tasks(folder: Path) -> dict[str, list[Row]]:
    """Task → its rows, without `mini-text`, which has no questions."""
    return {name: rows for name, rows in read(folder).items() if name != TEXT}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small corpus; tests read it only."""
    path = tmp_path_factory.mktemp("made") / "corpus"
    write_corpus(SMALL, path)
    return path


def test_the_folder_holds_the_text_and_a_file_for_every_task(folder: Path) -> None:
    tasks = {f"{name}.csv" for name in (*LABELS, *PLOTS, TRAINING, SAME_TEXT, CONTROL, TEXT)}
    assert {path.name for path in folder.iterdir()} == {MARKER, PRETRAINING, *tasks}
    assert list(folder.parent.iterdir()) == [folder]


def test_the_same_seed_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    write_corpus(SMALL, tmp_path / "again")
    assert contents(tmp_path / "again") == contents(folder)


def test_another_seed_gives_another_text_in_every_file(folder: Path, tmp_path: Path) -> None:
    write_corpus(SMALL.model_copy(update={"seed": 1}), tmp_path / "other")
    before, after = contents(folder), contents(tmp_path / "other")
    assert before.keys() == after.keys()
    assert all(before[name] != after[name] for name in before if name != MARKER)


def test_more_training_samples_do_not_change_the_benchmarks(folder: Path, tmp_path: Path) -> None:
    write_corpus(SMALL.model_copy(update={"tuning_samples": 310}), tmp_path / "more")
    for name in BENCHMARKS:
        file = f"{name}.csv"
        assert (tmp_path / "more" / file).read_bytes() == (folder / file).read_bytes()


def test_a_corpus_replaces_an_old_one_and_no_other_file(tmp_path: Path) -> None:
    write_corpus(SMALL.model_copy(update={"seed": 1}), tmp_path / "corpus")
    old = contents(tmp_path / "corpus")
    write_corpus(SMALL, tmp_path / "corpus")
    assert contents(tmp_path / "corpus") != old
    (tmp_path / "corpus" / "mine.csv").touch()
    with refused("output.holds-other-files", found="mine.csv", step="corpus"):
        write_corpus(SMALL, tmp_path / "corpus")
    assert (tmp_path / "corpus" / "mine.csv").exists()


def test_splits_have_the_sizes_that_were_asked_for(folder: Path) -> None:
    for name, rows in question_tasks(folder).items():
        sizes = Counter(row["split"] for row in rows)
        train = {TRAINING: 300, SAME_TEXT: 300, CONTROL: 200}.get(name)
        if train is None:
            assert sizes == {"train": 40, "validation": 40, "test": 40}
        else:
            assert sizes == {"train": train, "validation": 40}
        assert len({row["id"] for row in rows}) == len(rows)


def test_no_text_is_repeated_in_any_split_of_any_task(folder: Path) -> None:
    tasks = question_tasks(folder)
    del tasks[SAME_TEXT]  # by intent the texts of the affective training set
    texts = [row["text"] for rows in tasks.values() for row in rows]
    assert len(set(texts)) == len(texts) == 10 * 120 + 340 + 240


def test_mini_text_is_held_out_and_has_at_most_as_many_documents_as_a_benchmark(
    tmp_path: Path,
) -> None:
    for documents, few in ((200, 40), (200, 4)):
        settings = SMALL.model_copy(update={"documents": documents, "benchmark_samples": few})
        write_corpus(settings, tmp_path / "corpus")
        last = (tmp_path / "corpus" / PRETRAINING).read_text().splitlines()[-held_out(documents) :]
        rows = read(tmp_path / "corpus")[TEXT]
        assert [row["text"] for row in rows] == last[:few]
        assert len(rows) == min(10, few)
        assert {row["split"] for row in rows} == {"test"}


@pytest.mark.parametrize("name", LABELS | PLOTS)
def test_a_benchmark_has_its_labels_and_no_other(folder: Path, name: str) -> None:
    counts = Counter(row["label"] for row in read(folder)[name])
    assert set(counts) == (LABELS | PLOTS)[name]
    assert min(counts.values()) > 0.5 * counts.total() / len(counts) ** 1.5


@pytest.mark.parametrize("name", LABELS | PLOTS)
def test_the_default_parameters_list_the_labels_that_are_written(name: str) -> None:
    path = Path(__file__).parents[2] / "params.yaml"
    task = yaml.safe_load(path.read_text(encoding="utf-8"))["tasks"][name]
    assert set(task["labels"]) == (LABELS | PLOTS)[name]


def test_the_question_asks_about_somebody_in_the_text(folder: Path) -> None:
    for name, rows in question_tasks(folder).items():
        for row in rows:
            (person,) = {who for who in PEOPLE if who in row["question"]}
            assert person in row["text"], (name, row)


def test_no_text_or_question_holds_its_answer(folder: Path) -> None:
    tasks = read(folder)
    for name in LABELS:
        for row in tasks[name]:
            assert row["label"] not in f"{row['text']} {row['question']}".lower()


@pytest.mark.parametrize("name", ["mini-MELD", "mini-IEMOCAP", "mini-SIMSv2"])
def test_a_dialogue_gives_a_sentence_to_each_of_two_in_turn(folder: Path, name: str) -> None:
    for row in read(folder)[name]:
        turns = re.findall(r"(\w+): [^:]*\.(?= |$)", row["text"])
        assert len(turns) >= 2
        assert len(set(turns[::2])) == len(set(turns[1::2])) == 1
        assert turns[0] != turns[1]


@pytest.mark.parametrize("name", ["mini-MER24", "mini-MOSEI"])
def test_a_quoted_scene_is_quoted_from_the_other_person(folder: Path, name: str) -> None:
    for row in read(folder)[name]:
        speaker = re.match(r"(\w+) said: ", row["text"])[1]
        assert speaker not in row["question"]


def test_training_rows_answer_three_questions_with_the_benchmarks_words() -> None:
    rng = random.Random(0)
    answers: dict[str, set[str]] = {}
    for _ in range(600):
        row = training_row(rng)
        opening = re.sub("|".join(PEOPLE), "P", row["question"])
        answers.setdefault(opening, set()).add(row["target"].removesuffix("."))
    assert answers == {
        "In a word, P was": SIX | {"disgusted"},
        "The feeling of P was": LABELS["mini-MELD"],
        "For P the news was": TERNARY,
    }


def test_the_same_text_control_has_the_affective_texts_and_asks_for_no_feeling(
    folder: Path,
) -> None:
    tasks = read(folder)
    affective, control = tasks[TRAINING], tasks[SAME_TEXT]
    for key in ("id", "split", "text"):
        assert [row[key] for row in control] == [row[key] for row in affective]
    words = {row["target"].removesuffix(".") for row in control}
    assert words == PLOTS["mini-place"] | PLOTS["mini-doer"]
    # As many kinds of questions, and the same share of each kind, within chance.
    doers = sum(row["target"].removesuffix(".") in PLOTS["mini-doer"] for row in control)
    valences = sum(row["target"].removesuffix(".") in TERNARY for row in affective)
    assert abs(doers - valences) < 60


def test_every_scene_has_one_place_and_one_doer() -> None:
    rng = random.Random(0)
    for emotion in EMOTIONS:
        for _ in range(100):
            scene = write_scene(rng, draw_appraisal(rng, emotion))
            assert place(scene) in PLOTS["mini-place"]
            said = {"self": scene.person, "other": scene.other}.get(scene.appraisal.agent)
            if said and "did it" in scene.text:
                assert re.search(rf"{said} did it|but {said} did it", scene.text)


def test_the_control_rows_have_the_columns_of_the_affective_ones() -> None:
    rng = random.Random(0)
    assert list(control_row(rng)) == list(training_row(rng))[:3] == ["text", "question", "target"]


def test_pretraining_text_has_one_document_per_line_in_shares_of_80_10_10() -> None:
    rng = random.Random(0)
    documents = [pretraining_document(rng) for _ in range(2000)]
    assert not any("\n" in document for document in documents)
    sums = sum(" had " in document and " gave " in document for document in documents)
    games = sum("played with words" in document for document in documents)
    # Four standard deviations of a share of one tenth.
    assert abs(sums - 200) < 54
    assert abs(games - 200) < 54


def test_pretraining_text_never_says_how_anybody_in_a_scene_felt() -> None:
    rng = random.Random(0)
    words = SIX | LABELS["mini-MELD"] | TERNARY | {"disgusted"}
    for _ in range(2000):
        document = pretraining_document(rng)
        if "played with words" not in document:
            assert not words & set(re.findall(r"\w+", document.lower()))


def test_word_games_use_every_word_of_feeling_and_no_scene() -> None:
    rng = random.Random(0)
    games = [d for d in (pretraining_document(rng) for _ in range(8000)) if "played with" in d]
    said = Counter(game.rstrip(".").rsplit(" ", 1)[1] for game in games)
    affective = SIX | LABELS["mini-MELD"] | TERNARY | {"disgusted"}
    assert set(said) == affective | PLOTS["mini-place"] | PLOTS["mini-doer"]
    assert not any(re.search("hoped|dreaded|did it", game) for game in games)


def test_the_number_of_documents_is_the_one_asked_for(folder: Path) -> None:
    lines = (folder / PRETRAINING).read_text(encoding="utf-8").splitlines()
    assert len(lines) == 60
    assert all(lines)


def test_drawn_rows_avoid_what_was_seen_and_add_to_it() -> None:
    numbers = iter([1, 1, 2, 3, 3, 3, 4])
    seen = {"2"}
    rows = draw_rows(
        random.Random(0), lambda _: {"text": str(next(numbers))}, {"train": 1, "test": 2}, seen
    )
    assert [(row["id"], row["split"], row["text"]) for row in rows] == [
        ("train-0", "train", "1"),
        ("test-0", "test", "3"),
        ("test-1", "test", "4"),
    ]
    assert seen == {"1", "2", "3", "4"}
