"""A task's files into one tidy table, and the report of what was found on the way."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from affectlocus.errors import InputError
from affectlocus.parameters import Task
from affectlocus.prepare import prepare

CSV = "text,mood\nI won,joy\nI lost,sorrow\n"
EXOTIC = ['=SUM(A1:A9) & "x"', "<b>no</b>&amp;", "NA", "null", "007", "naïve 😀 – ", "a\tb", "{x}"]


def task(**changes: Any) -> Task:
    fields = {
        "files": {"test": "named in params.yaml only"},
        "columns": {"label": "mood"},
        "labels": ["joy", "sorrow"],
    }
    return Task.model_validate(fields | changes)


def run(folder: Path, content: str | bytes, name: str = "a.csv", **changes: Any) -> Any:
    """Samples and report of one test file with this content."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return prepare("moods", task(**changes), {"test": path})


def refusal(folder: Path, content: str | bytes, name: str = "a.csv", **changes: Any) -> str:
    """The one line with which a file is refused; it names the file."""
    with pytest.raises(InputError) as caught:
        run(folder, content, name, **changes)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert message.startswith(f"{folder / name}: ")
    return message.removeprefix(f"{folder / name}: ")


def splits(folder: Path, **texts: list[str]) -> dict[str, Path]:
    """A csv for each split with these texts, all of mood joy."""
    paths = {split: folder / f"{split}.csv" for split in texts}
    for split, path in paths.items():
        pd.DataFrame({"text": texts[split], "mood": "joy"}).to_csv(path, index=False)
    return paths


@pytest.mark.parametrize(
    ("name", "content", "changes"),
    [
        ("a.csv", CSV.encode(), {}),
        ("a.CSV", CSV.encode(), {}),
        ("a.v2.csv", b"\xef\xbb\xbf" + CSV.encode(), {}),
        ("a.csv.gz", gzip.compress(CSV.encode()), {}),
        ("a.tsv", b"I won\tjoy\nI lost\tsorrow\n", {"header": ["text", "mood"]}),
        ("a.tsv", b"text\tmood\r\nI won\tjoy\r\nI lost\tsorrow\r\n", {}),
        ("a.jsonl", b'{"text":"I won","mood":"joy"}\n{"text":"I lost","mood":"sorrow"}\n', {}),
        (
            "a.jsonl.gz",
            gzip.compress(b'{"text":"I won","mood":"joy"}\n{"mood":"sorrow","text":"I lost"}'),
            {},
        ),
    ],
)
def test_every_kind_of_file_gives_the_same_samples(
    tmp_path: Path, name: str, content: bytes, changes: dict[str, Any]
) -> None:
    samples, report = run(tmp_path, content, name, prompt="{text} ->", **changes)
    assert samples.to_dict("list") == {
        "id": ["test-0", "test-1"],
        "split": ["test", "test"],
        "text": ["I won", "I lost"],
        "prompt": ["I won ->", "I lost ->"],
        "answer": ["joy", "sorrow"],
    }
    assert report["splits"]["test"] == {
        "file": name,
        "read": 2,
        "empty_text": 0,
        "unlisted_label": 0,
        "kept": 2,
        "duplicate_text": 0,
        "labels": {"joy": 1, "sorrow": 1},
    }


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_formulas_html_and_words_that_look_like_nothing_are_kept_verbatim(
    tmp_path: Path, name: str
) -> None:
    frame = pd.DataFrame({"text": EXOTIC, "mood": "joy"})
    if name == "a.csv":
        content = frame.to_csv(index=False)
    else:
        content = frame.to_json(orient="records", lines=True, force_ascii=False)
    samples, _ = run(tmp_path, content, name, prompt="{text}|{mood}")
    assert samples["text"].tolist() == EXOTIC
    assert samples["prompt"].tolist() == [f"{text}|joy" for text in EXOTIC]


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_a_column_of_numbers_stays_as_it_is_written(tmp_path: Path, name: str) -> None:
    content = {
        "a.csv": "text,mood\n007,joy\n1.50,joy\n1e3,joy\n",
        "a.jsonl": "".join(f'{{"text":"{n}","mood":"joy"}}\n' for n in ("007", "1.50", "1e3")),
    }
    samples, _ = run(tmp_path, content[name], name)
    assert samples["text"].tolist() == ["007", "1.50", "1e3"]


def test_a_quotation_mark_in_a_tsv_is_a_quotation_mark(tmp_path: Path) -> None:
    samples, _ = run(tmp_path, 'text\tmood\n"I won\tjoy\nsay "hi"\tjoy\n', "a.tsv")
    assert samples["text"].tolist() == ['"I won', 'say "hi"']


def test_a_quoted_csv_field_keeps_its_comma_and_line_break(tmp_path: Path) -> None:
    samples, _ = run(tmp_path, 'text,mood\n"I won,\nyes",joy\n')
    assert samples["text"].tolist() == ["I won,\nyes"]


def test_labels_are_answered_with_their_words(tmp_path: Path) -> None:
    samples, report = run(tmp_path, CSV, labels={"joy": "happy", "sorrow": "sad"})
    assert samples["answer"].tolist() == ["happy", "sad"]
    assert report["splits"]["test"]["labels"] == {"happy": 1, "sad": 1}


def test_a_task_without_labels_learns_its_target(tmp_path: Path) -> None:
    samples, report = run(
        tmp_path, "q,a\n2+2,4\n", labels=None, columns={"text": "q", "target": "a"}, prompt="{q}="
    )
    assert samples[["prompt", "answer"]].values.tolist() == [["2+2=", "4"]]
    assert "labels" not in report["splits"]["test"]


def test_a_label_outside_the_list_is_refused_with_its_row(tmp_path: Path) -> None:
    message = refusal(tmp_path, "text,mood\na,joy\n,rage\nb,fear\nc,fear\n")
    assert message.startswith("row 3 has the label 'fear', expected one of joy, sorrow (2 rows so)")


def test_a_label_outside_the_list_can_be_dropped_and_is_counted(tmp_path: Path) -> None:
    content = "text,mood\na,joy\nb,fear\nc,Joy\nd,sorrow\n"
    samples, report = run(tmp_path, content, unlisted_labels="drop")
    assert samples["id"].tolist() == ["test-0", "test-3"]
    counts = report["splits"]["test"]
    assert (counts["read"], counts["unlisted_label"], counts["kept"]) == (4, 2, 2)


def test_a_file_of_nothing_but_dropped_rows_is_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, "text,mood\na,fear\n", unlisted_labels="drop")
    assert message.startswith("no row of split 'test' is left")


def test_empty_text_is_left_out_and_counted(tmp_path: Path) -> None:
    samples, report = run(tmp_path, 'text,mood\n,joy\n" \t",joy\n\u00a0,joy\nx,joy\n')
    assert samples["text"].tolist() == ["x"]
    assert report["splits"]["test"]["empty_text"] == 3


def test_a_text_that_stands_twice_in_a_split_is_kept_and_counted(tmp_path: Path) -> None:
    _, report = run(tmp_path, "text,mood\nI won,joy\ni  WON ,joy\nno,joy\n")
    assert (report["splits"]["test"]["kept"], report["splits"]["test"]["duplicate_text"]) == (3, 1)


def test_ids_come_from_their_column(tmp_path: Path) -> None:
    samples, _ = run(
        tmp_path, "no,text,mood\n007,a,joy\n7,b,joy\n", columns={"label": "mood", "id": "no"}
    )
    assert samples["id"].tolist() == ["007", "7"]


def test_an_id_that_stands_twice_in_a_split_is_refused(tmp_path: Path) -> None:
    message = refusal(
        tmp_path, "no,text,mood\n7,a,joy\n7,b,joy\n", columns={"label": "mood", "id": "no"}
    )
    assert message.startswith("id '7' stands twice in split 'test'")


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"columns": {"label": "label"}}, "no column 'label'"),
        ({"columns": {"label": "mood", "text": "Utterance"}}, "no column 'Utterance'"),
        ({"columns": {"label": "mood", "id": "id"}}, "no column 'id'"),
        ({"prompt": "{text} {speaker}"}, "the prompt asks for column 'speaker'"),
    ],
)
def test_a_missing_column_is_named_with_those_that_are_there(
    tmp_path: Path, changes: dict[str, Any], missing: str
) -> None:
    message = refusal(tmp_path, CSV, **changes)
    assert message.startswith(missing)
    assert message.endswith("it has text, mood")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", "text,mood\ncafé,joy\n".encode("latin-1"), "not UTF-8"),
        ("a.jsonl", '{"text":"café","mood":"joy"}\n'.encode("latin-1"), "not UTF-8"),
        ("a.csv", CSV.encode("utf-16"), "not UTF-8"),
        ("a.xlsx", b"PK", "unknown kind of file '.xlsx'; expected csv, tsv or jsonl"),
        ("README", b"", "unknown kind of file ''"),
        ("a.csv", b"", "cannot be read as csv"),
        ("a.csv", b"text,mood\nI won,joy\nI, too,won,joy\n", "cannot be read as csv"),
        ("a.csv", b'text,mood\n"I won,joy\n', "cannot be read as csv"),
        ("a.jsonl", b'{"text": "I won"\n', "cannot be read as jsonl"),
        ("a.tsv", b"I won\tjoy\n", "no column 'text'; it has I won, joy"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_in_one_line(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    assert words in refusal(tmp_path, content, name)


def test_the_overlap_of_every_two_splits_is_reported(tmp_path: Path) -> None:
    files = splits(
        tmp_path,
        train=["a", "b", "c c", "d"],
        validation=["B", "x"],
        test=["C  c ", "x", "y", "z"],
    )
    samples, report = prepare("moods", task(), files)
    assert report["overlap"] == {
        "validation in train": 1,
        "test in train": 1,
        "test in validation": 1,
    }
    assert samples["split"].value_counts().to_dict() == {"train": 4, "validation": 2, "test": 4}
    assert samples["id"].is_unique


def test_overlap_over_the_limit_is_refused_with_the_count(tmp_path: Path) -> None:
    files = splits(tmp_path, train=["a", "b"], test=["a", "b", "x", "y"])
    with pytest.raises(InputError) as caught:
        prepare("moods", task(overlap_limit=0.49), files)
    message = str(caught.value)
    assert message.startswith("files: 2 of 4 test texts also stand in the train split")
    assert len(message.splitlines()) == 1


def test_overlap_at_the_limit_is_let_through(tmp_path: Path) -> None:
    files = splits(tmp_path, train=["a", "b"], test=["a", "b", "x", "y"])
    assert prepare("moods", task(overlap_limit=0.5), files)[1]["overlap"] == {"test in train": 2}


def test_a_validation_split_like_the_train_split_is_let_through(tmp_path: Path) -> None:
    files = splits(tmp_path, train=["a"], validation=["a"], test=["x"])
    assert prepare("moods", task(), files)[1]["overlap"]["validation in train"] == 1


def test_one_file_of_every_split_is_taken_apart_by_its_column(tmp_path: Path) -> None:
    path = tmp_path / "all.csv"
    path.write_text("text,mood,split\na,joy,test\nb,joy,train\nc,sorrow,test\n")
    samples, report = prepare("moods", task(), {"all": path})
    assert samples[["split", "text"]].values.tolist() == [
        ["train", "b"],
        ["test", "a"],
        ["test", "c"],
    ]
    assert {split: counts["read"] for split, counts in report["splits"].items()} == {
        "train": 1,
        "test": 2,
    }


TARGET = {"labels": None, "columns": {"target": "goal"}}


@pytest.mark.parametrize(
    ("name", "content", "changes"),
    [
        ("a.csv", "text,goal\na,b,c\nd,e,f\n", TARGET),
        ("a.tsv", "a\tb\tc\n", {"header": ["text", "goal"], **TARGET}),
        ("a.csv.gz", CSV, {}),
        ("a.csv.gz", gzip.compress(CSV.encode() * 99)[:40], {}),
        ("a.csv", CSV, {"prompt": "{0}"}),
        ("a.csv", CSV, {"prompt": "{text.upper}"}),
    ],
)
def test_a_file_that_does_not_fit_is_refused(
    tmp_path: Path, name: str, content: str | bytes, changes: dict[str, Any]
) -> None:
    refusal(tmp_path, content, name, **changes)


def test_a_row_without_a_target_is_left_out_and_counted(tmp_path: Path) -> None:
    samples, report = run(tmp_path, "text,goal\na,b\nc\nd,\n", **TARGET)
    assert samples["answer"].tolist() == ["b"]
    (counts,) = report["splits"].values()
    assert counts["empty_target"] == 2


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nope\.csv"):
        prepare("moods", task(), {"test": tmp_path / "nope.csv"})


def test_a_file_may_have_a_column_of_any_name(tmp_path: Path) -> None:
    samples, _ = run(tmp_path, "_row,text,mood\n9,a,joy\n", prompt="{_row}")
    assert samples["prompt"].tolist() == ["9"]


def test_a_column_with_a_dot_in_its_name_can_be_asked_for(tmp_path: Path) -> None:
    samples, _ = run(tmp_path, "text,mood,a.b\nx,joy,yes\n", prompt="{a.b}")
    assert samples["prompt"].tolist() == ["yes"]


def test_numbers_in_a_jsonl_keep_their_digits_beside_a_null(tmp_path: Path) -> None:
    content = (
        '{"n":9007199254740993,"text":"a","mood":1}\n'
        '{"n":2,"text":"b","mood":2}\n'
        '{"n":null,"text":"","mood":null}\n'
    )
    columns = {"label": "mood", "id": "n"}
    samples, _ = run(tmp_path, content, "a.jsonl", labels=[1, 2], columns=columns)
    assert samples["id"].tolist() == ["9007199254740993", "2"]
    assert samples["answer"].tolist() == ["1", "2"]


@pytest.mark.parametrize("content", [CSV, "text,mood,split\na,joy,test\nb,joy,dev\n"])
def test_a_file_of_every_split_without_sound_splits_is_refused(
    tmp_path: Path, content: str
) -> None:
    path = tmp_path / "all.csv"
    path.write_text(content)
    with pytest.raises(InputError, match="split"):
        prepare("moods", task(), {"all": path})
