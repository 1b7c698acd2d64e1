"""A small good experiment on two csv files, which pages of bad input spoil in one way each."""

from __future__ import annotations

from typing import Any

GOOD = {
    "train.csv": "id,text,mood\n1,We won the cup,joy\n2,They broke my bike,anger\n",
    "test.csv": "id,text,mood\n3,She passed her exam,joy\n4,He lied to me,anger\n",
}
TASK: dict[str, Any] = {
    "files": {"train": "train.csv", "test": "test.csv"},
    "columns": {"label": "mood", "id": "id"},
    "labels": ["joy", "anger"],
}
PARAMETERS: dict[str, Any] = {
    "corpus": {},
    "bases": {"tiny": {"pretrain": {"architecture": "llama"}}},
    "pairs": {"pair": {"base": "tiny", "tuning": {"data": ["mini-caption"]}}},
    "matrix": {"pairs": ["pair"], "tune": []},
}
