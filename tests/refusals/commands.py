"""What a command of affectlocus prints, for the pages that show it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

WORKFLOW = Path(__file__).resolve().parents[2] / "workflow"


def ran(command: Sequence[str], folder: Path) -> tuple[int, str]:
    """Exit code and output of a command run in a folder, without a hub."""
    program = "from affectlocus.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, *command],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(WORKFLOW), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr
