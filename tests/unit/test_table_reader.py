"""Tables as other programs write them: read correctly, or refused with the reason."""

from __future__ import annotations

import csv
import datetime
import decimal
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from refusal import refused

from affectlocus.config.tasks import Task
from affectlocus.data.audit import report_lines
from affectlocus.data.prepare import prepare
from affectlocus.data.table_reader import read_table

HERS = pd.DataFrame({"text": ['She said "hi", then left', "Fine"], "label": ["joy", "anger"]})
ROWS = [{"text": "She won", "label": "joy"}, {"text": "He lied", "label": "anger"}]


def read(folder: Path, name: str, content: str | bytes, **options: Any) -> list[list[str]]:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_table(path, **options).rows.values.tolist()


def prepared(path: Path, **changes: Any) -> tuple[pd.DataFrame, dict[str, Any]]:
    fields = {"files": {"test": "a"}, "columns": {"label": "label"}, "labels": ["joy", "anger"]}
    return prepare("moods", Task.model_validate(fields | changes), {"test": path})


# Missing values


@pytest.mark.parametrize("missing", ["NaN", "null", "Infinity", "-Infinity", "1e999"])
def test_a_missing_value_in_jsonl_is_an_empty_text(tmp_path: Path, missing: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"text":"a","label":"joy"}}\n{{"text":{missing},"label":"joy"}}\n')
    samples, report = prepared(path)
    assert samples["text"].tolist() == ["a"]
    assert report["splits"]["test"]["empty_text"] == 1


def test_a_missing_number_in_parquet_is_empty(tmp_path: Path) -> None:
    pd.DataFrame({"a": [1.5, None], "b": ["x", None]}).to_parquet(tmp_path / "a.parquet")
    assert read_table(tmp_path / "a.parquet").rows.values.tolist() == [["1.5", "x"], ["", ""]]


@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
def test_a_number_that_is_not_finite_in_parquet_is_empty(tmp_path: Path, kind: str) -> None:
    values = pd.Series([1.5, float("inf"), float("-inf"), float("nan")], dtype=kind)
    pd.DataFrame({"a": values}).to_parquet(tmp_path / "a.parquet")
    assert read_table(tmp_path / "a.parquet").rows["a"].tolist() == ["1.5", "", "", ""]


@pytest.mark.parametrize("word", ["NaN", "None", "NA", "null", "nan", "Infinity", "true"])
def test_words_that_look_like_missing_values_are_texts(tmp_path: Path, word: str) -> None:
    assert read(tmp_path, "a.csv", f"text\n{word}\n") == [[word]]
    assert read(tmp_path, "a.tsv", f"text\n{word}\n") == [[word]]
    assert read(tmp_path, "a.jsonl", json.dumps({"text": word})) == [[word]]


@pytest.mark.parametrize(
    "value",
    ["3", "1.0", "true", '["a", NaN]', '{"b": 1}'],
)
def test_other_values_of_jsonl_are_their_json(tmp_path: Path, value: str) -> None:
    assert read(tmp_path, "a.jsonl", f'{{"a": {value}, "b": "c"}}') == [[value, "c"]]


def test_values_that_json_lacks_have_no_quotation_marks(tmp_path: Path) -> None:
    row = {"a": datetime.date(2024, 1, 2), "b": decimal.Decimal("1.50"), "c": "é".encode()}
    pd.DataFrame([row]).to_parquet(tmp_path / "a.parquet")
    assert read_table(tmp_path / "a.parquet").rows.values.tolist() == [["2024-01-02", "1.50", "é"]]


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_a_text_column_of_lists_is_refused(tmp_path: Path, name: str) -> None:
    frame = pd.DataFrame({"text": [["She", "won"]], "label": ["joy"]})
    path = tmp_path / name
    frame.to_parquet(path) if name == "a.parquet" else frame.to_json(
        path, orient="records", lines=True
    )
    with refused("table.column-not-text", file=path, column="text"):
        prepared(path)


# Labels


def test_whole_numbers_that_pandas_wrote_as_floats_are_their_labels(tmp_path: Path) -> None:
    frame = pd.DataFrame({"text": ["a", "b", "c"], "label": [1.0, 0.0, None]})
    frame.to_parquet(tmp_path / "a.parquet")
    frame.to_csv(tmp_path / "a.csv", index=False)
    for name in ("a.parquet", "a.csv"):
        labels = {0: "anger", 1: "joy"}
        samples, report = prepared(tmp_path / name, labels=labels, unlisted_labels="drop")
        assert samples["answer"].tolist() == ["joy", "anger"]
        assert report["splits"]["test"]["unlisted_label"] == 1
        with refused("label.empty", file=tmp_path / name, row=3, rows=1):
            prepared(tmp_path / name, labels=labels)


def test_a_label_that_is_listed_as_it_is_written_is_that_label(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\na,1.0\nb,1\nc, joy\n")
    labels = {"1.0": "x", "1": "y", " joy": "z", "joy": "no"}
    assert prepared(tmp_path / "a.csv", labels=labels)[0]["answer"].tolist() == ["x", "y", "z"]


def test_booleans_of_parquet_are_the_labels_true_and_false(tmp_path: Path) -> None:
    pd.DataFrame({"text": ["a", "b"], "label": [True, False]}).to_parquet(tmp_path / "a.parquet")
    samples, _ = prepared(tmp_path / "a.parquet", labels={True: "joy", False: "anger"})
    assert samples["answer"].tolist() == ["joy", "anger"]


def test_a_space_after_commas_is_named_and_the_hint_works(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text, label\nShe won, joy\nHe lied, anger\n")
    with refused("table.no-column", column="label", found=["text", " label"]) as caught:
        prepared(path)
    assert "the name ' label' has a space around it: remove" in str(caught.value)
    assert prepared(path, columns={"label": " label"})[0]["answer"].tolist() == ["joy", "anger"]


def test_all_labels_that_are_not_listed_are_named_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\na,rage\nb,fear\nc,joy\n")
    with refused("label.unlisted", row=1, found=["rage", "fear"], rows=2):
        prepared(path)
    labels = ["joy", "anger", "rage", "fear"]
    assert len(prepared(path, labels=labels)[0]) == 3


def test_labels_of_another_case_are_to_be_mapped(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\na,Joy\nb,ANGER\n")
    with refused("label.other-case", row=1, found=["Joy", "ANGER"]) as caught:
        prepared(path)
    assert "such as {Joy: joy}" in str(caught.value)
    samples, _ = prepared(path, labels={"Joy": "joy", "ANGER": "anger"})
    assert samples["answer"].tolist() == ["joy", "anger"]


# Columns


@pytest.mark.parametrize(
    ("name", "content", "code", "fields"),
    [
        ("a.csv", "text,label,text\na,joy,z\n", "table.duplicate-column", {"column": "text"}),
        ("a.csv", '"text",label,text\na,joy,z\n', "table.duplicate-column", {"column": "text"}),
        ("a.tsv", "text\tlabel\ttext\na\tjoy\tz\n", "table.duplicate-column", {"column": "text"}),
        (
            "a.jsonl",
            '{"text": "a"}\n{"text": "a", "text": "z"}\n',
            "table.duplicate-key",
            {"key": "text", "line": 2},
        ),
        ("a.json", '[{"text": "a", "text": "z"}]', "table.duplicate-key", {"key": "text"}),
    ],
)
def test_a_duplicate_column_is_refused(
    tmp_path: Path, name: str, content: str, code: str, fields: dict[str, Any]
) -> None:
    with refused(code, file=tmp_path / name, **fields):
        read(tmp_path, name, content)


def test_a_duplicate_name_under_header_is_refused() -> None:
    with pytest.raises(ValueError, match="'text' is listed twice"):
        Task.model_validate({"files": {"test": "a"}, "header": ["text", "text"]})


def test_columns_without_a_name_may_be_several(tmp_path: Path) -> None:
    assert read(tmp_path, "a.csv", ",text,\n0,She won,\n") == [["0", "She won", ""]]


def test_rows_that_end_with_the_delimiter_are_refused_by_that_reason(tmp_path: Path) -> None:
    with refused("table.delimiter-at-line-end", line=2, found=3, expected=2):
        read(tmp_path, "a.csv", "text,label\na,joy,\nb,anger,\n")
    assert read(tmp_path, "a.csv", "text,label,\na,joy,\n") == [["a", "joy", ""]]


def test_a_utf_8_byte_order_mark_is_not_part_of_a_column_name(tmp_path: Path) -> None:
    for name, content in (
        ("a.tsv", "text\nx\n"),
        ("a.csv", "text\nx\n"),
        ("a.json", '[{"text":1}]'),
    ):
        path = tmp_path / name
        path.write_text("\ufeff" + content)
        assert list(read_table(path).rows.columns) == ["text"]


# Quotation marks between tabs


@pytest.mark.parametrize("options", [{}, {"delimiter": "\t"}])
@pytest.mark.parametrize("name", ["a.tsv", "a.csv"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_a_tsv_that_pandas_wrote_comes_back(
    tmp_path: Path, name: str, options: dict[str, str], quoting: int
) -> None:
    if name == "a.csv" and not options:
        options = {"delimiter": "\t"}
    path = tmp_path / name
    HERS.to_csv(path, sep="\t", index=False, quoting=quoting)  # type: ignore[call-overload]
    assert read_table(path, **options).rows.values.tolist() == HERS.values.tolist()  # type: ignore[arg-type]


TEXTS = st.text(st.sampled_from('ab "\t\n'), min_size=1, max_size=6)


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=4))
def test_any_tsv_of_pandas_with_quoted_fields_comes_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    path = tmp_path_factory.mktemp("rows") / "a.tsv"
    frame = pd.DataFrame(rows, columns=["one", "two"])
    frame.to_csv(path, sep="\t", index=False)
    # If every line has the same number of tabs, the quotation marks may also be part of the texts.
    content = path.read_text()
    tabs = {line.count("\t") for line in content.split("\n") if line}
    assume('"' not in content or '""' in content or len(tabs) > 1)
    assert read_table(path).rows.values.tolist() == frame.values.tolist()


@pytest.mark.parametrize(
    "texts",
    [
        ['"I won', 'say "hi"'],
        ['"Sarcasm"', "plain"],
        ['"Sarcasm"', 'and "this" too'],
        ['""Hello""', "x"],
        ['"I know', 'he said"'],
        ['"She said ""hi"""', 'a "stray" mark'],
    ],
)
def test_quotation_marks_that_are_not_the_file_s_own_stay(tmp_path: Path, texts: list[str]) -> None:
    content = "text\tlabel\n" + "".join(f"{text}\tjoy\n" for text in texts)
    assert read(tmp_path, "a.tsv", content) == [[text, "joy"] for text in texts]


@pytest.mark.parametrize(
    "rows", ['""\tjoy\nfine\tjoy\n', '""\tjoy\nfine\t""\n', '""\tjoy\n"say ""hi"""\tjoy\n']
)
def test_two_quotation_marks_are_an_empty_field_of_a_quoted_tsv(tmp_path: Path, rows: str) -> None:
    first, second = read(tmp_path, "a.tsv", f"text\tlabel\n{rows}")
    assert first == ["", "joy"]
    assert not any('""' in value for value in second)


def test_two_quotation_marks_count_as_an_empty_text(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text('text\tlabel\n""\tjoy\nfine\tjoy\n')
    samples, report = prepared(path)
    assert samples["text"].tolist() == ["fine"]
    assert report["splits"]["test"]["empty_text"] == 1


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    ("rows", "line"),
    [
        (['"a "b" c"\t"joy"', '"d"\t"joy"'], 2),
        (['"a"\t"joy"', '"d "e\t"joy"'], 3),
        (['"two\nlines"\t"joy"', '"d" e\t"joy"'], 4),
        (['"a"\t"joy"', '"d\t"joy"'], 3),
    ],
)
def test_a_quoted_tsv_with_a_single_mark_in_a_field_is_refused_with_its_line(
    tmp_path: Path, rows: list[str], line: int, end: str
) -> None:
    path = tmp_path / "a.tsv"
    path.write_bytes(end.join(['"text"\t"label"', *rows, ""]).encode())
    with refused("table.stray-quotation-mark", file=path, line=line):
        read_table(path)


def test_quotation_marks_that_may_be_the_file_s_own_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text('text\tlabel\n"She said ""hi"""\tjoy\na "stray" mark\tanger\n')
    _, report = prepared(path)
    assert report["quoted_fields"] == 1
    assert any(
        "marks in other fields belong to the text: 1" in line for line in report_lines(report)
    )


def test_a_line_break_in_a_quoted_field_of_a_tsv_is_part_of_it(tmp_path: Path) -> None:
    content = 'text\tlabel\n"two\nlines"\tjoy\none\tjoy\n'
    assert read(tmp_path, "a.tsv", content) == [["two\nlines", "joy"], ["one", "joy"]]


# JSON


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
@pytest.mark.parametrize(
    "content",
    [
        json.dumps(ROWS),
        json.dumps(ROWS, indent=1),
        json.dumps({"data": ROWS}),
        json.dumps({"version": "1", "data": ROWS}, indent=1),
        "".join(json.dumps(row) + "\n" for row in ROWS),
        pd.DataFrame(ROWS).to_json(orient="table"),
    ],
    ids=["list", "list on lines", "data", "data with a version", "lines", "table of pandas"],
)
def test_rows_of_json_are_read(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    assert read_table(tmp_path / name).rows[["text", "label"]].to_dict("records") == ROWS


@pytest.mark.parametrize("indent", [None, 1])
def test_one_object_is_one_row(tmp_path: Path, indent: int | None) -> None:
    assert read(tmp_path, "a.json", json.dumps(ROWS[0], indent=indent)) == [["She won", "joy"]]


@pytest.mark.parametrize(
    ("content", "code", "fields"),
    [
        (pd.DataFrame(ROWS).to_json(), "table.json-of-columns", {}),
        (pd.DataFrame(ROWS).to_json(orient="index"), "table.json-of-columns", {}),
        (pd.DataFrame(ROWS).to_json(orient="split"), "table.json-of-lists", {}),
        (json.dumps(pd.DataFrame(ROWS).to_dict("list"), indent=1), "table.json-of-lists", {}),
        (
            pd.DataFrame(ROWS).to_json(orient="values"),
            "table.not-an-object",
            {"item": 1, "found": ["She won", "joy"]},
        ),
        ('["a", "b"]', "table.not-an-object", {"item": 1, "found": "a"}),
        ('["a", "b"]\n["c", "d"]\n', "table.text-after-json", {"line": 2, "character": 1}),
        ('[\n {"text": "a"},\n {"te', "table.broken-json", {"line": 3}),
        ('{"text": "a"}\n["b"]\n', "table.not-an-object", {"line": 2, "found": ["b"]}),
        ('{"text": "a"}\nnull\n', "table.not-an-object", {"line": 2, "found": None}),
        ('{\n "text": "a"\n}\n{\n "text": "b"\n}\n', "table.broken-json", {"line": 1}),
    ],
)
def test_other_json_is_refused_with_its_kind(
    tmp_path: Path, content: str, code: str, fields: dict[str, Any]
) -> None:
    with refused(code, file=tmp_path / "a.json", **fields):
        read(tmp_path, "a.json", content)


def test_the_hint_for_json_of_columns_works(tmp_path: Path) -> None:
    content = pd.DataFrame(ROWS).to_json()
    with refused("table.json-of-columns") as caught:
        read(tmp_path, "a.json", content)
    assert "to_json('rows.jsonl', orient='records', lines=True)" in str(caught.value)
    path = tmp_path / "rows.jsonl"
    pd.read_json(tmp_path / "a.json").to_json(path, orient="records", lines=True)
    assert read_table(path).rows.to_dict("records") == ROWS
