# The report: the whole experiment on one page.
#
# in:  results/claims.csv, every table, figure and ledger, results/scores.parquet, results/data/*.json,
#      results/cells/CELL/verification.json, params.yaml; it also reads results/benchmarks for the time of the jobs
# out: results/report.html, a page that loads nothing else and opens offline
#
# The page shows the parameters that the run read at its start. The rule is a local rule, because a job on another
# host would read params.yaml again, after an edit perhaps.
import json

from affectlocus.core.provenance import overridden, packed
from affectlocus.config.experiment import read

HOME = Path(workflow.main_snakefile).parent


rule report:
    """Put verdicts, tables, figures and provenance on one page."""
    input:
        parameters="params.yaml",
        shown=JOBS.report.shown,
        scores="results/scores.parquet",
        data=collect("results/data/{task}.json", task=JOBS.report.tasks),
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
        overrides=unfilled(json.dumps(overridden(config, read(Path("params.yaml"))))),
        made_with=unfilled(packed(config)),
        code=digest("report"),
    shell:
        """
        affectlocus report {input.shown:q} \
            --parameters {input.parameters:q} \
            --name {params.name:q} \
            --overrides {params.overrides:q} \
            --made-with {params.made_with:q} \
            --out {output:q} \
            >{log:q} 2>&1
        """
