"""Every kind of bad checkpoint and what it prints, and the list of the loopback hub's tests.

`python tests/refusals/checkpoints/run.py` writes docs/reference/refused-checkpoints.md.
"""

from __future__ import annotations

import re
import shlex
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
PAGE = HERE.parents[2] / "docs/reference/refused-checkpoints.md"
sys.path[:0] = [str(HERE), str(HERE.parent)]

from cases import CASES  # noqa: E402
from commands import ran  # noqa: E402

HUB_TESTS = HERE.parents[1] / "unit" / "test_retrieve.py"

HEAD = """\
# Bad checkpoints, and what they print

Made by `python tests/refusals/checkpoints/run.py`, which writes each case's tiny checkpoints
(`cases.py`), runs its command, and keeps what it printed;
`tests/refusals/test_refused_checkpoints.py` runs the same cases. Each is refused in one line,
with exit code 1, and nothing is written; no code in a file is ever run.
"""

HUB = """\
## Tests of downloads

What `tests/unit/test_retrieve.py` tries, most of it against a real HTTP server on loopback that
speaks the hub's protocol:
"""


def hub_tests() -> str:
    """The tests' names as a list of sentences."""
    names = re.findall(r"^def test_(\w+)\(", HUB_TESTS.read_text(encoding="utf-8"), re.M)
    return "\n".join(f"- {name[0].upper()}{name[1:].replace('_', ' ')}" for name in names) + "\n"


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            case.write(Path(folder))
            code, output = ran(case.command, Path(folder))
        if code != 1:
            raise SystemExit(f"{case.kind}: exit code {code}: {output}")
        command = shlex.join(["affectlocus", *case.command])
        parts.append(f"## {case.kind}\n\n```\n$ {command}\n{output.strip()}\n```\n")
    return "\n".join([*parts, HUB, hub_tests()])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
