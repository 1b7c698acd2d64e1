# The checked parameters, the jobs that follow from them, and the wildcards. This file has no rules.
# The input and parameter functions of rules/STEP.smk are JOBS.STEP, defined in
# workflow/affectlocus/orchestration/steps/STEP.py. Reading these files writes nothing to disk.
from pathlib import Path

from affectlocus.config.experiment import validate
from affectlocus.core import compat
from affectlocus.core.errors import exit_on_error
from affectlocus.orchestration import preflight, run_lock
from affectlocus.orchestration.artifacts import ARMS, EXTRACTOR
from affectlocus.orchestration.code_digest import digest
from affectlocus.orchestration.dag import Dag
from affectlocus.orchestration.doctor import truncated_tables
from affectlocus.orchestration.failure_summary import reasons
from affectlocus.orchestration.gpu_lease import cards
from affectlocus.orchestration.job_resources import Needs
from affectlocus.orchestration.rule_values import checkpoint, complete, repeated, settings, unfilled
from affectlocus.orchestration.run import begin, check_planned, planned_by
from affectlocus.orchestration.steps.wheels import RELEASED_WHEELS
from affectlocus.orchestration.wildcard_patterns import alternatives
from affectlocus.reporting.exhibits import report_arguments

# A dry run plans without files that are marked `awaited` and do not exist yet.
PLANNING = compat.is_dry_run(workflow) or compat.is_job(workflow)
EXPERIMENT = exit_on_error(validate, config, Path.cwd(), planning=PLANNING)
PLANNED = planned_by(EXPERIMENT, Path(workflow.basedir))
if compat.is_job(workflow):
    # On a cluster each job reads this file again. Its run has checked the data.
    exit_on_error(check_planned, Path.cwd(), PLANNED)
else:
    DATA = exit_on_error(preflight.examined, EXPERIMENT, Path.cwd(), planning=PLANNING)
    exit_on_error(preflight.check_wheels, EXPERIMENT, Path.cwd(), preflight.reports(DATA))
    for damage in truncated_tables(Path.cwd()):
        logger.warning(f"affectlocus: {damage}.")
    if missing := preflight.absent(EXPERIMENT, Path.cwd()):
        logger.warning(f"Planned without what is awaited: {', '.join(missing)}.")
JOBS = Dag(EXPERIMENT)
JOBS.encode.listed = (
    preflight.remembered_media(Path.cwd())
    if compat.is_job(workflow)
    else preflight.listed_media(DATA)
)
# On one machine as many GPU jobs run at once as it has GPUs. On a cluster the host of a job has the GPUs.
# Snakemake knows which of the two applies after it has read all rules.
CARDS = len(cards())
NEEDS = Needs(JOBS, lambda: None if compat.sends_jobs_away(workflow) else CARDS)
if CARDS:
    compat.offer(workflow, "gpu", CARDS)
# What a rule asks for that reads and writes small files. It is here and not in the profiles: profiles/default must not
# set default-resources (its comment says why), and `--default-resources` replaces those of a cluster's profile.
SMALL_JOB = {"mem_mb": 1000, "runtime": 10}  # MB, minutes
# AFFECTLOCUS_JOB: every job's log begins with its versions, hardware and parameters. SIGTERM reaches all processes
# of a job; `trap : TERM` keeps the shell alive until the step has saved its state. How often a state is saved
# changes no result, so it is not a parameter of the jobs.
shell.prefix(
    "trap : TERM; export AFFECTLOCUS_JOB=1 "
    f"AFFECTLOCUS_SAVE_MINUTES={EXPERIMENT.hardware.save_minutes}; "
)


localrules:
    report,
    retrieve,
    retrieve_data,
    wheels,


wildcard_constraints:
    task=alternatives(EXPERIMENT.tasks),
    base=alternatives(JOBS.bases),
    pair=alternatives(EXPERIMENT.pairs),
    tuned=alternatives(JOBS.pair_of),
    pair_of_pairs=alternatives(JOBS.directions.pairs_of_pairs),
    arm=alternatives(ARMS.values()),
    table=alternatives(JOBS.table_rows),
    cell=JOBS.evaluate.pattern(JOBS.cells),


# Before the first job of a run; not for --dry-run, --list or --summary, which read no weights.
onstart:
    PAIRS = exit_on_error(preflight.examined_pairs, EXPERIMENT, Path.cwd())
    exit_on_error(begin, Path.cwd(), PLANNED)
    preflight.remember(Path.cwd(), DATA | PAIRS)
    compat.unlimited_starts(workflow)


onsuccess:
    run_lock.ended(Path.cwd())


onerror:
    run_lock.ended(Path.cwd())
    for said in reasons(log, Path.cwd()):
        logger.error(f"affectlocus: {said}")
