"""Exhibits: the tables and figures of an experiment, with title, caption and file pattern.

They are listed in exhibits.yaml. The report (`report.py`) shows them, and so does Snakemake's own
report (`--report`), whose captions `affectlocus report --captions workflow/report` writes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from affectlocus.core.files import read_data_file

VERDICTS = "Verdicts"
"""The chapter before those of the exhibits."""

# Rules that write several kinds of exhibits → the wildcard that begins with the name of the kind.
_KIND_WILDCARDS = {"bars": "bars", "draw_panels": "panels", "tables": "table"}


@dataclass(frozen=True)
class Exhibit:
    """A kind of table or figure.

    Args:
        name: the anchor on the page; unique.
        category: its chapter in the report.
        pattern: the path below results. {name} is a wildcard; {.name} is an optional wildcard with
            a dot in front.
        title, caption: plain text, the same for all files of the kind.
        source: what the exhibit is made from, below results; it may contain the wildcards.
        alt: the text alternative of a figure; it may contain the wildcards.
        paper: the corresponding table or figure of the paper.
        rule: the rule that writes it.
    """

    name: str
    category: str
    pattern: str
    title: str
    caption: str
    source: str = ""
    alt: str = ""
    paper: str = ""
    rule: str = ""

    def match(self, file: str) -> dict[str, str] | None:
        """The wildcards of a file below results; None if the file is not of this kind."""
        parts = re.split(r"\{(\.?\w+)\}", self.pattern)
        # Every second part is a wildcard; one with a dot is optional.
        expression = "".join(
            re.escape(part)
            if place % 2 == 0
            else rf"(?:\.(?P<{part[1:]}>[^/]+))?"
            if part.startswith(".")
            else f"(?P<{part}>[^/]+)"
            for place, part in enumerate(parts)
        )
        match_exhibits = re.fullmatch(expression, file)
        return (
            {name: value or "" for name, value in match_exhibits.groupdict().items()}
            if match_exhibits
            else None
        )


@dataclass(frozen=True)
class ExhibitFile:
    """An existing file of an exhibit: its path below results and the values of the wildcards."""

    exhibit: Exhibit
    file: str
    wildcards: dict[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The values of the wildcards, which tell it from other files of its kind."""
        return ", ".join(filter(None, self.wildcards.values())).replace("-and-", " and ")

    @property
    def source(self) -> str:
        """What the file is made from."""
        return _filled(self.exhibit.source, self.wildcards)

    @property
    def alt(self) -> str:
        """The text alternative of a figure."""
        return _filled(self.exhibit.alt, self.wildcards)


def _filled(text: str, values: Mapping[str, str]) -> str:
    """A text with the values of the names in braces."""
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", value)
    return text


_LIST = read_data_file(Path(__file__).with_name("exhibits.yaml"))

CATEGORIES: tuple[str, ...] = tuple(_LIST["chapters"])
"""The chapters of exhibits in the report, in order; the verdicts come before them."""

PAPER: dict[str, str] = _LIST["paper"]
"""The paper's tables and figures → why an experiment may not have one."""

EXHIBITS = tuple(
    Exhibit(**entry | {"category": chapter, "caption": _filled(entry["caption"], _LIST["shared"])})
    for chapter, entries in _LIST["chapters"].items()
    for entry in entries
)


def match_exhibits(files: Iterable[str]) -> list[ExhibitFile]:
    """The files below results that are exhibits, in the order of `EXHIBITS`, then by name."""
    names = sorted(files)
    return [
        ExhibitFile(exhibit, file, wildcards)
        for exhibit in EXHIBITS
        for file in names
        if (wildcards := exhibit.match(file)) is not None and not _companion(file)
    ]


def _companion(file: str) -> bool:
    """Whether a file has a table's intervals or baselines, which are shown with the table."""
    return file.endswith(("_intervals.csv", "_baselines.csv"))


def missing_exhibits(shown: Iterable[ExhibitFile]) -> dict[str, str]:
    """The paper's exhibits that are not shown → the reason."""
    present = {file.exhibit.paper for file in shown}
    return {name: why for name, why in PAPER.items() if name not in present}


def captions() -> dict[str, str]:
    """Rule → its caption for Snakemake's report, in reStructuredText.

    The caption of a rule with several kinds of exhibits depends on the wildcards.
    """
    ruled = sorted((one for one in EXHIBITS if one.rule), key=lambda one: one.rule)
    texts: dict[str, str] = dict(_LIST["captions"])
    for rule, group in groupby(ruled, key=lambda one: one.rule):
        texts[rule] = "".join(map(_caption, group))
    return {rule: f"{text.strip()}\n" for rule, text in texts.items()}


def _caption(exhibit: Exhibit) -> str:
    text = f"{exhibit.title}. {exhibit.caption}"
    if exhibit.rule not in _KIND_WILDCARDS:
        return f"{text}\n"
    kind = re.split("[.{]", Path(exhibit.pattern).name)[0]
    wildcard = f"snakemake.wildcards.{_KIND_WILDCARDS[exhibit.rule]}"
    return f'{{% if {wildcard}.split(".")[0] == "{kind}" %}}{text}{{% endif %}}\n'


def report_arguments(rule: str, **labels: str) -> dict[str, object]:
    """The arguments of Snakemake's `report()` for an output of a rule.

    Args:
        labels: columns of the list of results; they may contain wildcards in braces.
    """
    return {
        # Relative to the file of the rule.
        "caption": f"../workflow/report/{rule}.rst",
        "category": next((one.category for one in EXHIBITS if one.rule == rule), VERDICTS),
        "labels": labels,
    }
