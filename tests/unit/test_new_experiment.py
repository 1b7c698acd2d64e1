"""`affectlocus init`: two checkpoints and a table become an experiment that passes the check."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from command import in_process
from refusal import printed_code, refused

from affectlocus.config.experiment import load
from affectlocus.orchestration.new_experiment import samples

TABLE = "id,remark,person,mood\n" + "".join(
    f"{number},{person} said that all was {word} on day {number},{person},{mood}\n"
    for number, (person, word, mood) in enumerate(
        [("Lea", "well", "good"), ("Tom", "lost", "bad"), ("Ana", "fine", "good")] * 3
    )
)


@pytest.fixture
def material(tmp_path: Path, checkpoint, lora) -> Path:
    """A folder with a base, an adapter and a table, as a user brings them."""
    base = checkpoint("llama", num_hidden_layers=3)
    (tmp_path / "my-model").symlink_to(base)
    (tmp_path / "my adapter").symlink_to(lora(base, ["q_proj", "v_proj", "gate_proj"]))
    (tmp_path / "comments.csv").write_text(TABLE)
    return tmp_path


INIT = ("init", "my-model", "my adapter", "comments.csv")


def test_the_written_experiment_passes_the_check(material: Path) -> None:
    done = in_process(material, *INIT, "--text", "remark", "--label", "mood")
    assert done.returncode == 0, done.stderr
    folder = material / "my-adapter-experiment"
    assert "affectlocus run my-adapter-experiment" in done.stdout
    assert list(material.glob(".*")) == []
    parameters = load(folder)
    task = parameters.tasks["comments"]
    assert task.columns.text == "remark"
    assert task.labels == {"good": "good", "bad": "bad"}
    # What the adapter cannot have changed is in no cell.
    assert parameters.matrix.load == ["q", "v", "gate", "q+v", "q+v+gate"]
    checked = in_process(material, "check", folder.name)
    assert checked.returncode == 0, checked.stderr
    assert "good" in checked.stdout


def test_check_names_a_misspelt_key_and_a_wrong_column_at_once(material: Path) -> None:
    in_process(material, *INIT, "--text", "remark", "--label", "mood")
    file = material / "my-adapter-experiment/params.yaml"
    text = file.read_text()
    file.write_text(text.replace("  load:", "  loads:").replace("label: mood", "label: moods"))
    done = in_process(material, "check", "my-adapter-experiment")
    assert done.returncode == 1
    said = " ".join(done.stderr.split())
    assert "[params.unknown-key]" in said
    assert "moods" in said
    assert len(re.findall(r"\[[a-z]+\.[a-z-]+\]", said)) == 2


def test_nothing_is_overwritten(material: Path) -> None:
    place = material / "mine"
    place.mkdir()
    done = in_process(material, *INIT, "--out", "mine", "--text", "remark", "--label", "mood")
    assert done.returncode == 1
    assert printed_code(done.stderr) == "init.exists"
    assert list(place.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--text", "remark", "--label", "moods"), "init.no-such-column"),
        (("--text", "mood", "--label", "mood"), "init.same-column"),
        (("--text", "remark", "--label", "id"), ""),
        (("--text", "remark", "--label", "mood", "--word", "good"), "init.bad-word"),
        (("--text", "remark", "--label", "mood", "--out", "a/../-b"), "params.not-a-file-name"),
        (
            ("--text", "remark", "--label", "mood", "--prompt", "{nobody}"),
            "prompt.unknown-column",
        ),
    ],
)
def test_what_cannot_be_used_is_one_sentence_and_writes_nothing(
    material: Path, words: tuple[str, ...], code: str
) -> None:
    before = sorted(material.iterdir())
    done = in_process(material, *INIT, *words)
    if not code:
        assert done.returncode == 0
        return
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    if code != "prompt.unknown-column":
        assert printed_code(done.stderr) == code
    assert sorted(material.iterdir()) == before


def test_one_checkpoint_given_twice_is_refused(material: Path) -> None:
    before = sorted(material.iterdir())
    words = ("init", "my-model", "./my-model", "comments.csv", "--out", "mine")
    done = in_process(material, *words, "--text", "remark", "--label", "mood")
    assert done.returncode == 1
    assert printed_code(done.stderr) == "init.same-checkpoint"
    assert sorted(material.iterdir()) == before


def test_a_misspelt_column_is_answered_with_the_near_one(material: Path) -> None:
    done = in_process(material, *INIT, "--text", "remark", "--label", "moods")
    assert "did you mean 'mood'?" in " ".join(done.stderr.split())


def test_an_adapter_of_another_base_is_refused(material: Path, checkpoint, lora) -> None:
    other = lora(checkpoint("llama", num_hidden_layers=4), ["q_proj"])
    words = ("init", "my-model", str(other), "comments.csv", "--out", "mine")
    done = in_process(material, *words, "--text", "remark", "--label", "mood")
    assert done.returncode == 1
    assert printed_code(done.stderr).startswith("pair.")
    assert not (material / "mine").exists()


def test_a_checkpoint_that_is_neither_a_path_nor_a_hub_id_is_refused(material: Path) -> None:
    done = in_process(material, "init", "./nowhere", "my adapter", "comments.csv", "--out", "mine")
    assert printed_code(done.stderr) == "init.no-checkpoint"


def asked(*answers: str) -> tuple[Callable[[str, str], str], list[str]]:
    """A person who gives these answers in order ("" accepts), and the questions."""
    questions: list[str] = []

    def ask(question: str, proposed: str) -> str:
        questions.append(question)
        return answers[len(questions) - 1] or proposed

    return ask, questions


def test_a_person_is_asked_at_most_three_questions(tmp_path: Path) -> None:
    rows = "".join(f"day {n} was what it was,note {n},{n % 3}\n" for n in range(9))
    (tmp_path / "t.csv").write_text("said,remark,score\n" + rows)
    ask, questions = asked("", "said", "sad, calm, happy")
    found = samples(tmp_path / "t.csv", ask)
    assert len(questions) == 3
    assert (found.label, found.text) == ("score", "said")
    assert found.words == {"0": "sad", "1": "calm", "2": "happy"}


def test_a_table_of_two_columns_needs_no_question(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("text,label\n" + "all is well,joy\nall is lost,fear\n" * 2)
    ask, questions = asked()
    found = samples(tmp_path / "t.csv", ask)
    assert questions == []
    assert (found.text, found.label) == ("text", "label")


def test_columns_that_are_not_clear_need_an_option_where_nobody_can_be_asked(
    tmp_path: Path,
) -> None:
    rows = "".join(f"day {n} was what it was,day {n} was a day,{n % 2}\n" for n in range(9))
    (tmp_path / "t.csv").write_text("said,remark,mood\n" + rows)
    with refused("init.unknown-column", option="--text", expected=["said", "remark", "mood"]):
        samples(tmp_path / "t.csv", None)
    assert samples(tmp_path / "t.csv", None, text="said").label == "mood"


def test_a_column_of_splits_is_used(material: Path) -> None:
    rows = [line.partition(",")[2] for line in TABLE.splitlines()]
    splits = ["split", *("train", "dev", "test") * 3]
    joined = "\n".join(f"{row},{split}" for row, split in zip(rows, splits, strict=True))
    (material / "comments.csv").write_text(joined + "\n")
    done = in_process(material, *INIT, "--text", "remark", "--label", "mood")
    assert done.returncode == 0, done.stderr
    task = load(material / "my-adapter-experiment").tasks["comments"]
    assert task.split is not None
    assert dict(task.split.items()) == {
        "train": ["train"],
        "validation": ["dev"],
        "test": ["test"],
    }


def test_labels_that_yaml_would_change_stay_words(material: Path) -> None:
    table = TABLE.replace(",good\n", ",no\n").replace(",bad\n", ",1e3\n")
    (material / "comments.csv").write_text(table)
    words = ("--text", "remark", "--label", "mood", "--word", "1e3=bad: news")
    done = in_process(material, *INIT, *words)
    assert done.returncode == 0, done.stderr
    labels = load(material / "my-adapter-experiment").tasks["comments"].labels
    assert labels == {"no": "no", "1e3": "bad: news"}


def test_a_table_without_labels_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("text,label\n" + "".join(f"day {n},{n}\n" for n in range(99)))
    with refused("init.no-labels", found=99):
        samples(tmp_path / "t.csv", None, "text", "label")


@pytest.mark.parametrize("other", ["", "speaker"])
def test_a_column_called_label_with_one_value_is_refused_for_that(
    tmp_path: Path, other: str
) -> None:
    rows = [f"it was a day like day {n},good" + f",{n % 2}" * bool(other) for n in range(9)]
    head = "text,label" + f",{other}" * bool(other)
    (tmp_path / "t.csv").write_text("\n".join([head, *rows]) + "\n")
    with refused("init.no-labels", found=1):
        samples(tmp_path / "t.csv", None)


def test_the_commands_that_init_prints_quote_a_folder_with_a_space(material: Path) -> None:
    done = in_process(
        material, *INIT, "--text", "remark", "--label", "mood", "--out", "my work/study"
    )
    assert done.returncode == 0, done.stderr
    commands = [shlex.split(line) for line in done.stdout.splitlines() if line.startswith("  ")]
    assert commands == [["affectlocus", verb, "my work/study"] for verb in ("check", "run")]
    checked = in_process(material, *commands[0][1:])
    assert checked.returncode == 0, checked.stderr
