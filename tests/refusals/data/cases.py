"""Kinds of bad data: files with one fault each, and the messages that they must give.

Each case is an experiment that is good but for its own files or keys, and the command that meets
it.
"""

from __future__ import annotations

import gzip
import io
import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from moods import GOOD, PARAMETERS, TASK

WAF = ("score", "--protocol", "mer-unibench", "--kind", "waf")
SCORE = (*WAF, "--gold", "gold.csv", "--predictions", "said.csv")
GOLD = "sample,value\ns1,1.5\ns2,-1\n"
SAID = "checkpoint,sample,prediction\na,s1,positive\na,s2,neutral\n"


@dataclass(frozen=True)
class Case:
    """One kind of bad data.

    Attributes:
        kind: what is wrong.
        says: parts of what must be printed.
        files: name → content, beside or in the place of the good ones; the first is shown.
        task: keys of the task that differ; None takes one away.
        command: what meets it.
        refused: whether it ends with exit code 1, or is counted and read.
    """

    kind: str
    says: tuple[str, ...]
    files: Mapping[str, str | bytes] = field(default_factory=dict)
    task: Mapping[str, Any] = field(default_factory=dict)
    command: tuple[str, ...] = ("check", ".")
    refused: bool = True

    def write(self, folder: Path) -> None:
        """Writes the experiment into an empty folder."""
        changed = {key: value for key, value in {**TASK, **self.task}.items() if value is not None}
        corpus = {"mini-caption": {"corpus": True, "columns": {"target": "target"}}}
        config = PARAMETERS | {"tasks": {"moods": changed, **corpus}}
        given = {**GOOD, **self.files, "params.yaml": yaml.safe_dump(config)}
        for name, content in given.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)


def _files(test: str | None = None, **files: str | None) -> dict[str, Any]:
    return {"files": {"train": "train.csv", "test": test, **files}}


def _parquet() -> bytes:
    stream = io.BytesIO()
    pd.DataFrame({"id": ["3"], "text": ["She passed"], "mood": ["joy"]}).to_parquet(stream)
    return stream.getvalue()


LINES = [{"id": 3, "text": "She passed", "mood": "joy"}, {"id": 4, "text": "He lied"}]
JSONL = json.dumps(LINES[0]) + "\n" + json.dumps(LINES[1])[:-2] + "\n"

CASES = [
    Case(
        "A duplicate id",
        ("test.csv: duplicate id '3' in split 'test'", "duplicate_ids: first"),
        {"test.csv": "id,text,mood\n3,She passed,joy\n3,He lied,anger\n"},
    ),
    Case(
        "No text in any row",
        ("test.csv: no row of split 'test' is kept; it has 2 rows (2 with empty text): check",),
        {"test.csv": "id,text,mood\n3,,joy\n4,  ,anger\n"},
    ),
    Case(
        "A label outside the set",
        ("test.csv: row 2 has the label 'rage'; expected one of joy, anger (1 such rows)",),
        {"test.csv": "id,text,mood\n3,She passed,joy\n4,He lied,rage\n"},
    ),
    Case(
        "Test texts that are also in train, exactly",
        ("1 of 2 test texts are also in the train split (1 of them exactly)", "overlap_limit"),
        {"test.csv": "id,text,mood\n3,We won the cup,joy\n4,He lied,anger\n"},
    ),
    Case(
        "Test texts that are also in train, except for case and punctuation",
        ("1 of 2 test texts are also in the train split (0 of them exactly)",),
        {"test.csv": "id,text,mood\n3,WE WON the cup!,joy\n4,He lied,anger\n"},
    ),
    Case(
        "One file as two splits",
        ("tasks.moods.files.test: the same file as train: train.csv",),
        task=_files("train.csv"),
    ),
    Case(
        "Another encoding: Western",
        ("test.csv: not UTF-8: byte 0xe9 at offset 21, line 2; save it as", "encoding: cp1252"),
        {"test.csv": "id,text,mood\n3,At caf\xe9,joy\n".encode("cp1252")},
    ),
    Case(
        "Another encoding: Chinese",
        ("test.csv: not UTF-8: byte 0xce", "encoding: gb18030"),
        {"test.csv": "id,text,mood\n3,我们很高兴,joy\n".encode("gb18030")},
    ),
    Case(
        "Another encoding: UTF-16 without a byte order mark",
        ("test.csv: not a text file: a NUL byte in line 1", "encoding: utf-16-le"),
        {"test.csv": GOOD["test.csv"].encode("utf-16-le")},
    ),
    Case(
        "A missing column",
        ("test.csv: no column 'mood'; its columns are id, text, feeling",),
        {"test.csv": "id,text,feeling\n3,She passed,joy\n"},
    ),
    Case(
        "Another delimiter",
        ("test.csv: no column 'text'; its columns are id;text;mood; ';' seems to separate its",),
        {"test.csv": "id;text;mood\n3;She passed;joy\n"},
    ),
    Case(
        "Rows longer than the header",
        ("test.csv: cannot be read as csv", "line 3 has 4 fields, but the header has 3"),
        {"test.csv": "id,text,mood\n3,She passed,joy\n4,Oh, he lied,anger\n"},
    ),
    Case(
        "A quotation mark that is not closed",
        ("test.csv: cannot be read as csv: a quotation mark after line 2 is not closed",),
        {"test.csv": 'id,text,mood\n3,She passed,joy\n4,"He lied,anger\n5,No,anger\n'},
    ),
    Case(
        "Pickled labels",
        (
            "test.pkl: pickled files are not read, because opening one can run any program",
            "to_csv('labels.csv')",
        ),
        {"test.pkl": pickle.dumps([{"text": "She passed", "mood": "joy"}], protocol=4)},
        _files("test.pkl"),
    ),
    Case(
        "Pickled labels under another name",
        ("test.csv: pickled files are not read, because opening one can run any program",),
        {"test.csv": pickle.dumps([{"text": "She passed", "mood": "joy"}], protocol=4)},
    ),
    Case(
        "An Excel workbook named csv",
        ("test.csv: is an Excel workbook or a zip archive",),
        {"test.csv": b"PK\x03\x04\x14\x00\x06\x00"},
    ),
    Case(
        "A Git LFS pointer instead of the file",
        ("test.csv: is a Git LFS pointer; fetch the file itself",),
        {"test.csv": "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"},
    ),
    Case(
        "A missing file",
        ("tasks.moods.files.test: no such file: tset.csv; correct it, or data_root",),
        task=_files("tset.csv"),
    ),
    Case(
        "A split without rows",
        ("test.csv: no row of split 'test' is kept; it has 0 rows",),
        {"test.csv": "id,text,mood\n"},
    ),
    Case(
        "An empty file", ("test.csv: cannot be read as csv: the file is empty",), {"test.csv": ""}
    ),
    Case(
        "A truncated parquet file",
        ("test.parquet: cannot be read as parquet", "it may be truncated: download or write it"),
        {"test.parquet": _parquet()[:-100]},
        _files("test.parquet"),
    ),
    Case(
        "A truncated gzip file",
        ("test.csv.gz: cannot be read as csv", "it may be truncated: download or write it"),
        {"test.csv.gz": gzip.compress(GOOD["test.csv"].encode(), mtime=0)[:-9]},
        _files("test.csv.gz"),
    ),
    Case(
        "A jsonl file with a broken line",
        ("test.jsonl: cannot be read as jsonl: line 2, column 19: Unterminated string",),
        {"test.jsonl": JSONL},
        _files("test.jsonl"),
    ),
    Case(
        "A JSON object of columns, as pandas writes it",
        ("test.json: cannot be read as json: one JSON object of columns", "lines=True"),
        {"test.json": '{"text": {"0": "She passed"}, "mood": {"0": "joy"}}\n'},
        _files("test.json"),
    ),
    Case(
        "Two columns of the same name",
        ("test.csv: cannot be read as csv: two columns are named 'text'; rename one",),
        {"test.csv": "id,text,mood,text\n3,She passed,joy,He lied\n"},
    ),
    Case(
        "A row without a label",
        ("test.csv: row 2 has no label", "set unlisted_labels: drop"),
        {"test.csv": "id,text,mood\n3,She passed,joy\n4,He lied,\n"},
    ),
    Case(
        "A data set on the hub without a revision",
        ("tasks.moods.files.test: revision is missing; hub needs the 40 hex digits",),
        task={"files": {"test": {"hub": "owner/name", "file": "test.parquet"}}},
    ),
    Case(
        "A score that is not a number",
        ("test.csv: row 2 has the score 'high'; expected a number (1 such rows)",),
        {"test.csv": "id,text,mood\n3,She passed,1.5\n4,He lied,high\n"},
        {
            "files": {"test": "test.csv"},
            "columns": {"score": "mood", "id": "id"},
            "labels": ["negative", "neutral", "positive"],
        },
    ),
    Case(
        "Transcripts of other samples",
        (
            "said.csv: none of its ids is in test.csv: the first id in test.csv is '3', "
            "the first id in said.csv is 'c7'",
        ),
        {"said.csv": "id,text\nc7,She passed\n", "test.csv": "id,mood\n3,joy\n4,anger\n"},
        {"files": {"test": "test.csv"}, "join": {"file": "said.csv", "on": "id"}},
    ),
    Case(
        "Two transcripts of one sample",
        ("said.csv: duplicate id '3' with different values; keep one",),
        {"said.csv": "id,text\n3,She passed\n3,She won\n", "test.csv": "id,mood\n3,joy\n"},
        {"files": {"test": "test.csv"}, "join": {"file": "said.csv", "on": "id"}},
    ),
    Case(
        "Splits of other names in a column",
        ("all.csv: column 'split' holds 'dev'; expected train, validation, test: list the values",),
        {"all.csv": "id,text,mood,split\n1,We won,joy,train\n2,He lied,anger,dev\n"},
        {"files": {"all": "all.csv"}},
    ),
    Case(
        "Files of another data set than the preset's",
        ("train.tsv: row 1 has the label '17'", "of 28 labels, are preset goemotions"),
        {"train.tsv": "Fine\t17\tt1\n", "dev.tsv": "A\t1\tb\n", "test.tsv": "So\t27\te1\n"},
        {"preset": "goemotions-ekman", "root": ".", "files": {"test": "test.tsv"}}
        | dict.fromkeys(("columns", "labels")),
    ),
    Case(
        "A template that leaves no room for the text",
        ("tasks.moods.prompt: what stands around each text takes 600 or more tokens of base tiny",),
        task={"prompt": "{text}" + " and so on" * 200},
    ),
    Case(
        "Scoring: another delimiter",
        ("gold.csv: no column 'sample'", "';' seems to separate its columns: save it with"),
        {"gold.csv": GOLD.replace(",", ";"), "said.csv": SAID},
        command=SCORE,
    ),
    Case(
        "Scoring: another encoding",
        ("gold.csv: not UTF-8: byte 0xff at offset 0, line 1; save it as UTF-8",),
        {"gold.csv": b"\xff\xfe" + GOLD.encode("utf-16-le"), "said.csv": SAID},
        command=SCORE,
    ),
    Case(
        "Scoring: a sample without an answer",
        ("said.csv: checkpoint a has no answer to sample 's2' (1 such samples)",),
        {"said.csv": SAID.rpartition("a,s2")[0], "gold.csv": GOLD},
        command=SCORE,
    ),
    Case(
        "Scoring: a value that is not a number",
        ("gold.csv: sample 's2' has the value 'low'; expected a number",),
        {"gold.csv": GOLD.replace("-1", "low"), "said.csv": SAID},
        command=SCORE,
    ),
    Case(
        "Rows without text",
        ("left out: with empty text: test 1",),
        {"test.csv": "id,text,mood\n3,She passed,joy\n4,,anger\n"},
        refused=False,
    ),
    Case(
        "Labels outside the set, where they are allowed",
        ("left out: with a label that is not listed: test 1",),
        {"test.csv": "id,text,mood\n3,She passed,joy\n4,He lied,rage\n"},
        {"unlisted_labels": "drop"},
        refused=False,
    ),
    Case(
        "Duplicate ids, where they are allowed",
        ("left out: with a duplicate id: test 1",),
        {"test.csv": "id,text,mood\n3,She passed,joy\n3,He lied,anger\n"},
        {"duplicate_ids": "first"},
        refused=False,
    ),
    Case(
        "A text with two labels",
        (
            "with a text that occurs earlier in their split: test 1",
            "has another label elsewhere: test 2",
        ),
        {"test.csv": "id,text,mood\n3,Well well,joy\n4,Well. Well!,anger\n"},
        refused=False,
    ),
    Case(
        "Signs of a wrong encoding",
        ("with characters that indicate a wrong encoding: test 1",),
        {"test.csv": "id,text,mood\n3,It\x92s good,joy\n4,He lied,anger\n"},
        refused=False,
    ),
    Case(
        "Rows shorter than the header",
        ("kept: rows without values in the last columns: 1",),
        {"test.csv": "id,text,mood,who\n3,She passed,joy,Ann\n4,He lied,anger\n"},
        refused=False,
    ),
    Case(
        "Overlap within the limit",
        ("overlap, test in train: of 2 rows, 1 by exact text, 1 by normalised text, 0 by id",),
        {"test.csv": "id,text,mood\n3,We won the cup,joy\n4,He lied,anger\n"},
        {"overlap_limit": 0.5},
        refused=False,
    ),
]
