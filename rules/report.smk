# The report: the whole experiment on one page.
#
# in:  results/claims.csv, every table, figure and ledger, results/scores.parquet, results/data/TASK.json and .parquet,
#      results/cells/CELL/verification.json and the cell's answers, params.yaml; it also reads results/benchmarks for
#      the time of the jobs
# out: results/report.html, a page that loads nothing else and opens offline
#
# The page shows the parameters that the run read at its start. The rule is a local rule, because a job on another
# host would read params.yaml again, after an edit perhaps.
import json

from affectlocus.config.experiment import read
from affectlocus.core.provenance import overridden, packed
from affectlocus.orchestration.steps.report import seen_from

HOME = Path(workflow.main_snakefile).parent


rule report:
    """Put verdicts, tables, figures and provenance on one page."""
    input:
        parameters="params.yaml",
        shown=JOBS.report.shown,
        drawings=JOBS.report.drawings,
        scores="results/scores.parquet",
        data=collect("results/data/{task}.{kind}", task=JOBS.report.tasks, kind=["json", "parquet"]),
        answers=JOBS.report.answers,
        verification=[f"results/cells/{cell}/verification.json" for cell in JOBS.cells],
    output:
        report(
            "results/report.html", **report_arguments("report", of="all", shows="the whole report")
        ),
    log:
        "results/logs/report.log",
    benchmark:
        "results/benchmarks/report.tsv"
    conda:
        "../envs/environment.yaml"
    resources:
        **SMALL_JOB,
    params:
        name=unfilled("default" if Path.cwd() == HOME else Path.cwd().name),
        folder=unfilled(seen_from(HOME)),
        overrides=unfilled(json.dumps(overridden(config, read(Path("params.yaml"))))),
        made_with=unfilled(packed(config)),
        code=digest("report"),
    shell:
        """
        affectlocus report {input.shown:q} \
            --parameters {input.parameters:q} \
            --name {params.name:q} \
            --folder {params.folder:q} \
            --overrides {params.overrides:q} \
            --made-with {params.made_with:q} \
            --out {output:q} \
            >{log:q} 2>&1
        """
