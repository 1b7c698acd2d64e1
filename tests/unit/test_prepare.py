"""Step `prepare`: the samples of a task from its files, and the data report."""

from __future__ import annotations

import gzip
import pickle
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from affectlocus.config.tasks import Task
from affectlocus.core.errors import InputError
from affectlocus.data.audit import report_lines
from affectlocus.data.prepare import prepare
from affectlocus.data.table_reader import read_rows

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
        ("a.csv.gz", gzip.compress(CSV.encode(), mtime=0), {}),
        ("a.tsv", b"I won\tjoy\nI lost\tsorrow\n", {"header": ["text", "mood"]}),
        ("a.tsv", b"text\tmood\r\nI won\tjoy\r\nI lost\tsorrow\r\n", {}),
        ("a.jsonl", b'{"text":"I won","mood":"joy"}\n{"text":"I lost","mood":"sorrow"}\n', {}),
        (
            "a.jsonl.gz",
            gzip.compress(
                b'{"text":"I won","mood":"joy"}\n{"mood":"sorrow","text":"I lost"}', mtime=0
            ),
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
        "duplicate_id": None,
        "kept": 2,
        "duplicate_text": 0,
        "odd_characters": 0,
        "characters": {"min": 5, "median": 5.5, "mean": 5.5, "max": 6},
        "prompt_characters": {"min": 8, "median": 8.5, "mean": 8.5, "max": 9},
        "conflicting_label": 0,
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
    assert message.startswith(
        "row 3 has the label 'fear'; expected one of joy, sorrow (2 such rows)"
    )


def test_a_label_outside_the_list_can_be_dropped_and_is_counted(tmp_path: Path) -> None:
    content = "text,mood\na,joy\nb,fear\nc,Joy\nd,sorrow\n"
    samples, report = run(tmp_path, content, unlisted_labels="drop")
    assert samples["id"].tolist() == ["test-0", "test-3"]
    counts = report["splits"]["test"]
    assert (counts["read"], counts["unlisted_label"], counts["kept"]) == (4, 2, 2)


def test_a_file_of_nothing_but_dropped_rows_is_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, "text,mood\na,fear\n", unlisted_labels="drop")
    assert message.startswith("no row of split 'test' is kept")


def test_empty_text_is_left_out_and_counted(tmp_path: Path) -> None:
    samples, report = run(tmp_path, 'text,mood\n,joy\n" \t",joy\n\u00a0,joy\nx,joy\n')
    assert samples["text"].tolist() == ["x"]
    assert report["splits"]["test"]["empty_text"] == 3


def test_a_text_of_invisible_characters_is_empty(tmp_path: Path) -> None:
    content = "text,mood\n\u2800\u200b \ufeff,joy\n\u200b:(,joy\n"
    samples, report = run(tmp_path, content)
    assert samples["text"].tolist() == ["\u200b:("]
    assert report["splits"]["test"]["empty_text"] == 1


def test_a_repeated_text_in_a_split_is_kept_and_counted(tmp_path: Path) -> None:
    _, report = run(tmp_path, "text,mood\nI won,joy\ni  WON ,joy\nno,joy\n")
    assert (report["splits"]["test"]["kept"], report["splits"]["test"]["duplicate_text"]) == (3, 1)


def test_ids_come_from_their_column(tmp_path: Path) -> None:
    samples, _ = run(
        tmp_path, "no,text,mood\n007,a,joy\n7,b,joy\n", columns={"label": "mood", "id": "no"}
    )
    assert samples["id"].tolist() == ["007", "7"]


def test_a_duplicate_id_in_a_split_is_refused(tmp_path: Path) -> None:
    message = refusal(
        tmp_path, "no,text,mood\n7,a,joy\n7,b,joy\n", columns={"label": "mood", "id": "no"}
    )
    assert message.startswith("duplicate id '7' in split 'test'")


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"columns": {"label": "label"}}, "no column 'label'"),
        ({"columns": {"label": "mood", "text": "Utterance"}}, "no column 'Utterance'"),
        ({"columns": {"label": "mood", "id": "id"}}, "no column 'id'"),
        ({"prompt": "{text} {speaker}"}, "the prompt uses column 'speaker'"),
    ],
)
def test_a_missing_column_is_named_with_those_that_are_there(
    tmp_path: Path, changes: dict[str, Any], missing: str
) -> None:
    message = refusal(tmp_path, CSV, **changes)
    assert message.startswith(missing)
    assert message.endswith("its columns are text, mood")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", "text,mood\ncafé,joy\n".encode("latin-1"), "not UTF-8"),
        ("a.jsonl", '{"text":"café","mood":"joy"}\n'.encode("latin-1"), "not UTF-8"),
        ("a.csv", CSV.encode("utf-16"), "not UTF-8"),
        ("a.xlsx", b"PK", "unknown suffix '.xlsx'; expected csv, tsv, jsonl or parquet; s"),
        ("a.csd", b"", "expected csv, tsv, jsonl or parquet; export texts, labels and ids as csv"),
        ("README", b"", "unknown suffix ''"),
        ("a.csv", b"", "cannot be read as csv"),
        (
            "a.csv",
            b"text,mood\nI won,joy\nI, too,won,joy\n",
            "line 3 has 4 fields, but the header has 2; put quotation marks around fields that",
        ),
        (
            "a.csv",
            b'text,mood\na,joy\n"I won,joy\nb,joy\n',
            "a quotation mark after line 2 is not closed",
        ),
        ("a.jsonl", b'{"text": "I won"\n', "cannot be read as jsonl"),
        ("a.tsv", b"I won\tjoy\n", "no column 'text'; its columns are I won, joy"),
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
        "validation in train": {"exact": 0, "normalised": 1},
        "test in train": {"exact": 0, "normalised": 1},
        "test in validation": {"exact": 1, "normalised": 1},
    }
    assert samples["split"].value_counts().to_dict() == {"train": 4, "validation": 2, "test": 4}
    assert samples["id"].is_unique


def test_overlap_over_the_limit_is_refused_with_the_count(tmp_path: Path) -> None:
    files = splits(tmp_path, train=["a", "b"], test=["a", "b", "x", "y"])
    with pytest.raises(InputError) as caught:
        prepare("moods", task(overlap_limit=0.49), files)
    message = str(caught.value)
    assert message.startswith("files: 2 of 4 test texts are also in the train split")
    assert len(message.splitlines()) == 1


def test_overlap_at_the_limit_is_let_through(tmp_path: Path) -> None:
    files = splits(tmp_path, train=["a", "b"], test=["a", "b", "x", "y"])
    _, report = prepare("moods", task(overlap_limit=0.5), files)
    assert report["overlap"]["test in train"]["normalised"] == 2


def test_a_validation_split_like_the_train_split_is_let_through(tmp_path: Path) -> None:
    files = splits(tmp_path, train=["a"], validation=["a"], test=["x"])
    _, report = prepare("moods", task(), files)
    assert report["overlap"]["validation in train"]["exact"] == 1


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
        ("a.csv.gz", gzip.compress(CSV.encode() * 99, mtime=0)[:40], {}),
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


def test_numbers_in_a_jsonl_with_a_null_keep_their_digits(tmp_path: Path) -> None:
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


# Files of other kinds


def test_a_parquet_file_gives_what_the_same_csv_does(tmp_path: Path) -> None:
    frame = pd.DataFrame({"text": EXOTIC, "mood": "joy", "n": range(len(EXOTIC))})
    frame.to_parquet(tmp_path / "a.parquet")
    frame.to_csv(tmp_path / "a.csv", index=False)
    asked = task(prompt="{n}: {text}")
    samples, _ = prepare("moods", asked, {"test": tmp_path / "a.parquet"})
    pd.testing.assert_frame_equal(samples, prepare("moods", asked, {"test": tmp_path / "a.csv"})[0])


def test_numbers_lists_and_nothing_in_a_parquet_become_text(tmp_path: Path) -> None:
    frame = pd.DataFrame({"text": ["a", None, "c"], "mood": [[0], [1], [0, 1]], "n": [1, 2, 3]})
    frame.to_parquet(tmp_path / "a.parquet")
    asked = task(labels=["[0]", "[0, 1]"], columns={"label": "mood", "id": "n"})
    samples, report = prepare("moods", asked, {"test": tmp_path / "a.parquet"})
    assert samples[["id", "text", "answer"]].values.tolist() == [
        ["1", "a", "[0]"],
        ["3", "c", "[0, 1]"],
    ]
    assert report["splits"]["test"]["empty_text"] == 1


def test_a_broken_parquet_file_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, b"PAR1", "a.parquet").startswith("cannot be read as parquet")


@pytest.mark.parametrize("kind", ["pkl", "pickle", "p", "npz", "npy"])
def test_a_pickled_file_is_never_opened_and_its_conversion_is_explained(
    tmp_path: Path, kind: str
) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "opened",)

    message = refusal(tmp_path, pickle.dumps(Trap()), f"a.{kind}")
    assert "can run any program" in message
    assert ".to_csv(" in message
    assert not (tmp_path / "opened").exists()


LINES = "[1] a.1 joy said\n# a remark\n[2] a.2 sorrow said\n"


def test_a_pattern_makes_rows_of_lines_and_counts_the_others(tmp_path: Path) -> None:
    pattern = r"^\[(?P<n>\d)\] (?P<text>\S+) (?P<mood>\w+)"
    samples, report = run(tmp_path, LINES, "a.txt", pattern=pattern)
    assert samples[["text", "answer"]].values.tolist() == [["a.1", "joy"], ["a.2", "sorrow"]]
    assert report["other_lines"] == 1


def test_a_pattern_that_matches_no_line_is_refused_with_the_first_line(tmp_path: Path) -> None:
    message = refusal(tmp_path, LINES, "a.txt", pattern="^<(?P<text>.*)>$")
    assert (
        message
        == "no line matches the pattern; the first line is '[1] a.1 joy said': correct pattern"
    )


def test_a_path_with_a_star_reads_every_matching_file(tmp_path: Path) -> None:
    for name, text in (("b.csv", "late"), ("a.csv", "early"), ("c.txt", "other")):
        (tmp_path / name).write_text(f"text,mood\n{text},joy\n")
    samples, report = prepare("moods", task(prompt="{file}"), {"test": tmp_path / "*.csv"})
    assert samples[["text", "prompt"]].values.tolist() == [["early", "a"], ["late", "b"]]
    assert report["splits"]["test"]["read"] == 2


# Encodings


def test_bytes_that_are_not_utf_8_are_named_with_their_place_and_a_guess(tmp_path: Path) -> None:
    for content, guess in (
        ("café".encode("cp1252"), "cp1252"),
        ("我很高兴".encode("gb18030"), "gb18030"),
    ):
        message = refusal(tmp_path, b"text,mood\nok,joy\n" + content + b",joy\n")
        assert message.startswith("not UTF-8: byte 0x")
        assert "line 3; save it as UTF-8" in message
        assert f"encoding: {guess}" in message


@pytest.mark.parametrize("encoding", ["utf-16", "gb18030", "utf-8"])
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl.gz"])
def test_a_file_in_the_named_encoding_is_read(tmp_path: Path, encoding: str, name: str) -> None:
    if name == "a.csv":
        content = "text,mood\n我很高兴,joy\n".encode(encoding)
    else:
        content = gzip.compress('{"text": "我很高兴", "mood": "joy"}\n'.encode(encoding), mtime=0)
    samples, report = run(tmp_path, content, name, encoding=encoding)
    assert samples["text"].tolist() == ["我很高兴"]
    assert report["splits"]["test"]["odd_characters"] == 0


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"PK\x03\x04\x14\0", "is an Excel workbook or a zip archive"),
        (b"PAR1\x15", "is a parquet file; rename it to .parquet"),
        (b"\x89PNG\r\n", "is a picture"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (
            pickle.dumps({"text": ["a"]}),
            "pickled files are not read, because opening one can run any program",
        ),
        (
            CSV.encode("utf-16-le"),
            "not a text file: a NUL byte in line 1; save it as UTF-8, or, if",
        ),
        (CSV.encode() + b"a\0,joy\n", "not a text file: a NUL byte in line 4"),
        (CSV.encode("utf-16"), "not UTF-8: byte 0xff at offset 0, line 1; save it as UTF-8, or"),
    ],
)
def test_a_binary_file_is_refused_with_its_kind(tmp_path: Path, content: bytes, words: str) -> None:
    assert words in refusal(tmp_path, content)


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_another_delimiter_is_named(tmp_path: Path, mark: str) -> None:
    content = CSV.replace(",", mark)
    shown = mark.replace("\t", "\\t")
    hint = f"; '{shown}' seems to separate its columns: save it with commas or"
    assert refusal(tmp_path, content).startswith(
        f"no column 'text'; its columns are text{mark}mood".split("\t")[0]
    )
    assert hint in refusal(tmp_path, content)
    # With a comma in a text its rows have more fields than its header.
    longer = refusal(tmp_path, content.replace("I won", "Oh, I won"))
    assert "line 2 has 2 fields, but the header has 1" in longer
    assert hint in longer
    assert run(tmp_path, content, delimiter=mark)[0]["answer"].tolist() == ["joy", "sorrow"]


def test_rows_that_lack_their_last_fields_are_counted(tmp_path: Path) -> None:
    content = "text,mood,who\na,joy,Ann\nb,joy\nc,sorrow,\n"
    samples, report = run(tmp_path, content, prompt="{who}: {text}")
    assert samples["prompt"].tolist() == ["Ann: a", ": b", ": c"]
    assert report["short_rows"] == 1
    assert "short_rows" not in run(tmp_path, CSV)[1]


def test_signs_of_a_wrong_encoding_are_counted(tmp_path: Path) -> None:
    content = "text,mood\nit\x92s,joy\n".encode() + "caf\ufffd,joy\nfine,joy\n".encode()
    _, report = run(tmp_path, content)
    assert report["splits"]["test"]["odd_characters"] == 2


# Splits, ids, scores, joins

ALL = "text,mood,part\na,joy,dev\nb,joy,tr\nc,sorrow,tr2\nd,sorrow,te\ne,joy,unused\n"


def test_a_column_says_which_row_is_of_which_split(tmp_path: Path) -> None:
    path = tmp_path / "all.csv"
    path.write_text(ALL)
    split = {"column": "part", "train": ["tr", "tr2"], "validation": "dev", "test": "te"}
    asked = task(files={"all": "x"}, split=split)
    samples, report = prepare("moods", asked, {"all": path})
    assert samples[["id", "text"]].values.tolist() == [
        ["train-0", "b"],
        ["train-1", "c"],
        ["validation-0", "a"],
        ["test-0", "d"],
    ]
    assert report["other_splits"] == {"unused": 1}


def test_a_split_whose_value_no_row_has_is_refused_with_those_there_are(tmp_path: Path) -> None:
    path = tmp_path / "all.csv"
    path.write_text(ALL)
    asked = task(files={"all": "x"}, split={"column": "part", "test": "test"})
    with pytest.raises(
        InputError, match=r"no row of split 'test': column 'part' holds 'dev', 'te'"
    ):
        prepare("moods", asked, {"all": path})


def test_a_row_is_named_by_its_number_in_the_file_whatever_its_split(tmp_path: Path) -> None:
    path = tmp_path / "all.csv"
    path.write_text("text,mood,split\na,joy,train\nb,joy,train\nc,rage,test\n")
    with pytest.raises(InputError, match="row 3 has the label 'rage'"):
        prepare("moods", task(files={"all": "x"}), {"all": path})


TWICE = "no,text,mood\n7,a,joy\n7,b,joy\n8,c,joy\n"


def test_the_first_row_of_a_duplicate_id_can_be_kept_and_is_counted(tmp_path: Path) -> None:
    columns = {"label": "mood", "id": "no"}
    samples, report = run(tmp_path, TWICE, columns=columns, duplicate_ids="first")
    assert samples["text"].tolist() == ["a", "c"]
    assert report["splits"]["test"]["duplicate_id"] == 1


def test_several_columns_make_an_id(tmp_path: Path) -> None:
    columns = {"label": "mood", "id": ["no", "text"]}
    assert run(tmp_path, TWICE, columns=columns)[0]["id"].tolist() == ["7_a", "7_b", "8_c"]


def test_ids_per_split_contain_the_split_and_do_not_overlap(
    tmp_path: Path,
) -> None:
    paths = {}
    for split, text in (("train", "a"), ("test", "b")):
        paths[split] = tmp_path / f"{split}.csv"
        paths[split].write_text(f"no,text,mood\n7,{text},joy\n")
    per_split = {"label": "mood", "id": "no", "id_per_split": True}
    samples, report = prepare("moods", task(columns=per_split), paths)
    assert samples["id"].tolist() == ["train-7", "test-7"]
    assert report["overlap"] == {"test in train": {"exact": 0, "normalised": 0}}
    samples, report = prepare("moods", task(columns=per_split | {"id_per_split": False}), paths)
    assert samples["id"].tolist() == ["7", "7"]
    assert report["overlap"]["test in train"]["id"] == 1


SIGNED = {
    "columns": {"score": "v"},
    "labels": {"negative": "bad", "neutral": "so", "positive": "good"},
}
SCORES = "text,v\na,-0.2\nb,0\nc,3\nd,-0.0\n"


def test_a_score_is_answered_by_its_sign(tmp_path: Path) -> None:
    samples, _ = run(tmp_path, SCORES, **SIGNED)
    assert samples["answer"].tolist() == ["bad", "so", "good", "so"]
    assert samples["score"].tolist() == [-0.2, 0.0, 3.0, 0.0]


def test_scores_of_nought_can_be_left_out_and_are_counted(tmp_path: Path) -> None:
    labels = ["negative", "positive"]
    samples, report = run(
        tmp_path, SCORES, **SIGNED | {"labels": labels, "unlisted_labels": "drop"}
    )
    assert samples["text"].tolist() == ["a", "c"]
    assert report["splits"]["test"]["unlisted_label"] == 2


@pytest.mark.parametrize("value", ["", " ", "NaN", "n/a", "None", "-10", "-10.0", "-999"])
def test_a_sample_that_nobody_rated_is_left_out_and_counted(tmp_path: Path, value: str) -> None:
    samples, report = run(tmp_path, f"text,v\na,1\nb,{value}\nc,-1\n", **SIGNED)
    assert samples["answer"].tolist() == ["good", "bad"]
    assert samples["score"].tolist() == [1, -1]
    assert report["splits"]["test"]["masked_score"] == 1
    assert report["splits"]["test"]["kept"] == 2
    assert (
        "  left out: without a score (blank, NaN, or a mark such as -10): test 1"
        in report_lines(report)
    )


def test_on_a_scale_that_goes_below_it_minus_ten_is_a_rating(tmp_path: Path) -> None:
    samples, report = run(tmp_path, "text,v\na,-60\nb,-10\nc,40\n", **SIGNED)
    assert samples["score"].tolist() == [-60, -10, 40]
    assert report["splits"]["test"]["masked_score"] == 0


@pytest.mark.parametrize("value", ["", "-10"])
def test_a_mark_of_a_missing_number_is_a_number_if_it_is_in_range(tmp_path: Path, value) -> None:
    given = f"text,v\na,3\nb,{value}\n"
    asked = {"columns": {"text": "text", "score": "v"}, "labels": None}
    samples, report = run(tmp_path, given, **asked, number={"highest": 24})
    assert samples["answer"].tolist() == ["3\n"]
    assert report["splits"]["test"]["masked_score"] == 1
    wide, _ = run(tmp_path, given, **asked, number={"lowest": -10, "highest": 24})
    assert wide["answer"].tolist() == ["3\n", *(["-10\n"] if value else [])]


@pytest.mark.parametrize("value", ["good", "inf"])
def test_a_score_that_is_not_a_number_is_refused(tmp_path: Path, value: str) -> None:
    message = refusal(tmp_path, f"text,v\na,1\nb,{value}\n", **SIGNED)
    assert message == f"row 2 has the score {value!r}; expected a number (1 such rows)"


def joined(folder: Path, labels: str, said: str, **join: Any) -> Any:
    (folder / "labels.csv").write_text(labels)
    (folder / "said.tsv").write_text(said)
    asked = task(join={"file": "said.tsv", "on": "id", **join})
    return prepare("moods", asked, {"test": folder / "labels.csv", "join": folder / "said.tsv"})


LABELS = "id,mood\n1,joy\n2,sorrow\n3,joy\n"


def test_transcripts_of_a_second_file_are_joined_with_the_labels(tmp_path: Path) -> None:
    samples, report = joined(tmp_path, LABELS, "no\ttext\n2\tno\n1\tyes\n4\t-\n", key="no")
    assert samples[["text", "answer"]].values.tolist() == [["yes", "joy"], ["no", "sorrow"]]
    counts = report["splits"]["test"]
    assert (counts["no_partner"], counts["empty_text"], counts["kept"]) == (1, 0, 2)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("id\ttext\n1\ta\n1\tb\n", "duplicate id '1' with different values"),
        (
            "id\ttext\nx1\ta\n",
            "none of its ids is in labels.csv: the first id in labels.csv is '1', "
            "the first id in said.tsv is 'x1'",
        ),
        ("id\ttext\tmood\n1\ta\tjoy\n", "column 'mood' is also in labels.csv"),
        ("no\ttext\n1\ta\n", "no column 'id'; its columns are no, text"),
        (
            "id\ttext\n",
            "none of its ids is in labels.csv: the first id in labels.csv is '1', "
            "the first id in said.tsv is missing",
        ),
    ],
)
def test_a_second_file_that_does_not_fit_is_refused(tmp_path: Path, said: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        joined(tmp_path, LABELS, said)
    assert str(caught.value).startswith(f"{tmp_path / 'said.tsv'}: {words}")


def test_of_a_second_file_only_the_named_columns_are_taken(tmp_path: Path) -> None:
    said = "id\ttext\tmood\n1\ta\trage\n"
    samples, _ = joined(tmp_path, LABELS, said, columns=["text"])
    assert samples["answer"].tolist() == ["joy"]


def test_one_name_for_a_column_that_files_call_differently(tmp_path: Path) -> None:
    content = "text,feeling\nI won,joy\n"
    samples, _ = run(tmp_path, content, rename={"feeling": "mood"})
    assert samples["answer"].tolist() == ["joy"]
    message = refusal(tmp_path, "text,feeling,mood\na,joy,joy\n", rename={"feeling": "mood"})
    assert message.startswith("rename maps 'feeling' to 'mood', but the file has both columns")


NUMBERED = {"columns": {"score": "v"}, "labels": None, "number": {"highest": 24}}


def test_a_number_is_answered_as_it_is_with_the_ending(tmp_path: Path) -> None:
    samples, report = run(tmp_path, "text,v\na,7\nb,24.0\n", **NUMBERED)
    assert samples["answer"].tolist() == ["7\n", "24\n"]
    assert samples["score"].tolist() == [7, 24]
    assert report["splits"]["test"]["labels"] == {"7\n": 1, "24\n": 1}


@pytest.mark.parametrize("value", ["25", "-1", "7.5"])
def test_a_number_out_of_its_range_is_refused(tmp_path: Path, value: str) -> None:
    message = refusal(tmp_path, f"text,v\na,1\nb,{value}\n", **NUMBERED)
    assert message == (
        f"row 2 has the number {value}; expected an integer from 0 to 24 (1 such rows)"
    )


def test_a_text_that_is_only_read_needs_its_text_alone(tmp_path: Path) -> None:
    reading = {"columns": {}, "labels": None, "fluency": True}
    samples, report = run(tmp_path, 'text\nOnce upon a time.\n" "\n', **reading)
    assert samples[["prompt", "answer"]].values.tolist() == [["Once upon a time.", ""]]
    counts = report["splits"]["test"]
    assert (counts["empty_text"], counts["kept"]) == (1, 1)
    assert "labels" not in counts


def interviewed(folder: Path, turns: dict[str, str], **join: Any) -> Any:
    """Labels of participants 1 and 2, and a file of turns for each name."""
    (folder / "labels.csv").write_text("id,mood\n1,joy\n2,sorrow\n")
    for name, lines in turns.items():
        (folder / f"{name}.csv").write_text(f"who;said\n{lines}")
    settings = {
        "file": "*_T.csv",
        "on": "id",
        "key": "file",
        "part": r"^(\d+)_",
        "delimiter": ";",
        "gather": {"column": "said", "where": {"who": "P"}},
    }
    asked = task(join=settings | join, columns={"text": "said", "label": "mood", "id": "id"})
    return prepare("moods", asked, {"test": folder / "labels.csv", "join": folder / "*_T.csv"})


TURNS = {"1_T": "E;how?\nP;fine \nP;\nP;and you?\n", "2_T": "P;bad\nE;oh\n"}


def test_a_transcript_for_each_participant_becomes_one_text_in_its_order(tmp_path: Path) -> None:
    samples, _ = interviewed(tmp_path, TURNS)
    assert samples[["id", "text"]].values.tolist() == [["1", "fine\nand you?"], ["2", "bad"]]


def test_turns_of_everybody_are_taken_with_who_says_them(tmp_path: Path) -> None:
    samples, _ = interviewed(tmp_path, TURNS, gather={"column": "said", "speaker": "who"})
    assert samples["text"].tolist() == ["E: how?\nP: fine\nP: and you?", "P: bad\nE: oh"]


def test_somebody_who_says_nothing_is_left_out_as_without_text(tmp_path: Path) -> None:
    samples, report = interviewed(tmp_path, TURNS | {"2_T": "E;hello?\n"})
    assert samples["id"].tolist() == ["1"]
    counts = report["splits"]["test"]
    assert (counts["no_partner"], counts["empty_text"]) == (0, 1)


@pytest.mark.parametrize(
    ("join", "words"),
    [
        ({"part": r"^P(\d+)"}, "file '1_T' does not match join.part (^P(\\d+)); correct join.part"),
        ({"gather": {"column": "value"}}, "no column 'value'; its columns are who, said, file"),
        ({"gather": {"column": "said", "where": {"sex": "f"}}}, "no column 'sex'"),
        ({"gather": {"column": "said", "where": {"who": "Q"}}}, "no row where who is 'Q'; found"),
        (
            {"part": r"_(.)"},
            "none of its ids is in labels.csv: the first id in labels.csv is '1', "
            "the first id in *_T.csv is 'T'",
        ),
    ],
)
def test_transcripts_that_do_not_fit_are_refused(
    tmp_path: Path, join: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError) as caught:
        interviewed(tmp_path, TURNS, **join)
    assert str(caught.value).startswith(f"{tmp_path / '*_T.csv'}: {words}")


# Context

TALK = (
    "said,mood,who,talk,turn\n"
    "hi,joy,Ann,1,2\n"
    "oh,rage,Ben,1,10\n"
    "no,sorrow,Ann,1,11\n"
    "ah,joy,Cleo,2,1\n"
)
CONTEXT = {"dialogue": "talk", "order": "turn", "speaker": "who"}
SPOKEN = {"columns": {"text": "said", "label": "mood"}, "unlisted_labels": "drop"}


def test_the_prompt_holds_the_previous_turns_those_of_dropped_rows_too(tmp_path: Path) -> None:
    samples, report = run(
        tmp_path, TALK, **SPOKEN, context=CONTEXT, prompt="{context}{who}: {text} ->"
    )
    assert samples["prompt"].tolist() == [
        "Ann: hi ->",
        "Ann: hi\nBen: oh\nAnn: no ->",
        "Cleo: ah ->",
    ]
    counts = report["splits"]["test"]
    assert (counts["unlisted_label"], counts["without_context"]) == (1, 2)
    assert counts["prompt_characters"]["max"] == len(samples["prompt"][1])
    plain = run(tmp_path, TALK, **SPOKEN)[1]["splits"]["test"]
    assert "without_context" not in plain


def test_a_prompt_without_context_is_as_if_none_were_described(tmp_path: Path) -> None:
    columns = SPOKEN["columns"] | {"id": None}
    asked = {**SPOKEN, "columns": columns, "labels": ["joy", "sorrow"]}
    plain, _ = run(tmp_path, TALK, **asked)
    described = task(
        **asked, preset="meld-emotion", files={"test": "a.csv"}, context=CONTEXT, prompt="{text}"
    )
    same, _ = prepare("moods", described, {"test": tmp_path / "a.csv"})
    pd.testing.assert_frame_equal(plain, same)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"speaker": "whom"}, "no column 'whom'"),
        ({"order": "who"}, "row 1 has 'Ann' in column 'who'; expected a number"),
    ],
)
def test_a_context_that_the_file_does_not_hold_is_refused(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    message = refusal(tmp_path, TALK, **SPOKEN, context=CONTEXT | changes, prompt="{context}")
    assert message.startswith(words)


def test_context_in_a_prompt_of_a_task_without_dialogues_says_what_is_missing(
    tmp_path: Path,
) -> None:
    assert refusal(tmp_path, CSV, prompt="{context}").endswith(
        "describe the dialogues under context"
    )


def test_rows_whose_text_has_another_label_elsewhere_are_counted(tmp_path: Path) -> None:
    files = splits(tmp_path, train=["Well...", "a"], test=["x", "y", "z", "u"])
    files["test"].write_text(
        "text,mood\nwell,sorrow\na,joy\nb,joy\nc,joy\nd,joy\ne,joy\nf,joy\ng,joy\n"
    )
    _, report = prepare("moods", task(), files)
    assert [c["conflicting_label"] for c in report["splits"].values()] == [1, 1]


def test_a_file_of_a_header_alone_is_refused_whatever_is_asked_of_it(tmp_path: Path) -> None:
    for changes in ({}, SIGNED, {"context": CONTEXT, "prompt": "{context}", **SPOKEN}):
        message = refusal(tmp_path, "text,mood,v,said,who,talk,turn\n", **changes)
        assert message == "no row of split 'test' is kept; it has 0 rows: check columns and labels"


def test_a_text_that_parquet_stores_once_counts_as_often_as_it_occurs(
    tmp_path: Path,
) -> None:
    def written(name: str, rows: int) -> Path:
        places = pa.array([0] * rows, pa.int32())
        text = pa.DictionaryArray.from_arrays(places, pa.array(["x" * 40_000]))
        pyarrow.parquet.write_table(pa.table({"text": text}), tmp_path / name)
        return tmp_path / name

    few, many = written("few.parquet", 600), written("many.parquet", 20_000)
    assert many.stat().st_size < 100_000
    with pytest.raises(InputError, match="more than 512 MiB") as refused:
        read_rows(many)
    assert "cut" not in str(refused.value)
    assert read_rows(few)["text"].tolist() == ["x" * 40_000] * 600
