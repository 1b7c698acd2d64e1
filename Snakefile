# affectlocus measures where a fine-tune changed a language model, and tests whether this place causes its effect.
#
#   snakemake --cores 2 results/table1.csv             the embedded default's Table 1
#   snakemake --cores 2                                every table, figure and delta
#   snakemake --cores 2 --directory experiments/stories     another experiment
#
# An experiment is a folder with a params.yaml; its results are written into the same folder.
import os
from pathlib import Path

from snakemake.utils import min_version, update_config

from affectlocus.core.errors import exit_on_error
from affectlocus.config.experiment import read

min_version("9.27")

# With --sdm apptainer: the image of envs/Containerfile, which no registry holds.
if IMAGE := os.environ.get("AFFECTLOCUS_IMAGE"):

    container: IMAGE


# Invalid or missing YAML ends in one sentence that names the line.
WRITTEN = exit_on_error(read, Path("params.yaml"))


configfile: "params.yaml"


# Snakemake reads YAML 1.1, in which the words on, yes and no are booleans, as keys too. So the same files
# are read again as `affectlocus check` reads them, and merged in Snakemake's order: params.yaml, then each
# --configfile, then --config.
GIVEN = workflow.config_settings
config.clear()
if not (GIVEN.replace_workflow_config and (GIVEN.configfiles or GIVEN.config)):
    update_config(config, WRITTEN)
for file in GIVEN.configfiles:
    update_config(config, exit_on_error(read, file))
update_config(config, GIVEN.config)


include: "rules/common.smk"
include: "rules/corpus.smk"
include: "rules/senses.smk"
include: "rules/retrieve.smk"
include: "rules/convert.smk"
include: "rules/pretrain.smk"
include: "rules/encoders.smk"
include: "rules/encode.smk"
include: "rules/prepare.smk"
include: "rules/probes.smk"
include: "rules/forecast.smk"
include: "rules/tune.smk"
include: "rules/deltas.smk"
include: "rules/evaluate.smk"
include: "rules/openset.smk"
include: "rules/wheels.smk"
include: "rules/score.smk"
include: "rules/tables.smk"
include: "rules/figures.smk"
include: "rules/learning.smk"
include: "rules/trajectory.smk"
include: "rules/fluency.smk"
include: "rules/ledger.smk"
include: "rules/neurons.smk"
include: "rules/directions.smk"
include: "rules/places.smk"
include: "rules/smallest.smk"
include: "rules/collect.smk"
include: "rules/claims.smk"
include: "rules/revisions.smk"
include: "rules/report.smk"


rule all:
    default_target: True
    input:
        JOBS.probes.files,
        JOBS.tables.files,
        JOBS.all_figures,
        JOBS.deltas.files,
        JOBS.trajectory.files,
        JOBS.learning.files,
        JOBS.ledger.files,
        JOBS.neurons.files,
        JOBS.directions.files,
        JOBS.places.files,
        JOBS.forecast.files,
        JOBS.smallest.files,
        JOBS.neurons.activations,
        JOBS.fluency.files,
        "results/scores.parquet",
        "results/metrics.json",
        "results/claims.csv",
        "results/revisions/verdicts.json",
        "results/report.html",
