"""Kinds of bad data: files with one fault each, and the code of the refusal.

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
        code: the code of the refusal; empty if the data are read.
        files: name → content, added to the good ones or in place of one; the first is shown.
        task: keys of the task that differ; None takes one away.
        command: what meets it.
        says: parts of the data report, if the data are read.
    """

    kind: str
    code: str
    files: Mapping[str, str | bytes] = field(default_factory=dict)
    task: Mapping[str, Any] = field(default_factory=dict)
    command: tuple[str, ...] = ("check", ".")
    says: tuple[str, ...] = ()

    @property
    def refused(self) -> bool:
        """Whether the command ends with exit code 1."""
        return bool(self.code)

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
        "split.duplicate-id",
        {"test.csv": "id,text,mood\n3,She passed,joy\n3,He lied,anger\n"},
    ),
    Case(
        "No text in any row",
        "split.no-row-kept",
        {"test.csv": "id,text,mood\n3,,joy\n4,  ,anger\n"},
    ),
    Case(
        "A label outside the set",
        "label.unlisted",
        {"test.csv": "id,text,mood\n3,She passed,joy\n4,He lied,rage\n"},
    ),
    Case(
        "Test texts that are also in train, exactly",
        "split.overlap",
        {"test.csv": "id,text,mood\n3,We won the cup,joy\n4,He lied,anger\n"},
    ),
    Case(
        "Test texts that are also in train, except for case and punctuation",
        "split.overlap",
        {"test.csv": "id,text,mood\n3,WE WON the cup!,joy\n4,He lied,anger\n"},
    ),
    Case(
        "One file as two splits",
        "task.same-file-twice",
        task=_files("train.csv"),
    ),
    Case(
        "Another encoding: Western",
        "table.other-encoding",
        {"test.csv": "id,text,mood\n3,At caf\xe9,joy\n".encode("cp1252")},
    ),
    Case(
        "Another encoding: Chinese",
        "table.other-encoding",
        {"test.csv": "id,text,mood\n3,我们很高兴,joy\n".encode("gb18030")},
    ),
    Case(
        "Another encoding: UTF-16 without a byte order mark",
        "table.not-text",
        {"test.csv": GOOD["test.csv"].encode("utf-16-le")},
    ),
    Case(
        "A missing column",
        "table.no-column",
        {"test.csv": "id,text,feeling\n3,She passed,joy\n"},
    ),
    Case(
        "Another delimiter",
        "table.no-column",
        {"test.csv": "id;text;mood\n3;She passed;joy\n"},
    ),
    Case(
        "Rows longer than the header",
        "table.row-too-long",
        {"test.csv": "id,text,mood\n3,She passed,joy\n4,Oh, he lied,anger\n"},
    ),
    Case(
        "A quotation mark that is not closed",
        "table.open-quotation-mark",
        {"test.csv": 'id,text,mood\n3,She passed,joy\n4,"He lied,anger\n5,No,anger\n'},
    ),
    Case(
        "Pickled labels",
        "table.pickled",
        {"test.pkl": pickle.dumps([{"text": "She passed", "mood": "joy"}], protocol=4)},
        _files("test.pkl"),
    ),
    Case(
        "Pickled labels under another name",
        "table.pickled",
        {"test.csv": pickle.dumps([{"text": "She passed", "mood": "joy"}], protocol=4)},
    ),
    Case(
        "An Excel workbook named csv",
        "table.other-format",
        {"test.csv": b"PK\x03\x04\x14\x00\x06\x00"},
    ),
    Case(
        "A Git LFS pointer instead of the file",
        "table.other-format",
        {"test.csv": "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"},
    ),
    Case(
        "A missing file",
        "task.no-file",
        task=_files("tset.csv"),
    ),
    Case(
        "A split without rows",
        "split.no-row-kept",
        {"test.csv": "id,text,mood\n"},
    ),
    Case("An empty file", "table.empty", {"test.csv": ""}),
    Case(
        "A truncated parquet file",
        "table.unreadable",
        {"test.parquet": _parquet()[:-100]},
        _files("test.parquet"),
    ),
    Case(
        "A truncated gzip file",
        "table.unreadable",
        {"test.csv.gz": gzip.compress(GOOD["test.csv"].encode(), mtime=0)[:-9]},
        _files("test.csv.gz"),
    ),
    Case(
        "A jsonl file with a broken line",
        "table.broken-json",
        {"test.jsonl": JSONL},
        _files("test.jsonl"),
    ),
    Case(
        "A JSON object of columns, as pandas writes it",
        "table.json-of-columns",
        {"test.json": '{"text": {"0": "She passed"}, "mood": {"0": "joy"}}\n'},
        _files("test.json"),
    ),
    Case(
        "Two columns of the same name",
        "table.duplicate-column",
        {"test.csv": "id,text,mood,text\n3,She passed,joy,He lied\n"},
    ),
    Case(
        "A row without a label",
        "label.empty",
        {"test.csv": "id,text,mood\n3,She passed,joy\n4,He lied,\n"},
    ),
    Case(
        "A data set on the hub without a revision",
        "data.no-revision",
        task={"files": {"test": {"hub": "owner/name", "file": "test.parquet"}}},
    ),
    Case(
        "A score that is not a number",
        "table.not-a-number",
        {"test.csv": "id,text,mood\n3,She passed,1.5\n4,He lied,high\n"},
        {
            "files": {"test": "test.csv"},
            "columns": {"score": "mood", "id": "id"},
            "labels": ["negative", "neutral", "positive"],
        },
    ),
    Case(
        "Transcripts of other samples",
        "join.no-common-id",
        {"said.csv": "id,text\nc7,She passed\n", "test.csv": "id,mood\n3,joy\n4,anger\n"},
        {"files": {"test": "test.csv"}, "join": {"file": "said.csv", "on": "id"}},
    ),
    Case(
        "Two transcripts of one sample",
        "join.duplicate-id",
        {"said.csv": "id,text\n3,She passed\n3,She won\n", "test.csv": "id,mood\n3,joy\n"},
        {"files": {"test": "test.csv"}, "join": {"file": "said.csv", "on": "id"}},
    ),
    Case(
        "Splits of other names in a column",
        "split.unknown-value",
        {"all.csv": "id,text,mood,split\n1,We won,joy,train\n2,He lied,anger,dev\n"},
        {"files": {"all": "all.csv"}},
    ),
    Case(
        "Files of another data set than the preset's",
        "label.unlisted",
        {"train.tsv": "Fine\t17\tt1\n", "dev.tsv": "A\t1\tb\n", "test.tsv": "So\t27\te1\n"},
        {"preset": "goemotions-ekman", "root": ".", "files": {"test": "test.tsv"}}
        | dict.fromkeys(("columns", "labels")),
    ),
    Case(
        "A template that leaves no room for the text",
        "prompt.no-room-for-text",
        task={"prompt": "{text}" + " and so on" * 200},
    ),
    Case(
        "Scoring: another delimiter",
        "table.no-column",
        {"gold.csv": GOLD.replace(",", ";"), "said.csv": SAID},
        command=SCORE,
    ),
    Case(
        "Scoring: another encoding",
        "table.other-encoding",
        {"gold.csv": b"\xff\xfe" + GOLD.encode("utf-16-le"), "said.csv": SAID},
        command=SCORE,
    ),
    Case(
        "Scoring: a sample without an answer",
        "prediction.no-answer",
        {"said.csv": SAID.rpartition("a,s2")[0], "gold.csv": GOLD},
        command=SCORE,
    ),
    Case(
        "Scoring: a value that is not a number",
        "table.not-a-number",
        {"gold.csv": GOLD.replace("-1", "low"), "said.csv": SAID},
        command=SCORE,
    ),
    Case(
        "Rows without text",
        "",
        {"test.csv": "id,text,mood\n3,She passed,joy\n4,,anger\n"},
        says=("left out: with empty text: test 1",),
    ),
    Case(
        "Labels outside the set, where they are allowed",
        "",
        {"test.csv": "id,text,mood\n3,She passed,joy\n4,He lied,rage\n"},
        {"unlisted_labels": "drop"},
        says=("left out: with a label that is not listed: test 1",),
    ),
    Case(
        "Duplicate ids, where they are allowed",
        "",
        {"test.csv": "id,text,mood\n3,She passed,joy\n3,He lied,anger\n"},
        {"duplicate_ids": "first"},
        says=("left out: with a duplicate id: test 1",),
    ),
    Case(
        "A text with two labels",
        "",
        {"test.csv": "id,text,mood\n3,Well well,joy\n4,Well. Well!,anger\n"},
        says=(
            "with a text that occurs earlier in their split: test 1",
            "has another label elsewhere: test 2",
        ),
    ),
    Case(
        "Signs of a wrong encoding",
        "",
        {"test.csv": "id,text,mood\n3,It\x92s good,joy\n4,He lied,anger\n"},
        says=("with characters that indicate a wrong encoding: test 1",),
    ),
    Case(
        "Rows shorter than the header",
        "",
        {"test.csv": "id,text,mood,who\n3,She passed,joy,Ann\n4,He lied,anger\n"},
        says=("kept: rows without values in the last columns: 1",),
    ),
    Case(
        "Overlap within the limit",
        "",
        {"test.csv": "id,text,mood\n3,We won the cup,joy\n4,He lied,anger\n"},
        {"overlap_limit": 0.5},
        says=("overlap, test in train: of 2 rows, 1 by exact text, 1 by normalised text, 0 by id",),
    ),
]
