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
from refusal import refused

from affectlocus.config.tasks import Task
from affectlocus.data.audit import report_lines
from affectlocus.data.prepare import prepare
from affectlocus.data.table_reader import read_table

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


def splits(folder: Path, **texts: list[str]) -> dict[str, Path]:
    """A csv for each split with these texts, all of mood joy."""
    paths = {split: folder / f"{split}.csv" for split in texts}
    for split, path in paths.items():
        pd.DataFrame({"text": texts[split], "mood": "joy"}).to_csv(path, index=False)
    return paths


@pytest.mark.parametrize(
    ("header", "near"), [("text,moods", "moods"), ("text,Mood", "Mood"), ("text,feeling", "")]
)
def test_a_column_that_is_missing_is_compared_with_the_names_of_the_file(
    tmp_path: Path, header: str, near: str
) -> None:
    with refused("table.no-column", column="mood") as caught:
        run(tmp_path, f"{header}\nI won,joy\n")
    assert ("did you mean" in str(caught.value)) == bool(near)
    assert f"did you mean {near!r}?" in str(caught.value) or not near


def test_a_label_with_a_comma_that_was_split_in_params_yaml_says_to_quote_it(
    tmp_path: Path,
) -> None:
    content = 'text,mood\nI won,"joy, pride"\nI lost,sorrow\n'
    with refused("label.split-at-comma", row=1, found=["joy, pride"]) as caught:
        run(tmp_path, content, labels=["joy", "pride", "sorrow"])
    assert "put it in quotes" in str(caught.value)
    samples, _ = run(tmp_path, content, labels=["joy, pride", "sorrow"])
    assert samples["answer"].tolist() == ["joy, pride", "sorrow"]
    with pytest.raises(ValueError, match=r"the label 'joy' has no word.* comma, put that text in"):
        task(labels={"joy": None, "pride": "joy", "sorrow": "sorrow"})


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
    with refused(
        "label.unlisted",
        file=tmp_path / "a.csv",
        row=3,
        found=["fear"],
        expected=["joy", "sorrow"],
        rows=2,
    ):
        run(tmp_path, "text,mood\na,joy\n,rage\nb,fear\nc,fear\n")


def test_a_label_outside_the_list_can_be_dropped_and_is_counted(tmp_path: Path) -> None:
    content = "text,mood\na,joy\nb,fear\nc,Joy\nd,sorrow\n"
    samples, report = run(tmp_path, content, unlisted_labels="drop")
    assert samples["id"].tolist() == ["test-0", "test-3"]
    counts = report["splits"]["test"]
    assert (counts["read"], counts["unlisted_label"], counts["kept"]) == (4, 2, 2)


def test_a_file_of_nothing_but_dropped_rows_is_refused(tmp_path: Path) -> None:
    with refused("split.no-row-kept", file=tmp_path / "a.csv", split="test", rows=1):
        run(tmp_path, "text,mood\na,fear\n", unlisted_labels="drop")


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
    columns = {"label": "mood", "id": "no"}
    with refused("split.duplicate-id", file=tmp_path / "a.csv", split="test", found="7", rows=1):
        run(tmp_path, "no,text,mood\n7,a,joy\n7,b,joy\n", columns=columns)


@pytest.mark.parametrize(
    ("changes", "code", "missing"),
    [
        ({"columns": {"label": "label"}}, "table.no-column", "label"),
        ({"columns": {"label": "mood", "text": "Utterance"}}, "table.no-column", "Utterance"),
        ({"columns": {"label": "mood", "id": "id"}}, "table.no-column", "id"),
        ({"prompt": "{text} {speaker}"}, "prompt.no-such-column", "speaker"),
    ],
)
def test_a_missing_column_is_named_with_those_that_are_there(
    tmp_path: Path, changes: dict[str, Any], code: str, missing: str
) -> None:
    with refused(code, file=tmp_path / "a.csv", column=missing, found=["text", "mood"]):
        run(tmp_path, CSV, **changes)


@pytest.mark.parametrize(
    ("name", "content", "code", "fields"),
    [
        (
            "a.csv",
            "text,mood\ncafé,joy\n".encode("latin-1"),
            "table.other-encoding",
            {"line": 2, "found": 0xE9},
        ),
        (
            "a.jsonl",
            '{"text":"café","mood":"joy"}\n'.encode("latin-1"),
            "table.other-encoding",
            {"line": 1, "found": 0xE9},
        ),
        ("a.xlsx", b"PK", "table.unknown-suffix", {"found": ".xlsx"}),
        ("a.csd", b"", "table.unknown-suffix", {"found": ".csd"}),
        ("README", b"", "table.unknown-suffix", {"found": ""}),
        ("a.csv", b"", "table.empty", {}),
        (
            "a.csv",
            b"text,mood\nI won,joy\nI, too,won,joy\n",
            "table.row-too-long",
            {"line": 3, "found": 4, "expected": 2},
        ),
        (
            "a.csv",
            b'text,mood\na,joy\n"I won,joy\nb,joy\n',
            "table.open-quotation-mark",
            {"line": 2},
        ),
        ("a.jsonl", b'{"text": "I won"\n', "table.broken-json", {"line": 1}),
        (
            "a.tsv",
            b"I won\tjoy\n",
            "table.no-column",
            {"column": "text", "found": ["I won", "joy"]},
        ),
        ("a.csv", b"text,goal\na,b,c\nd,e,f\n", "table.row-too-long", {"line": 2}),
        ("a.csv.gz", CSV.encode(), "table.unreadable", {}),
        ("a.csv.gz", gzip.compress(CSV.encode() * 99, mtime=0)[:40], "table.unreadable", {}),
        ("a.parquet", b"PAR1", "table.unreadable", {}),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(
    tmp_path: Path, name: str, content: bytes, code: str, fields: dict[str, Any]
) -> None:
    with refused(code, file=tmp_path / name, **fields):
        run(tmp_path, content, name)


@pytest.mark.parametrize(
    ("name", "advice"),
    [("a.xlsx", "save the sheet as csv"), ("a.csd", "export texts, labels and ids as csv")],
)
def test_a_table_of_another_program_is_refused_with_its_conversion(
    tmp_path: Path, name: str, advice: str
) -> None:
    with refused("table.unknown-suffix") as caught:
        run(tmp_path, "", name)
    assert advice in str(caught.value)


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
    with refused("split.overlap", split="train", found=2, exact=2, rows=4, expected=0.49):
        prepare("moods", task(overlap_limit=0.49), files)


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


def test_a_row_with_more_fields_than_the_header_of_params_yaml_is_refused(tmp_path: Path) -> None:
    with refused("table.row-too-long", file=tmp_path / "a.tsv", line=1, found=3, expected=2):
        run(tmp_path, "a\tb\tc\n", "a.tsv", header=["text", "goal"], **TARGET)


@pytest.mark.parametrize("field", ["0", "text.upper"])
def test_a_prompt_looks_columns_up_and_evaluates_nothing(tmp_path: Path, field: str) -> None:
    with refused("prompt.no-such-column", column=field):
        run(tmp_path, CSV, prompt=f"{{{field}}}")


def test_a_row_without_a_target_is_left_out_and_counted(tmp_path: Path) -> None:
    samples, report = run(tmp_path, "text,goal\na,b\nc\nd,\n", **TARGET)
    assert samples["answer"].tolist() == ["b"]
    (counts,) = report["splits"].values()
    assert counts["empty_target"] == 2


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with refused("table.no-file", file=tmp_path / "nope.csv"):
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


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (CSV, "table.no-column"),
        ("text,mood,split\na,joy,test\nb,joy,dev\n", "split.unknown-value"),
        ("text,mood,split\n", "table.no-rows"),
    ],
)
def test_a_file_of_every_split_without_sound_splits_is_refused(
    tmp_path: Path, content: str, code: str
) -> None:
    path = tmp_path / "all.csv"
    path.write_text(content)
    fields = {
        "table.no-column": {"column": "split"},
        "split.unknown-value": {"column": "split", "found": "dev"},
    }
    with refused(code, file=path, **fields.get(code, {})):
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


@pytest.mark.parametrize("kind", ["pkl", "pickle", "p", "npz", "npy"])
def test_a_pickled_file_is_never_opened_and_its_conversion_is_explained(
    tmp_path: Path, kind: str
) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "opened",)

    with refused("table.pickled", file=tmp_path / f"a.{kind}") as caught:
        run(tmp_path, pickle.dumps(Trap()), f"a.{kind}")
    assert ".to_csv(" in str(caught.value)
    assert not (tmp_path / "opened").exists()


LINES = "[1] a.1 joy said\n# a remark\n[2] a.2 sorrow said\n"


def test_a_pattern_makes_rows_of_lines_and_counts_the_others(tmp_path: Path) -> None:
    pattern = r"^\[(?P<n>\d)\] (?P<text>\S+) (?P<mood>\w+)"
    samples, report = run(tmp_path, LINES, "a.txt", pattern=pattern)
    assert samples[["text", "answer"]].values.tolist() == [["a.1", "joy"], ["a.2", "sorrow"]]
    assert report["other_lines"] == 1


def test_a_pattern_that_matches_no_line_is_refused_with_the_first_line(tmp_path: Path) -> None:
    first = "[1] a.1 joy said"
    with refused("table.no-line-matches", file=tmp_path / "a.txt", found=first):
        run(tmp_path, LINES, "a.txt", pattern="^<(?P<text>.*)>$")


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
        with refused("table.other-encoding", line=3, expected="utf-8", likely=guess):
            run(tmp_path, b"text,mood\nok,joy\n" + content + b",joy\n")


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
    ("content", "code", "fields"),
    [
        (
            b"PK\x03\x04\x14\0",
            "table.other-format",
            {"found": "an Excel workbook or a zip archive"},
        ),
        (b"PAR1\x15", "table.other-format", {"found": "a parquet file"}),
        (b"\x89PNG\r\n", "table.other-format", {"found": "a picture"}),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "table.other-format",
            {"found": "a Git LFS pointer"},
        ),
        (pickle.dumps({"text": ["a"]}), "table.pickled", {}),
        (CSV.encode("utf-16-le"), "table.not-text", {"line": 1}),
        (CSV.encode() + b"a\0,joy\n", "table.not-text", {"line": 4}),
        (
            CSV.encode("utf-16"),
            "table.other-encoding",
            {"found": 0xFF, "offset": 0, "line": 1, "likely": "utf-16"},
        ),
    ],
)
def test_a_binary_file_is_refused_with_its_kind(
    tmp_path: Path, content: bytes, code: str, fields: dict[str, Any]
) -> None:
    with refused(code, file=tmp_path / "a.csv", **fields):
        run(tmp_path, content)


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_another_delimiter_is_named(tmp_path: Path, mark: str) -> None:
    content = CSV.replace(",", mark)
    shown = mark.replace("\t", "\\t")
    hint = f"; '{shown}' seems to separate its columns: save it with commas or"
    with refused("table.no-column", column="text", found=[f"text{mark}mood"]) as caught:
        run(tmp_path, content)
    assert hint in str(caught.value)
    # With a comma in a text its rows have more fields than its header.
    with refused("table.row-too-long", line=2, found=2, expected=1) as caught:
        run(tmp_path, content.replace("I won", "Oh, I won"))
    assert hint in str(caught.value)
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
    values = ["dev", "te", "tr", "tr2", "unused"]
    with refused("split.no-such-value", split="test", column="part", found=values):
        prepare("moods", asked, {"all": path})


def test_a_row_is_named_by_its_number_in_the_file_whatever_its_split(tmp_path: Path) -> None:
    path = tmp_path / "all.csv"
    path.write_text("text,mood,split\na,joy,train\nb,joy,train\nc,rage,test\n")
    with refused("label.unlisted", file=path, row=3, found=["rage"]):
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
    fields = {"file": tmp_path / "a.csv", "column": "v", "row": 2, "found": value, "rows": 1}
    with refused("table.not-a-number", **fields):
        run(tmp_path, f"text,v\na,1\nb,{value}\n", **SIGNED)


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
    ("said", "code", "fields"),
    [
        (
            "id\ttext\n1\ta\n1\tb\n",
            "join.duplicate-id",
            {"column": "id", "found": "1"},
        ),
        ("id\ttext\nx1\ta\n", "join.no-common-id", {"expected": "1", "found": "x1"}),
        ("id\ttext\n", "join.no-common-id", {"expected": "1", "found": None}),
        ("id\ttext\tmood\n1\ta\tjoy\n", "join.column-in-both", {"column": "mood"}),
        ("no\ttext\n1\ta\n", "table.no-column", {"column": "id", "found": ["no", "text"]}),
    ],
)
def test_a_second_file_that_does_not_fit_is_refused(
    tmp_path: Path, said: str, code: str, fields: dict[str, Any]
) -> None:
    with refused(code, file=tmp_path / "said.tsv", **fields):
        joined(tmp_path, LABELS, said)


def test_of_a_second_file_only_the_named_columns_are_taken(tmp_path: Path) -> None:
    said = "id\ttext\tmood\n1\ta\trage\n"
    samples, _ = joined(tmp_path, LABELS, said, columns=["text"])
    assert samples["answer"].tolist() == ["joy"]


def test_one_name_for_a_column_that_files_call_differently(tmp_path: Path) -> None:
    content = "text,feeling\nI won,joy\n"
    samples, _ = run(tmp_path, content, rename={"feeling": "mood"})
    assert samples["answer"].tolist() == ["joy"]
    with refused("task.rename-to-present-column", key="feeling", column="mood"):
        run(tmp_path, "text,feeling,mood\na,joy,joy\n", rename={"feeling": "mood"})


NUMBERED = {"columns": {"score": "v"}, "labels": None, "number": {"highest": 24}}


def test_a_number_is_answered_as_it_is_with_the_ending(tmp_path: Path) -> None:
    samples, report = run(tmp_path, "text,v\na,7\nb,24.0\n", **NUMBERED)
    assert samples["answer"].tolist() == ["7\n", "24\n"]
    assert samples["score"].tolist() == [7, 24]
    assert report["splits"]["test"]["labels"] == {"7\n": 1, "24\n": 1}


@pytest.mark.parametrize("value", ["25", "-1", "7.5"])
def test_a_number_out_of_its_range_is_refused(tmp_path: Path, value: str) -> None:
    fields = {"row": 2, "found": float(value), "expected": (0, 24), "rows": 1}
    with refused("task.number-off-scale", file=tmp_path / "a.csv", **fields):
        run(tmp_path, f"text,v\na,1\nb,{value}\n", **NUMBERED)


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
    ("join", "code", "fields"),
    [
        (
            {"part": r"^P(\d+)"},
            "join.part-without-match",
            {"column": "file", "found": "1_T", "expected": r"^P(\d+)"},
        ),
        (
            {"gather": {"column": "value"}},
            "table.no-column",
            {"column": "value", "found": ["who", "said", "file"]},
        ),
        (
            {"gather": {"column": "said", "where": {"sex": "f"}}},
            "table.no-column",
            {"column": "sex"},
        ),
        (
            {"gather": {"column": "said", "where": {"who": "Q"}}},
            "join.no-row-where",
            {"column": "who", "found": ["E", "P"], "expected": ["Q"]},
        ),
        ({"part": r"_(.)"}, "join.no-common-id", {"expected": "1", "found": "T"}),
    ],
)
def test_transcripts_that_do_not_fit_are_refused(
    tmp_path: Path, join: dict[str, Any], code: str, fields: dict[str, Any]
) -> None:
    with refused(code, file=tmp_path / "*_T.csv", **fields):
        interviewed(tmp_path, TURNS, **join)


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
    ("changes", "code", "fields"),
    [
        ({"speaker": "whom"}, "table.no-column", {"column": "whom"}),
        ({"order": "who"}, "table.not-a-number", {"column": "who", "row": 1, "found": "Ann"}),
    ],
)
def test_a_context_that_the_file_does_not_hold_is_refused(
    tmp_path: Path, changes: dict[str, Any], code: str, fields: dict[str, Any]
) -> None:
    with refused(code, file=tmp_path / "a.csv", **fields):
        run(tmp_path, TALK, **SPOKEN, context=CONTEXT | changes, prompt="{context}")


def test_context_in_a_prompt_of_a_task_without_dialogues_says_what_is_missing(
    tmp_path: Path,
) -> None:
    with refused("prompt.no-such-column", column="context") as caught:
        run(tmp_path, CSV, prompt="{context}")
    assert "describe the dialogues under context" in str(caught.value)


def test_rows_whose_text_has_another_label_elsewhere_are_counted(tmp_path: Path) -> None:
    files = splits(tmp_path, train=["Well...", "a"], test=["x", "y", "z", "u"])
    files["test"].write_text(
        "text,mood\nwell,sorrow\na,joy\nb,joy\nc,joy\nd,joy\ne,joy\nf,joy\ng,joy\n"
    )
    _, report = prepare("moods", task(), files)
    assert [c["conflicting_label"] for c in report["splits"].values()] == [1, 1]


def test_a_file_of_a_header_alone_is_refused_whatever_is_asked_of_it(tmp_path: Path) -> None:
    for changes in ({}, SIGNED, {"context": CONTEXT, "prompt": "{context}", **SPOKEN}):
        with refused("split.no-row-kept", split="test", rows=0):
            run(tmp_path, "text,mood,v,said,who,talk,turn\n", **changes)


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
    with refused("table.too-large", file=many, expected=512 << 20):
        read_table(many)
    assert read_table(few).rows["text"].tolist() == ["x" * 40_000] * 600
