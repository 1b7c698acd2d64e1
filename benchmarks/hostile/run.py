"""Every kind of hostile input and what it prints: `python benchmarks/hostile/run.py`.

Each case is written into a folder of its own, and its commands are run there; the heavy ones are
measured. Writes README.md; with `--light` the heavy ones stay as they stand there.
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
PAGE = HERE / "README.md"
os.environ["HF_HUB_OFFLINE"] = "1"
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1] / "workflow")]

from cases import GROUPS, MARKER, Case  # noqa: E402
from commands import WORKFLOW  # noqa: E402

HEAD = """\
# Hostile input, and what it prints

Made by `python benchmarks/hostile/run.py`, which writes each case's files, runs its command, and
keeps what it printed; `tests/unit/test_benchmark_hostile.py` runs the same cases, but for those
beside which seconds and memory stand. But for what is shown, the experiment, table or checkpoint is
good. Whatever would run, if anything were run, makes a file `{marker}`: there is none after any of
these {count} cases.

What is refused ends with exit code 1 and one line, in which control characters are shown by their
escapes. `tests/workflow/test_hostile.py` has Snakemake run jobs on such names, and looks for
secrets in every file that they leave; [benchmarks/fuzz](../fuzz/README.md) tries what nobody
thought of.
"""
# The peak of a command's own memory, which its parent cannot tell from that of others.
PROGRAM = """
import resource
from pathlib import Path
from affectlocus.cli import main
try:
    main()
finally:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    Path(".peak").write_text(str(peak / 1024))
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
    from affectlocus import cli, prepare

    assert prepare
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


def kept(kind: str) -> str:
    """The section of a heavy case as it stands on the page."""
    found = re.search(rf"^### {re.escape(kind)}\n.*?(?=^###? |\Z)", PAGE.read_text(), re.M | re.S)
    if found is None:
        raise SystemExit(f"{kind}: not on the page yet; leave --light out")
    return found[0].rstrip("\n") + "\n"


def main() -> None:
    """Runs the cases and writes the page."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--light", action="store_true", help="leave heavy cases as they stand")
    light = options.parse_args().light
    count = sum(map(len, GROUPS.values()))
    parts = [HEAD.format(marker=MARKER, count=count)]
    for title, cases in GROUPS.items():
        parts.append(f"## {title}\n")
        for case in cases:
            parts.append(kept(case.kind) if light and case.heavy else section(case))
    PAGE.write_text("\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    main()
