"""What a task's samples are like: repeated, overlapping, contradictory, oddly encoded; counted."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

import pandas as pd

from affectlocus.config.files import SPLITS

# What a wrong encoding leaves behind: the replacement character, and C1 control characters.
_ODD = re.compile("[\ufffd\u0080-\u009f]")
# A text of nothing but these shows nothing.
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060\u2800\ufeff]")
_APOSTROPHES = "'’‘ʼ`´"


class _Folding(dict[int, str | None]):
    """Apostrophes vanish, other punctuation becomes a space; worked out once a character."""

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
    """A text without what two copies may differ by: case, punctuation, white space, Unicode's form.

    A text of nothing but punctuation keeps it.
    """
    plain = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(plain.translate(_FOLDING).split()) or " ".join(plain.split())


def blank(texts: pd.Series) -> pd.Series:
    """Whether each text is nothing but white space and characters that show nothing."""
    return texts.str.replace(_INVISIBLE, "", regex=True).str.strip() == ""


def describe(samples: pd.DataFrame, labelled: bool) -> dict[str, dict[str, Any]]:
    """Per split: texts that stand twice, odd characters, lengths of texts and of prompts; and, with
    labels, their counts and the rows whose text has another label elsewhere in the task.

    Args:
        samples: columns split, text, normal (the normalised text), prompt, answer.
    """
    found: dict[str, dict[str, Any]] = {}
    torn = samples.groupby("normal")["answer"].transform("nunique") > 1
    for split, rows in samples.groupby("split", sort=False):
        about: dict[str, Any] = {
            "duplicate_text": int(rows["normal"].duplicated().sum()),
            "odd_characters": int(rows["text"].str.contains(_ODD).sum()),
            "characters": _lengths(rows["text"]),
            "prompt_characters": _lengths(rows["prompt"]),
        }
        if labelled:
            about["conflicting_label"] = int(torn[rows.index].sum())
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
    """For every two splits, rows of the later one that also stand in the earlier one.

    Args:
        ids: whether an id means the same sample in every split.

    Returns:
        "LATER in EARLIER" → exact (the text, character by character), normalised (the same but for
        case, punctuation, white space, Unicode's form) and, with `ids`, id.
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
    "no_partner": "without a partner in the joined file",
    "empty_text": "without text",
    "masked_score": "without a score (blank, NaN, or a mark such as -10)",
    "several_labels": "with several labels",
    "unlisted_label": "with a label that is not listed",
    "empty_target": "without a target",
    "duplicate_id": "with an id that was there",
}
_KEPT = {
    "without_context": "have no earlier turn in their dialogue",
    "duplicate_text": "repeat a text of their split",
    "conflicting_label": "have a text that has another label elsewhere",
    "odd_characters": "hold characters of a wrong encoding",
}


def left_out(counts: dict[str, Any]) -> str:
    """Why rows of a split were left out, and how many for each reason."""
    return ", ".join(
        f"{counts[key]} {words}" for key, words in _LEFT_OUT.items() if counts.get(key)
    )


def brief(report: dict[str, Any]) -> list[str]:
    """The data report in a few lines for a terminal."""
    splits = report["splits"]
    lines = [f"{report['task']}: " + ", ".join(f"{s} {c['kept']}" for s, c in splits.items())]
    for keys, title in ((_LEFT_OUT, "left out"), (_KEPT, "kept, though")):
        for key, words in keys.items():
            counts = {split: c[key] for split, c in splits.items() if c.get(key)}
            if counts:
                numbers = ", ".join(f"{split} {count}" for split, count in counts.items())
                lines.append(f"  {title}: {words}: {numbers}")
    if "id" in report and report["id"] is None:
        lines.append("  ids: no column holds them, so rows are numbered, and none is found twice")
    if "other_lines" in report:
        lines.append(f"  left out: {report['other_lines']} lines that are no rows")
    if "short_rows" in report:
        lines.append(f"  read, though: {report['short_rows']} rows lack their last columns")
    if "quoted_fields" in report:
        lines.append(
            f"  read, though: {report['quoted_fields']} fields keep the quotation marks around "
            "them, as other fields have single ones"
        )
    for value, count in report.get("other_splits", {}).items():
        lines.append(f"  left out: {count} rows of split {value!r}")
    for pair, counts in report["overlap"].items():
        if any(counts.values()):
            later = splits[pair.partition(" in ")[0]]["kept"]
            ids = f", {counts['id']} ids" if "id" in counts else ""
            lines.append(
                f"  overlap, {pair}: {counts['exact']} texts exactly, {counts['normalised']} "
                f"normalised{ids}, of {later}"
            )
    return lines
