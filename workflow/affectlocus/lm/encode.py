"""Step `encode`: the features of one medium of a task, each file encoded once."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file

from affectlocus.config.media import Medium
from affectlocus.core.errors import InputError
from affectlocus.core.files import sha256
from affectlocus.core.output_files import replacing
from affectlocus.core.step_tables import write_step_table
from affectlocus.data.media_files import read_media
from affectlocus.data.unusable import UnusableError
from affectlocus.lm.feature_store import FeatureStore
from affectlocus.lm.features import INDEX, RATE, TENSOR

_SHARD = 256  # files
_SHARD_SECONDS = 60.0  # after which a shard is written though it is not full
_AHEAD = 4  # files that are decoded while the encoder works, for each thread

Run = Callable[[np.ndarray], torch.Tensor]
"""What turns a file that was read into features (tokens, width); it may raise `UnusableError`."""


@dataclass(frozen=True)
class Encoded:
    """The features of one medium of a task.

    Attributes:
        values: (all tokens, width).
        index: a row per sample, with `features.INDEX`.
        details: file → why it cannot be used, in words.
        found: number of files whose features were kept by an earlier job.
        rate: of recordings that are kept as sound, samples per second.
    """

    values: torch.Tensor
    index: pd.DataFrame
    details: dict[str, str]
    found: int
    rate: int | None = None

    def summary(self, medium: str) -> list[str]:
        """What a job says at its end: kept features, and files that cannot be used."""
        lines = []
        files = self.index["file"].nunique()
        if self.found:
            lines.append(f"{self.found} of {files} {medium} files were encoded by an earlier job")
        lost = self.index[self.index["reason"] != ""].drop_duplicates("file")
        for reason in lost["reason"].unique():
            own = [str(file) for file in lost["file"][lost["reason"] == reason]]
            why = self.details[own[0]]
            lines.append(f"{medium}: {len(own)} files [{reason}]; the first, {own[0]}, {why}")
        return lines

    def write(self, path: Path) -> None:
        """Writes the tensor into MEDIUM.safetensors, and the index into MEDIUM.parquet."""
        with replacing(path) as temporary:
            about = None if self.rate is None else {RATE: str(self.rate)}
            save_file({TENSOR: self.values}, temporary, about)
        write_step_table(path.with_suffix(".parquet"), self.index)


def encode(
    samples: pd.DataFrame,
    root: Path,
    medium: Medium,
    run: Run,
    store: FeatureStore,
    threads: int = 1,
    progress: Callable[[int], None] = lambda _: None,
) -> Encoded:
    """The features of every sample whose file can be used, and the reason for every other one.

    Args:
        samples: columns `split`, `id` and `file`, the latter relative to `root`.
        run: the encoder (`encoders.MediaEncoder`).
        threads: number of files that are read at once.
        progress: called with the number of files done since the last call.

    Raises:
        InputError: no file can be used, or files have features of different widths.
    """
    files = list(dict.fromkeys(samples["file"]))
    with ThreadPoolExecutor(threads) as pool:
        digests = dict(zip(files, pool.map(_content, [root / file for file in files]), strict=True))
    reasons = {file: UnusableError("missing") for file in files if not digests[file]}
    # Files with the same bytes are encoded once; their names decide how they are decoded.
    names = {file: digests[file] + Path(file).suffix.lower() for file in files if digests[file]}
    first = {name: file for file, name in reversed(names.items())}
    features: dict[str, torch.Tensor] = {}
    for name in first:
        if (kept := store.get(name)) is not None:
            features[name] = kept
    found = len(features)
    progress(found + len(reasons))
    wanted = {name: root / file for name, file in first.items() if name not in features}
    unusable: dict[str, UnusableError] = {}
    for name, value in _encoded(wanted, medium, run, store, threads):
        progress(1)
        if isinstance(value, UnusableError):
            unusable[name] = value
        else:
            features[name] = value
    reasons |= {file: unusable[name] for file, name in names.items() if name in unusable}
    if not features:
        file, why = next(iter(reasons.items()))
        raise InputError(
            "encode.no-usable-file",
            f"none of {len(files)} files can be used; the first, {root / file}, {why}",
            file=root / file,
            reason=why.reason,
        )
    _check_widths(features, first, root)
    starts, values = _placed(features, [names[file] for file in files if file in names])
    rows = []
    for split, sample, file in samples[["split", "id", "file"]].itertuples(index=False):
        reason = reasons[file].reason if file in reasons else ""
        at, count = (0, 0) if reason else starts[names[file]]
        rows.append((split, sample, file, digests[file], reason, at, count))
    index = pd.DataFrame(rows, columns=list(INDEX))
    details = {file: str(why) for file, why in reasons.items()}
    return Encoded(values, index, details, found, medium.rate if medium.kind == "sound" else None)


def _content(path: Path) -> str:
    """The SHA-256 of a file; empty if there is none."""
    return sha256(path) if path.is_file() else ""


def _encoded(
    wanted: dict[str, Path], medium: Medium, run: Run, store: FeatureStore, threads: int
) -> Iterator[tuple[str, torch.Tensor | UnusableError]]:
    """Encodes files one after another, and keeps their features shard by shard."""
    kept_as = torch.float16 if medium.store == "float16" else torch.float32
    shard: dict[str, torch.Tensor] = {}
    last = time.monotonic()
    try:
        for name, read in _read_ahead(wanted.items(), medium, threads):
            try:
                value = run(read()).to(kept_as).contiguous()
            except UnusableError as error:
                yield name, error
                continue
            shard[name] = value
            if len(shard) >= _SHARD or time.monotonic() - last > _SHARD_SECONDS:
                store.keep(shard)
                shard, last = {}, time.monotonic()
            yield name, value
    finally:
        # Also when the job is stopped: the next one continues from here.
        store.keep(shard)


def _read_ahead(
    wanted: Iterable[tuple[str, Path]], medium: Medium, threads: int
) -> Iterator[tuple[str, Callable[[], np.ndarray]]]:
    """Each file with a function that returns its content, which threads read in advance."""
    waiting: deque[tuple[str, Future[np.ndarray]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for name, path in wanted:
                waiting.append((name, pool.submit(read_media, path, medium)))
                if len(waiting) > _AHEAD * threads:
                    first, future = waiting.popleft()
                    yield first, future.result
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result
        finally:
            pool.shutdown(cancel_futures=True)


def _check_widths(features: dict[str, torch.Tensor], first: dict[str, str], root: Path) -> None:
    widths = Counter(value.shape[1] for value in features.values())
    if len(widths) > 1:
        usual = widths.most_common(1)[0][0]
        odd = next(name for name, value in features.items() if value.shape[1] != usual)
        raise InputError(
            "encode.other-width",
            f"{root / first[odd]}: features of width {features[odd].shape[1]}, those of the other "
            f"files have {usual}; replace the file",
            file=root / first[odd],
            found=features[odd].shape[1],
            expected=usual,
        )


def _placed(
    features: dict[str, torch.Tensor], names: Iterable[str]
) -> tuple[dict[str, tuple[int, int]], torch.Tensor]:
    """Name → the first row and the number of its tokens; and all tokens (all, W)."""
    starts: dict[str, tuple[int, int]] = {}
    end = 0
    for name in dict.fromkeys(names):
        if name in features:
            starts[name] = end, len(features[name])
            end += len(features[name])
    return starts, torch.cat([features[name] for name in starts])


def refusal(task: str, medium: str, encoded: Encoded, absent: str) -> InputError | None:
    """The error for samples without a usable file, if `tasks.X.absent` says refuse."""
    lost = encoded.index[encoded.index["reason"] != ""]
    if absent == "drop" or lost.empty:
        return None
    counts = lost["reason"].value_counts()
    listed = ", ".join(f"{count} {reason}" for reason, count in counts.items())
    row = lost.iloc[0]
    return InputError(
        "encode.unusable-files",
        f"task {task}, {medium}: {len(lost)} of {len(encoded.index)} samples have no usable file "
        f"({listed}); the first is {row['id']!r} of split {row['split']}: {row['file']} "
        f"{encoded.details[row['file']]}. Repair the files, or set absent: drop to leave such "
        "samples out",
        task=task,
        medium=medium,
        found={str(reason): int(count) for reason, count in counts.items()},
        file=row["file"],
    )
