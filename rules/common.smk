# The checked parameters, the cell table and the wildcards. No rule stands here; what a rule works
# out from its wildcards is in workflow/affectlocus/dag.py.
from pathlib import Path

# On a line of its own `checkpoint` would be a keyword; so this import is two.
from affectlocus.dag import ARMS, EXTRACTOR, Dag
from affectlocus.dag import alternatives, checkpoint, gpus, repeated, settings
from affectlocus.digest import digest, digest_of
from affectlocus.errors import or_exit
from affectlocus.exhibits import described
from affectlocus.parameters import validate
from affectlocus.precheck import precheck, precheck_wheels

EXPERIMENT = or_exit(validate, config, Path.cwd())
REPORTS = or_exit(precheck, EXPERIMENT, Path.cwd())
or_exit(precheck_wheels, EXPERIMENT, Path.cwd(), REPORTS)
JOBS = Dag(EXPERIMENT)
GPUS = gpus()


wildcard_constraints:
    task=alternatives(EXPERIMENT.tasks),
    base=alternatives(EXPERIMENT.bases),
    pair=alternatives(EXPERIMENT.pairs),
    tuned=alternatives(JOBS.pair_of),
    duo=alternatives(JOBS.duos),
    arm=alternatives(ARMS.values()),
    table=alternatives(JOBS.table_rows),
    cell=alternatives(JOBS.cells),
