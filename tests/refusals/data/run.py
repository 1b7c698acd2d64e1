"""Every kind of bad data and what it prints.

`python tests/refusals/data/run.py` writes docs/reference/refused-data.md.

Each case's files are written into a folder of its own, and its command is run there.
"""

from __future__ import annotations

import shlex
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
PAGE = HERE.parents[2] / "docs/reference/refused-data.md"
sys.path[:0] = [str(HERE), str(HERE.parent)]

from cases import CASES, TASK, Case  # noqa: E402
from commands import ran  # noqa: E402

HEAD = """\
# Bad data, and what it prints

Made by `python tests/refusals/data/run.py`, which writes each case's files, runs its command, and
keeps what it printed; `tests/refusals/test_refused_data.py` runs the same cases. But for what is
shown, the task is good:

```yaml
{task}```

Nothing is dropped in silence: what can only be a mistake is refused in one line, with exit code 1,
before any job runs (`affectlocus check`, and every run of Snakemake, read the files first); what a
set may have is counted in its data report.
"""


def printed(case: Case, folder: Path) -> tuple[int, str]:
    """Exit code and output of a case's command, run on its files in a folder."""
    case.write(folder)
    return ran(case.command, folder)


def section(case: Case, output: str) -> str:
    """A case for the page: its file, its keys, and what it printed."""
    lines = [f"### {case.kind}", ""]
    if case.files:
        name, content = next(iter(case.files.items()))
        lines += [f"`{name}`:", "", "```", *_shown(content), "```", ""]
    if keys := _keys(case):
        lines += [f"with `{keys}`", ""]
    command = shlex.join(["affectlocus", *case.command])
    return "\n".join([*lines, "```", f"$ {command}", output.strip(), "```", ""])


def _shown(content: str | bytes) -> list[str]:
    """Text as it is; of anything else the first bytes."""
    data = content.encode() if isinstance(content, str) else content
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = "\0"
    if not text.replace("\n", "").replace("\t", "").isprintable():
        return [f"{data[:60]!r}{' …' if len(data) > 60 else ''}"]
    return text.rstrip("\n").split("\n") if text else ["(nothing)"]


def _keys(case: Case) -> str:
    import yaml

    given = dict(case.task)
    for key, value in given.items():
        if isinstance(value, str) and len(value) > 60:
            given[key] = f"{value[:40]}…"
    return yaml.safe_dump(given, default_flow_style=True, width=10_000).strip() if given else ""


def page() -> str:
    """The whole page."""
    import yaml

    parts = [HEAD.format(task=yaml.safe_dump(TASK, sort_keys=False, default_flow_style=None))]
    for refused, title in ((True, "Refused"), (False, "Read, and counted")):
        parts.append(f"## {title}\n")
        for case in CASES:
            if case.refused == refused:
                with tempfile.TemporaryDirectory() as folder:
                    code, output = printed(case, Path(folder))
                if (code == 1) != refused:
                    raise SystemExit(f"{case.kind}: exit code {code}: {output}")
                parts.append(section(case, output))
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
