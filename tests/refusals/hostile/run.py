"""Every kind of hostile input and what it prints: `python tests/refusals/hostile/run.py`.

Each case is written into a folder of its own, and its commands are run there; the heavy ones are
measured. Writes docs/reference/hostile-input.md after each case; with `--missing` the cases that
are on the page already are kept.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

HERE = Path(__file__).resolve().parent
PAGE = HERE.parents[2] / "docs/reference/hostile-input.md"
os.environ["HF_HUB_OFFLINE"] = "1"
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[2] / "workflow")]

from cases import GROUPS, MARKER, Case  # noqa: E402
from commands import WORKFLOW  # noqa: E402

HEAD = """\
# Hostile input, and what it prints

Made by `python tests/refusals/hostile/run.py`, which writes each case's files, runs its command,
and keeps what it printed; `tests/refusals/test_hostile_input.py` runs the same cases, except those
with a time and a peak of memory, whose address space is limited to 6 GB. Apart from the input
shown, the experiment, table or checkpoint is valid. Any code in the input would write
a file `{marker}`: there is none after any of these {count} cases.

A refused command ends with exit code 1 and one line, in which control characters are escaped.
`tests/workflow/test_hostile.py` runs Snakemake jobs on such names, and looks for secrets in every
file that they write; [Fuzzing](fuzzing.md) tries randomly changed input.
"""
# The peak of a command's own memory. What getrusage tells begins with that of its parent, which has
# written the case's files.
PROGRAM = """
import re
import resource
from pathlib import Path
resource.setrlimit(resource.RLIMIT_AS, (6_000_000_000, 6_000_000_000))
from affectlocus.cli import main
try:
    main()
finally:
    peak = re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())
    Path(".peak").write_text(str(int(peak[1]) / 1024))
"""


def ran(command: tuple[str, ...], folder: Path) -> tuple[int, str, str]:
    """Exit code and output of a command, and its seconds and peak memory in words."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *command],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(WORKFLOW), "HF_HUB_OFFLINE": "1"},
        # Whoever sits there says yes to everything.
        input="y\n" * 9,
        capture_output=True,
        text=True,
        check=False,
    )
    took = time.monotonic() - began
    peak = float((folder / ".peak").read_text())
    return done.returncode, done.stdout + done.stderr, f"{took:.0f} s, {peak:,.0f} MB"


def forked(command: tuple[str, ...], folder: Path) -> tuple[int, str, str]:
    """The same in a fork of this process, which has imported already what a command needs."""
    import transformers

    from affectlocus.checkpoints import pairs as checkpoints
    from affectlocus.cli import entry as cli
    from affectlocus.config import experiment
    from affectlocus.data import prepare
    from affectlocus.deltas import diff

    assert transformers and checkpoints and diff and experiment and prepare
    with (folder / ".said").open("w+", encoding="utf-8") as said:
        child = os.fork()
        if child == 0:
            os.chdir(folder)
            reading, writing = os.pipe()
            os.write(writing, b"y\n" * 9)
            os.close(writing)
            os.dup2(reading, 0)
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
            sys.argv = ["affectlocus", *command]
            code = 99
            try:
                cli.main()
            except SystemExit as ended:
                code = int(ended.code or 0)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        _, status = os.waitpid(child, 0)
        said.seek(0)
        return os.waitstatus_to_exitcode(status), said.read(), ""


def section(case: Case) -> str:
    """A case for the page: what it is, and what its commands printed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        case.write(folder)
        lines = [f"### {case.kind}", "", *_shown(case, folder)]
        for place, command in enumerate(case.commands, 1):
            code, output, spent = (ran if case.heavy else forked)(command, folder)
            last = place == len(case.commands)
            if code != int(case.refused and last):
                raise SystemExit(f"{case.kind}: exit code {code}: {output}")
            lines += [
                "```",
                f"$ {shlex.join(['affectlocus', *command])}",
                output.rstrip(),
                "```",
                "",
            ]
        missing = [part for part in case.says if part not in output]
        if missing or any(folder.rglob(MARKER)):
            raise SystemExit(f"{case.kind}: no {missing} in, or something ran: {output}")
    if case.heavy:
        lines += [f"({spent})", ""]
    return "\n".join(lines)


def _shown(case: Case, folder: Path) -> list[str]:
    if (folder / case.shown).is_file():
        text = (folder / case.shown).read_text(encoding="utf-8")
        text = "".join(one if one.isprintable() or one == "\n" else repr(one)[1:-1] for one in text)
        return [f"`{case.shown}`:", "", "```", *text.rstrip("\n").split("\n"), "```", ""]
    return [case.shown, ""] if case.shown else []


def kept(kind: str, page: str) -> str:
    """The section of a case as printed on the page; empty where it does not."""
    found = re.search(rf"^### {re.escape(kind)}\n.*?(?=^###? |\Z)", page, re.M | re.S)
    return found[0].rstrip("\n") + "\n" if found else ""


def main() -> None:
    """Runs the cases and writes the page."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--missing", action="store_true", help="run what is not on the page yet")
    missing = options.parse_args().missing
    before = PAGE.read_text(encoding="utf-8") if PAGE.is_file() and missing else ""
    cases = [case for group in GROUPS.values() for case in group]
    made = {case.kind: kept(case.kind, before) for case in cases}
    # Light ones first: they are many, and quick.
    for case in sorted(cases, key=lambda case: case.heavy):
        if not made[case.kind]:
            made[case.kind] = section(case)
            PAGE.write_text(page(made), encoding="utf-8")
    PAGE.write_text(page(made), encoding="utf-8")


def page(made: dict[str, str]) -> str:
    """The whole page, of the sections that there are."""
    parts = [HEAD.format(marker=MARKER, count=sum(map(bool, made.values())))]
    for title, group in GROUPS.items():
        parts += [f"## {title}\n", *filter(None, (made[case.kind] for case in group))]
    return "\n".join(parts)


if __name__ == "__main__":
    main()
