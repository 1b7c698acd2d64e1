"""The data report of a task: duplicate, overlapping, contradictory and oddly encoded texts."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

import pandas as pd

from affectlocus.config.files import SPLITS
from affectlocus.data.unusable import REASONS

# Signs of a wrong encoding: the replacement character and C1 control characters.
_ODD = re.compile("[\ufffd\u0080-\u009f]")
# A text that consists of these characters is invisible.
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060\u2800\ufeff]")
_APOSTROPHES = "'’‘ʼ`´"


class _Folding(dict[int, str | None]):
    """Translation table: removes apostrophes, maps other punctuation to a space.

    Each character is classified once, when it is first looked up.
    """

    def __missing__(self, code: int) -> str | None:
        character = chr(code)
        folded: str | None = character
        if character in _APOSTROPHES:
            folded = None
        elif unicodedata.category(character).startswith("P"):
            folded = " "
        self[code] = folded
        return folded


_FOLDING = _Folding()


def normalised(text: str) -> str:
    """The text without case, punctuation, extra white space and Unicode compatibility variants.

    Copies that differ only in these are equal. A text of punctuation alone keeps its punctuation.
    """
    plain = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(plain.translate(_FOLDING).split()) or " ".join(plain.split())


def blank(texts: pd.Series) -> pd.Series:
    """Whether each text consists of white space and invisible characters (bool)."""
    return texts.str.replace(_INVISIBLE, "", regex=True).str.strip() == ""


def describe(samples: pd.DataFrame, labelled: bool) -> dict[str, dict[str, Any]]:
    """The part of the data report that describes the kept samples.

    Args:
        samples: columns `split`, `text`, `normal` (the normalised text), `prompt`, `answer`.
        labelled: whether the answers are labels.

    Returns:
        Split → `duplicate_text` (rows that repeat a normalised text of the split),
        `odd_characters` (rows), `characters` and `prompt_characters` (lengths); with labels also
        `labels` (their counts) and `conflicting_label` (rows whose text has another label elsewhere
        in the task).
    """
    found: dict[str, dict[str, Any]] = {}
    conflicting = samples.groupby("normal")["answer"].transform("nunique") > 1
    for split, rows in samples.groupby("split", sort=False):
        about: dict[str, Any] = {
            "duplicate_text": int(rows["normal"].duplicated().sum()),
            "odd_characters": int(rows["text"].str.contains(_ODD).sum()),
            "characters": _lengths(rows["text"]),
            "prompt_characters": _lengths(rows["prompt"]),
        }
        if labelled:
            about["conflicting_label"] = int(conflicting[rows.index].sum())
            about["labels"] = rows["answer"].value_counts().sort_index().to_dict()
        found[str(split)] = about
    return found


def _lengths(texts: pd.Series) -> dict[str, float]:
    length = texts.str.len()
    return {
        "min": int(length.min()),
        "median": float(length.median()),
        "mean": round(float(length.mean()), 2),
        "max": int(length.max()),
    }


def overlap(samples: pd.DataFrame, ids: bool) -> dict[str, dict[str, int]]:
    """For every two splits, the number of rows of the later one that also occur in the earlier one.

    Args:
        ids: whether an id means the same sample in every split.

    Returns:
        "LATER in EARLIER" → `exact` (the same text), `normalised` (the same `normalised` text) and,
        with `ids`, `id` (the same id).
    """
    columns = {"exact": "text", "normalised": "normal"} | ({"id": "id"} if ids else {})
    counts = {}
    present = [split for split in SPLITS if (samples["split"] == split).any()]
    parts = {split: samples[samples["split"] == split] for split in present}
    for position, earlier in enumerate(present):
        for later in present[position + 1 :]:
            counts[f"{later} in {earlier}"] = {
                kind: int(parts[later][column].isin(set(parts[earlier][column])).sum())
                for kind, column in columns.items()
            }
    return counts


_LEFT_OUT = {
    "no_partner": "without a matching row in the joined file",
    "empty_text": "with empty text",
    "masked_score": "without a score (blank, NaN, or a mark such as -10)",
    "several_labels": "with several labels",
    "unlisted_label": "with a label that is not listed",
    "empty_target": "with an empty target",
    "duplicate_id": "with a duplicate id",
    "outside_subset": "not drawn for the subset",
    "without_media": "without a usable file of each medium",
}
_KEPT = {
    "without_context": "without an earlier turn in their dialogue",
    "duplicate_text": "with a text that occurs earlier in their split",
    "conflicting_label": "with a text that has another label elsewhere",
    "odd_characters": "with characters that indicate a wrong encoding",
}


def left_out(counts: dict[str, Any]) -> str:
    """The reasons why rows of a split were left out, with the number of rows of each."""
    return ", ".join(
        f"{counts[key]} {words}" for key, words in _LEFT_OUT.items() if counts.get(key)
    )


def report_lines(report: dict[str, Any]) -> list[str]:
    """The data report as a few lines for a terminal: counts that are 0 are omitted."""
    splits = report["splits"]
    lines = [f"{report['task']}: " + ", ".join(f"{s} {c['kept']}" for s, c in splits.items())]
    for keys, title in ((_LEFT_OUT, "left out"), (_KEPT, "kept")):
        for key, words in keys.items():
            counts = {split: c[key] for split, c in splits.items() if c.get(key)}
            if counts:
                numbers = ", ".join(f"{split} {count}" for split, count in counts.items())
                lines.append(f"  {title}: {words}: {numbers}")
    for split, counts in splits.items():
        for medium, reasons in counts.get("media", {}).items():
            lines += [f"  {medium}: {REASONS[why]}: {split} {n}" for why, n in reasons.items()]
    if "id" in report and report["id"] is None:
        lines.append("  ids: row numbers, as no column holds ids; duplicates cannot be detected")
    if "other_lines" in report:
        lines.append(f"  left out: lines that do not match the pattern: {report['other_lines']}")
    if "short_rows" in report:
        lines.append(f"  kept: rows without values in the last columns: {report['short_rows']}")
    if "quoted_fields" in report:
        lines.append(
            "  kept: fields that keep the quotation marks around them, because quotation marks in "
            f"other fields belong to the text: {report['quoted_fields']}"
        )
    for value, count in report.get("other_splits", {}).items():
        lines.append(f"  left out: rows of split {value!r}: {count}")
    for pair, counts in report["overlap"].items():
        if any(counts.values()):
            later = splits[pair.partition(" in ")[0]]["kept"]
            ids = f", {counts['id']} by id" if "id" in counts else ""
            lines.append(
                f"  overlap, {pair}: of {later} rows, {counts['exact']} by exact text, "
                f"{counts['normalised']} by normalised text{ids}"
            )
    return lines
