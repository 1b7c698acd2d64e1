# affectlocus: where a fine-tune landed, and whether that place is what makes it work.
#
#   snakemake --cores 2 results/table1.csv             the embedded default's Table 1
#   snakemake --cores 2                                every table, figure and delta
#   snakemake --cores 2 --directory experiments/stories     another experiment
#
# An experiment is a folder with a params.yaml; its results lie beside it.
from pathlib import Path

from snakemake.utils import min_version

from affectlocus.errors import or_exit
from affectlocus.parameters import read

min_version("9.27")
# Broken YAML, or none: one sentence, where Snakemake would not name the line.
or_exit(read, Path("params.yaml"))


configfile: "params.yaml"


include: "rules/common.smk"
include: "rules/corpus.smk"
include: "rules/retrieve.smk"
include: "rules/pretrain.smk"
include: "rules/prepare.smk"
include: "rules/tune.smk"
include: "rules/deltas.smk"
include: "rules/trajectory.smk"
include: "rules/evaluate.smk"
include: "rules/openset.smk"
include: "rules/wheels.smk"
include: "rules/score.smk"
include: "rules/tables.smk"
include: "rules/figures.smk"
include: "rules/fluency.smk"
include: "rules/ledger.smk"
include: "rules/neurons.smk"
include: "rules/directions.smk"
include: "rules/collect.smk"
include: "rules/claims.smk"
include: "rules/revisions.smk"
include: "rules/report.smk"


rule all:
    default_target: True
    input:
        JOBS.tables,
        JOBS.figures,
        JOBS.deltas,
        JOBS.trajectories,
        JOBS.ledgers,
        JOBS.neurons,
        JOBS.directions,
        JOBS.activations,
        JOBS.weight_figures,
        JOBS.fluency,
        "results/scores.parquet",
        "results/metrics.json",
        "results/claims.csv",
        "results/revisions/verdicts.json",
        "results/report.html",
