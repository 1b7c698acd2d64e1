"""Step `prepare`: converts the files of a task into one table of samples and a data report."""

from __future__ import annotations

import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from affectlocus.config.files import EVERY_SPLIT, SPLITS, Split, SplitBy
from affectlocus.config.presets import PRESETS
from affectlocus.config.tasks import Columns, Task
from affectlocus.core.errors import InputError, LayoutError
from affectlocus.data.answers import ROW, SCORE, answers, masked, scores
from affectlocus.data.audit import blank, describe, left_out, normalised, overlap
from affectlocus.data.columns import PARTNER, check_columns, check_texts, naming
from affectlocus.data.context import previous_turns
from affectlocus.data.join import join_rows, joined_rows
from affectlocus.data.prepared_task import COLUMNS
from affectlocus.data.sample_files import COLUMN, with_features
from affectlocus.data.subsets import drawn
from affectlocus.data.table_reader import COUNTED, read_table
from affectlocus.data.unusable import REASONS


def prepare(
    name: str,
    task: Task,
    files: dict[str, Path],
    media: Mapping[str, pd.DataFrame] | None = None,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The samples of a task, for tuning and evaluation, and its data report.

    Args:
        name: the task's name, for messages.
        files: split → file; or `all` → a file of every split, which `task.split` separates. Also
            `join` → the file that `task.join` describes.
        media: medium → the index of its features, which says what samples are left out; without
            it all are kept.

    Returns:
        A row per sample with `id` (unique in its split), `split`, `text`, `prompt` and `answer`,
        all text; `media.NAME` for each medium, the path of its file; and `score` (float64) if the
        task has one. The answer is the word of the label,
        the number as text, the target, or empty if the text is only used for perplexity. The data
        report holds the numbers of rows read, kept and left out, and describes the kept rows.

    Raises:
        InputError: a missing column, a label that is not listed, a number out of range, a
            duplicate id in a split, or more overlap between splits than the task allows.
    """
    try:
        return _prepare(name, task, files, media or {})
    except LayoutError as error:
        if task.preset is None:
            raise
        expected = PRESETS[task.preset].expectation
        message = f"{error}; preset {task.preset} expects {expected}"
        raise InputError(error.code, message, **error.fields, preset=task.preset) from None


def _prepare(
    name: str, task: Task, files: dict[str, Path], media: Mapping[str, pd.DataFrame]
) -> tuple[pd.DataFrame, dict[str, Any]]:
    tables = {key: path for key, path in files.items() if key != "join"}
    if not tables:
        raise InputError(
            "task.without-files",
            f"task {name}: no file; give one for train, validation or test",
            task=name,
        )
    joined = joined_rows(task.join, files, task.columns) if task.join is not None else None
    report: dict[str, Any] = {"task": name, "preset": task.preset, "encoding": task.encoding}
    if task.preset is not None:
        report["preset_version"] = PRESETS[task.preset].version
    # Without an id column, row numbers are the ids, and duplicates cannot be detected.
    report["id"] = task.columns.id
    report["splits"] = {}
    parts = []
    for key, path in tables.items():
        table = read_table(path, task.header, task.delimiter, task.pattern, task.encoding)
        with naming(path):
            check_texts(task.columns, [task.rename.get(name, name) for name in table.nested])
            rows = _renamed(table.rows, task.rename)
        if task.join is not None and joined is not None:
            rows = join_rows(path, rows, task.join, joined)
        with naming(path):
            rows = _with_context(rows, task)
            groups: list[tuple[str, pd.DataFrame]] = [(key, rows)]
            if key == "all":
                groups, report["other_splits"] = _by_split(rows, task.split or EVERY_SPLIT)
            for split, group in groups:
                part, counts = _split(task, split, group)
                if split == "test" and task.subset is not None:
                    part = drawn(part, task.subset)
                    counts |= {"outside_subset": counts["kept"] - len(part), "kept": len(part)}
                    report["subset"] = task.subset.model_dump()
                if media:
                    part = with_features(part, media, counts)
                    counts["kept"] = len(part)
                    _check_rest(task, split, counts)
                report["splits"][split] = {"file": path.name, **counts}
                parts.append(part)
        for name in COUNTED:
            if count := table.counts.get(name, 0):
                report[name] = report.get(name, 0) + count
    samples = pd.concat(parts, ignore_index=True)
    samples["normal"] = samples["text"].map(normalised)
    for split, about in describe(samples, labelled=bool(task.words)).items():
        report["splits"][split] |= about
    report["overlap"] = overlap(samples, ids=task.columns.whole_ids)
    _check_overlap(task, report)
    own = [COLUMN + medium for medium in task.media]
    return samples[[*COLUMNS, *own, *(["score"] if task.columns.score else [])]], report


def _check_rest(task: Task, split: str, counts: dict[str, Any]) -> None:
    """Refuses samples without a usable file, if the task says so, and a split without others."""
    lost, kept = counts["without_media"], counts["kept"]
    if lost and (task.absent == "refuse" or not kept):
        how = "; ".join(
            f"{medium}: {', '.join(f'{count} {REASONS[reason]}' for reason, count in own.items())}"
            for medium, own in counts["media"].items()
            if own
        )
        raise InputError(
            "split.without-media",
            f"{lost} of {lost + kept} samples of split {split!r} lack a usable file ({how}); "
            "repair the files" + ("" if task.absent == "drop" else ", or set absent: drop"),
            split=split,
            found=counts["media"],
        )


def _renamed(rows: pd.DataFrame, names: dict[str, str]) -> pd.DataFrame:
    for old, new in names.items():
        if old in rows.columns and new in rows.columns:
            raise LayoutError(
                "task.rename-to-present-column",
                f"rename maps {old!r} to {new!r}, but the file has both columns; remove "
                f"{old!r} from rename",
                column=new,
                key=old,
            )
    return rows.rename(columns=names)


def _with_context(rows: pd.DataFrame, task: Task) -> pd.DataFrame:
    """The rows with a column `context`, if the prompt contains the previous turns."""
    context, text = task.context, task.columns.text
    if context is None or not _needs_context(task):
        return rows
    check_columns(rows, [text, context.dialogue, context.order, context.speaker])
    return rows.assign(context=previous_turns(rows, context, text))


def _needs_context(task: Task) -> bool:
    fields = [field for _, field, _, _ in _pieces(task.prompt)]
    return task.context is not None and "context" in fields


def _by_split(
    rows: pd.DataFrame, by: SplitBy
) -> tuple[list[tuple[str, pd.DataFrame]], dict[str, int]]:
    """The rows of each split in the file, and the number of rows of every other value."""
    check_columns(rows, [by.column])
    values = rows[by.column]
    known: dict[str, Split] = {value: split for split, listed in by.items() for value in listed}
    counted = values[~values.isin(list(known))].value_counts().sort_index()
    other = {str(value): int(count) for value, count in counted.items()}
    if by is EVERY_SPLIT and other:
        raise LayoutError(
            "split.unknown-value",
            f"column {by.column!r} holds {min(other)!r}; "
            f"expected {', '.join(known)}: list the values of each split under split",
            column=by.column,
            found=min(other),
            expected=list(known),
        )
    splits = values.map(known)
    groups: list[tuple[str, pd.DataFrame]] = []
    for split, _ in by.items():
        group = rows[splits == split]
        if group.empty:
            if by is not EVERY_SPLIT:
                expected = dict(by.items())[split]
                found = sorted(values.unique())[:10]
                raise LayoutError(
                    "split.no-such-value",
                    f"no row of split {split!r}: column {by.column!r} holds "
                    f"{', '.join(map(repr, found))}; expected {', '.join(map(repr, expected))}: "
                    f"correct split.{split}",
                    split=split,
                    column=by.column,
                    found=found,
                    expected=expected,
                )
        else:
            groups.append((split, group))
    if not groups:
        raise LayoutError("table.no-rows", f"no rows; expected rows of {', '.join(SPLITS)}")
    return groups, other


def _split(task: Task, split: str, rows: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The samples of one split, and the numbers of rows read, left out and kept."""
    columns = task.columns
    answer = columns.label or columns.score or columns.target
    if columns.matches is not None:
        answer = columns.text
    check_columns(rows, [columns.text, answer, *(columns.id or [])])
    # From here on the index is the row's number in the split; ids without a column are built of it.
    rows = rows.assign(**{ROW: rows.index + 1}).reset_index(drop=True)
    counts: dict[str, Any] = {"read": len(rows)}
    if PARTNER in rows.columns:
        counts["no_partner"] = int((~rows[PARTNER]).sum())
        rows = rows[rows[PARTNER]]
    empty = blank(rows[columns.text])
    counts["empty_text"] = int(empty.sum())
    rows = rows[~empty]
    if columns.score is not None:
        without = masked(rows[columns.score], task.number)
        counts["masked_score"] = int(without.sum())
        rows = rows[~without]
        rows = rows.assign(**{SCORE: scores(rows, columns.score)})
    rows, values = answers(task, rows, answer, counts)
    ids = _ids(rows, split, columns)
    repeated = ids.duplicated()
    counts["duplicate_id"] = None if columns.id is None else int(repeated.sum())
    if task.duplicate_ids == "refuse" and repeated.any():
        duplicate = ids[repeated].iloc[0]
        raise InputError(
            "split.duplicate-id",
            f"duplicate id {duplicate!r} in split {split!r} ({repeated.sum()} such rows); "
            "set columns.id to another column, or set duplicate_ids: first",
            split=split,
            found=duplicate,
            rows=int(repeated.sum()),
        )
    rows, values, ids = rows[~repeated], values[~repeated], ids[~repeated]
    if rows.empty:
        why = f" ({left_out(counts)})" if counts["read"] else ""
        raise LayoutError(
            "split.no-row-kept",
            f"no row of split {split!r} is kept; it has {counts['read']} rows{why}: check "
            "columns and labels",
            split=split,
            rows=counts["read"],
        )
    part = pd.DataFrame(
        {
            "id": ids.to_numpy(),
            "split": split,
            "text": rows[columns.text].to_numpy(),
            "prompt": _prompts(task, rows),
            "answer": values.to_numpy(),
        }
    )
    for medium, pattern in task.media.items():
        part[COLUMN + medium] = _media_paths(task, pattern, rows, split)
    if columns.score is not None:
        part["score"] = rows[SCORE].to_numpy()
    counts["kept"] = len(part)
    if _needs_context(task):
        counts["without_context"] = int((rows["context"] == "").sum())
    return part, counts


def _ids(rows: pd.DataFrame, split: str, columns: Columns) -> pd.Series:
    ids = _listed_ids(rows, columns)
    return f"{split}-" + ids if columns.id is None or columns.id_per_split else ids


def _listed_ids(rows: pd.DataFrame, columns: Columns) -> pd.Series:
    """The ids as the file lists them; without a column, the number of the row in its split."""
    if columns.id is None:
        return pd.Series(rows.index.astype(str), index=rows.index)
    ids = rows[columns.id[0]]
    for column in columns.id[1:]:
        ids = ids + "_" + rows[column]
    return ids


def _media_paths(task: Task, pattern: str, rows: pd.DataFrame, split: str) -> list[str]:
    """The path of each sample's file; {id} and {split} are those of the sample."""
    if "id" not in rows.columns:
        rows = rows.assign(id=_listed_ids(rows, task.columns))
    if "split" not in rows.columns:
        rows = rows.assign(split=split)
    return _filled(pattern, rows, "media")


def _pieces(prompt: str) -> list[tuple[str, str | None, str | None, str | None]]:
    return list(string.Formatter().parse(prompt))


def _prompts(task: Task, rows: pd.DataFrame) -> list[str]:
    """The template filled with the columns of each row; names are looked up, never evaluated."""
    if "text" not in rows.columns:
        # {text} means the column `columns.text`, whatever its name.
        rows = rows.assign(text=rows[task.columns.text])
    return _filled(task.prompt, rows, "the prompt")


def _filled(template: str, rows: pd.DataFrame, where: str) -> list[str]:
    pieces = _pieces(template)
    for _, field, _, _ in pieces:
        if field is not None and field not in rows.columns:
            names = [name for name in rows.columns if not name.startswith("\0")]
            hint = "; describe the dialogues under context" if field == "context" else ""
            raise LayoutError(
                "prompt.no-such-column",
                f"{where} uses column {field!r}; its columns are {', '.join(names)}{hint}",
                column=field,
                found=names,
            )
    columns = [rows[field] if field is not None else [""] * len(rows) for _, field, _, _ in pieces]
    literals = [literal for literal, _, _, _ in pieces]
    return [
        "".join(part for pair in zip(literals, values, strict=True) for part in pair)
        for values in zip(*columns, strict=True)
    ]


def _check_overlap(task: Task, report: dict[str, Any]) -> None:
    for pair, counts in report["overlap"].items():
        later, _, earlier = pair.partition(" in ")
        rows, shared = report["splits"][later]["kept"], counts["normalised"]
        if later == "test" and shared > task.overlap_limit * rows:
            raise InputError(
                "split.overlap",
                f"files: {shared} of {rows} test texts are also in the {earlier} split "
                f"({counts['exact']} of them exactly), more than overlap_limit "
                f"{task.overlap_limit}; give splits without common texts, or raise overlap_limit",
                split=earlier,
                found=shared,
                exact=counts["exact"],
                rows=rows,
                expected=task.overlap_limit,
            )
