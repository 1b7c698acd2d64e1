"""Snakemake as a server: imported once, and forked for each plan that is asked for.

It reads a JSON object a line on standard input (folder, arguments, before) and answers with one
(code, said). The seconds of its imports are paid once instead of each time.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import tempfile
import time

import snakemake.cli


def child(asked: dict) -> None:
    """Runs Snakemake in the folder, and never returns."""
    os.chdir(asked["folder"])
    if asked["before"]:
        sys.path.insert(0, asked["before"])
    if "--touch" in asked["arguments"]:
        time.sleep = lambda _: None  # Snakemake waits a tenth of a second for each job it records
    sys.argv = ["snakemake", *asked["arguments"]]
    code = 1
    try:
        snakemake.cli.main(asked["arguments"])
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


MODULES = (
    *("snakemake.dag", "snakemake.persistence.file", "snakemake.report"),
    *("snakemake.scheduling.greedy", "snakemake.workflow"),
    *("affectlocus.config.experiment", "affectlocus.core.compat"),
    *("affectlocus.orchestration.dag", "affectlocus.orchestration.failure_summary"),
    *("affectlocus.orchestration.gpu_lease", "affectlocus.orchestration.job_resources"),
    *("affectlocus.orchestration.plan", "affectlocus.orchestration.preflight"),
    *("affectlocus.orchestration.run", "affectlocus.reporting.exhibits"),
)
"""What every start of Snakemake here imports."""


def main() -> None:
    """Answers until its input ends."""
    for name in MODULES:
        importlib.import_module(name)
    gc.freeze()
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        asked = json.loads(line)
        with tempfile.TemporaryFile() as said:
            process = os.fork()
            if process == 0:
                os.dup2(said.fileno(), 1)
                os.dup2(said.fileno(), 2)
                child(asked)
            _, status = os.waitpid(process, 0)
            said.seek(0)
            text = said.read().decode()
        answers.write(json.dumps({"code": os.waitstatus_to_exitcode(status), "said": text}) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
