"""The command line, in this process or in one of its own.

Starting Python and importing the libraries costs a second or more for each call, so a test takes
a process of its own only where it needs one: libraries read some variables when they are imported.
"""

from __future__ import annotations

import io
import os
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from subprocess import CompletedProcess, run
from unittest.mock import patch

from programs import light

from affectlocus.cli import app
from affectlocus.core.errors import exit_on_error


def in_process(folder: Path, *arguments: str | Path, **environment: str) -> CompletedProcess[str]:
    """What `affectlocus ARGUMENTS` gives in a folder: exit code, stdout and stderr.

    As in a process of its own, bad input ends with one sentence and exit code 1. The environment
    and the current folder are as before afterwards.
    """
    words = [str(argument) for argument in arguments]
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with (
        chdir(folder),
        patch.dict(os.environ, environment),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            exit_on_error(app, words, prog_name="affectlocus")
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return CompletedProcess(words, code, out.getvalue(), err.getvalue())


def own_process(folder: Path, *arguments: str | Path, **environment: str) -> CompletedProcess[str]:
    """The same in a process of its own (`tests/forked`)."""
    command = [light() / "affectlocus", *map(str, arguments)]
    return run(
        command,
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
