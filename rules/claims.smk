# Verdicts on the claims that params.yaml chooses.
#
# in:  results/cells/*/predictions.parquet, or openset.parquet if any task has free text,
#      results/deltas/PAIR.parquet, results/deltas/PAIR.histogram.parquet, results/forecasts/PAIR.parquet
# out: results/claims.csv (a verdict on each claim), results/agreement.csv (Kendall's W of rankings)


rule claims:
    """Judge every claim: the paper's, other papers' and the experiment's own."""
    input:
        cells=JOBS.openset.answers(JOBS.cells.values()),
        deltas=JOBS.deltas.files,
        histograms=JOBS.claims.histograms,
        forecasts=JOBS.claims.forecasts,
    output:
        claims=report(
            "results/claims.csv", **report_arguments("claims", of="all", shows="verdicts")
        ),
        agreement=report(
            "results/agreement.csv",
            **report_arguments("claims", of="all", shows="agreement of rankings"),
        ),
    log:
        "results/logs/claims.log",
    benchmark:
        "results/benchmarks/claims.tsv"
    # It reads the answers of all cells; the report waits for it, and scores and figures do not.
    priority: 1
    conda:
        "../envs/environment.yaml"
    resources:
        mem_mb=3000,
        runtime=30,
    params:
        deltas=lambda wildcards, input: repeated("delta", input.deltas),
        histograms=lambda wildcards, input: repeated("histogram", input.histograms),
        forecasts=lambda wildcards, input: repeated("forecast", input.forecasts),
        settings=JOBS.claims.settings,
        code=digest("claims"),
    shell:
        """
        affectlocus claims {input.cells:q} \
            {params.deltas} \
            {params.histograms} \
            {params.forecasts} \
            --settings {params.settings:q} \
            --agreement {output.agreement:q} \
            --out {output.claims:q} \
            >{log:q} 2>&1
        """
