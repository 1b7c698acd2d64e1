"""Every kind of unusable media file and what `encode` prints of it.

`python tests/refusals/media/run.py` writes docs/reference/refused-media.md.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
PAGE = HERE.parents[2] / "docs/reference/refused-media.md"
sys.path[:0] = [str(HERE), str(HERE.parent)]

from cases import CASES, Case  # noqa: E402
from commands import ran  # noqa: E402

HEAD = """\
# Unusable media files, and what they print

Made by `python tests/refusals/media/run.py`, which writes each case's files and runs
`affectlocus encode`. `tests/refusals/test_refused_media.py` runs the same cases. Each task has two
samples: one has a good file, and the other the file of the case. With `absent: drop` the sample is
left out, and the data report counts it under the reason in brackets.
"""


def section(case: Case) -> str:
    """A case for the page: what is wrong, and what is printed."""
    with tempfile.TemporaryDirectory() as folder:
        case.write(Path(folder))
        code, output = ran(case.command, Path(folder))
    if code != 1:
        raise SystemExit(f"{case.kind}: exit code {code}: {output}")
    last = output.strip().splitlines()[-1]
    return f"## {case.kind}\n\nKind `{case.medium}` (`{case.reason}`):\n\n```\n{last}\n```\n"


if __name__ == "__main__":
    PAGE.write_text("\n".join([HEAD, *map(section, CASES)]), encoding="utf-8")
