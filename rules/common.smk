# The checked parameters, the cell table and the wildcards. No rule stands here; what a rule works
# out from its wildcards is in workflow/affectlocus/orchestration/dag.py.
import os
import sys
from pathlib import Path

from affectlocus.orchestration import groups
from affectlocus.orchestration.damage import mend, writable

# On a line of its own `checkpoint` would be a keyword; so this import is two.
from affectlocus.orchestration.dag import ARMS, EXTRACTOR, RELEASED_WHEELS, Dag
from affectlocus.orchestration.dag import alternatives, checkpoint, repeated, settings, unfilled
from affectlocus.orchestration.code_digest import digest
from affectlocus.core.errors import exit_on_error
from affectlocus.reporting.exhibits import described
from affectlocus.orchestration.run_lock import hold, only_reads
from affectlocus.orchestration.gpu_lease import cards
from affectlocus.orchestration.job_resources import Needs
from affectlocus.config.experiment import validate
from affectlocus.orchestration.preflight import absent, precheck, precheck_wheels
from affectlocus.orchestration.failure_summary import reasons
from affectlocus.orchestration.restore import RESTORING, lost, restore

# A dry run plans without what is awaited. On a cluster each job reads this file too: what its run
# has checked is not checked again.
PLANNING = workflow.output_settings.dryrun or not workflow.is_main_process
EXPERIMENT = exit_on_error(validate, config, Path.cwd(), planning=PLANNING)
RUNNING = not (PLANNING or only_reads(sys.argv))
# The run that this one is a part of has done so.
MENDING = RUNNING and RESTORING not in os.environ
if MENDING:
    exit_on_error(hold, Path.cwd())
    exit_on_error(writable, Path.cwd())
if workflow.is_main_process:
    REPORTS = exit_on_error(precheck, EXPERIMENT, Path.cwd(), planning=PLANNING)
    if not (PLANNING and EXPERIMENT.score.wheels == "released"):
        exit_on_error(precheck_wheels, EXPERIMENT, Path.cwd(), REPORTS)
    if missing := absent(EXPERIMENT, Path.cwd()):
        logger.warning(f"Planned without what is awaited: {', '.join(missing)}.")
# What has answers shares no job with what has none. A run's jobs elsewhere keep to what it settled.
JOBS = Dag(EXPERIMENT, None if workflow.is_main_process else groups.remembered())
if MENDING:
    # What a cell answered is made again even where no score waits for it.
    ANSWERS = {f"results/cells/{cell}/{name}" for cell in JOBS.cells for name in groups.WRITTEN}
    MENDED = exit_on_error(mend, Path.cwd(), ANSWERS)
    for said in MENDED.said:
        logger.warning(f"affectlocus: {said}")
    exit_on_error(
        restore,
        JOBS,
        [*MENDED.gone, *MENDED.weights],
        lambda said: logger.warning(f"affectlocus: {said}"),
    )
elif PLANNING and workflow.is_main_process and RESTORING not in os.environ:
    if away := lost(JOBS):
        logger.warning(
            f"affectlocus: not here: the weights or data that {len(away)} manifests list, as "
            f"{away[0]}; a run first makes those again that its jobs read."
        )
if RUNNING:
    # After what was cut is gone: who shares a job goes by what is there.
    exit_on_error(groups.remember, JOBS.shared)
# Here, as many jobs run at once as there are cards; on a cluster a job's own host has them. Which of
# the two it is, Snakemake knows once it has read all rules.
CARDS = len(cards())
NEEDS = Needs(JOBS, lambda: None if workflow.non_local_exec or workflow.remote_exec else CARDS)
if CARDS and "gpu" not in workflow.global_resources:
    workflow.register_resource("gpu", CARDS)
# Every job's log begins with its versions, hardware and parameters. SIGTERM goes to all processes of a
# job; a shell that died of it at once would take the job's grace time from the step that saves its state.
# How often a state is saved changes no result, and so is no job's parameter.
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
    base=alternatives(EXPERIMENT.bases),
    pair=alternatives(EXPERIMENT.pairs),
    tuned=alternatives(JOBS.pair_of),
    duo=alternatives(JOBS.duos),
    arm=alternatives(ARMS.values()),
    table=alternatives(JOBS.table_rows),
    cell=JOBS.cells_named(JOBS.cells),


onstart:
    # Under a limit on starts, be it never reached, Snakemake 9 looks at all ready jobs once a second for each job
    # that has ended: after some hundred that takes a core. Its default, 100 a second, is nobody's wish.
    limit = workflow.scheduling_settings.max_jobs_per_timespan
    if limit is not None and (limit.max_jobs, limit.timespan) == (100, 1):
        workflow.scheduler.job_rate_limiter = None


onerror:
    for said in reasons(log, Path.cwd()):
        logger.error(f"affectlocus: {said}")
