"""What a process does that is told to stop: real processes, real signals."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

# A step as all are: it writes whole or not at all, below main()'s handlers.
WRITING = """
import sys, time
from pathlib import Path
from affectlocus.cli import entry as cli
from affectlocus.core.output_files import replacing

def step():
    with replacing(Path("out")) as temporary:
        temporary.write_text("half")
        print("ready", flush=True)
        time.sleep(60)

cli.app = step
cli.main()
"""

WAITING = """
import sys, time
from affectlocus.core.stop_signals import Stopped, deferred_stop, install_handlers

install_handlers()
with deferred_stop() as request:
    print("ready", flush=True)
    while request.number is None:
        time.sleep(0.01)
    print("saved", flush=True)
print("after", flush=True)
time.sleep(60)
"""


def started(code: str, folder: Path) -> subprocess.Popen[str]:
    """A process that runs the code, and is ready."""
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_step_that_is_told_to_stop_says_so_in_one_line_and_leaves_nothing(
    tmp_path: Path, name: str, code: int
) -> None:
    (tmp_path / "out").write_text("old")
    process = started(WRITING, tmp_path)
    process.send_signal(getattr(signal, name))
    _, said = process.communicate(timeout=30)
    assert process.returncode == code
    assert said == (
        f"affectlocus: stopped by {name}; no output is half-written, and the next run repeats "
        "this step\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out").read_text() == "old"


def test_a_deferred_signal_waits_for_the_block_and_the_next_one_does_not(tmp_path: Path) -> None:
    process = started(WAITING, tmp_path)
    process.send_signal(signal.SIGTERM)
    assert process.stdout is not None
    assert [process.stdout.readline(), process.stdout.readline()] == ["saved\n", "after\n"]
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 143
    assert said == "affectlocus: SIGTERM: saves after this training step and stops\n"


def test_a_second_interrupt_does_not_wait(tmp_path: Path) -> None:
    endless = WAITING.replace("request.number is None", "True")
    process = started(endless, tmp_path)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    assert "SIGINT" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
