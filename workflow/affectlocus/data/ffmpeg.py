"""Open a stream of a video or audio file with FFmpeg, through PyAV."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from affectlocus.core.extras import missing_extra
from affectlocus.data.unusable import UnusableError, brief


@contextmanager
def first_stream(path: Path, kind: Literal["video", "audio"]) -> Iterator[Any]:
    """Yields the container of a file and its first stream of a kind.

    Raises:
        UnusableError: no such stream, or PyAV cannot open or decode the file, also in the block.
    """
    try:
        import av
    except ModuleNotFoundError:
        raise missing_extra(f"a medium of kind {kind}", "av") from None

    try:
        with av.open(str(path), metadata_errors="replace") as container:
            streams = getattr(container.streams, kind)
            if not streams and kind == "video":
                raise UnusableError("no-stream", "no pictures in it")
            if not streams:
                raise UnusableError("no-stream", "no sound in it")
            yield container, streams[0]
    except (av.FFmpegError, ValueError) as error:
        raise UnusableError("undecodable", brief(error, path)) from None
