# The whole experiment on one page.
#
# in:  results/claims.csv, every table, figure and ledger, results/scores.parquet, results/data/*.json,
#      params.yaml; it also reads results/benchmarks for the time spent
#      The parameters are those that the run read at its start, which its jobs were given. So it is a local rule: a
#      job on another host would read params.yaml anew, perhaps edited since then.
# out: results/report.html, which fetches nothing: it opens offline
import json

from affectlocus.core.provenance import overridden, packed
from affectlocus.config.experiment import read

HOME = Path(workflow.main_snakefile).parent


rule report:
    """Put verdicts, exhibits and circumstances on one page."""
    input:
        parameters="params.yaml",
        shown=JOBS.shown,
        scores="results/scores.parquet",
        data=JOBS.data_reports,
    output:
        report("results/report.html", **described("report", of="all", shows="the whole report")),
    log:
        "results/logs/report.log",
    benchmark:
        "results/benchmarks/report.tsv"
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
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
