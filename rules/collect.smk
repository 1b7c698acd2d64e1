# All scores in one table, and their summary.
#
# in:  results/scores/*, the bases' manifests
# out: results/scores.parquet (tidy), results/metrics.json (for dvc metrics)


rule collect:
    """Join all scores and summarise them."""
    input:
        scores=JOBS.score.files,
        bases=[checkpoint(name) for name in JOBS.bases],
    output:
        scores="results/scores.parquet",
        summary="results/metrics.json",
    log:
        "results/logs/collect.log",
    benchmark:
        "results/benchmarks/collect.tsv"
    conda:
        "../envs/environment.yaml"
    resources:
        **SMALL_JOB,
    params:
        bases=lambda wildcards, input: repeated("checkpoint", input.bases),
        metric=EXPERIMENT.score.metric,
        code=digest("collect"),
    shell:
        """
        affectlocus collect {input.scores:q} \
            {params.bases} \
            --metric {params.metric:q} \
            --out {output.scores:q} \
            --summary {output.summary:q} \
            >{log:q} 2>&1
        """
